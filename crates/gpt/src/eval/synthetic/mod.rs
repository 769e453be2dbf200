//! Synthetic tasks, generated without limit: arithmetic, scrambled words, copying, patterns, novel words
//! (Brown et al. 2020, §3.9).
//!
//! An item is a function of the seed, its split and its number. Examples are items of the training split,
//! which has words of its own: no example says the word that is asked for.

mod arithmetic;
mod words;

use super::task::{Item, Wanted};
use crate::corpus::Split;
use crate::streams;
use kernels::rng;

/// What a generated task is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Sums of numbers of so many digits.
    Sum(u32),
    /// Differences likewise; the result may be negative.
    Difference(u32),
    /// Products of numbers of two digits.
    Product,
    /// Three numbers of one digit and two signs, one in parentheses.
    Composite,
    /// Letters moved around in a circle.
    Cycled,
    /// An anagram of all but the first and last letter.
    Anagram1,
    /// An anagram of all but the first and last two letters.
    Anagram2,
    /// A mark or blank after every letter.
    Inserted,
    /// Letters from last to first.
    Reversed,
    /// A word to say again.
    Copying,
    /// A pattern of letters to go on with.
    Pattern,
    /// A made-up noun, and the form for several of it.
    NovelWord,
}

use Kind::*;

impl Kind {
    pub(super) const ALL: [Kind; 18] = [
        Sum(2),
        Sum(3),
        Sum(4),
        Sum(5),
        Difference(2),
        Difference(3),
        Difference(4),
        Difference(5),
        Product,
        Composite,
        Cycled,
        Anagram1,
        Anagram2,
        Inserted,
        Reversed,
        Copying,
        Pattern,
        NovelWord,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Sum(2) => "add-2-digits",
            Sum(3) => "add-3-digits",
            Sum(4) => "add-4-digits",
            Sum(_) => "add-5-digits",
            Difference(2) => "subtract-2-digits",
            Difference(3) => "subtract-3-digits",
            Difference(4) => "subtract-4-digits",
            Difference(_) => "subtract-5-digits",
            Product => "multiply-2-digits",
            Composite => "one-digit-composite",
            Cycled => "cycle-letters",
            Anagram1 => "anagrams-1",
            Anagram2 => "anagrams-2",
            Inserted => "random-insertion",
            Reversed => "reversed-words",
            Copying => "copy",
            Pattern => "pattern",
            NovelWord => "novel-words",
        }
    }

    pub(super) fn about(self) -> &'static str {
        match self {
            Sum(_) => "Q: What is 48 plus 76? A: 124",
            Difference(_) => "Q: What is 34 minus 53? A: -19",
            Product => "Q: What is 24 times 42? A: 1008",
            Composite => "Q: What is 6+(4*8)? A: 38",
            Cycled => "lyinevitab = inevitably",
            Anagram1 => "criroptuon = corruption",
            Anagram2 => "opoepnnt = opponent",
            Inserted => "s.u!c/c!e.s s i/o/n = succession",
            Reversed => "stcejbo = objects",
            Copying => "Say again: lantern = lantern",
            Pattern => "a b c a b c a b = c",
            NovelWord => "One zarnip, many = zarnips",
        }
    }
}

/// Random numbers of one item.
struct Draw {
    seed: u64,
    index: u64,
    next: u64,
}

impl Draw {
    /// Uniform in `0 .. n`.
    fn below(&mut self, n: u64) -> u64 {
        self.next += 1;
        rng::below(self.seed, self.index, self.next, n)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Item `index` of a split of a task.
pub(super) fn item(kind: Kind, split: Split, seed: u64, index: u64) -> Item {
    let place = Kind::ALL.iter().position(|&other| other == kind).expect("all kinds are listed");
    let stream = 2 * place as u64 + u64::from(split == Split::Train);
    let seed = rng::bits(seed, streams::EVAL_ITEMS, stream);
    let draw = &mut Draw { seed, index, next: 0 };
    let (asked, answer) = match kind {
        Sum(digits) => arithmetic::sum(draw, digits),
        Difference(digits) => arithmetic::difference(draw, digits),
        Product => arithmetic::product(draw),
        Composite => arithmetic::composite(draw),
        Cycled | Anagram1 | Anagram2 | Inserted | Reversed => words::scrambled(kind, split, draw),
        Copying => words::copied(split, draw),
        Pattern => pattern(draw),
        NovelWord => words::novel(draw),
    };
    Item { asked, wanted: Wanted::Free(vec![answer]) }
}

/// A few letters again and again, up to the one that is asked for.
fn pattern(draw: &mut Draw) -> (String, String) {
    let period = 2 + draw.below(3) as usize;
    let letters: Vec<char> = (0..period).map(|_| char::from(b'a' + draw.below(26) as u8)).collect();
    let shown = 2 * period + draw.below(period as u64) as usize;
    let letter = |i: usize| letters[i % period].to_string();
    let shown_letters: Vec<String> = (0..shown).map(letter).collect();
    (format!("{} =", shown_letters.join(" ")), letter(shown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// What is asked and what is right, of the first 300 items.
    pub(super) fn pairs(kind: Kind) -> impl Iterator<Item = (String, String)> {
        (0..300).map(move |index| {
            let item = item(kind, Split::Val, 5, index);
            let answer = item.right_answer().to_owned();
            (item.asked, answer)
        })
    }

    #[test]
    fn patterns_go_on() {
        for (asked, answer) in pairs(Pattern) {
            let mut letters: Vec<&str> = asked.strip_suffix(" =").unwrap().split(' ').collect();
            letters.push(&answer);
            let is_period = |p: usize| letters.iter().zip(&letters[p..]).all(|(a, b)| a == b);
            assert!((2..5).any(|p| is_period(p) && letters.len() > 2 * p), "{asked} {answer}");
        }
    }

    #[test]
    fn items_are_functions_of_seed_split_and_number() {
        for kind in Kind::ALL {
            assert_eq!(item(kind, Split::Val, 1, 7), item(kind, Split::Val, 1, 7));
            assert!((0..20).any(|i| item(kind, Split::Val, 1, i) != item(kind, Split::Val, 2, i)));
            assert!((0..20).any(|i| item(kind, Split::Val, 1, i) != item(kind, Split::Train, 1, i)));
            let different: HashSet<String> = pairs(kind).map(|(asked, _)| asked).collect();
            assert!(different.len() > 270, "{}: {} of 300 differ", kind.name(), different.len());
        }
    }
}
