//! How tokens are drawn.

use kernels::Draw;
use text::streams;

/// How a token is drawn; what that is, says [`kernels::draw`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the most likely token.
    pub temperature: f32,
    /// Only the `k` most likely tokens; 0 for all (Fan et al. 2018).
    pub top_k: usize,
    /// Only the smallest set of likely tokens whose probabilities reach `p`; 1 for all (Holtzman et al.
    /// 2020).
    pub top_p: f32,
    /// Decides every draw, together with the request's number and the position.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

impl Sampling {
    /// The draw of the token at `position` of what request `number` generates, of ids below `n_tokens`: the
    /// same for the same arguments, whatever else is being generated.
    pub fn draw<'a>(&self, number: u64, position: usize, n_tokens: usize) -> Draw<'a> {
        let &Sampling { temperature, top_k, top_p, seed } = self;
        let random = [seed, streams::SAMPLES.at(number), position as u64];
        Draw { temperature, top_k, top_p, random, n_tokens, added: &[], allowed: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::{Backend, Drawn, Reference};

    fn frequencies(logits: &[f32], sampling: Sampling) -> Vec<f64> {
        let (b, n) = (&mut Reference, 40_000);
        let mut row = b.zeros(logits.len());
        b.upload(&mut row, logits);
        let mut counts = vec![0.0; logits.len()];
        for position in 0..n {
            let mut drawn = [Drawn::Nothing];
            b.draw(&mut drawn, &row, logits.len(), &[sampling.draw(3, position, logits.len())]);
            let Drawn::Token(token) = drawn[0] else { panic!("{drawn:?}") };
            counts[token as usize] += 1.0 / n as f64;
        }
        counts
    }

    #[test]
    fn draws_follow_the_softmax() {
        let logits = [1.0f32, 0.0, 2.0];
        for temperature in [1.0, 0.5] {
            let e = |x: f32| f64::from(x / temperature).exp();
            let total: f64 = logits.iter().map(|&logit| e(logit)).sum();
            let got = frequencies(&logits, Sampling { temperature, ..Sampling::default() });
            for (got, &logit) in got.iter().zip(&logits) {
                assert!((got - e(logit) / total).abs() < 0.01);
            }
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let logits = [0.1f32.ln(), 0.6f32.ln(), 0.25f32.ln(), 0.05f32.ln()];
        let got = frequencies(&logits, Sampling { top_k: 2, ..Sampling::default() });
        assert_eq!((got[0], got[3]), (0.0, 0.0));
        assert!((got[1] - 0.6 / 0.85).abs() < 0.01);
        let got = frequencies(&logits, Sampling { top_p: 0.8, ..Sampling::default() });
        assert_eq!((got[0], got[3]), (0.0, 0.0), "0.6 is too little, 0.6 + 0.25 enough");
        let got = frequencies(&logits, Sampling { top_p: 0.5, ..Sampling::default() });
        assert_eq!((got[0], got[2], got[3]), (0.0, 0.0, 0.0), "0.6 is enough");
    }

    #[test]
    fn greedy_takes_the_first_of_the_most_likely() {
        let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
        assert_eq!(frequencies(&[0.0, 3.0, 3.0, 1.0], greedy)[1].round(), 1.0);
    }
}
