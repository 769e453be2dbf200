//! What is learned: pure functions from the model's outputs to a loss and its derivatives. They never see the model.

mod cross_entropy;
mod key_tokens;

pub use cross_entropy::{cross_entropy, cross_entropy_derivatives};
pub use key_tokens::KeyTokens;
