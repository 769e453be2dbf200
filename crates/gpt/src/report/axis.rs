//! Axes: which values a chart spans, where its ticks stand, and how numbers are written for people.

/// How values are spread along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    /// Of whole things, whose ticks are whole too.
    Count,
    /// Values that are not positive have no place on it.
    Log,
}

/// An axis that spans some values.
#[derive(Debug)]
pub(super) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    /// Where the ticks stand and what they say.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis over `values` with about `count` ticks and `margin` (a fraction of its length) free at both
    /// ends; none if no value has a place on it.
    pub(super) fn new(
        scale: Scale,
        values: impl Iterator<Item = f64>,
        margin: f64,
        count: usize,
    ) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| scale != Scale::Log || *value > 0.0) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            return None;
        }
        let (mut from, mut to) = (scale.place(low), scale.place(high));
        if to - from <= 1e-9 * from.abs().max(to.abs()) {
            let around = if scale == Scale::Log || from == 0.0 { 1.0 } else { from.abs() / 10.0 };
            (from, to) = (from - around, to + around);
        }
        let margin = margin * (to - from);
        let mut axis = Self { scale, low: from - margin, high: to + margin, ticks: Vec::new() };
        axis.ticks = axis.choose_ticks(count);
        Some(axis)
    }

    /// The place of `value` as a fraction of the axis, if it has one.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let place = (self.scale.place(value) - self.low) / (self.high - self.low);
        (-1e-9..=1.0 + 1e-9).contains(&place).then_some(place)
    }

    fn choose_ticks(&self, count: usize) -> Vec<(f64, String)> {
        if self.scale == Scale::Log {
            // 1 2 5 10 20 … or, over many decades, every decade or every few.
            let decades = self.low.floor() as i32..=self.high.ceil() as i32;
            let every = ((self.high - self.low) / count as f64).ceil().max(1.0) as i32;
            let digits: &[f64] =
                if (self.high - self.low) * 3.0 <= count as f64 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let ticks: Vec<(f64, String)> = decades
                .filter(|decade| decade.rem_euclid(every) == 0)
                .flat_map(|decade| digits.iter().map(move |digit| digit * 10f64.powi(decade)))
                .filter(|&tick| self.place(tick).is_some())
                .map(|tick| (tick, number(tick)))
                .collect();
            if ticks.len() >= 3 {
                return ticks;
            }
        }
        let (low, high) = (self.scale.value(self.low), self.scale.value(self.high));
        let step = nice_step((high - low) / count as f64);
        let step = if self.scale == Scale::Count { step.max(1.0) } else { step };
        // 6e-4 / 2e-4 is a little less than 3.
        let ticks = (low / step - 1e-9).ceil() as i64..=(high / step + 1e-9).floor() as i64;
        let largest = low.abs().max(high.abs());
        ticks.map(|tick| (tick as f64 * step, tick_label(tick as f64 * step, step, largest))).collect()
    }
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        if self == Scale::Log { value.log10() } else { value }
    }

    fn value(self, place: f64) -> f64 {
        if self == Scale::Log { 10f64.powf(place) } else { place }
    }
}

/// The smallest of 1, 2, 5 × 10ⁿ that is not below `least`.
fn nice_step(least: f64) -> f64 {
    let magnitude = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|digit| digit * magnitude)
        .find(|&step| step >= least)
        .unwrap_or(10.0 * magnitude)
}

/// The units in which large numbers are told.
const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];

/// A tick in the unit of the `largest` one, with as many digits as its distance to the next one needs.
fn tick_label(tick: f64, step: f64, largest: f64) -> String {
    if tick == 0.0 {
        return "0".into();
    }
    if !(1e-2..1e15).contains(&largest) {
        return exponential(tick);
    }
    let unit = UNITS.into_iter().find(|(unit, _)| largest >= *unit && largest >= 1e4);
    let (unit, suffix) = unit.unwrap_or((1.0, ""));
    let decimals = (-(step / unit).log10().floor()).max(0.0) as usize;
    format!("{:.decimals$}{suffix}", tick / unit)
}

/// A number with at most four significant digits: `3.217`, `12.8k`, `1.05M`, `6e-4`.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "not finite".into();
    }
    if value == 0.0 {
        return "0".into();
    }
    if !(1e-3..1e15).contains(&size) {
        return exponential(value);
    }
    for (unit, suffix) in UNITS {
        if size >= unit && size >= 1e4 {
            return significant(value / unit, 3) + suffix;
        }
    }
    significant(value, 4)
}

fn exponential(value: f64) -> String {
    let text = format!("{value:.2e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{}e{exponent}", trim(digits))
}

/// `value` rounded to `digits` significant digits, without trailing zeros.
fn significant(value: f64, digits: i32) -> String {
    let decimals = (digits - 1 - value.abs().log10().floor() as i32).max(0);
    trim(&format!("{value:.*}", decimals as usize)).to_string()
}

fn trim(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, low: f64, high: f64) -> Vec<String> {
        let axis = Axis::new(scale, [low, high].into_iter(), 0.0, 5).unwrap();
        axis.ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(Scale::Linear, 0.0, 100.0), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(labels(Scale::Linear, 1.31, 1.38), ["1.32", "1.34", "1.36", "1.38"]);
        assert_eq!(labels(Scale::Linear, 0.0, 6e-4), ["0", "2e-4", "4e-4", "6e-4"]);
        assert_eq!(labels(Scale::Linear, -3.0, 40_000.0), ["0", "10k", "20k", "30k", "40k"]);
        assert_eq!(labels(Scale::Linear, 0.0, 14_000.0), ["0", "5k", "10k"]);
        assert_eq!(labels(Scale::Linear, 1.0, 3.0), ["1.0", "1.5", "2.0", "2.5", "3.0"]);
        assert_eq!(labels(Scale::Count, 1.0, 3.0), ["1", "2", "3"], "there is no half of a step");
        assert_eq!(labels(Scale::Count, 0.0, 1000.0), ["0", "200", "400", "600", "800", "1000"]);
        assert_eq!(labels(Scale::Log, 1.0, 1000.0), ["1", "10", "100", "1000"]);
        assert_eq!(labels(Scale::Log, 1.0, 20.0), ["1", "2", "5", "10", "20"]);
        assert_eq!(labels(Scale::Log, 1.0, 1e12).len(), 5);
        assert_eq!(labels(Scale::Log, 2.2, 3.9), ["2.5", "3.0", "3.5"]);
    }

    #[test]
    fn values_have_places() {
        let axis = Axis::new(Scale::Log, [1.0, 100.0].into_iter(), 0.0, 5).unwrap();
        assert_eq!(axis.place(10.0), Some(0.5));
        assert_eq!(
            (axis.place(0.0), axis.place(-1.0), axis.place(1e3), axis.place(f64::NAN)),
            (None, None, None, None)
        );
        assert!(Axis::new(Scale::Log, [0.0, -1.0].into_iter(), 0.0, 5).is_none());
        let constant = Axis::new(Scale::Linear, [6e-4, 6e-4].into_iter(), 0.0, 5).unwrap();
        assert!((constant.place(6e-4).unwrap() - 0.5).abs() < 1e-6);
    }

    #[test]
    fn numbers_are_short() {
        let shown =
            [0.0, 3.21749, 0.0006, 12_345.0, 1_048_576.0, 999.96, 9999.0, -0.5, 1e300, f64::NAN].map(number);
        assert_eq!(
            shown,
            ["0", "3.217", "6e-4", "12.3k", "1.05M", "1000", "9999", "-0.5", "1e300", "not finite"]
        );
    }
}
