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

fn dlogprobs(rows: usize) -> Vec<f64> {
    (0..rows as u64).map(|i| rng::normal(10, 11, i)).collect()
}

#[test]
fn the_head_agrees_with_the_reference() {
    for mut cpu in every_cpu(2) {
        let tolerance = if cpu.options().precision == Precision::F32 { 1e-5 } else { 1.0 / 128.0 };
        for (rows, vocab_size, temperature) in [(1, 1, 1.0), (5, 17, 0.7), (40, 300, 1.3), (300, 65, 1.0)] {
            let shape = HeadShape { rows, d_model: D_MODEL, vocab_size, temperature };
            let (hidden, exact_hidden) = with_exact(&cpu, 1, rows * D_MODEL, true);
            let (weight, exact_weight) = with_exact(&cpu, 2, vocab_size * D_MODEL, false);
            let (mut dhidden, mut exact_dhidden) = with_exact(&cpu, 3, rows * D_MODEL, true);
            let (mut dweight, mut exact_dweight) = with_exact(&cpu, 4, vocab_size * D_MODEL, false);
            let (targets, dlogprobs) = (targets(rows, vocab_size), dlogprobs(rows));
            let (mut exact, mut logprobs) = (vec![1.0; rows], vec![1.0; rows]);
            Reference.head_backward(
                &mut exact,
                &mut exact_dhidden,
                &mut exact_dweight,
                &dlogprobs,
                &exact_hidden,
                &exact_weight,
                &targets,
                &shape,
                7,
            );
            let (dh, dw) = (&mut dhidden, &mut dweight);
            backward(&mut cpu, &mut logprobs, dh, dw, &dlogprobs, &hidden, &weight, &targets, &shape, 7);
            let what = format!("{shape:?} {}", cpu.describe());
            for (logprob, exact) in logprobs.iter().zip(&exact) {
                assert!((logprob - exact).abs() < 2e-6, "{logprob} {exact} {what}");
            }
            // With one token in the vocabulary the gradients are zero.
            if vocab_size > 1 {
                assert!(error(&dhidden, &exact_dhidden) < tolerance, "dhidden {what}");
            }
            assert!(error(&dweight, &exact_dweight) < tolerance, "dweight {what}");
            let mut again = vec![1.0; rows];
            super::forward(&mut cpu, &mut again, &hidden, &weight, &targets, &shape);
            assert_eq!(again, logprobs, "{what}");
        }
    }
}

/// The gradients of rows in two calls, cut between groups, and on any number of threads, are those of one call.
#[test]
fn gradients_do_not_depend_on_cuts_between_groups_nor_on_threads() {
    let (rows, vocab_size, group_rows) = (2 * 1800, 33, 1800);
    let mut expected = None;
    for (threads, cut) in [(1, 0), (1, group_rows), (2, 0), (3, group_rows)] {
        let results = every_cpu(threads).into_iter().map(|mut cpu| {
            let (weight, _) = with_exact(&cpu, 2, vocab_size * D_MODEL, false);
            let mut dweight = cpu.zeros(vocab_size * D_MODEL);
            let (mut logprobs, mut dhiddens) = (vec![], vec![]);
            let (all_targets, all_dlogprobs) = (targets(rows, vocab_size), dlogprobs(rows));
            let (all_hidden, _) = with_exact(&cpu, 1, rows * D_MODEL, false);
            for part in [0..cut, cut..rows] {
                let mut hidden = cpu.zeros(part.len() * D_MODEL);
                let from = &all_hidden.f32s()[part.start * D_MODEL..part.end * D_MODEL];
                hidden.f32s_mut().copy_from_slice(from);
                let mut dhidden = cpu.activation(part.len() * D_MODEL);
                let mut part_logprobs = vec![0.0; part.len()];
                backward(
                    &mut cpu,
                    &mut part_logprobs,
                    &mut dhidden,
                    &mut dweight,
                    &all_dlogprobs[part.clone()],
                    &hidden,
                    &weight,
                    &all_targets[part.clone()],
                    &HeadShape { rows: part.len(), d_model: D_MODEL, vocab_size, temperature: 1.0 },
                    group_rows,
                );
                logprobs.extend(part_logprobs);
                dhiddens.extend(floats(&dhidden));
            }
            (logprobs, dhiddens, floats(&dweight))
        });
        let results: Vec<_> = results.collect();
        assert!(*expected.get_or_insert_with(|| results.clone()) == results, "{threads} threads, cut {cut}");
    }
}

#[test]
fn rows_without_targets_cost_nothing_and_give_zeros() {
    for mut cpu in every_cpu(2) {
        let shape = HeadShape { rows: 3, d_model: D_MODEL, vocab_size: 9, temperature: 1.0 };
        let (hidden, _) = with_exact(&cpu, 1, 3 * D_MODEL, true);
        let (weight, _) = with_exact(&cpu, 2, 9 * D_MODEL, false);
        let (mut dhidden, _) = with_exact(&cpu, 3, 3 * D_MODEL, true);
        let (mut dweight, before) = with_exact(&cpu, 4, 9 * D_MODEL, false);
        let (targets, dlogprobs, mut logprobs) = ([NO_TARGET; 3], [1.0; 3], [1.0; 3]);
        let (dh, dw) = (&mut dhidden, &mut dweight);
        backward(&mut cpu, &mut logprobs, dh, dw, &dlogprobs, &hidden, &weight, &targets, &shape, 2);
        assert_eq!(logprobs, [0.0; 3]);
        assert_eq!(floats(&dhidden), [0.0; 3 * D_MODEL]);
        assert_eq!(error(&dweight, &before), 0.0);
    }
}
