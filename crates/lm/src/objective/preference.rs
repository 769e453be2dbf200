//! Learning from pairs of answers without a reward model: direct preference optimisation (Rafailov et al. 2023) and
//! what came after it, by the names that TRL gives them.

use super::ranking::{RankingLoss, log_sigmoid, sigmoid};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is learned of a pair. `c` and `r` are `log π − log π_ref` of the better and the worse answer, `n` tokens of an
/// answer, `σ` the sigmoid, `ε` the share of pairs that are taken to be the wrong way round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreferenceLoss {
    /// DPO: `−(1−ε) ln σ(β(c−r)) − ε ln σ(−β(c−r))` (Rafailov et al. 2023, eq. 7; with `ε` Mitchell 2023, cDPO).
    #[default]
    Sigmoid,
    /// IPO: `(c/n_c − r/n_r − 1/(2β))²` (Azar et al. 2023, eq. 17), by token as its authors advise.
    Ipo,
    /// `max(0, 1 − β(c−r))` (Zhao et al. 2023, SLiC-HF).
    Hinge,
    /// `(−(1−ε) ln σ(β(c−r)) + ε ln σ(−β(c−r))) / (1−2ε)`: without bias where pairs are flipped at the rate ε (Chowdhury et al.
    /// 2024).
    Robust,
    /// EXO: the divergence of `σ(β(c−r))` from `1−ε` (Ji et al. 2024, eq. 15). `ε` is above 0.
    ExoPair,
    /// APO-zero: `1 − σ(βc) + σ(βr)`, which raises the better answer and lowers the worse one (D'Oosterlinck et al. 2024).
    ApoZero,
    /// APO-down: `σ(βc) + 1 − σ(β(c−r))`, which lowers both, the worse one more (the same).
    ApoDown,
    /// DPO by token: `c/n_c` and `r/n_r` in place of `c` and `r` (Meng et al. 2024, §4.2).
    SigmoidNorm,
    /// SimPO: `−ln σ(β(log π_c/n_c − log π_r/n_r) − γ)`, without a reference (Meng et al. 2024, eq. 6).
    Simpo,
    /// ORPO's odds ratio: `−β ln σ(log odds_c − log odds_r)` of the means by token, without a reference; beside it the better
    /// answer is learned as in supervised fine-tuning (Hong et al. 2024, eq. 6 and 7).
    Orpo,
}

/// An answer as a loss sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnswerLogprobs {
    /// The sum of its tokens' log-probabilities under the policy.
    pub policy: f64,
    /// The same under the reference; of no meaning where there is none.
    pub reference: f64,
    /// Its tokens.
    pub tokens: usize,
}

/// A loss with its coefficients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preference {
    /// Which.
    pub loss: PreferenceLoss,
    /// β, the weight of the distance from the reference, or of the difference.
    pub beta: f64,
    /// ε.
    pub label_smoothing: f64,
    /// γ, the margin of SimPO.
    pub gamma: f64,
}

impl PreferenceLoss {
    /// All of them.
    pub const ALL: [PreferenceLoss; 10] = [
        PreferenceLoss::Sigmoid,
        PreferenceLoss::Ipo,
        PreferenceLoss::Hinge,
        PreferenceLoss::Robust,
        PreferenceLoss::ExoPair,
        PreferenceLoss::ApoZero,
        PreferenceLoss::ApoDown,
        PreferenceLoss::SigmoidNorm,
        PreferenceLoss::Simpo,
        PreferenceLoss::Orpo,
    ];

    /// Whether the policy is compared with a reference.
    pub fn has_reference(self) -> bool {
        !matches!(self, PreferenceLoss::Simpo | PreferenceLoss::Orpo)
    }

    /// Its name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            PreferenceLoss::Sigmoid => "sigmoid",
            PreferenceLoss::Ipo => "ipo",
            PreferenceLoss::Hinge => "hinge",
            PreferenceLoss::Robust => "robust",
            PreferenceLoss::ExoPair => "exo_pair",
            PreferenceLoss::ApoZero => "apo_zero",
            PreferenceLoss::ApoDown => "apo_down",
            PreferenceLoss::SigmoidNorm => "sigmoid_norm",
            PreferenceLoss::Simpo => "simpo",
            PreferenceLoss::Orpo => "orpo",
        }
    }

    fn is_by_token(self) -> bool {
        use PreferenceLoss::{Ipo, Orpo, SigmoidNorm, Simpo};
        matches!(self, Ipo | SigmoidNorm | Simpo | Orpo)
    }
}

impl fmt::Display for PreferenceLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A loss and its derivatives by two numbers.
type OfTwo = (f64, f64, f64);

impl Preference {
    /// The loss of one prompt's answers: the mean over its `pairs` (better, worse), all of them one element of a batch,
    /// as in [`super::ranking_loss`]. Derivatives are by the policy's log-probabilities.
    pub fn loss(&self, answers: &[AnswerLogprobs], pairs: &[(usize, usize)]) -> RankingLoss {
        let mut loss = RankingLoss { derivatives: vec![0.0; answers.len()], ..RankingLoss::default() };
        let each = 1.0 / pairs.len().max(1) as f64;
        for &(better, worse) in pairs {
            let [(c, by_c), (r, by_r)] = [better, worse].map(|i| self.preferred(&answers[i]));
            let (value, d_c, d_r) = self.of_pair(c, r);
            loss.value += each * value;
            loss.derivatives[better] += each * d_c * by_c;
            loss.derivatives[worse] += each * d_r * by_r;
            loss.right += usize::from(c > r);
        }
        loss
    }

    /// How much the policy likes an answer, in the loss's own measure times β: the reward that it is.
    pub fn reward(&self, answer: &AnswerLogprobs) -> f64 {
        self.beta * self.preferred(answer).0
    }

    /// What a pair's loss compares, and its derivative by the policy's log-probability. What is not finite is beyond
    /// what the model can compute: the loss is NaN then.
    fn preferred(&self, answer: &AnswerLogprobs) -> (f64, f64) {
        let by = if self.loss.is_by_token() { 1.0 / answer.tokens.max(1) as f64 } else { 1.0 };
        let reference = if self.loss.has_reference() { answer.reference } else { 0.0 };
        let ratio = answer.policy - reference;
        (if ratio.is_finite() { ratio * by } else { f64::NAN }, by)
    }

    fn of_pair(&self, c: f64, r: f64) -> OfTwo {
        let Preference { beta, label_smoothing: smooth, gamma, .. } = *self;
        let x = beta * (c - r);
        // Losses of the difference: their derivatives are equal but for the sign.
        let of_difference = |(value, by_x): (f64, f64)| (value, beta * by_x, -beta * by_x);
        let slope = |x: f64| beta * sigmoid(x) * sigmoid(-x);
        match self.loss {
            PreferenceLoss::Sigmoid | PreferenceLoss::SigmoidNorm => of_difference(smoothed(x, smooth)),
            PreferenceLoss::Simpo => of_difference(smoothed(x - gamma, smooth)),
            PreferenceLoss::Ipo => {
                let off = c - r - 0.5 / beta;
                (off * off, 2.0 * off, -2.0 * off)
            }
            PreferenceLoss::Hinge if x.is_nan() => (x, x, x),
            PreferenceLoss::Hinge => of_difference(((1.0 - x).max(0.0), if x < 1.0 { -1.0 } else { 0.0 })),
            PreferenceLoss::Robust => {
                let value = smooth * log_sigmoid(-x) - (1.0 - smooth) * log_sigmoid(x);
                let by_x = -smooth * sigmoid(x) - (1.0 - smooth) * sigmoid(-x);
                let scale = 1.0 / (1.0 - 2.0 * smooth);
                of_difference((scale * value, scale * by_x))
            }
            PreferenceLoss::ExoPair => {
                let (p, q) = (sigmoid(x), sigmoid(-x));
                let off = [log_sigmoid(x) - (1.0 - smooth).ln(), log_sigmoid(-x) - smooth.ln()];
                of_difference((p * off[0] + q * off[1], p * q * (off[0] - off[1])))
            }
            PreferenceLoss::ApoZero => {
                (1.0 - sigmoid(beta * c) + sigmoid(beta * r), -slope(beta * c), slope(beta * r))
            }
            PreferenceLoss::ApoDown => {
                (sigmoid(beta * c) + sigmoid(-x), slope(beta * c) - slope(x), slope(x))
            }
            PreferenceLoss::Orpo => {
                let [(odds_c, by_c), (odds_r, by_r)] = [c, r].map(log_odds);
                let lead = odds_c - odds_r;
                let by_lead = -beta * sigmoid(-lead);
                (-beta * log_sigmoid(lead), by_lead * by_c, -by_lead * by_r)
            }
        }
    }
}

/// `−(1−ε) ln σ(x) − ε ln σ(−x)`, and its derivative.
fn smoothed(x: f64, smooth: f64) -> (f64, f64) {
    let value = -(1.0 - smooth) * log_sigmoid(x) - smooth * log_sigmoid(-x);
    (value, smooth * sigmoid(x) - (1.0 - smooth) * sigmoid(-x))
}

/// `ln(p / (1−p))` of a log-probability, and its derivative. A probability of 1 has infinite odds: it is taken for one
/// a millionth below it.
fn log_odds(logprob: f64) -> (f64, f64) {
    let logprob = if logprob > -1e-6 { -1e-6 } else { logprob };
    let rest = -logprob.exp_m1();
    (logprob - rest.ln(), 1.0 / rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(loss: PreferenceLoss) -> Preference {
        Preference { loss, beta: 0.7, label_smoothing: 0.1, gamma: 0.4 }
    }

    fn answer(policy: f64, reference: f64, tokens: usize) -> AnswerLogprobs {
        AnswerLogprobs { policy, reference, tokens }
    }

    #[test]
    fn derivatives_are_those_of_the_loss() {
        let pairs = [(1, 0), (1, 2), (0, 2)];
        let answers = [answer(-4.0, -4.5, 3), answer(-9.0, -7.2, 5), answer(-1.3, -1.1, 2)];
        for loss in PreferenceLoss::ALL.map(of) {
            let found = loss.loss(&answers, &pairs).derivatives;
            for at in 0..answers.len() {
                let by = |h: f64| {
                    let mut moved = answers;
                    moved[at].policy += h;
                    loss.loss(&moved, &pairs).value
                };
                let wanted = (by(1e-6) - by(-1e-6)) / 2e-6;
                assert!((found[at] - wanted).abs() < 1e-7, "{loss:?} {at}: {} {wanted}", found[at]);
            }
        }
    }

    #[test]
    fn what_the_model_cannot_compute_has_no_loss() {
        for loss in PreferenceLoss::ALL.map(of) {
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let found = loss.loss(&[answer(bad, -1.0, 2), answer(-1.0, -1.0, 2)], &[(0, 1)]);
                assert!(found.value.is_nan() && found.right == 0, "{loss:?}: {found:?}");
            }
        }
    }

    #[test]
    fn a_certain_answer_has_finite_odds() {
        let found = of(PreferenceLoss::Orpo).loss(&[answer(0.0, 0.0, 1), answer(-2.0, 0.0, 1)], &[(0, 1)]);
        assert!(found.value.is_finite() && found.derivatives.iter().all(|it| it.is_finite()), "{found:?}");
    }

    #[test]
    fn names_are_those_of_recipes() {
        for loss in PreferenceLoss::ALL {
            assert_eq!(serde_json::to_value(loss).unwrap(), loss.name());
        }
    }
}
