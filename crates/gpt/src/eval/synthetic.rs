//! Tasks without end, made by rule: arithmetic, scrambled words, copying, patterns, novel words (Brown et al. 2020, §3.9). Item
//! `index` is a function of the seed.

use super::task::{Item, Wanted};
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

/// Words of five letters and more, to scramble and to copy.
const WORDS: [&str; 72] = [
    "anchor",
    "autumn",
    "balance",
    "basket",
    "blanket",
    "bottle",
    "bridge",
    "butter",
    "candle",
    "captain",
    "carpet",
    "castle",
    "ceiling",
    "chapter",
    "circle",
    "climate",
    "corner",
    "cottage",
    "council",
    "curtain",
    "daughter",
    "diamond",
    "dinner",
    "doctor",
    "elephant",
    "engine",
    "evening",
    "factory",
    "feather",
    "forest",
    "fountain",
    "garden",
    "glacier",
    "harbour",
    "holiday",
    "hunter",
    "island",
    "journey",
    "kitchen",
    "ladder",
    "lantern",
    "library",
    "machine",
    "market",
    "meadow",
    "mirror",
    "morning",
    "mountain",
    "museum",
    "neighbour",
    "notebook",
    "orchard",
    "painter",
    "palace",
    "pencil",
    "picture",
    "planet",
    "pocket",
    "pottery",
    "railway",
    "river",
    "sailor",
    "scholar",
    "shadow",
    "shelter",
    "silver",
    "station",
    "stranger",
    "teacher",
    "thunder",
    "village",
    "window",
];

/// Random numbers of one item.
struct Draw {
    seed: u64,
    index: u64,
    next: u64,
}

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.next += 1;
        rng::below(self.seed, self.index, self.next, n)
    }

    fn between(&mut self, low: u64, high: u64) -> i64 {
        (low + self.below(high - low)) as i64
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.below(WORDS.len() as u64) as usize]
    }

    /// Another order of the letters, wherever there is one.
    fn shuffled(&mut self, letters: &[char]) -> Vec<char> {
        let mut shuffled = letters.to_vec();
        for _ in 0..20 {
            for last in (1..shuffled.len()).rev() {
                let at = self.below(last as u64 + 1) as usize;
                shuffled.swap(last, at);
            }
            if shuffled != letters {
                break;
            }
        }
        shuffled
    }
}

/// Item `index` of a task.
pub(super) fn item(kind: Kind, seed: u64, index: u64) -> Item {
    let stream = Kind::ALL.iter().position(|&other| other == kind).unwrap_or(0) as u64;
    let mut draw = Draw { seed: rng::bits(seed, 0x4556_414c, stream), index, next: 0 };
    let (asked, answer) = match kind {
        Sum(digits) | Difference(digits) => {
            let high = 10u64.pow(digits);
            let (a, b) = (draw.between(0, high), draw.between(0, high));
            let (word, result) = match kind {
                Sum(_) => ("plus", a + b),
                _ => ("minus", a - b),
            };
            (format!("Q: What is {a} {word} {b}?\nA:"), result.to_string())
        }
        Product => {
            let (a, b) = (draw.between(0, 100), draw.between(0, 100));
            (format!("Q: What is {a} times {b}?\nA:"), (a * b).to_string())
        }
        Composite => composite(&mut draw),
        Copying => {
            let word = draw.word();
            (format!("Say again: {word} ="), word.to_owned())
        }
        Pattern => pattern(&mut draw),
        NovelWord => {
            let word = novel_word(&mut draw);
            (format!("One {word}, many ="), format!("{word}s"))
        }
        Cycled | Anagram1 | Anagram2 | Inserted | Reversed => {
            // Of some words a few inner letters are all alike.
            let drawn = std::iter::repeat_with(|| {
                let word = draw.word();
                (scrambled(kind, word, &mut draw), word)
            });
            let (shown, word) = drawn.take(20).find(|(shown, word)| shown != word).unwrap_or_default();
            (format!("{shown} ="), word.to_owned())
        }
    };
    Item { asked, wanted: Wanted::Free(vec![answer]) }
}

/// Three numbers of one digit; the second sign may stand in parentheses with its numbers.
fn composite(draw: &mut Draw) -> (String, String) {
    let numbers = [0; 3].map(|_| draw.between(0, 10));
    let signs = [0; 2].map(|_| draw.below(3));
    let apply = |sign: u64, a: i64, b: i64| match sign {
        0 => a + b,
        1 => a - b,
        _ => a * b,
    };
    let name = |sign: u64| ["+", "-", "*"][sign as usize];
    let [a, b, c] = numbers;
    let [first, second] = signs.map(name);
    let result = apply(signs[0], a, apply(signs[1], b, c));
    (format!("Q: What is {a}{first}({b}{second}{c})?\nA:"), result.to_string())
}

/// A few letters again and again, up to the one that is asked for.
fn pattern(draw: &mut Draw) -> (String, String) {
    let period = draw.between(2, 5) as usize;
    let letters: Vec<char> = (0..period).map(|_| char::from(b'a' + draw.below(26) as u8)).collect();
    let shown = 2 * period + draw.below(period as u64) as usize;
    let letter = |i: usize| letters[i % period].to_string();
    let shown_letters: Vec<String> = (0..shown).map(letter).collect();
    (format!("{} =", shown_letters.join(" ")), letter(shown))
}

fn novel_word(draw: &mut Draw) -> String {
    let mut syllable = || {
        let onset =
            ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "t", "v", "z"][draw.below(13) as usize];
        let vowel = ["a", "e", "i", "o", "u"][draw.below(5) as usize];
        format!("{onset}{vowel}")
    };
    let (first, second) = (syllable(), syllable());
    let coda = ["b", "d", "g", "k", "l", "m", "n", "p", "r", "t"][draw.below(10) as usize];
    format!("{first}{second}{coda}")
}

fn scrambled(kind: Kind, word: &str, draw: &mut Draw) -> String {
    let letters: Vec<char> = word.chars().collect();
    let n = letters.len();
    let anagram = |kept: usize, draw: &mut Draw| {
        let inner = draw.shuffled(&letters[kept..n - kept]);
        [&letters[..kept], &inner, &letters[n - kept..]].concat()
    };
    let changed = match kind {
        Cycled => {
            let by = draw.between(1, n as u64) as usize;
            [&letters[by..], &letters[..by]].concat()
        }
        Anagram1 => anagram(1, draw),
        Anagram2 => anagram(if n >= 6 { 2 } else { 1 }, draw),
        Reversed => letters.iter().rev().copied().collect(),
        _ => {
            let marks = ['.', '!', '/', ' ', '-'];
            let mut out = Vec::new();
            for &letter in &letters[..n - 1] {
                out.extend([letter, marks[draw.below(5) as usize]]);
            }
            out.push(letters[n - 1]);
            out
        }
    };
    changed.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(kind: Kind) -> impl Iterator<Item = (String, String)> {
        (0..300).map(move |index| {
            let item = item(kind, 5, index);
            let answer = item.right_answer().to_owned();
            (item.asked, answer)
        })
    }

    /// Numbers in a question, signs left out.
    fn numbers(text: &str) -> Vec<i64> {
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
    }

    #[test]
    fn arithmetic_is_right() {
        for kind in [Sum(2), Sum(5), Difference(3), Product] {
            for (asked, answer) in pairs(kind) {
                let [a, b] = numbers(&asked)[..] else { panic!("{asked}") };
                let expected = match kind {
                    Sum(_) => a + b,
                    Difference(_) => a - b,
                    _ => a * b,
                };
                assert_eq!(answer, expected.to_string(), "{asked}");
            }
        }
        let (asked, answer) = pairs(Composite).find(|(asked, _)| asked.contains("*(")).unwrap();
        let [a, b, c] = numbers(&asked)[..] else { panic!("{asked}") };
        let inner = if asked.contains('+') {
            b + c
        } else if asked.contains('-') {
            b - c
        } else {
            b * c
        };
        assert_eq!(answer, (a * inner).to_string(), "{asked}");
    }

    #[test]
    fn scrambled_words_have_the_letters_of_the_word() {
        let sorted = |text: &str| {
            let mut letters: Vec<char> = text.chars().filter(|c| c.is_alphabetic()).collect();
            letters.sort_unstable();
            letters
        };
        for kind in [Cycled, Anagram1, Anagram2, Inserted, Reversed] {
            for (asked, word) in pairs(kind) {
                let shown = asked.strip_suffix(" =").unwrap();
                assert_eq!(sorted(shown), sorted(&word));
                assert!(kind == Reversed || shown != word, "{shown}");
                match kind {
                    Anagram1 | Anagram2 => {
                        assert_eq!(
                            (&shown[..1], &shown[shown.len() - 1..]),
                            (&word[..1], &word[word.len() - 1..])
                        );
                    }
                    Reversed => assert_eq!(shown.chars().rev().collect::<String>(), word),
                    Cycled => assert!(format!("{word}{word}").contains(shown)),
                    _ => assert_eq!(shown.chars().count(), 2 * word.len() - 1),
                }
            }
        }
    }

    #[test]
    fn patterns_go_on_and_items_are_functions_of_the_seed() {
        for (asked, answer) in pairs(Pattern) {
            let mut letters: Vec<&str> = asked.strip_suffix(" =").unwrap().split(' ').collect();
            letters.push(&answer);
            let is_period = |p: usize| letters.iter().zip(&letters[p..]).all(|(a, b)| a == b);
            assert!((2..5).any(is_period), "{asked} {answer}");
        }
        for kind in Kind::ALL {
            assert_eq!(item(kind, 1, 7), item(kind, 1, 7));
            assert!((0..20).any(|i| item(kind, 1, i) != item(kind, 2, i)), "{}", kind.name());
            assert!(!kind.about().is_empty());
        }
    }
}
