//! What a person types of a reward: `KIND[=ARG][:WEIGHT]`.

use anyhow::{Context, Error, Result, bail, ensure};
use regex::Regex;
use std::path::PathBuf;
use std::str::FromStr;

/// What an answer gets something for.
#[derive(Clone, Debug)]
pub enum RewardKind {
    /// 1 where it states what the prompt's `accept`, or its `answer`, says.
    Answer,
    /// 1 where its last number equals that of the prompt's `answer` or one of `accept`.
    Number,
    /// 1 where the pattern is found in it.
    Regex(Regex),
    /// 1 where the pattern matches all of it.
    Format(Regex),
    /// The more the shorter it is, below 1.
    Length,
    /// What a reward model gives it.
    Model(PathBuf),
    /// 1 where the program in it passes the prompt's `tests`.
    Tests,
    /// What a Python program says of it.
    Program(PathBuf),
}

/// A reward with its weight in the sum.
#[derive(Clone, Debug)]
pub struct RewardSpec {
    /// For what.
    pub kind: RewardKind,
    /// Multiplies it.
    pub weight: f64,
    /// As it was typed.
    text: String,
}

impl RewardSpec {
    /// Its kind, which is its name among others.
    pub fn name(&self) -> &'static str {
        match self.kind {
            RewardKind::Answer => "answer",
            RewardKind::Number => "number",
            RewardKind::Regex(_) => "regex",
            RewardKind::Format(_) => "format",
            RewardKind::Length => "length",
            RewardKind::Model(_) => "model",
            RewardKind::Tests => "tests",
            RewardKind::Program(_) => "program",
        }
    }

    /// As it was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it runs programs.
    pub fn runs_programs(&self) -> bool {
        matches!(self.kind, RewardKind::Tests | RewardKind::Program(_))
    }

    /// How surely it tells right answers from wrong ones: by a key or tests, by form, or not at all.
    pub(super) fn tells_right(&self) -> u8 {
        match self.kind {
            RewardKind::Answer | RewardKind::Number | RewardKind::Tests => 2,
            RewardKind::Program(_) | RewardKind::Regex(_) | RewardKind::Format(_) => 1,
            RewardKind::Length | RewardKind::Model(_) => 0,
        }
    }
}

impl FromStr for RewardSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let weighted =
            text.rsplit_once(':').and_then(|(rest, weight)| Some((rest, weight.parse::<f64>().ok()?)));
        let (rest, weight) = weighted.unwrap_or((text, 1.0));
        ensure!(weight.is_finite(), "the weight of {text} is {weight}: it is a finite number");
        let (kind, arg) = rest.split_once('=').map_or((rest, None), |(kind, arg)| (kind, Some(arg)));
        let needed = |what: &str| {
            arg.filter(|arg| !arg.is_empty()).with_context(|| format!("{kind} needs {what}: {kind}={what}"))
        };
        let compiled = |pattern: &str| {
            Regex::new(pattern).with_context(|| format!("{kind}={}", arg.unwrap_or_default()))
        };
        let kind = match kind {
            "answer" | "number" | "length" | "tests" => {
                ensure!(arg.is_none(), "{kind} takes nothing after `=`");
                match kind {
                    "answer" => RewardKind::Answer,
                    "number" => RewardKind::Number,
                    "length" => RewardKind::Length,
                    _ => RewardKind::Tests,
                }
            }
            "regex" => RewardKind::Regex(compiled(needed("PATTERN")?)?),
            "format" => RewardKind::Format(compiled(&format!("(?s)\\A(?:{})\\z", needed("PATTERN")?))?),
            "model" => RewardKind::Model(needed("MODEL")?.into()),
            "program" => RewardKind::Program(needed("FILE")?.into()),
            other => bail!(
                "there is no reward {other:?}: answer, number, regex=PATTERN, format=PATTERN, length, tests, model=MODEL or \
                 program=FILE; what follows the last `:` is a weight if it is a number, as in answer:0.5"
            ),
        };
        Ok(RewardSpec { kind, weight, text: text.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_follow_the_last_colon_if_they_are_numbers() {
        for (text, name, weight) in [
            ("answer", "answer", 1.0),
            ("length:-0.5", "length", -0.5),
            ("regex=^a:b$", "regex", 1.0),
            ("regex=a:2", "regex", 2.0),
            ("model=hf:some/model:0.1", "model", 0.1),
            ("program=C:/judge.py", "program", 1.0),
        ] {
            let spec: RewardSpec = text.parse().unwrap();
            assert_eq!((spec.name(), spec.weight, spec.text()), (name, weight, text));
        }
        let RewardKind::Regex(pattern) = "regex=a:2".parse::<RewardSpec>().unwrap().kind else { panic!() };
        assert_eq!(pattern.as_str(), "a");
    }

    #[test]
    fn what_is_no_reward_is_refused() {
        for (text, said) in [
            ("answers", "no reward \"answers\""),
            ("regex", "needs PATTERN"),
            ("program=:1", "needs FILE"),
            ("regex=(", "regex=("),
            ("answer=4", "nothing after"),
            ("length:inf", "finite"),
        ] {
            let error = format!("{:#}", text.parse::<RewardSpec>().unwrap_err());
            assert!(error.contains(said), "{error}");
        }
    }
}
