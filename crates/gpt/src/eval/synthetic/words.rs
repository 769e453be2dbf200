//! Words: scrambled in five ways (Brown et al. 2020, §3.9.2), to be copied, and made up (§3.9.5).

use super::{Draw, Kind};
use crate::corpus::Split;
use crate::data::Permutation;
use crate::streams;

/// Frequent words of five letters and more, in the order of the alphabet; none is an anagram of another one.
const WORDS: &str = include_str!("words.txt");
/// One word in so many is for examples.
const EXAMPLES: usize = 3;

/// The word of an item, among those that `suits` likes: all of them once, then again.
fn word(split: Split, draw: &Draw, suits: impl Fn(&str) -> bool) -> &'static str {
    let own = |(place, _): &(usize, &str)| (place % EXAMPLES == 0) == (split == Split::Train);
    let words: Vec<&str> =
        WORDS.lines().enumerate().filter(own).map(|(_, word)| word).filter(|w| suits(w)).collect();
    let n = words.len() as u64;
    words[Permutation::new(n, draw.seed, streams::EVAL_WORDS).at(draw.index % n) as usize]
}

pub(super) fn copied(split: Split, draw: &Draw) -> (String, String) {
    let word = word(split, draw, |_| true);
    (format!("Say again: {word} ="), word.to_owned())
}

/// A word that is scrambled, and the word.
pub(super) fn scrambled(kind: Kind, split: Split, draw: &mut Draw) -> (String, String) {
    // Letters that stay where they are, at both ends.
    let kept = match kind {
        Kind::Anagram1 => 1,
        Kind::Anagram2 => 2,
        _ => 0,
    };
    let moves = |letters: &[u8]| letters.iter().any(|letter| *letter != letters[0]);
    let word = word(split, draw, |word| moves(&word.as_bytes()[kept..word.len() - kept]));
    let letters: Vec<char> = word.chars().collect();
    let n = letters.len();
    let shown: String = match kind {
        Kind::Cycled => {
            let by = 1 + draw.below(n as u64 - 1) as usize;
            letters[by..].iter().chain(&letters[..by]).collect()
        }
        Kind::Reversed => letters.iter().rev().collect(),
        Kind::Inserted => inserted(&letters, draw),
        _ => {
            let (inner, ends) = (&letters[kept..n - kept], (&letters[..kept], &letters[n - kept..]));
            [ends.0, &shuffled(inner, draw), ends.1].concat().into_iter().collect()
        }
    };
    (format!("{shown} ="), word.to_owned())
}

/// A mark or blank after every letter but the last.
fn inserted(letters: &[char], draw: &mut Draw) -> String {
    let mut shown = String::from(letters[0]);
    for &letter in &letters[1..] {
        shown.extend([draw.pick(&['.', '!', '/', ' ', '-']), letter]);
    }
    shown
}

/// Another order of letters that are not all alike (Fisher & Yates 1938).
fn shuffled(letters: &[char], draw: &mut Draw) -> Vec<char> {
    let mut shuffled = letters.to_vec();
    while shuffled == letters {
        for last in (1..shuffled.len()).rev() {
            let at = draw.below(last as u64 + 1) as usize;
            shuffled.swap(last, at);
        }
    }
    shuffled
}

/// A made-up noun, and the form for several of it.
pub(super) fn novel(draw: &mut Draw) -> (String, String) {
    let mut syllable = || [draw.pick(b"bdfgklmnprtvz"), draw.pick(b"aeiou")].map(char::from);
    let beginning = [syllable(), syllable()].concat();
    let end = char::from(draw.pick(b"bdgklmnprt"));
    let word = String::from_iter(beginning) + end.encode_utf8(&mut [0; 4]);
    (format!("One {word}, many ="), format!("{word}s"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::pairs;
    use super::super::{Kind::*, item};
    use super::*;
    use std::collections::HashSet;

    fn sorted(text: &str) -> Vec<char> {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters
    }

    #[test]
    fn every_word_is_one_only() {
        let words: Vec<&str> = WORDS.lines().collect();
        assert!(words.len() > 1000 && words.is_sorted());
        assert!(words.iter().all(|word| word.len() >= 5 && word.bytes().all(|b| b.is_ascii_lowercase())));
        assert_eq!(words.iter().map(|word| sorted(word)).collect::<HashSet<_>>().len(), words.len());
    }

    #[test]
    fn scrambled_words_are_the_word_in_another_order() {
        for kind in [Cycled, Anagram1, Anagram2, Inserted, Reversed] {
            for (asked, word) in pairs(kind) {
                let shown = asked.strip_suffix(" =").unwrap();
                assert_ne!(shown, word);
                let (n, ends) = (word.len(), |k: usize| (&word[..k], &word[word.len() - k..]));
                if kind == Inserted {
                    let (letters, marks): (Vec<_>, Vec<_>) =
                        shown.chars().enumerate().partition(|(i, _)| i % 2 == 0);
                    assert_eq!(letters.into_iter().map(|(_, letter)| letter).collect::<String>(), word);
                    assert!(
                        marks.len() == n - 1 && marks.iter().all(|(_, mark)| ".!/ -".contains(*mark)),
                        "{shown}"
                    );
                    continue;
                }
                assert_eq!(sorted(shown), sorted(&word));
                match kind {
                    Cycled => assert!(word.repeat(2).contains(shown), "{shown} {word}"),
                    Reversed => assert!(shown.bytes().eq(word.bytes().rev()), "{shown} {word}"),
                    Anagram1 => assert_eq!((&shown[..1], &shown[n - 1..]), ends(1)),
                    _ => assert_eq!((&shown[..2], &shown[n - 2..]), ends(2)),
                }
            }
        }
    }

    #[test]
    fn copies_and_plurals_are_of_the_word_that_is_shown() {
        for (asked, answer) in pairs(Copying) {
            assert_eq!(asked.split(' ').nth(2).unwrap(), answer);
        }
        let real: HashSet<&str> = WORDS.lines().collect();
        for (asked, answer) in pairs(NovelWord) {
            let word = asked.strip_prefix("One ").and_then(|rest| rest.strip_suffix(", many =")).unwrap();
            assert_eq!(format!("{word}s"), answer);
            assert!(!real.contains(word), "{word} is no new one");
        }
    }

    #[test]
    fn no_example_says_the_word_that_is_asked_for() {
        for kind in [Copying, Cycled, Anagram1, Anagram2, Inserted, Reversed] {
            let words = |split, n| (0..n).map(move |i| item(kind, split, 3, i).right_answer().to_owned());
            let examples: HashSet<String> = words(Split::Train, 250).collect();
            assert_eq!(examples.len(), 250);
            assert!(!words(Split::Val, 500).any(|word| examples.contains(&word)));
            assert_eq!(words(Split::Val, 500).collect::<HashSet<_>>().len(), 500, "each word once");
        }
    }
}
