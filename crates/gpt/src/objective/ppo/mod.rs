//! The arithmetic of proximal policy optimisation from a reward model (Schulman et al. 2017; Ziegler et al. 2019; Ouyang et al.
//! 2022): numbers of tokens in, losses and derivatives out. Details are numbered as in Huang et al. (2024).
//!
//! Lists are flat over the tokens of answers, one answer after another; `lens` says how long each is. There is no padding that
//! could enter a mean.

mod advantage;
mod kl;
mod loss;

pub use advantage::{gae, token_rewards, whiten};
pub use kl::KlController;
pub use loss::{PolicyLoss, ValueLoss, policy_loss, value_loss};
