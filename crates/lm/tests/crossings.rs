//! What crosses between the host and the backend's memory in a step of training and in a step of decoding.
//!
//! On a processor that costs nothing; on a card each crossing is a copy, and whatever is read back waits for
//! all the work before it. So a batch goes up once, however many layers ask for it, and a step reads once, at
//! its end. The table that is printed (`--nocapture`) has beside it what crossed when operations took slices:
//! every slice argument of every call, counted by the formulas of [`Before`].

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

mod counting;

use counting::{Counting, Crossings};
use kernels::{Cpu, CpuOptions, Draw, Drawn};
use lm::model::{self, Config, Engine, Request, Sequences, Targets, specs};
use lm::train::{Entropies, Lane, Optimizer, Trainer};

const LENS: [usize; 3] = [8, 8, 5];
const ROWS: usize = 21;
const OPTIMIZER: Optimizer =
    Optimizer { beta1: 0.9, beta2: 0.95, eps: 1e-8, eps_hat: false, weight_decay: 0.1, grad_clip: 1.0 };

/// A model without rotary positions and one with them, of so many layers.
fn configs(n_layer: usize) -> [(&'static str, Config); 2] {
    [
        ("gpt2", Config { d_ff: 32, ..Config::gpt2(50, 8, n_layer, 2, 16) }),
        ("modern", Config { d_ff: 32, ..Config::modern(50, 8, n_layer, 2, 16) }),
    ]
}

/// The second of two equal steps, which allocates and asks for nothing that the first one did not.
fn second(
    config: &Config,
    mut step: impl FnMut(&mut Counting<Cpu>, &mut Trainer<Counting<Cpu>>),
) -> Crossings {
    let mut b = Counting::new(Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() }));
    let weights = model::init(&mut b, config, 1);
    let mut trainer = Trainer::new(&mut b, config.clone(), weights);
    step(&mut b, &mut trainer);
    b.crossings = Crossings::default();
    step(&mut b, &mut trainer);
    b.crossings
}

/// Two micro-batches and an update, whose losses are read after it.
fn pretraining(config: &Config) -> Crossings {
    let tokens: Vec<u32> = (0..ROWS as u32).collect();
    second(config, |b, trainer| {
        for _ in 0..2 {
            let batch = Sequences { tokens: &tokens, lens: &LENS, noise: None };
            trainer.accumulate(b, batch, &tokens, &[-0.01; ROWS], Lane::Only);
        }
        assert!(trainer.update(b, &OPTIMIZER, 1e-3, None).applied);
        assert_eq!(trainer.told().len(), 2 * ROWS);
    })
}

/// A minibatch whose loss is taken on the host, entropies included, and an update, as in PPO.
fn policy_step(config: &Config) -> Crossings {
    let tokens: Vec<u32> = (0..ROWS as u32).collect();
    second(config, |b, trainer| {
        let batch = Sequences { tokens: &tokens, lens: &LENS, noise: None };
        let loss = trainer.accumulate_loss(
            b,
            batch,
            Targets::new(&tokens),
            Entropies::Learned,
            Lane::Only,
            |outputs, derivatives| {
                derivatives.logprobs.fill(-0.01);
                derivatives.entropies.fill(-0.001);
                outputs.logprobs.iter().chain(outputs.entropies).sum::<f64>()
            },
        );
        assert!(trainer.update(b, &OPTIMIZER, 1e-3, Some(loss)).applied);
    })
}

/// A token each for two sequences.
fn decoding(config: &Config) -> Crossings {
    let mut b = Counting::new(Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() }));
    let weights = model::init(&mut b, config, 1);
    let mut engine = Engine::new(&mut b, config, &weights, 2);
    for number in 0..2 {
        let prompt = vec![number as u32, 2, 3];
        engine.submit(Request { prompt, max_tokens: 4, number, ..Request::default() }, None);
    }
    engine.step(&mut b);
    b.crossings = Crossings::default();
    engine.step(&mut b);
    b.crossings
}

/// What crossed when operations took slices and gave numbers.
struct Before {
    layers: u64,
    /// Uploads of positions by each layer's rotation.
    rotations: u64,
    leaves: u64,
}

impl Before {
    fn of(config: &Config) -> Self {
        let layers = config.n_layer as u64;
        let rotations = if config.rope().is_some() { layers } else { 0 };
        Before { layers, rotations, leaves: specs(config).leaves().len() as u64 }
    }

    /// Tokens and positions of an embedding, positions of each rotation, lengths of each attention.
    fn pass(&self) -> Crossings {
        let ids = 4 * ROWS as u64;
        let bytes = (2 + self.rotations) * ids + self.layers * 8 * LENS.len() as u64;
        Crossings { up: 2 + self.rotations + self.layers, up_bytes: bytes, ..Crossings::default() }
    }

    /// Targets and derivatives of a head, and the log-probabilities that it gave at once.
    fn head(&self, derivatives: u64, results: u64) -> Crossings {
        let rows = ROWS as u64;
        Crossings {
            up: 1 + derivatives,
            up_bytes: (4 + 8 * derivatives) * rows,
            reads: u64::from(results > 0),
            down_bytes: 8 * results * rows,
        }
    }

    /// A sum of squares for each leaf.
    fn update(&self) -> Crossings {
        Crossings { reads: self.leaves, down_bytes: 8 * self.leaves, ..Crossings::default() }
    }

    fn pretraining(&self) -> Crossings {
        let micro_batch = [self.pass(), self.head(1, 1), self.pass()].into_iter().sum::<Crossings>();
        [micro_batch, micro_batch, self.update()].into_iter().sum()
    }

    fn policy_step(&self) -> Crossings {
        [self.pass(), self.head(0, 2), self.head(2, 1), self.pass(), self.update()].into_iter().sum()
    }

    /// Two rows: an embedding, positions of each rotation, spans of each attention (24 bytes a span), the
    /// rows whose logits are wanted; then the draw.
    fn decoding(&self, draw: Crossings) -> Crossings {
        let pass = Crossings {
            up: 3 + self.rotations + self.layers,
            up_bytes: (3 + self.rotations) * 8 + self.layers * 48,
            ..Crossings::default()
        };
        [pass, draw].into_iter().sum()
    }
}

#[test]
fn a_batch_goes_up_once_and_a_step_is_read_once() {
    let (rows, lens) = (ROWS as u64, LENS.len() as u64);
    let batch = 3 * 4 * rows + 4 * lens + 4 * rows;
    println!("{:46} {:>24}   {:>24}", "", "before: up, reads", "after: up, reads");
    for n_layer in [1, 4] {
        for (name, config) in configs(n_layer) {
            let before = Before::of(&config);
            let show = |what: &str, before: Crossings, after: Crossings| {
                println!("{:46} {before}   {after}", format!("{what}, {name}, {n_layer} layers"));
            };
            // Tokens, positions, lengths, targets and derivatives of each micro-batch; then log-probabilities,
            // the norm, and whether it was applied.
            let training = pretraining(&config);
            show("two micro-batches and update", before.pretraining(), training);
            let expected = Crossings {
                up: 2 * 5,
                up_bytes: 2 * (batch - 4 * rows + 8 * rows),
                reads: 1,
                down_bytes: 8 * (2 * rows + 2),
            };
            assert_eq!(training, expected, "{name}, {n_layer} layers");

            // Derivatives by both, and the loss; the round trip of a loss on the host, and the update's read.
            let policy = policy_step(&config);
            show("loss on the host and update", before.policy_step(), policy);
            let expected = Crossings {
                up: 4 + 2 + 1,
                up_bytes: batch - 4 * rows + 2 * 8 * rows + 8,
                reads: 2,
                down_bytes: 8 * 2 * rows + 8 * 2,
            };
            assert_eq!(policy, expected, "{name}, {n_layer} layers");

            // Tokens, positions, spans and the rows wanted; then what is drawn.
            let decoding = decoding(&config);
            let draw = Crossings {
                up: 1,
                up_bytes: 2 * size_of::<Draw<'_>>() as u64,
                reads: 1,
                down_bytes: 2 * size_of::<Drawn>() as u64,
            };
            show("a token for two sequences", before.decoding(draw), decoding);
            let ids = Crossings { up: 4, up_bytes: 4 * (2 + 2 + 2 * 3 + 2), ..Crossings::default() };
            assert_eq!(decoding, [ids, draw].into_iter().sum(), "{name}, {n_layer} layers");
        }
    }
}
