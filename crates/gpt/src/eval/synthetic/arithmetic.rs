//! Arithmetic as GPT-3 was asked it (Brown et al. 2020, §3.9.1): numbers are uniform, `0 .. 10^digits`.

use super::Draw;

pub(super) fn sum(draw: &mut Draw, digits: u32) -> (String, String) {
    two_numbers(draw, digits, "plus", |a, b| a + b)
}

/// The result may be negative.
pub(super) fn difference(draw: &mut Draw, digits: u32) -> (String, String) {
    two_numbers(draw, digits, "minus", |a, b| a - b)
}

/// Of numbers of two digits.
pub(super) fn product(draw: &mut Draw) -> (String, String) {
    two_numbers(draw, 2, "times", |a, b| a * b)
}

fn two_numbers(
    draw: &mut Draw,
    digits: u32,
    word: &str,
    result: impl Fn(i64, i64) -> i64,
) -> (String, String) {
    let [a, b] = [(); 2].map(|()| draw.below(10u64.pow(digits)) as i64);
    (format!("Q: What is {a} {word} {b}?\nA:"), result(a, b).to_string())
}

/// Three numbers of one digit, the last two in parentheses.
pub(super) fn composite(draw: &mut Draw) -> (String, String) {
    let [a, b, c] = [(); 3].map(|()| draw.below(10) as i64);
    let [outer, inner] = [(); 2].map(|()| draw.pick(&['+', '-', '*']));
    let result = apply(outer, a, apply(inner, b, c));
    (format!("Q: What is {a}{outer}({b}{inner}{c})?\nA:"), result.to_string())
}

fn apply(sign: char, a: i64, b: i64) -> i64 {
    match sign {
        '+' => a + b,
        '-' => a - b,
        _ => a * b,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind::{self, *};
    use super::super::tests::pairs;

    fn question(asked: &str) -> &str {
        asked.strip_prefix("Q: What is ").and_then(|rest| rest.strip_suffix("?\nA:")).unwrap()
    }

    #[test]
    fn sums_differences_and_products_are_right() {
        let of_digits =
            [2, 3, 4, 5].map(|digits| [(Sum(digits), digits), (Difference(digits), digits)]).concat();
        for (kind, digits) in of_digits.into_iter().chain([(Product, 2)]) {
            let mut largest = 0;
            for (asked, answer) in pairs(kind) {
                let [a, word, b] = question(&asked).split(' ').collect::<Vec<_>>()[..] else {
                    panic!("{asked}")
                };
                let [a, b] = [a, b].map(|number| number.parse::<i128>().unwrap());
                // Each in another way than the one that made it.
                let answer: i128 = answer.parse().unwrap();
                assert!(
                    match word {
                        "plus" => answer - b == a,
                        "minus" => answer + b == a,
                        "times" => (0..b).map(|_| a).sum::<i128>() == answer,
                        _ => false,
                    },
                    "{asked} {answer}"
                );
                largest = a.max(b).max(largest);
            }
            let limit = 10i128.pow(digits);
            assert!((9 * limit / 10..limit).contains(&largest), "{kind:?} goes to {largest}");
        }
    }

    /// Sums of signed products, as a person would multiply the parentheses out.
    #[test]
    fn composites_are_right() {
        for (asked, answer) in pairs(Kind::Composite) {
            let &[a, outer, b'(', b, inner, c, b')'] = question(&asked).as_bytes() else { panic!("{asked}") };
            let [a, b, c] = [a, b, c].map(|digit| i64::from(digit - b'0'));
            let expected = match (outer, inner) {
                (b'+', b'+') => a + b + c,
                (b'+', b'-') => a + b - c,
                (b'+', b'*') => a + b * c,
                (b'-', b'+') => a - b - c,
                (b'-', b'-') => a - b + c,
                (b'-', b'*') => a - b * c,
                (b'*', b'+') => a * b + a * c,
                (b'*', b'-') => a * b - a * c,
                (b'*', b'*') => a * b * c,
                _ => panic!("{asked}"),
            };
            assert_eq!(answer, expected.to_string(), "{asked}");
        }
    }
}
