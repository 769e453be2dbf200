//! What is learned: pure functions from the model's outputs to a loss and its derivatives. They never see the
//! model.

mod classification;
mod cross_entropy;
pub mod grpo;
mod key_tokens;
mod kto;
pub mod ppo;
mod preference;
mod ranking;

pub use classification::{ClassLoss, class_loss, probabilities, squared_error};
pub use cross_entropy::{cross_entropy, cross_entropy_derivatives};
pub use key_tokens::KeyTokens;
pub use kto::{BALANCED, Unpaired, UnpairedLoss, reference_point};
pub use preference::{AnswerLogprobs, Preference, PreferenceLoss};
pub use ranking::{PairTerms, RankingLoss, ranking_loss};
