//! Training: where a run lives on disk, and what every stage shares.

pub mod run;
