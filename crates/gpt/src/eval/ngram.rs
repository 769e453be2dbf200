//! What counting can do: an n-gram model, the baseline that a network must beat.

use std::ops::Range;

/// Bits of a token in a key; 0 marks the end of the tokens, so ids are stored one higher.
const BITS: u32 = 25;

/// Interpolated n-grams with Witten–Bell smoothing (Witten & Bell 1991): with `c` occurrences of a context,
/// followed by `T` different tokens, `P(w|h) = (c(h,w) + T · P(w|h')) / (c(h) + T)`, where `h'` is `h`
/// without its first token, down to the uniform distribution.
pub struct Ngram {
    order: usize,
    /// The `order` tokens from each position on, sorted: the occurrences of any context are a range.
    keys: Vec<u128>,
    /// The distribution without context.
    unigram: Vec<f64>,
}

impl Ngram {
    /// The longest context is `MAX_ORDER - 1` tokens.
    pub const MAX_ORDER: usize = (u128::BITS / BITS) as usize;

    /// Counts all n-grams up to `order` in `tokens`, which are below `vocab_size`.
    pub fn count(tokens: &[u32], order: usize, vocab_size: usize) -> Self {
        assert!((1..=Self::MAX_ORDER).contains(&order), "an order between 1 and {}", Self::MAX_ORDER);
        assert!(vocab_size < 1 << BITS, "a vocabulary of {vocab_size} does not fit the keys");
        let key = |at: usize| {
            (0..order).fold(0u128, |key, i| {
                let token = tokens.get(at + i).map_or(0, |&token| u128::from(token) + 1);
                key << BITS | token
            })
        };
        let mut keys: Vec<u128> = (0..tokens.len()).map(key).collect();
        keys.sort_unstable();
        let mut ngram = Ngram { order, keys, unigram: vec![1.0 / vocab_size as f64; vocab_size] };
        let mut unigram = std::mem::take(&mut ngram.unigram);
        ngram.interpolate(&mut unigram, &[]);
        ngram.unigram = unigram;
        ngram
    }

    /// `P(· | context)` for every token; only the last `order - 1` tokens of the context count.
    pub fn distribution(&self, context: &[u32]) -> Vec<f64> {
        let mut p = self.unigram.clone();
        for len in 1..=context.len().min(self.order - 1) {
            if !self.interpolate(&mut p, &context[context.len() - len..]) {
                break;
            }
        }
        p
    }

    /// Refines `p`, the distribution after a shorter context, by what followed `context`; false if nothing
    /// did.
    fn interpolate(&self, p: &mut [f64], context: &[u32]) -> bool {
        let prefix = context.iter().fold(0u128, |key, &token| key << BITS | (u128::from(token) + 1));
        let range = self.range(prefix, context.len());
        let mut followers = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let follower = self.head(self.keys[at], context.len() + 1);
            let same = self.range_from(at, follower, context.len() + 1);
            // The end of the tokens follows nothing.
            if let Some(token) = (follower & ((1 << BITS) - 1)).checked_sub(1) {
                followers.push((token as usize, same.len() as f64));
            }
            at = same.end;
        }
        if followers.is_empty() {
            return false;
        }
        let kinds = followers.len() as f64;
        let total = followers.iter().map(|f| f.1).sum::<f64>() + kinds;
        p.iter_mut().for_each(|p| *p *= kinds / total);
        followers.iter().for_each(|&(token, count)| p[token] += count / total);
        true
    }

    /// The first `len` tokens of a key.
    fn head(&self, key: u128, len: usize) -> u128 {
        key >> (BITS as usize * (self.order - len))
    }

    fn range(&self, prefix: u128, len: usize) -> Range<usize> {
        if len == 0 {
            return 0..self.keys.len();
        }
        let start = self.keys.partition_point(|&key| self.head(key, len) < prefix);
        self.range_from(start, prefix, len)
    }

    /// The keys from `start` on that begin with `prefix`, by doubling steps: most ranges are short.
    fn range_from(&self, start: usize, prefix: u128, len: usize) -> Range<usize> {
        let mut step = 1;
        while start + step < self.keys.len() && self.head(self.keys[start + step], len) == prefix {
            step *= 2;
        }
        let end = (start + step).min(self.keys.len());
        let within = &self.keys[start..end];
        start..start + within.partition_point(|&key| self.head(key, len) <= prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_case_by_hand() {
        // a b a b a c, with a = 0, b = 1, c = 2 and d = 3 never seen.
        let ngram = Ngram::count(&[0, 1, 0, 1, 0, 2], 2, 4);
        // Without context: counts 3, 2, 1 of 6 tokens, 3 kinds, uniform 1/4: (c + 3/4) / 9.
        let unigram = [3.75 / 9.0, 2.75 / 9.0, 1.75 / 9.0, 0.75 / 9.0];
        let near = |got: &[f64], want: &[f64]| {
            got.iter().zip(want).for_each(|(g, w)| assert!((g - w).abs() < 1e-12, "{got:?} {want:?}"));
        };
        near(&ngram.distribution(&[]), &unigram);
        // After a: b twice, c once, 2 kinds: (c + 2 P) / 5.
        let after_a = [0.0, 2.0, 1.0, 0.0].iter().zip(unigram).map(|(c, p)| (c + 2.0 * p) / 5.0);
        near(&ngram.distribution(&[3, 0]), &after_a.collect::<Vec<_>>());
        // After c, the last token: nothing is known.
        near(&ngram.distribution(&[2]), &unigram);
    }

    #[test]
    fn distributions_sum_to_one_and_agree_with_counting() {
        let tokens: Vec<u32> = (0..3000).map(|i| kernels::rng::below(1, 1, i, 9) as u32 % 7).collect();
        let ngram = Ngram::count(&tokens, 5, 9);
        for at in 10..60 {
            let p = ngram.distribution(&tokens[..at]);
            assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
        let context = &tokens[100..104];
        let mut p = ngram.distribution(&context[1..]);
        let mut counts = [0.0; 9];
        tokens.windows(5).filter(|w| &w[..4] == context).for_each(|w| counts[w[4] as usize] += 1.0);
        let (total, kinds) = (counts.iter().sum::<f64>(), counts.iter().filter(|&&c| c > 0.0).count() as f64);
        for (p, count) in p.iter_mut().zip(counts) {
            *p = (count + kinds * *p) / (total + kinds);
        }
        let got = ngram.distribution(context);
        assert!(got.iter().zip(&p).all(|(a, b)| (a - b).abs() < 1e-12));
    }
}
