//! A calculator: sums, differences, products, quotients and powers of decimal numbers.

use serde_json::Value;

pub(super) const NAME: &str = "calculator";
pub(super) const ARGUMENT: &str = "expression";

/// Brackets and signs within each other, at most.
const MAX_DEPTH: usize = 100;

pub(super) fn description() -> Value {
    super::function(
        NAME,
        "works out a sum",
        ARGUMENT,
        "such as (12 + 3.5) * 4, with + - * / % ^ and brackets",
    )
}

/// The value of an expression, as people write numbers: `0.1 + 0.2` is `0.3`.
pub(super) fn work_out(expression: &str) -> Result<String, String> {
    let mut parser = Parser { rest: expression, depth: 0 };
    let value = parser.sum()?;
    match parser.peek() {
        None => number(value),
        Some(c) => Err(format!("{c:?} is not understood: {}", parser.rest.trim_start())),
    }
}

/// 15 digits, which is what all sums of `f64` that people write are right to.
fn number(value: f64) -> Result<String, String> {
    if !value.is_finite() {
        return Err("the result is too large".into());
    }
    let rounded: f64 = format!("{value:.14e}").parse().map_err(|_| "the result is no number")?;
    // No sign before 0.
    Ok((rounded + 0.0).to_string())
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.trim_start().chars().next()
    }

    fn takes(&mut self, signs: &[char]) -> Option<char> {
        let found = self.peek().filter(|c| signs.contains(c))?;
        self.rest = &self.rest.trim_start()[found.len_utf8()..];
        Some(found)
    }

    /// Terms with `+` and `-` between.
    fn sum(&mut self) -> Result<f64, String> {
        let mut value = self.product()?;
        while let Some(sign) = self.takes(&['+', '-', '−']) {
            let term = self.product()?;
            value = if sign == '+' { value + term } else { value - term };
        }
        Ok(value)
    }

    /// Factors with `*`, `/` and `%` between.
    fn product(&mut self) -> Result<f64, String> {
        let mut value = self.signed()?;
        while let Some(sign) = self.takes(&['*', '×', '/', '÷', '%']) {
            let factor = self.signed()?;
            if !matches!(sign, '*' | '×') && factor == 0.0 {
                return Err("division by zero".into());
            }
            value = match sign {
                '*' | '×' => value * factor,
                '%' => value.rem_euclid(factor),
                _ => value / factor,
            };
        }
        Ok(value)
    }

    /// A power, with signs before it: `-2 ^ 2` is -4.
    fn signed(&mut self) -> Result<f64, String> {
        match self.takes(&['+', '-', '−']) {
            Some(sign) => {
                let value = self.deeper(Self::signed)?;
                Ok(if sign == '+' { value } else { -value })
            }
            None => {
                let base = self.atom()?;
                let is_power = self.takes(&['^']).is_some();
                Ok(if is_power { base.powf(self.deeper(Self::signed)?) } else { base })
            }
        }
    }

    /// A number, or a sum in brackets.
    fn atom(&mut self) -> Result<f64, String> {
        if self.takes(&['(']).is_some() {
            let value = self.deeper(Self::sum)?;
            return self.takes(&[')']).map(|_| value).ok_or_else(|| "a bracket is not closed".into());
        }
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        let value = digits.parse().map_err(|_| match self.peek() {
            None => "a number is missing at the end".to_owned(),
            Some(_) => {
                format!("a number is missing before {:?}", self.rest.chars().take(20).collect::<String>())
            }
        })?;
        self.rest = rest;
        Ok(value)
    }

    fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Result<f64, String>) -> Result<f64, String> {
        if self.depth == MAX_DEPTH {
            return Err("too many brackets".into());
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_have_their_values() {
        for (expression, value) in [
            ("17 + 5", "22"),
            ("2 + 3 * 4", "14"),
            ("(2 + 3) × 4", "20"),
            ("10 - 4 - 3", "3"),
            ("2 ^ 3 ^ 2", "512"),
            ("-2 ^ 2", "-4"),
            ("2 ^ -1", "0.5"),
            ("7 % 4", "3"),
            ("-7 % 4", "1"),
            ("0.1 + 0.2", "0.3"),
            ("1 / 3", "0.333333333333333"),
            ("8 ÷ 2 − 4", "0"),
            ("0 * -1", "0"),
            ("123456789 * 987654321", "121932631112635000"),
            ("--3", "3"),
            (" ( 1 ) ", "1"),
        ] {
            assert_eq!(work_out(expression).as_deref(), Ok(value), "{expression}");
        }
    }

    #[test]
    fn what_is_no_expression_is_said() {
        for (expression, said) in [
            ("", "missing at the end"),
            ("2 +", "missing at the end"),
            ("(2 + 3", "not closed"),
            ("2 + x", "missing before \"x\""),
            ("1.2.3", "missing before"),
            ("2 3", "'3' is not understood"),
            ("1 / 0", "division by zero"),
            ("1 % 0", "division by zero"),
            ("9 ^ 9 ^ 9", "too large"),
            (&"(".repeat(100_000), "too many brackets"),
            (&"-".repeat(100_000), "too many brackets"),
        ] {
            let error = work_out(expression).unwrap_err();
            assert!(error.contains(said), "{expression:.20}: {error}");
        }
    }
}
