//! Which items of a task a model may have read in training: those that share words in a row with its corpus
//! (Brown et al. 2020, appendix C).
//!
//! It says what was read, not what was learnt by heart. The one idea: the grams of the items are few and are
//! kept, the documents are many and pass by once, for all tasks together.
//!
//! An item is what it asks followed by its right answer, without what its form adds. It overlaps when N of
//! its words in a row stand in a document, in any case and with any punctuation; an item of fewer words, when
//! all of them do. N is the 5th percentile of the items' lengths, at least 8 and at most 13, as in the paper.
//! Words are those of near duplicates: a Chinese, Japanese or Korean character is one. They are compared by
//! 64-bit hashes.

use super::task::{Item, Task};
use crate::corpus::{gram, words};
use crate::progress::{Progress, Stopped, Unit};
use anyhow::{Result, bail};
use foldhash::fast::FixedState;
use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

/// How many words N can be.
const GRAM_WORDS: RangeInclusive<usize> = 8..=13;

/// What a task shares with a corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// N, the words in a row.
    pub gram_words: usize,
    /// For every item, whether it overlaps.
    pub items: Vec<bool>,
}

/// From a gram to the items that have it: numbers of a task and of an item in it.
type Owners = HashMap<u64, Vec<(usize, usize)>, FixedState>;

/// What the tasks share with `documents`, of which there are `count`.
///
/// # Errors
/// A document cannot be read; somebody asked to stop.
pub fn overlaps(
    tasks: &[Task],
    documents: impl Iterator<Item = Result<String>>,
    count: u64,
    progress: &dyn Progress,
) -> Result<Vec<Overlap>> {
    let mut found = Vec::with_capacity(tasks.len());
    let mut by_len: BTreeMap<usize, Owners> = BTreeMap::new();
    for (number, task) in tasks.iter().enumerate() {
        let items: Vec<Vec<u64>> = task.items.iter().map(|item| hashed(&substance(item))).collect();
        let gram_words = gram_words(&items);
        for (index, item) in items.iter().enumerate().filter(|(_, item)| !item.is_empty()) {
            let len = gram_words.min(item.len());
            let owners = by_len.entry(len).or_default();
            for shown in item.windows(len) {
                owners.entry(gram(shown)).or_default().push((number, index));
            }
        }
        found.push(Overlap { gram_words, items: vec![false; items.len()] });
    }
    progress.begin("overlap with the corpus", count, Unit::Count);
    for document in documents {
        if progress.should_stop() {
            bail!(Stopped("the overlap was not counted"));
        }
        let document = hashed(&document?);
        for (&len, owners) in &by_len {
            let met = document.windows(len).filter_map(|shown| owners.get(&gram(shown)));
            met.flatten().for_each(|&(task, item)| found[task].items[item] = true);
        }
        progress.advance(1);
    }
    progress.end();
    Ok(found)
}

/// What is asked and what is right.
fn substance(item: &Item) -> String {
    format!("{} {}", item.without_form(), item.right_answer())
}

fn hashed(text: &str) -> Vec<u64> {
    let mut all = Vec::new();
    words(text, &mut |word| all.push(word));
    all
}

fn gram_words(items: &[Vec<u64>]) -> usize {
    let mut lens: Vec<usize> = items.iter().map(Vec::len).collect();
    lens.sort_unstable();
    let short = lens.get(lens.len() / 20).copied().unwrap_or(0);
    short.clamp(*GRAM_WORDS.start(), *GRAM_WORDS.end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Wanted;
    use crate::progress::Silent;

    fn task(items: &[(&str, &str)]) -> Task {
        let item = |&(asked, answer): &(&str, &str)| Item {
            asked: asked.to_owned(),
            wanted: Wanted::Choice { answers: vec!["wrong".to_owned(), answer.to_owned()], label: 1 },
        };
        Task { name: "t".into(), items: items.iter().map(item).collect(), examples: None, lines: None }
    }

    fn overlap(items: &[(&str, &str)], documents: &[&str]) -> Overlap {
        let documents = documents.iter().map(|text| Ok((*text).to_owned()));
        overlaps(&[task(items)], documents, 0, &Silent).unwrap().remove(0)
    }

    #[test]
    fn n_words_in_a_row_are_an_overlap() {
        let item = [("one two three four five six seven eight nine", "ten")];
        let of = |document: &str| overlap(&item, &["nothing", document]).items[0];
        assert_eq!(overlap(&item, &[]).gram_words, 10);
        assert!(of("so: ONE, two; three four five six seven - eight (nine) ten."));
        assert!(!of("two three four five six seven eight nine ten"), "N is 10 where all items have 10 words");
        assert!(!of("one two three four five six seven eight nine and ten"), "not in a row");
    }

    #[test]
    fn a_short_item_overlaps_whole_and_its_form_does_not_count() {
        let item = [("Question: What is the capital of Peru?\nAnswer:", "Lima")];
        let found = overlap(&item, &["They asked: what is the capital of Peru? Lima, I said."]);
        assert_eq!(found, Overlap { gram_words: 8, items: vec![true] });
        assert_eq!(overlap(&item, &["What is the capital of Peru? I do not know"]).items, [false]);
        assert_eq!(overlap(&[("秘鲁的首都是", "利马")], &["大家都知道，秘鲁的首都是利马。"]).items, [true]);
    }

    #[test]
    fn long_items_need_a_part_and_each_is_told_by_itself() {
        let words = |from: usize| (from..from + 30).map(|i| format!("w{i} ")).collect::<String>();
        let (first, second) = (words(0), words(100));
        let items = [(first.as_str(), "x"), (second.as_str(), "y")];
        let part = (107..120).map(|i| format!("w{i} ")).collect::<String>();
        assert_eq!(overlap(&items, &[&part]), Overlap { gram_words: 13, items: vec![false, true] });
        let shorter = (107..119).map(|i| format!("w{i} ")).collect::<String>();
        assert_eq!(overlap(&items, &[&shorter]).items, [false, false]);
    }
}
