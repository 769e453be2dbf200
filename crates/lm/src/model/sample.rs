//! From logits to a token.

use kernels::rng;
use text::streams;

/// How a token is drawn.
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

/// Draws tokens; keeps its buffer.
#[derive(Debug, Default)]
pub struct Sampler {
    candidates: Vec<(f32, u32)>,
}

impl Sampler {
    /// The token for `logits` at `position` of request `request`: the same for the same arguments, whatever
    /// else is being generated. Ties go to the lower id. Logits are finite.
    pub fn draw(&mut self, logits: &[f32], sampling: &Sampling, request: u64, position: u64) -> u32 {
        let by_likelihood = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let ids = logits.iter().copied().zip(0u32..);
        if sampling.temperature <= 0.0 {
            return ids.min_by(by_likelihood).expect("a vocabulary is not empty").1;
        }
        let candidates = &mut self.candidates;
        candidates.clear();
        candidates.extend(ids);
        if (1..candidates.len()).contains(&sampling.top_k) {
            candidates.select_nth_unstable_by(sampling.top_k - 1, by_likelihood);
            candidates.truncate(sampling.top_k);
        }
        candidates.sort_unstable_by(by_likelihood);

        let highest = candidates[0].0;
        let weight = |logit: f32| f64::from((logit - highest) / sampling.temperature).exp();
        let mut total: f64 = candidates.iter().map(|c| weight(c.0)).sum();
        if sampling.top_p < 1.0 {
            let enough = f64::from(sampling.top_p) * total;
            let mut reached = 0.0;
            let kept = candidates.iter().take_while(|c| {
                let before = reached;
                reached += weight(c.0);
                before < enough
            });
            let kept = kept.count().max(1);
            candidates.truncate(kept);
            total = candidates.iter().map(|c| weight(c.0)).sum();
        }
        let mut left = f64::from(rng::uniform(sampling.seed, streams::SAMPLES.at(request), position)) * total;
        for &(logit, id) in candidates.iter() {
            left -= weight(logit);
            if left < 0.0 {
                return id;
            }
        }
        candidates[0].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(logits: &[f32], sampling: Sampling) -> Vec<f64> {
        let (mut sampler, n) = (Sampler::default(), 40_000);
        let mut counts = vec![0.0; logits.len()];
        (0..n).for_each(|i| counts[sampler.draw(logits, &sampling, 3, i) as usize] += 1.0 / n as f64);
        counts
    }

    #[test]
    fn draws_follow_the_softmax() {
        let logits = [1.0f32, 0.0, 2.0];
        let e = |x: f64| x.exp();
        for temperature in [1.0, 0.5] {
            let t = f64::from(temperature);
            let total = e(1.0 / t) + e(0.0) + e(2.0 / t);
            let got = frequencies(&logits, Sampling { temperature, ..Sampling::default() });
            for (got, logit) in got.iter().zip([1.0, 0.0, 2.0]) {
                assert!((got - e(logit / t) / total).abs() < 0.01);
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
        assert_eq!(Sampler::default().draw(&[0.0, 3.0, 3.0, 1.0], &greedy, 0, 0), 1);
    }
}
