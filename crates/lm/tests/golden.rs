//! Every family and the optimizer step against PyTorch, on the reference and on the processor.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

mod families;

mod reference {
    use crate::families::*;
    use kernels::Reference;

    #[test]
    fn logits() {
        families().iter().for_each(|golden| logits_agree(golden, Reference, 1e-6));
    }
    #[test]
    fn gradients() {
        families().iter().for_each(|golden| gradients_agree(golden, Reference, 1e-6));
    }
    #[test]
    fn ten_steps() {
        families().iter().for_each(|golden| curve_agrees(golden, Reference, 1e-6));
    }
    #[test]
    fn greedy() {
        families().iter().for_each(|golden| greedy_agrees(golden, Reference));
    }
    #[test]
    fn ropes() {
        ropes_agree(|| Reference, 1e-6);
    }
}

mod cpu {
    use crate::families::*;
    use kernels::cpu::{CpuOptions, Level};
    use kernels::{Backend, CacheSpan, Cpu, Precision};
    use lm::model::{self, Cache};

    fn at_every_level(precision: Precision, check: impl Fn(&Golden, Cpu)) {
        for golden in families() {
            for level in Level::available() {
                check(&golden, Cpu::new(CpuOptions { threads: 2, precision, level }));
            }
        }
    }

    #[test]
    fn logits() {
        at_every_level(Precision::F32, |golden, cpu| logits_agree(golden, cpu, 1e-5));
        at_every_level(Precision::Bf16, |golden, cpu| logits_agree(golden, cpu, 3e-2));
    }
    #[test]
    fn gradients() {
        at_every_level(Precision::F32, |golden, cpu| gradients_agree(golden, cpu, 3e-5));
        at_every_level(Precision::Bf16, |golden, cpu| gradients_agree(golden, cpu, 1e-1));
    }
    #[test]
    fn ten_steps() {
        at_every_level(Precision::F32, |golden, cpu| curve_agrees(golden, cpu, 1e-4));
        at_every_level(Precision::Bf16, |golden, cpu| curve_agrees(golden, cpu, 5e-2));
    }
    #[test]
    fn greedy() {
        at_every_level(Precision::F32, greedy_agrees);
    }
    #[test]
    fn ropes() {
        for level in Level::available() {
            ropes_agree(|| Cpu::new(CpuOptions { threads: 2, precision: Precision::F32, level }), 1e-5);
        }
    }

    /// What the engine promises about bits: token by token with a cache, with packed weights, is what a whole
    /// pass gives.
    #[test]
    fn cached_and_full_passes_give_the_same_bits() {
        at_every_level(Precision::F32, |golden, mut cpu| {
            let (config, tokens) = (&golden.config, &golden.ids("tokens")[..SEQ_LEN]);
            let b = &mut cpu;
            let mut weights = golden.weights(b);
            let full = crate::families::logits(b, config, &weights, batch(tokens, &[SEQ_LEN]));

            weights.lm_head = Some(b.packed(weights.head(), config.d_model, config.vocab_size));
            let mut cache = Cache::new(b, config, 2, SEQ_LEN);
            let mut cached = vec![0.0; config.vocab_size];
            for (start, want) in full.chunks(config.vocab_size).enumerate() {
                let span = CacheSpan { slot: 1, start, len: 1 };
                let new = &tokens[start..=start];
                model::forward_cached(b, config, &weights, &mut cache, new, &[span], &[0]);
                b.download(&mut cached, &cache.logits);
                let same = cached.iter().zip(want).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{}, position {start}", golden.family);
            }
        });
    }

    /// What training promises about bits: neither threads nor the cut into micro-batches change them.
    #[test]
    fn threads_and_micro_batches_change_nothing() {
        for golden in families() {
            let (tokens, targets) = (golden.ids("tokens"), golden.ids("targets"));
            for precision in [Precision::F32, Precision::Bf16] {
                let bits = |threads: usize, micro: &[usize]| {
                    let options = CpuOptions { threads, precision, level: Level::detect() };
                    let b = &mut Cpu::new(options);
                    let mut trainer = golden.trainer(b);
                    accumulate(b, &mut trainer, &tokens, &targets, micro);
                    let gradients = trainer.gradients(b).leaves().into_iter();
                    let gradients: Vec<f32> = gradients.flat_map(|g| host(b, g)).collect();
                    let (_, loss) = update(b, &mut trainer, 0.0);
                    (loss.to_bits(), gradients.iter().map(|g| g.to_bits()).collect::<Vec<_>>())
                };
                let once = bits(1, &[2]);
                let same = bits(3, &[2]) == once && bits(2, &[1, 1]) == once;
                assert!(same, "{}, {precision:?}", golden.family);
            }
        }
    }
}
