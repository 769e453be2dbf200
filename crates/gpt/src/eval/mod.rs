//! How good a model is: figures that mean the same for every model.

mod bootstrap;
mod classes;
mod likelihood;
mod next_line;
mod ngram;

pub use bootstrap::{Interval, bootstrap};
pub use classes::{ClassFigures, Confusion, pearson};
pub use likelihood::{Likelihood, likelihood};
pub use next_line::{NextLine, first_line, next_lines};
pub use ngram::Ngram;
