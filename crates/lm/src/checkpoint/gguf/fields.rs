//! The entries that describe a model of one architecture: `llama.context_length` and the like.

use std::cell::RefCell;
use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::metadata::Metadata;

/// The entries under the name of an architecture. What nobody asks for can be told.
pub(super) struct Fields<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
    asked: RefCell<BTreeSet<String>>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(metadata: &'a Metadata, architecture: &'a str) -> Self {
        Fields { metadata, architecture, asked: RefCell::default() }
    }

    /// `name` → `llama.name`.
    pub(super) fn key(&self, name: &str) -> String {
        let key = format!("{}.{name}", self.architecture);
        self.asked.borrow_mut().insert(key.clone());
        key
    }

    /// A size, which must be there.
    pub(super) fn size(&self, name: &str) -> Result<usize> {
        self.optional_size(name)?.with_context(|| format!("{} is missing", self.key(name)))
    }

    pub(super) fn optional_size(&self, name: &str) -> Result<Option<usize>> {
        self.metadata.size(&self.key(name))
    }

    pub(super) fn float(&self, name: &str) -> Result<Option<f64>> {
        self.metadata.float(&self.key(name))
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>> {
        self.metadata.text(&self.key(name))
    }

    /// Keys of the architecture that nobody asked for.
    pub(super) fn not_asked_for(&self) -> impl Iterator<Item = &'a str> {
        let (prefix, asked) = (format!("{}.", self.architecture), self.asked.take());
        self.metadata.keys().filter(move |key| key.starts_with(&prefix) && !asked.contains(*key))
    }
}
