#![doc = include_str!("../README.md")]

mod order;
pub mod statistics;
mod store;

pub use order::Rule;
pub use statistics::Report;
pub use store::{
    Added, Assigned, ChatRanking, GUIDELINES, Imported, ItemOptions, NewItem, Progress, Rater, Refused, Role,
    ShownAnswer, Store, Submission, Thumb, Unscored, Verdict, is_store,
};
