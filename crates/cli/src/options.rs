//! What every verb understands, and how numbers are typed.

use std::fmt;
use std::ops::{Bound, RangeBounds};

use clap::{Args, ValueEnum};
use kernels::Precision;

use crate::device::DeviceName;

/// What every verb understands.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Global {
    /// Print results as JSON on standard output, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Decides everything random: the same seed gives the same numbers
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Threads; results do not depend on it [default: all cores, shared by the processes that mpirun starts on them]
    #[arg(long, global = true, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<usize>,
    /// Precision of products [default: a new training, complete, chat and candidates measure which is faster
    /// here; a run goes on in its own; figures are f32]
    #[arg(long, global = true, value_enum, value_name = "f32|bf16", hide_possible_values = true)]
    pub(crate) precision: Option<PrecisionName>,
    /// What computes: cpu, or a GPU: cuda, cuda:1 [default: what a run began on, else a GPU that works, else cpu]
    #[arg(long, global = true, value_name = "cpu|cuda[:N]", value_parser = device)]
    pub(crate) device: Option<String>,
    /// Write the metrics of trainings for TensorBoard as well, in RUN/tensorboard
    #[arg(long, global = true)]
    pub(crate) tensorboard: bool,
    /// Say nothing but results and errors
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
}

/// A [`Precision`] as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PrecisionName {
    F32,
    Bf16,
}

impl PrecisionName {
    /// As it is typed.
    pub(crate) fn named(name: &str) -> Option<Self> {
        PrecisionName::from_str(name, false).ok()
    }
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::F32 => Precision::F32,
            PrecisionName::Bf16 => Precision::Bf16,
        }
    }
}

/// How weights are stored that are only read, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WeightsName {
    F32,
    Bf16,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_0")]
    Q4_0,
}

/// The flag of verbs that write text.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct WeightsArg {
    /// How weights are stored while they are read: in blocks of 8 or 4 bits they are read faster, and less exactly
    /// [default: as products take them; the blocks of a GGUF file as they are]
    #[arg(long, value_enum, value_name = "f32|bf16|q8_0|q4_0", hide_possible_values = true)]
    pub(crate) weights: Option<WeightsName>,
}

impl WeightsArg {
    /// As it was typed, for recipes.
    pub(crate) fn name(self) -> Option<&'static str> {
        self.weights.map(|weights| match weights {
            WeightsName::F32 => "f32",
            WeightsName::Bf16 => "bf16",
            WeightsName::Q8_0 => "q8_0",
            WeightsName::Q4_0 => "q4_0",
        })
    }
}

/// An error that is the fault of what was typed, found only after the arguments were read.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn device(text: &str) -> Result<String, String> {
    DeviceName::parse(text).map(|_| text.to_owned())
}

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it takes at least one thread".into()),
        Ok(n) if n <= 1024 => Ok(n),
        _ => Err("not a number from 1 to 1024".into()),
    }
}

/// A whole number in a range, for flags that count something.
pub(crate) fn whole<T: TryFrom<u64>>(
    range: impl RangeBounds<u64> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let from = match range.start_bound() {
            Bound::Included(&least) => least,
            _ => 0,
        };
        let up_to = match range.end_bound() {
            Bound::Included(most) => format!("to {most}"),
            _ => "up".into(),
        };
        let number = text.replace('_', "").parse::<u64>().ok().filter(|n| range.contains(n));
        number
            .and_then(|n| n.try_into().ok())
            .ok_or_else(|| format!("not a whole number from {from} {up_to}"))
    }
}

/// A number with a point or an exponent.
pub(crate) fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "not a number such as 0.5 or 1e-3".into())
}

/// Bytes a second: `1.25GB/s`, `800M`, or as networks are called, `10Gbit/s`.
pub(crate) fn bytes_a_second(text: &str) -> Result<f64, String> {
    let wrong = || "not bytes a second such as 1.25GB/s or 10Gbit/s".to_string();
    let amount = text.strip_suffix("/s").unwrap_or(text);
    let digits = amount.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = amount[digits.len()..].to_ascii_lowercase();
    let (scale, bytes) = match unit.strip_suffix("bit") {
        Some(scale) => (scale, 1.0 / 8.0),
        None => (unit.strip_suffix('b').unwrap_or(&unit), 1.0),
    };
    let factor = match scale {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        _ => return Err(wrong()),
    };
    let number = digits.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.map(|number| number * factor * bytes).ok_or_else(wrong)
}

/// A number that may be written short: `20M` is 20,000,000, `1.5G` is 1,500,000,000.
pub(crate) fn amount(text: &str) -> Result<u64, String> {
    let wrong = || "not a whole number such as 20000000, 20_000_000 or 20M".to_string();
    if text.starts_with('-') {
        return Err("it cannot be below 0: give a whole number such as 300 or 20M".into());
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 1,
        "K" | "KB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "B" | "GB" => 1_000_000_000,
        "T" | "TB" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.replace('_', "");
    let all_digits = |s: &str| s.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(&whole) || !all_digits(fraction) {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| "too large".to_string())?;
    let fraction = match fraction {
        "" => 0,
        // A fraction must come out whole: nothing is rounded in silence.
        digits => {
            let unit =
                10u64.checked_pow(digits.len() as u32).filter(|unit| factor % unit == 0).ok_or_else(wrong)?;
            digits.parse::<u64>().map_err(|_| wrong())? * (factor / unit)
        }
    };
    whole.checked_mul(factor).and_then(|n| n.checked_add(fraction)).ok_or_else(|| "too large".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_have_their_range() {
        let few = whole::<u16>(1..=1024);
        assert_eq!((few("1"), few("1_024")), (Ok(1), Ok(1024)));
        for wrong in ["0", "1025", "-1", "1.5", "many", ""] {
            assert_eq!(few(wrong), Err("not a whole number from 1 to 1024".into()), "{wrong}");
        }
        assert_eq!(whole::<u64>(1..)("0"), Err("not a whole number from 1 up".into()));
        assert_eq!(whole::<u8>(0..)("256"), Err("not a whole number from 0 up".into()), "it has no room");
        assert!(amount("-5").unwrap_err().contains("below 0"));
    }

    #[test]
    fn speeds_of_networks_have_units() {
        for (text, expected) in
            [("1.25GB/s", 1.25e9), ("10Gbit/s", 1.25e9), ("800m", 8e8), ("2KB", 2e3), ("5", 5.0)]
        {
            assert_eq!(bytes_a_second(text), Ok(expected), "{text}");
        }
        for wrong in ["", "fast", "-1GB/s", "0", "1GB/h", "1 GB", "infGB", "1Xbit/s", "NaN"] {
            assert!(bytes_a_second(wrong).unwrap_err().contains("10Gbit/s"), "{wrong}");
        }
    }

    #[test]
    fn amounts_are_exact() {
        for (text, expected) in [
            ("0", 0),
            ("123", 123),
            ("20M", 20_000_000),
            ("1.5g", 1_500_000_000),
            ("2_000k", 2_000_000),
            ("1.25KB", 1250),
        ] {
            assert_eq!(amount(text), Ok(expected), "{text}");
        }
        for wrong in ["", "M", "-1", "1.5", "1.2345K", "1e6", "12X", "1.x", "99999999999T", "١"] {
            assert!(amount(wrong).is_err(), "{wrong}");
        }
    }
}
