//! Numbers as people read them.

/// `1,234,567`.
pub fn count(n: impl TryInto<u64>) -> String {
    let digits = n.try_into().unwrap_or(u64::MAX).to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `3 documents`, `1 document`.
pub fn plural(n: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(n), if n == 1 { "" } else { "s" })
}

/// `12.3 MB`: powers of ten.
pub fn bytes(n: u64) -> String {
    if n < 1000 { plural(n, "byte") } else { format!("{}B", scaled(n as f64)) }
}

/// `124 M`: three digits and the power of a thousand.
pub fn scaled(x: f64) -> String {
    let (mut x, mut power) = (x, 0);
    // What would be rounded to 1000 belongs to the next unit.
    while x.abs() >= 999.5 && power < 5 {
        x /= 1000.0;
        power += 1;
    }
    let digits = if x.abs() >= 99.95 || x == 0.0 {
        0
    } else if x.abs() >= 9.995 {
        1
    } else {
        2
    };
    format!("{x:.digits$} {}", ["", "k", "M", "G", "T", "P"][power])
}

/// `0.8 s`, `1 min 28 s`, `3 h 05 min`, `12 days 7 h`, `34.5 years`.
pub fn secs(secs: f64) -> String {
    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;
    const MANY_DAYS: u64 = 730 * DAY;
    let whole = secs.round() as u64;
    match whole {
        _ if secs < 9.95 => format!("{secs:.1} s"),
        0..60 => format!("{whole} s"),
        60..HOUR => format!("{} min {:02} s", whole / 60, whole % 60),
        HOUR..DAY => format!("{} h {:02} min", whole / HOUR, whole % HOUR / 60),
        DAY..MANY_DAYS => format!("{} {} h", plural(whole / DAY, "day"), whole % DAY / HOUR),
        _ => format!("{} years", scaled(secs / (365 * DAY) as f64).trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [count(0u64), count(999u64), count(1000u64), count(1_234_567u64)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [bytes(1), bytes(999), bytes(1000), bytes(999_999)],
            ["1 byte", "999 bytes", "1.00 kB", "1.00 MB"]
        );
        assert_eq!([scaled(124_439_808.0), scaled(12_300.0)], ["124 M", "12.3 k"]);
        assert_eq!(
            [secs(0.84), secs(59.4), secs(88.0), secs(11_100.0), secs(9972.7 * 3600.0), secs(1.1e9)],
            ["0.8 s", "59 s", "1 min 28 s", "3 h 05 min", "415 days 12 h", "34.9 years"]
        );
        assert_eq!(
            [secs(90_000.0), secs(416.0 * 3600.0), secs(1e14)],
            ["1 day 1 h", "17 days 8 h", "3.17 M years"]
        );
    }
}
