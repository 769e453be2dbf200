//! What is learned: pure functions from the model's outputs to a loss and its derivatives. They never see the
//! model.

mod classification;
mod cross_entropy;
mod dpo;
mod key_tokens;
pub mod ppo;
mod ranking;

pub use classification::{ClassLoss, class_loss, probabilities, squared_error};
pub use cross_entropy::{cross_entropy, cross_entropy_derivatives};
pub use dpo::{dpo_loss, implicit_rewards};
pub use key_tokens::KeyTokens;
pub use ranking::{RankingLoss, ranking_loss};
