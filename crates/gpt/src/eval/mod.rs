//! How good a model is: figures that mean the same for every model.

mod bootstrap;
mod choice;
mod classes;
pub mod code;
mod few_shot;
mod figures;
mod interval;
mod items;
mod likelihood;
mod log;
mod marked;
mod next_line;
mod ngram;
mod overlap;
mod power_law;
mod programs;
mod synthetic;
mod task;
mod written;

pub use bootstrap::{bootstrap, mean};
pub use classes::{ClassFigures, Confusion};
pub use few_shot::{Candidate, TaskResult};
pub use figures::{Difference, Figures, difference};
pub use interval::{Interval, Rate};
pub use items::FIELDS;
pub use likelihood::{Likelihood, likelihood, likelihood_over};
pub use log::{Line, Log};
pub use marked::{Rule, Terms};
pub use next_line::{NextLine, first_line, next_lines};
pub use ngram::Ngram;
pub use overlap::{Overlap, overlaps};
pub use power_law::PowerLaw;
pub use task::{Item, Task, Wanted, generated};
