//! For tests: a listener that remembers what it was told.

use crate::progress::{Progress, Unit};
use std::sync::Mutex;

#[derive(Default)]
pub(super) struct Heard(Mutex<Vec<String>>);

impl Heard {
    /// All lines so far.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Progress for Heard {
    fn begin(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn line(&self, text: &str) {
        self.0.lock().unwrap().push(text.into());
    }
    fn end(&self) {}
    fn should_stop(&self) -> bool {
        false
    }
}
