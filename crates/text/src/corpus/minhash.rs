//! MinHash (Broder 1997): a text as 128 bytes, of which two texts share about as large a part as their sets
//! of word 5-grams overlap: J(A, B) = |A ∩ B| / |A ∪ B|, the Jaccard similarity.
//!
//! The one idea: a gram is hashed once, not once for each of 128 permutations. Its hash decides which of 128
//! bins it falls into, and each bin keeps its smallest (Li, Owen & Zhang 2012); an empty bin borrows from one
//! that is not, by a rule that is the same for every text (Shrivastava 2017). Of a smallest hash the last
//! byte is kept (Li & König 2010): two different ones agree in it one time in 256, which the estimate takes
//! out.
//!
//! Words are runs of letters, digits and `_`, in lower case; a character from U+2E80 on (Chinese, Japanese,
//! Korean) is a word by itself. Everything between words is left out, so that texts that differ in spaces or
//! punctuation resemble each other wholly.

use kernels::rng;

/// Bins: the numbers that a signature has.
pub(super) const HASHES: usize = 128;
/// Words in a gram (Lee et al. 2021 and most corpora since).
const GRAM_WORDS: usize = 5;
/// Seeds of the two hash functions; any two.
const GRAM_SEED: u64 = 0x4d69_6e48_6173_6821;
const BORROW_SEED: u64 = 0x426f_7272_6f77_696e;

/// The last bytes of the smallest hashes.
pub(super) type Signature = [u8; HASHES];

/// The signature of a text; `None` for one without words.
pub(super) fn signature(text: &str) -> Option<Signature> {
    let mut least = [u64::MAX; HASHES];
    let mut some = false;
    grams(text, &mut |gram| {
        let hash = rng::bits(GRAM_SEED, 0, gram);
        let bin = &mut least[(hash >> 57) as usize];
        *bin = (*bin).min(hash << 7);
        some = true;
    });
    some.then(|| {
        std::array::from_fn(|i| {
            let mut from = i;
            for attempt in 0.. {
                if least[from] != u64::MAX {
                    break;
                }
                from = rng::below(BORROW_SEED, i as u64, attempt, HASHES as u64) as usize;
            }
            (least[from] >> 7) as u8
        })
    })
}

/// The estimate of J: the share of equal numbers, less what is equal by chance.
pub(super) fn similarity(a: &Signature, b: &Signature) -> f64 {
    let equal = a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / HASHES as f64;
    let chance = 1.0 / 256.0;
    ((equal - chance) / (1.0 - chance)).max(0.0)
}

/// Visits every gram of words as a number; a text of fewer words is one gram.
fn grams(text: &str, visit: &mut dyn FnMut(u64)) {
    let mut last = [0u64; GRAM_WORDS];
    let mut count = 0usize;
    let mut word = |hash: u64| {
        last.rotate_left(1);
        last[GRAM_WORDS - 1] = hash;
        count += 1;
        if count >= GRAM_WORDS {
            visit(gram(&last));
        }
    };
    words(text, &mut word);
    if (1..GRAM_WORDS).contains(&count) {
        visit(gram(&last));
    }
}

/// Words in a row as one number.
pub fn gram(words: &[u64]) -> u64 {
    words.iter().fold(0, |all, word| (all.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Visits every word as a number (FNV-1a of its characters).
pub fn words(text: &str, visit: &mut dyn FnMut(u64)) {
    const START: u64 = 0xcbf2_9ce4_8422_2325;
    let add = |hash: u64, c: char| (hash ^ u64::from(c)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut hash = START;
    let mut end = |hash: &mut u64| {
        if *hash != START {
            visit(std::mem::replace(hash, START));
        }
    };
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            hash = add(hash, c.to_ascii_lowercase());
        } else if c.is_ascii() || !c.is_alphanumeric() {
            end(&mut hash);
        } else if c < '\u{2e80}' {
            hash = c.to_lowercase().fold(hash, add);
        } else {
            end(&mut hash);
            hash = add(hash, c);
            end(&mut hash);
        }
    }
    end(&mut hash);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// J, exactly, with the words as strings.
    fn jaccard(a: &str, b: &str) -> f64 {
        let set = |text: &str| {
            let text = text.to_lowercase();
            let words: Vec<&str> =
                text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
            words.windows(5).map(|gram| gram.join(" ")).collect::<HashSet<_>>()
        };
        let (a, b) = (set(a), set(b));
        a.intersection(&b).count() as f64 / a.union(&b).count() as f64
    }

    /// A text of `length` words, every `every`-th of them another than in its brother.
    fn brothers(length: u64, every: u64, seed: u64) -> (String, String) {
        let word = |stream, i| format!("w{} ", rng::below(seed, stream, i, 5000));
        let one = (0..length).map(|i| word(1, i)).collect();
        let other = (0..length).map(|i| word(if i % every == every - 1 { 2 } else { 1 }, i)).collect();
        (one, other)
    }

    #[test]
    fn the_estimate_is_the_jaccard_similarity_within_its_error() {
        for (length, every) in [(30, 100), (30, 25), (60, 50), (200, 100), (1000, 40), (1000, 15), (5000, 7)]
        {
            let (mut exact, mut estimate, mut squares) = (0.0, 0.0, 0.0);
            let rounds = 200;
            for seed in 0..rounds {
                let (a, b) = brothers(length, every, seed);
                let (j, e) = (jaccard(&a, &b), similarity(&signature(&a).unwrap(), &signature(&b).unwrap()));
                (exact, estimate, squares) = (exact + j, estimate + e, squares + (e - j) * (e - j));
            }
            let n = rounds as f64;
            let (exact, estimate, rms) = (exact / n, estimate / n, (squares / n).sqrt());
            // 128 independent hashes would have a standard error of √(J(1 − J)/128); borrowing costs a
            // little.
            let error = (exact * (1.0 - exact) / 128.0).sqrt();
            let shown =
                format!("{length}/{every}: {exact:.3}, estimated {estimate:.3} ± {rms:.4} ({error:.4})");
            assert!((exact - estimate).abs() < 4.0 * 1.6 * error / n.sqrt() + 1e-9, "{shown}");
            assert!(rms <= 1.6 * error, "{shown}");
        }
    }

    #[test]
    fn spaces_case_and_punctuation_do_not_matter() {
        let one = signature("The lighthouse keeper counted the ships; there were seven.\n").unwrap();
        assert_eq!(one, signature("the  LIGHTHOUSE keeper (counted) the ships: there were seven").unwrap());
        assert_ne!(one, signature("the lighthouse keeper counted the ships there were eight").unwrap());
        assert_eq!(signature("Élan VITAL"), signature("élan vital!"));
        assert_eq!(signature("灯塔的看守人"), signature("灯塔，的看守人。"));
        assert!(
            similarity(
                &signature("灯塔的看守人数着船有七艘").unwrap(),
                &signature("灯塔的看守人数着船有八艘").unwrap()
            ) > 0.3
        );
        assert_eq!(signature("one two"), signature("One, two."));
        assert_ne!(signature("one two"), signature("two one"), "order counts");
        assert_eq!(signature("… --- !!"), None);
    }

    #[test]
    fn unrelated_texts_share_nothing_but_chance() {
        let mean: f64 = (0..300)
            .map(|i| {
                let text = |seed| signature(&brothers(400, 1000, seed).0).unwrap();
                let (a, b) = (text(2 * i), text(2 * i + 1));
                a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64 / HASHES as f64
            })
            .sum::<f64>()
            / 300.0;
        assert!((mean - 1.0 / 256.0).abs() < 0.002, "{mean}");
    }
}
