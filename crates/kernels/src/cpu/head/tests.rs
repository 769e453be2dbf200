use super::super::testing::{error, floats, with_exact};
use super::super::{CpuOptions, Level, Precision};
use super::*;
use crate::{Backend, Reference, rng};

const D_MODEL: usize = 40;

fn every_cpu(threads: usize) -> Vec<Cpu> {
    let precisions = [Precision::F32, Precision::Bf16];
    let options = |level| precisions.map(|precision| CpuOptions { threads, precision, level });
    Level::available().into_iter().flat_map(options).map(Cpu::new).collect()
}

/// Targets of which every third is missing.
fn targets(rows: usize, vocab_size: usize) -> Vec<u32> {
    let target = |i| rng::below(8, 9, i, vocab_size as u64) as u32;
    (0..rows as u64).map(|i| if i % 3 == 1 { NO_TARGET } else { target(i) }).collect()
}

/// By each log-probability, and by each entropy.
fn derivatives(rows: usize) -> (Vec<f64>, Vec<f64>) {
    let values = |stream| (0..rows as u64).map(|i| rng::normal(10, stream, i)).collect();
    (values(11), values(12))
}

#[test]
fn the_head_agrees_with_the_reference() {
    for mut cpu in every_cpu(2) {
        let tolerance = if cpu.options().precision == Precision::F32 { 1e-5 } else { 1.0 / 128.0 };
        for (rows, vocab_size, temperature) in [(1, 1, 1.0), (5, 17, 0.7), (40, 300, 1.3), (300, 65, 1.0)] {
            let shape = HeadShape { temperature, ..HeadShape::new(rows, D_MODEL, vocab_size) };
            let (hidden, exact_hidden) = with_exact(&cpu, 1, rows * D_MODEL, true);
            let (weight, exact_weight) = with_exact(&cpu, 2, vocab_size * D_MODEL, false);
            let (mut dhidden, mut exact_dhidden) = with_exact(&cpu, 3, rows * D_MODEL, true);
            let (mut dweight, mut exact_dweight) = with_exact(&cpu, 4, vocab_size * D_MODEL, false);
            let (targets, (dlogprobs, dentropies)) = (targets(rows, vocab_size), derivatives(rows));
            let (mut exact, mut logprobs) = (vec![1.0; rows], vec![1.0; rows]);
            let (mut exact_entropies, mut entropies) = (Vec::new(), vec![1.0; rows]);
            let what = format!("{shape:?} {}", cpu.describe());
            let groups = [rows.min(7), rows - rows.min(7)];
            for dentropies in [None, Some(&dentropies)] {
                exact.clear();
                Reference.head_backward(
                    &mut exact,
                    &mut exact_dhidden,
                    Some(&mut exact_dweight),
                    &dlogprobs,
                    dentropies,
                    &exact_hidden,
                    &exact_weight,
                    &targets,
                    &shape,
                    &groups,
                );
                let (dh, dw, d) =
                    (&mut dhidden, &mut dweight, (&dlogprobs[..], dentropies.map(Vec::as_slice)));
                backward(
                    &mut cpu,
                    &mut logprobs,
                    dh,
                    Some(dw),
                    d,
                    &hidden,
                    &weight,
                    &targets,
                    &shape,
                    &groups,
                );
                // With one token in the vocabulary the gradients are zero.
                if vocab_size > 1 {
                    assert!(error(&dhidden, &exact_dhidden) < tolerance, "dhidden {what}");
                }
                assert!(error(&dweight, &exact_dweight) < tolerance, "dweight {what}");
            }
            let (e, (h, w)) = (Some(&mut exact_entropies), (&exact_hidden, &exact_weight));
            exact.clear();
            Reference.head_forward(&mut exact, e, h, w, &targets, &shape);
            let (mut again, e) = (vec![1.0; rows], Some(&mut entropies[..]));
            super::forward(&mut cpu, &mut again, e, &hidden, &weight, &targets, &shape);
            assert_eq!(again, logprobs, "{what}");
            for (values, exact) in [(&logprobs, &exact), (&entropies, &exact_entropies)] {
                for (value, exact) in values.iter().zip(exact) {
                    assert!((value - exact).abs() < 2e-6, "{value} {exact} {what}");
                }
            }
            super::forward(&mut cpu, &mut again, None, &hidden, &weight, &targets, &shape);
            assert_eq!(again, logprobs, "{what}, no entropies");
        }
    }
}

/// The gradients of rows in two calls, cut between groups, and on any number of threads, are those of one
/// call.
#[test]
fn gradients_do_not_depend_on_cuts_between_groups_nor_on_threads() {
    const GROUPS: [usize; 3] = [1800, 7, 1793];
    let (rows, vocab_size) = (2 * 1800, 33);
    let mut expected = None;
    for (threads, first) in [(1, 0), (1, 1), (2, 0), (3, 2)] {
        let results = every_cpu(threads).into_iter().map(|mut cpu| {
            let (weight, _) = with_exact(&cpu, 2, vocab_size * D_MODEL, false);
            let mut dweight = cpu.zeros(vocab_size * D_MODEL);
            let (mut logprobs, mut dhiddens) = (vec![], vec![]);
            let (all_targets, (dlogprobs, dentropies)) = (targets(rows, vocab_size), derivatives(rows));
            let (all_hidden, _) = with_exact(&cpu, 1, rows * D_MODEL, false);
            let (mut start, (first, second)) = (0, GROUPS.split_at(first));
            for groups in [first, second] {
                let part = start..start + groups.iter().sum::<usize>();
                start = part.end;
                let mut hidden = cpu.zeros(part.len() * D_MODEL);
                let from = &all_hidden.f32s()[part.start * D_MODEL..part.end * D_MODEL];
                hidden.f32s_mut().copy_from_slice(from);
                let mut dhidden = cpu.activation(part.len() * D_MODEL);
                let mut part_logprobs = vec![0.0; part.len()];
                backward(
                    &mut cpu,
                    &mut part_logprobs,
                    &mut dhidden,
                    Some(&mut dweight),
                    (&dlogprobs[part.clone()], Some(&dentropies[part.clone()])),
                    &hidden,
                    &weight,
                    &all_targets[part.clone()],
                    &HeadShape::new(part.len(), D_MODEL, vocab_size),
                    groups,
                );
                logprobs.extend(part_logprobs);
                dhiddens.extend(floats(&dhidden));
            }
            (logprobs, dhiddens, floats(&dweight))
        });
        let results: Vec<_> = results.collect();
        assert!(
            *expected.get_or_insert_with(|| results.clone()) == results,
            "{threads} threads, {first} groups first"
        );
    }
}

#[test]
fn rows_without_targets_cost_nothing_and_give_zeros() {
    for mut cpu in every_cpu(2) {
        let shape = HeadShape::new(3, D_MODEL, 9);
        let (hidden, _) = with_exact(&cpu, 1, 3 * D_MODEL, true);
        let (weight, _) = with_exact(&cpu, 2, 9 * D_MODEL, false);
        let (mut dhidden, _) = with_exact(&cpu, 3, 3 * D_MODEL, true);
        let (mut dweight, before) = with_exact(&cpu, 4, 9 * D_MODEL, false);
        let (targets, mut logprobs, mut entropies) = ([NO_TARGET; 3], [1.0; 3], [1.0; 3]);
        super::forward(&mut cpu, &mut logprobs, Some(&mut entropies), &hidden, &weight, &targets, &shape);
        assert_eq!((logprobs, entropies), ([0.0; 3], [0.0; 3]));
        logprobs.fill(1.0);
        let (dh, dw, d) = (&mut dhidden, &mut dweight, (&[1.0; 3][..], Some(&[1.0; 3][..])));
        backward(&mut cpu, &mut logprobs, dh, Some(dw), d, &hidden, &weight, &targets, &shape, &[1, 2]);
        assert_eq!(logprobs, [0.0; 3]);
        assert_eq!(floats(&dhidden), [0.0; 3 * D_MODEL]);
        assert_eq!(error(&dweight, &before), 0.0);
    }
}
