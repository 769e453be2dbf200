//! Draws: a row is one thread's work, and no vocabulary is sorted.

use super::level::{LANES, Level, multiversion, reduce_lanes};
use super::pool::Disjoint;
use super::scratch::{Buffer, Scratch};
use super::{Cpu, CpuTensor};
use crate::draw::{
    Draw, Drawn, TokenLogprob, UNIT, all_finite, assert_logits, assert_row_exists, order, score, weight,
};
use crate::rng;

/// Parts that a range of scores is cut into where a place in their order is looked for.
const BINS: usize = 1024;
/// As many tokens are sorted.
const FEW: usize = 64;
/// Differences of scores, in temperatures, beyond which weights are 0: e⁻³² · 2⁴⁰ < 1/2.
const REACH: f32 = 32.0;

pub(super) fn draw(
    cpu: &mut Cpu,
    out: &mut [Drawn],
    logits: &CpuTensor,
    vocab_size: usize,
    draws: &[Draw<'_>],
) {
    assert_logits("draw", logits.len(), draws.len(), vocab_size);
    assert_eq!(out.len(), draws.len(), "draw: results");
    draws.iter().for_each(|draw| draw.assert_fits(vocab_size));
    let (level, logits, out) = (cpu.options.level, logits.f32s(), Disjoint::new(out));
    cpu.pool.run(draws.len(), &|row, scratch| {
        let drawn = draw_from(level, &logits[row * vocab_size..][..vocab_size], &draws[row], scratch);
        // SAFETY: every row is handed out once.
        unsafe { out.slice(row, 1)[0] = drawn };
    });
}

fn draw_from(level: Level, logits: &[f32], draw: &Draw<'_>, scratch: &mut Scratch) -> Drawn {
    let [scores, weights, places, bins, ..] = &mut scratch.buffers;
    if !finite(level, logits) {
        return Drawn::NotFinite;
    }
    let scores = scores_of(&logits[..draw.n_tokens], draw, scores);
    let highest = highest(level, scores);
    if highest == f32::NEG_INFINITY {
        return Drawn::Nothing;
    }
    if draw.temperature <= 0.0 {
        let id = scores.iter().position(|&score| score == highest);
        return Drawn::Token(id.expect("it is one of them") as u32);
    }
    let n = scores.len();
    let (weights, places, bins) = (weights.longs(n), places.words(n), bins.words(n));
    let mut total = weigh(level, weights, scores, highest, draw.divisor());
    let range = [highest, highest - REACH * draw.divisor()];
    if (1..n).contains(&draw.top_k) {
        let last = last_of(level, scores, range, |_| 1, draw.top_k as u64, [places, bins]);
        total = drop_after(weights, scores, last);
    }
    if draw.top_p < 1.0 {
        let enough = draw.weight_to_keep(total);
        let last = last_of(level, scores, range, |id| weights[id], enough, [places, bins]);
        total = drop_after(weights, scores, last);
    }
    let [seed, stream, index] = draw.random;
    let mut left = rng::below(seed, stream, index, total);
    for (id, &weight) in weights.iter().enumerate() {
        if left < weight {
            return Drawn::Token(id as u32);
        }
        left -= weight;
    }
    unreachable!("a number below the sum of the weights")
}

/// The scores of tokens: their logits as they are, or changed in `buffer`.
fn scores_of<'a>(logits: &'a [f32], draw: &Draw<'_>, buffer: &'a mut Buffer) -> &'a [f32] {
    if draw.added.is_empty() && draw.allowed.is_none() {
        return logits;
    }
    let scores = buffer.floats(logits.len());
    scores.copy_from_slice(logits);
    for &(id, added) in draw.added {
        scores[id as usize] = score(logits[id as usize], added);
    }
    if draw.allowed.is_some() {
        let forbidden = scores.iter_mut().enumerate().filter(|(id, _)| !draw.allows(*id));
        forbidden.for_each(|(_, score)| *score = f32::NEG_INFINITY);
    }
    scores
}

/// The last token of the shortest beginning of the order that has `enough`, where token `id` has
/// `amount(id)`: a range of scores is cut into bins, and the bin where it is reached cut again, until few are
/// left to be sorted. `[high, low]` is the range in which it is looked for first; what is lower shares the
/// last bin.
fn last_of(
    level: Level,
    scores: &[f32],
    [mut high, mut low]: [f32; 2],
    amount: impl Fn(usize) -> u64,
    mut enough: u64,
    [places, bins]: [&mut [u32]; 2],
) -> (f32, u32) {
    if high <= low {
        low = f32::MIN;
    }
    // At first all tokens are left, and a token's place is its id.
    let mut left = scores.len();
    bins_of(level, bins, scores, high, BINS as f32 / (high - low));
    places.iter_mut().zip(0..).for_each(|(place, id)| *place = id);
    loop {
        let range = (high, low);
        let mut amounts = [0; BINS];
        places[..left].iter().zip(&bins[..left]).for_each(|(&id, &bin)| {
            amounts[bin as usize % BINS] += amount(id as usize);
        });
        let mut reached = 0;
        while reached + 1 < BINS && amounts[reached] < enough {
            enough -= amounts[reached];
            reached += 1;
        }
        let mut kept = 0;
        (high, low) = (f32::NEG_INFINITY, f32::INFINITY);
        for i in 0..left {
            if bins[i] as usize == reached {
                let score = scores[places[i] as usize];
                (places[kept], kept) = (places[i], kept + 1);
                (high, low) = (high.max(score), low.min(score));
            }
        }
        // What is forbidden stands apart from what is only unlikely.
        low = low.max(f32::MIN);
        let is_stuck = kept == left && (high, low) == range;
        left = kept;
        if left <= FEW || high <= low || is_stuck {
            break;
        }
        let scale = BINS as f32 / (high - low);
        let of_place = bins.iter_mut().zip(&places[..left]);
        of_place.for_each(|(bin, &id)| *bin = bin_of(scores[id as usize], high, scale));
    }
    // Where all are alike, they are in the order of their ids already.
    if high > low {
        sort(&mut places[..left], scores);
    }
    let mut last = places[0];
    for &id in &places[..left] {
        last = id;
        let amount = amount(id as usize);
        if amount >= enough {
            break;
        }
        enough -= amount;
    }
    (scores[last as usize], last)
}

/// Which of the bins below `high` a score is in; they are `1 / scale` wide, and the last is open.
#[inline(always)]
fn bin_of(score: f32, high: f32, scale: f32) -> u32 {
    ((high - score) * scale).min((BINS - 1) as f32) as i32 as u32
}

fn sort(ids: &mut [u32], scores: &[f32]) {
    ids.sort_unstable_by(|&a, &b| order((scores[a as usize], a), (scores[b as usize], b)));
}

/// Takes the weight of every token after `last` in the order, and sums those of the others.
fn drop_after(weights: &mut [u64], scores: &[f32], (last_score, last_id): (f32, u32)) -> u64 {
    let mut total = 0;
    for ((weight, &score), id) in weights.iter_mut().zip(scores).zip(0..) {
        let is_kept = score > last_score || (score == last_score && id <= last_id);
        *weight = if is_kept { *weight } else { 0 };
        total += *weight;
    }
    total
}

pub(super) fn token_logprobs(
    cpu: &mut Cpu,
    out: &mut [Option<TokenLogprob>],
    logits: &CpuTensor,
    vocab_size: usize,
    asked: &[(usize, u32)],
) {
    assert_eq!(out.len(), asked.len(), "token_logprobs: results");
    asked.iter().for_each(|&(row, _)| assert_row_exists("token_logprobs", logits.len(), row, vocab_size));
    let (level, logits, out) = (cpu.options.level, logits.f32s(), Disjoint::new(out));
    // The sum of a row is for all that is asked of it.
    let begins = |i: usize| i == 0 || asked[i - 1].0 != asked[i].0;
    cpu.pool.run(asked.len(), &|first, scratch| {
        if !begins(first) {
            return;
        }
        let row = asked[first].0;
        let logits = &logits[row * vocab_size..][..vocab_size];
        let same = asked[first..].iter().take_while(|(of, _)| *of == row);
        let highest = highest(level, logits);
        let finite = finite(level, logits);
        let total = weigh(level, scratch.buffers[0].longs(vocab_size), logits, highest, 1.0);
        let log_total = (total as f64 / UNIT as f64).ln();
        for (i, &(_, token)) in (first..).zip(same) {
            let logit = logits[token as usize];
            // Both may be finite, and their difference beyond what can be written.
            let below = logit - highest;
            let said = TokenLogprob { logprob: f64::from(below) - log_total, is_best: logit >= highest };
            // SAFETY: what is asked of a row is answered by whoever has its first.
            unsafe { out.slice(i, 1)[0] = (finite && below.is_finite()).then_some(said) };
        }
    });
}

pub(super) fn likeliest(cpu: &mut Cpu, out: &mut [u32], logits: &CpuTensor, vocab_size: usize, row: usize) {
    assert_row_exists("likeliest", logits.len(), row, vocab_size);
    assert!(out.len() <= vocab_size, "likeliest: {} of {vocab_size} tokens", out.len());
    let (level, scores) = (cpu.options.level, &logits.f32s()[row * vocab_size..][..vocab_size]);
    let (count, out) = (out.len(), Disjoint::new(out));
    cpu.pool.run(usize::from(count > 0), &|_, scratch| {
        let highest = highest(level, scores);
        let [places, bins, ..] = &mut scratch.buffers;
        let buffers = [places.words(vocab_size), bins.words(vocab_size)];
        let range = [highest, highest - REACH];
        let (last_score, last) = last_of(level, scores, range, |_| 1, count as u64, buffers);
        let kept =
            |&id: &u32| scores[id as usize] > last_score || (scores[id as usize] == last_score && id <= last);
        // SAFETY: there is one chunk.
        let out = unsafe { out.slice(0, count) };
        out.iter_mut().zip((0..vocab_size as u32).filter(kept)).for_each(|(out, id)| *out = id);
        sort(out, scores);
    });
}

multiversion! {
    /// The bin of every score.
    fn bins_of(bins: &mut [u32], scores: &[f32], high: f32, scale: f32) {
        for (bin, &score) in bins.iter_mut().zip(scores) {
            *bin = bin_of(score, high, scale);
        }
    }

    fn finite(values: &[f32]) -> bool {
        all_finite(values)
    }

    /// The largest value; of none, -∞.
    fn highest(values: &[f32]) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let (whole, rest) = values.as_chunks::<LANES>();
        for values in whole {
            for (lane, &value) in lanes.iter_mut().zip(values) {
                *lane = if value > *lane { value } else { *lane };
            }
        }
        for (lane, &value) in lanes.iter_mut().zip(rest) {
            *lane = if value > *lane { value } else { *lane };
        }
        reduce_lanes(lanes, |a, b| if a > b { a } else { b })
    }

    /// The weight of every score, and their sum.
    fn weigh(weights: &mut [u64], scores: &[f32], highest: f32, temperature: f32) -> u64 {
        let mut total = 0;
        for (w, &score) in weights.iter_mut().zip(scores) {
            *w = weight((score - highest) / temperature);
            total += *w;
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place that is looked for in bins, and the one that is found by sorting, where scores are spread, tied,
    /// all alike, or forbidden for the most part.
    #[test]
    fn a_place_in_the_order_is_found_without_sorting() {
        let spread = |i: u64| crate::rng::normal(1, 2, i) as f32 * 7.0;
        let scores: [Vec<f32>; 5] = [
            (0..5000).map(spread).collect(),
            (0..5000).map(|i| spread(i).round()).collect(),
            vec![0.5; 5000],
            (0..5000).map(|i| if i % 97 == 0 { spread(i) } else { f32::NEG_INFINITY }).collect(),
            (0..5000).map(|i| if i == 77 { 0.0 } else { -1e30 - i as f32 * 1e27 }).collect(),
        ];
        for scores in scores {
            let mut sorted: Vec<u32> = (0..5000).collect();
            sort(&mut sorted, &scores);
            let highest = scores[sorted[0] as usize];
            let range = [highest, highest - REACH];
            let find = |amount: &dyn Fn(usize) -> u64, enough| {
                let [mut places, mut bins] = [(); 2].map(|()| vec![0; 5000]);
                last_of(Level::detect(), &scores, range, amount, enough, [&mut places, &mut bins])
            };
            for enough in [1, 2, 50, 64, 65, 1000, 2500, 4999, 5000] {
                let got = find(&|_| 1, enough);
                assert_eq!(got.1, sorted[enough as usize - 1], "{enough} of {highest}");
                let amount = |id: usize| (id % 5) as u64;
                let mut sum = 0;
                let by_weight = sorted.iter().find(|&&id| {
                    sum += amount(id as usize);
                    sum >= enough
                });
                let got = find(&amount, enough);
                assert_eq!(Some(&got.1), by_weight, "{enough} by weight");
            }
        }
    }
}
