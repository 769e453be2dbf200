//! How well held-out text was predicted.

use crate::data::ValWindow;
use crate::model::Sequences;
use anyhow::Result;
use ranks::Ranks;
use std::ops::AddAssign;

/// Log-likelihood of text, and how much text it was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Likelihood {
    /// Sum of the natural logarithms of the probabilities of all tokens.
    pub logprob: f64,
    /// Tokens predicted.
    pub tokens: u64,
    /// Bytes of text that these tokens stand for.
    pub bytes: u64,
}

impl Likelihood {
    /// Mean negative log-likelihood of a token, in nats: comparable between models of one tokenizer.
    pub fn loss(&self) -> f64 {
        -self.logprob / self.tokens as f64
    }

    /// `e^loss`: among how many equally likely tokens the model would be as unsure.
    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }

    /// Negative log₂-likelihood of a byte: comparable between any two models of the same text.
    pub fn bits_per_byte(&self) -> f64 {
        -self.logprob / std::f64::consts::LN_2 / self.bytes as f64
    }
}

/// The likelihood of held-out windows; `logprob` gives the sum of a window's log-probabilities.
pub fn likelihood(windows: &[ValWindow], logprob: impl FnMut(Sequences<'_>, &[u32]) -> f64) -> Likelihood {
    sum(windows, logprobs(windows, logprob))
}

/// The same, of which each of `ranks` measures some windows; all have the whole.
///
/// # Errors
/// Those of `logprob`.
pub fn likelihood_over(
    ranks: &Ranks,
    windows: &[ValWindow],
    logprob: impl FnMut(Sequences<'_>, &[u32]) -> Result<f64>,
) -> Result<Likelihood> {
    let own: Vec<f64> = logprobs(&windows[ranks.share(windows.len())], logprob).collect::<Result<_>>()?;
    Ok(sum(windows, ranks.gather(&own).into_iter()))
}

/// The log-probability of each window.
fn logprobs<T>(
    windows: &[ValWindow],
    mut logprob: impl FnMut(Sequences<'_>, &[u32]) -> T,
) -> impl Iterator<Item = T> {
    windows.iter().map(move |ValWindow { tokens, targets, .. }| {
        logprob(Sequences { tokens, lens: &[tokens.len()], noise: None }, targets)
    })
}

/// The sum over windows of these log-probabilities, from the first to the last.
fn sum(windows: &[ValWindow], logprobs: impl Iterator<Item = f64>) -> Likelihood {
    let mut total = Likelihood::default();
    for (ValWindow { targets, bytes, .. }, logprob) in windows.iter().zip(logprobs) {
        total += Likelihood { logprob, tokens: targets.len() as u64, bytes: *bytes };
    }
    total
}

impl AddAssign for Likelihood {
    fn add_assign(&mut self, other: Self) {
        self.logprob += other.logprob;
        self.tokens += other.tokens;
        self.bytes += other.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uniform_guess_costs_the_logarithm_of_the_choices() {
        let mut sum = Likelihood::default();
        sum += Likelihood { logprob: 3.0 * (0.25f64).ln(), tokens: 3, bytes: 6 };
        assert!((sum.perplexity() - 4.0).abs() < 1e-12);
        assert!((sum.bits_per_byte() - 1.0).abs() < 1e-12, "two bits a token of two bytes");
    }
}
