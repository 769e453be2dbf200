//! Gradients in lanes: each number of lanes has bits of its own, which neither threads nor the cut into
//! micro-batches change.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use kernels::cpu::{CpuOptions, Level};
use kernels::{Backend, Cpu, Dropout, NO_TARGET, Precision, rng};
use lm::model::{self, Config, Noise, Sequences, Targets};
use lm::train::{Entropies, Lane, TextLoss, Trainer};

type Gradients = Vec<Vec<f32>>;

/// Sequences of very different lengths, some of one token.
const LENS: [usize; 11] = [7, 1, 12, 3, 12, 5, 1, 9, 2, 12, 4];

/// How a loss reaches the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Through {
    /// Known derivatives of the log-probabilities.
    Logprobs,
    /// A loss that is told log-probabilities and entropies.
    Outputs,
    /// Scores of some rows, with language modelling beside them.
    Scores,
}

fn config(through: Through) -> Config {
    let modern = Config { qk_norm: true, tied_head: true, ..Config::modern(29, 12, 2, 2, 16) };
    match through {
        Through::Logprobs => Config { dropout: 0.1, ..Config::gpt2(29, 12, 2, 2, 16) },
        Through::Outputs => modern,
        Through::Scores => Config { n_label: Some(2), ..Config::gpt1(29, 12, 2, 2, 16) },
    }
}

/// The sequences of each lane, as even as may be.
fn cut_into_lanes(sequences: usize, lanes: usize) -> Vec<std::ops::Range<usize>> {
    (0..lanes).map(|lane| lane * sequences / lanes..(lane + 1) * sequences / lanes).collect()
}

/// Accumulates some sequences of the step as one micro-batch.
fn accumulate(
    cpu: &mut Cpu,
    trainer: &mut Trainer<Cpu>,
    through: Through,
    sequences: std::ops::Range<usize>,
    lane: Lane,
) {
    let first: usize = LENS[..sequences.start].iter().sum();
    let lens = &LENS[sequences];
    let rows = first..first + lens.iter().sum::<usize>();
    let of_row = |row: usize, stream: u64| rng::normal(5, stream, row as u64);
    let tokens: Vec<u32> = rows.clone().map(|row| rng::below(1, 2, row as u64, 29) as u32).collect();
    let target = |row: usize| if row % 5 == 2 { NO_TARGET } else { rng::below(1, 3, row as u64, 29) as u32 };
    let targets: Vec<u32> = rows.clone().map(target).collect();
    let by_logprob: Vec<f64> = rows.clone().map(|row| of_row(row, 1)).collect();
    let noise = Some(Noise { seed: 3, first_row: first as u64 });
    let batch = Sequences { tokens: &tokens, lens, noise };
    match through {
        Through::Logprobs => trainer.accumulate(cpu, batch, &targets, &by_logprob, lane),
        Through::Outputs => {
            let targets = Targets { tokens: &targets, temperature: 1.3 };
            trainer.accumulate_loss(cpu, batch, targets, Entropies::Learned, lane, |outputs, by| {
                for (i, row) in rows.enumerate() {
                    by.logprobs[i] = of_row(row, 1) * outputs.logprobs[i];
                    by.entropies[i] = of_row(row, 2) * outputs.entropies[i];
                }
            });
        }
        Through::Scores => {
            // The even rows of the step: of some sequences none.
            let scored: Vec<usize> = rows.clone().filter(|row| row % 2 == 0).collect();
            let places: Vec<u32> = scored.iter().map(|row| (row - first) as u32).collect();
            let dropout = Dropout { p: 0.2, seed: 4, stream: 9, first_row: first.div_ceil(2) as u64 };
            let text = Some(TextLoss { targets: &targets, derivatives: &by_logprob });
            let loss = |scores: &[f32], by: &mut [f32]| {
                for (i, by) in by.iter_mut().enumerate() {
                    *by = of_row(2 * scored[i / 2] + i % 2, 6) as f32 * scores[i];
                }
            };
            trainer.accumulate_scores_and_text(cpu, batch, &places, Some(&dropout), text, lane, loss);
        }
    }
}

/// A trainer with weights that no two runs of the test differ in.
fn trainer(cpu: &mut Cpu, through: Through) -> Trainer<Cpu> {
    let config = config(through);
    let weights = model::init(cpu, &config, 7);
    Trainer::new(cpu, config, weights)
}

/// What a step of the first `sequences` sequences, in micro-batches of `at_once` of them, has summed.
fn gradients(
    cpu: &mut Cpu,
    trainer: &mut Trainer<Cpu>,
    through: Through,
    sequences: usize,
    lanes: usize,
    at_once: usize,
) -> Gradients {
    for (number, lane) in cut_into_lanes(sequences, lanes).into_iter().enumerate() {
        for start in lane.clone().step_by(at_once) {
            let some = start..lane.end.min(start + at_once);
            accumulate(cpu, trainer, through, some, Lane::Number(number));
        }
    }
    ended(cpu, trainer)
}

/// The gradients on the host; the next step begins.
fn ended(cpu: &mut Cpu, trainer: &mut Trainer<Cpu>) -> Gradients {
    let leaves = trainer.gradients(cpu).map(|leaf| on_host(cpu, leaf));
    let leaves = leaves.leaves().into_iter().cloned().collect();
    // Nothing is learned from a loss that is not finite.
    trainer.update(cpu, &optimizer(), 1.0, Some(f64::NAN));
    leaves
}

fn on_host(cpu: &mut Cpu, leaf: &<Cpu as Backend>::Tensor) -> Vec<f32> {
    let mut values = vec![0.0; Backend::len(cpu, leaf)];
    cpu.download(&mut values, leaf);
    values
}

fn optimizer() -> lm::train::Optimizer {
    let (eps_hat, weight_decay, grad_clip) = (false, 0.0, 0.0);
    lm::train::Optimizer { beta1: 0.9, beta2: 0.95, eps: 1e-8, eps_hat, weight_decay, grad_clip }
}

/// The same sum by the definition: sequence after sequence within a lane, then the tree.
fn by_definition(cpu: &mut Cpu, through: Through, sequences: usize, lanes: usize) -> Gradients {
    let mut trainer = trainer(cpu, through);
    let sums = cut_into_lanes(sequences, lanes).into_iter().map(|lane| {
        let is_empty = lane.is_empty();
        lane.for_each(|one| accumulate(cpu, &mut trainer, through, one..one + 1, Lane::Number(0)));
        (!is_empty).then(|| ended(cpu, &mut trainer))
    });
    let mut level: Vec<Option<Gradients>> = sums.collect();
    while level.len() > 1 {
        let pair = |pair: &[Option<Gradients>]| match pair {
            [Some(a), Some(b)] => {
                let leaf = |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).map(|(a, b)| a + b).collect();
                Some(a.iter().zip(b).map(leaf).collect())
            }
            [a, b] => a.clone().or(b.clone()),
            _ => unreachable!("lanes are a power of two"),
        };
        level = level.chunks(2).map(pair).collect();
    }
    level.pop().flatten().unwrap()
}

fn in_every_way(through: Through) {
    for precision in [Precision::F32, Precision::Bf16] {
        let new = |threads| Cpu::new(CpuOptions { threads, precision, level: Level::detect() });
        let mut of_lanes: Vec<Gradients> = Vec::new();
        for (sequences, lanes) in [(11, 1), (11, 2), (11, 4), (11, 8), (3, 4), (5, 8)] {
            let wanted = by_definition(&mut new(1), through, sequences, lanes);
            for threads in [1, 2, 4] {
                let cpu = &mut new(threads);
                let trainer = &mut trainer(cpu, through);
                for at_once in [1, 2, 3, 11] {
                    let got = gradients(cpu, trainer, through, sequences, lanes, at_once);
                    let what =
                        format!("{precision:?}, {sequences} sequences in {lanes} lanes, {at_once} at once");
                    assert!(got == wanted, "{what}, {threads} threads: other bits than the definition's");
                }
            }
            if sequences == LENS.len() {
                assert!(!of_lanes.contains(&wanted), "{through:?}: {lanes} lanes have bits of their own");
                of_lanes.push(wanted);
            }
        }
    }
}

#[test]
fn known_derivatives_in_lanes() {
    in_every_way(Through::Logprobs);
}

#[test]
fn losses_of_what_the_head_says_in_lanes() {
    in_every_way(Through::Outputs);
}

#[test]
fn scores_and_text_in_lanes() {
    in_every_way(Through::Scores);
}

/// The lanes of a mix follow those of what it is mixed into, and set aside or not, the sum is the same.
#[test]
fn what_is_set_aside_comes_back_to_the_bit() {
    let cpu = &mut Cpu::new(CpuOptions { threads: 2, ..CpuOptions::default() });
    let trainer = &mut trainer(cpu, Through::Logprobs);
    let mut sum = |aside: bool| {
        for (number, lane) in cut_into_lanes(LENS.len(), 4).into_iter().enumerate() {
            accumulate(cpu, trainer, Through::Logprobs, lane, Lane::Number(number));
        }
        if aside {
            trainer.set_aside(cpu);
        }
        for (number, lane) in cut_into_lanes(6, 4).into_iter().enumerate() {
            if !lane.is_empty() {
                accumulate(cpu, trainer, Through::Logprobs, lane, Lane::Number(4 + number));
            }
        }
        if aside {
            trainer.take_back(cpu);
        }
        (ended(cpu, trainer), trainer.norms().first().copied())
    };
    let ((at_once, _), (apart, norm)) = (sum(false), sum(true));
    assert!(at_once == apart, "the same tree");
    let alone = gradients(cpu, trainer, Through::Logprobs, LENS.len(), 4, 2);
    let squares: f64 = alone.iter().flatten().map(|x| f64::from(*x).powi(2)).sum();
    assert!((norm.unwrap() / squares.sqrt() - 1.0).abs() < 1e-6, "the norm of what was set aside alone");
}

/// Ranks that have some of the lanes each sum what one process sums, and learn the same from it; some have no
/// sequence at all.
#[test]
fn ranks_sum_what_one_process_sums() {
    for (through, sequences, lanes) in [
        (Through::Logprobs, 11, 8),
        (Through::Outputs, 11, 4),
        (Through::Scores, 11, 8),
        (Through::Logprobs, 3, 4),
        (Through::Logprobs, 2, 8),
    ] {
        let new = || Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() });
        let wanted = by_definition(&mut new(), through, sequences, lanes);
        let mut learned = None;
        for size in [1, 2, 4, 8].into_iter().filter(|size| *size <= lanes) {
            let done = ranks::threads(size, |ranks| {
                let (cpu, own) = (&mut new(), ranks.share(lanes));
                let trainer = &mut trainer(cpu, through);
                trainer.join(cpu, &ranks);
                let mut step = |ended: &mut dyn FnMut(&mut Cpu, &mut Trainer<Cpu>)| {
                    let cut = cut_into_lanes(sequences, lanes).into_iter().enumerate();
                    for (number, lane) in
                        cut.skip(own.start).take(own.len()).filter(|lane| !lane.1.is_empty())
                    {
                        accumulate(cpu, trainer, through, lane, Lane::Number(number));
                    }
                    ended(cpu, trainer);
                };
                let (mut sum, mut updates) = (Vec::new(), Vec::new());
                step(&mut |cpu, trainer| sum = ended(cpu, trainer));
                for loss in [Some(1.0), None, Some(f64::INFINITY)] {
                    // What one rank finds not to be finite is so for all.
                    let loss = loss.filter(|loss| loss.is_finite() || ranks.rank() + 1 == size);
                    step(&mut |cpu, trainer| updates.push(trainer.update(cpu, &optimizer(), 0.01, loss)));
                }
                let weights = trainer.weights.leaves().into_iter().map(|leaf| on_host(cpu, leaf));
                (sum, updates, weights.collect::<Gradients>())
            });
            let what = format!("{through:?}: {sequences} sequences in {lanes} lanes of {size} ranks");
            let learned = learned.get_or_insert_with(|| done[0].clone());
            assert!(done.iter().all(|(sum, ..)| *sum == wanted), "{what}");
            assert_eq!(
                done[0].1.iter().map(|update| update.applied).collect::<Vec<_>>(),
                [true, true, false]
            );
            assert!(done.iter().all(|rank| rank.1 == learned.1 && rank.2 == learned.2), "{what}");
        }
    }
}

/// In the only lane a micro-batch is summed as one group.
#[test]
fn the_only_lane_is_summed_at_once() {
    let cpu = &mut Cpu::new(CpuOptions { threads: 2, ..CpuOptions::default() });
    for through in [Through::Logprobs, Through::Outputs, Through::Scores] {
        let trainer = &mut trainer(cpu, through);
        accumulate(cpu, trainer, through, 0..11, Lane::Only);
        let at_once = ended(cpu, trainer);
        accumulate(cpu, trainer, through, 0..11, Lane::Number(0));
        let by_sequence = ended(cpu, trainer);
        assert!(at_once != by_sequence, "{through:?}: other groups, other bits");
        let far = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-3 * b.abs().max(1.0);
        let mut pairs = at_once.iter().flatten().zip(by_sequence.iter().flatten());
        assert!(!pairs.any(far), "{through:?}: the same sum but for rounding");
    }
}
