//! From scores of answers to advantages of tokens.

/// The reward of every token: `-kl_coef · (log π - log π_ref)`, and on an answer's last token its score besides (Ziegler et al.
/// 2019, eq. 2; detail 17). An answer without tokens has no token that could carry its score.
pub fn token_rewards(
    logprobs: &[f64],
    ref_logprobs: &[f64],
    scores: &[f64],
    lens: &[usize],
    kl_coef: f64,
) -> Vec<f64> {
    assert_eq!(logprobs.len(), ref_logprobs.len(), "a reference for each token");
    assert_eq!(logprobs.len(), lens.iter().sum::<usize>(), "lens do not add up to the tokens");
    assert_eq!(scores.len(), lens.len(), "a score for each answer");
    let mut rewards: Vec<f64> = logprobs.iter().zip(ref_logprobs).map(|(p, r)| -kl_coef * (p - r)).collect();
    let mut end = 0;
    for (&len, score) in lens.iter().zip(scores) {
        end += len;
        if len > 0 {
            rewards[end - 1] += score;
        }
    }
    rewards
}

/// Generalised advantage estimation (Schulman et al. 2015, eq. 16): with `δₜ = rₜ + γ·Vₜ₊₁ - Vₜ`, and nothing after an answer's
/// end, the advantages `Aₜ = δₜ + γλ·Aₜ₊₁` and the returns `Aₜ + Vₜ` that values learn.
pub fn gae(rewards: &[f64], values: &[f64], lens: &[usize], gamma: f64, lambda: f64) -> (Vec<f64>, Vec<f64>) {
    assert_eq!(rewards.len(), values.len(), "a value for each token");
    assert_eq!(rewards.len(), lens.iter().sum::<usize>(), "lens do not add up to the tokens");
    let mut advantages = vec![0.0; rewards.len()];
    let mut first = 0;
    for &len in lens {
        let (mut next_value, mut next_advantage) = (0.0, 0.0);
        for t in (first..first + len).rev() {
            let delta = rewards[t] + gamma * next_value - values[t];
            next_advantage = delta + gamma * lambda * next_advantage;
            advantages[t] = next_advantage;
            next_value = values[t];
        }
        first += len;
    }
    let returns = advantages.iter().zip(values).map(|(a, v)| a + v).collect();
    (advantages, returns)
}

/// Divides by the standard deviation, of the biased variance (detail 18), and with `shift_mean` the mean becomes 0; otherwise it
/// stays.
pub fn whiten(values: &mut [f64], shift_mean: bool) {
    if values.is_empty() {
        return;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (variance + 1e-8).sqrt();
    let kept = if shift_mean { 0.0 } else { mean };
    values.iter_mut().for_each(|x| *x = (*x - mean) * scale + kept);
}
