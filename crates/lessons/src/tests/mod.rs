//! What lessons promise.

mod answers;
mod data;
mod held_out;
mod rankings;

use super::draw::{Draw, Stream};
use super::lesson::Lesson;
use super::*;

/// Many lessons of one task in one language.
fn lessons(task: Task, language: Language) -> impl Iterator<Item = (Draw, Lesson)> {
    (0..200).map(move |index| {
        let mut draw = Draw::new(task as u64, Stream::Text, 2 * index + language as u64);
        let lesson = tasks::of_task(task, &mut draw, language);
        (draw, lesson)
    })
}
