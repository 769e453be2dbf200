//! What a step sends to other processes is what the plan counts.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use kernels::cpu::{CpuOptions, Level};
use kernels::{Cpu, Precision};
use lm::model::{self, Config, Method, Pass, Sequences, specs};
use lm::plan::{Network, Plan};
use lm::train::{Lane, Optimizer, Trainer};
use ranks::{Communicator, Ranks};
use std::sync::{Arc, Mutex};

/// Bytes of numbers that a rank gets from others, and the calls that bring them.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    all_to_all: usize,
    all_gather: usize,
    broadcast: usize,
    all_to_alls: usize,
}

/// One of several ranks, all of which say what it says.
struct Mirror {
    rank: usize,
    size: usize,
    sent: Arc<Mutex<Sent>>,
}

/// Counts and decisions, not numbers of the model.
const FEW: usize = 1024;

impl Communicator for Mirror {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn about(&self) -> String {
        "a mirror".into()
    }

    fn all_to_all(&self, send: &[u8], receive: &mut [u8]) {
        receive.copy_from_slice(send);
        let mut sent = self.sent.lock().unwrap();
        sent.all_to_all += send.len() / self.size * (self.size - 1);
        sent.all_to_alls += 1;
    }

    fn all_gather(&self, send: &[u8], receive: &mut [u8]) {
        receive.chunks_mut(send.len().max(1)).for_each(|part| part.copy_from_slice(send));
        if send.len() > FEW {
            self.sent.lock().unwrap().all_gather += send.len() * (self.size - 1);
        }
    }

    fn broadcast(&self, bytes: &mut [u8], from: usize) {
        if from != self.rank {
            self.sent.lock().unwrap().broadcast += bytes.len();
        }
    }

    fn finish(&self) {}

    fn abort(&self, code: i32) -> ! {
        panic!("it aborts with {code}")
    }
}

/// What the rank of so many gets in a step.
fn step(config: &Config, rank: usize, size: usize) -> Sent {
    let sent = Arc::new(Mutex::new(Sent::default()));
    let ranks = Ranks::new(Mirror { rank, size, sent: Arc::clone(&sent) });
    let options = CpuOptions { level: Level::detect(), threads: 2, precision: Precision::F32 };
    let cpu = &mut Cpu::new(options);
    let weights = model::init(cpu, config, 1);
    let mut trainer = Trainer::new(cpu, config.clone(), weights);
    trainer.join(cpu, &ranks);
    let rows = Sequences { tokens: &[1, 2, 3], lens: &[3], noise: None };
    trainer.accumulate(cpu, rows, &[2, 3, 4], &[-0.3; 3], Lane::Number(rank));
    let optimizer =
        Optimizer { beta1: 0.9, beta2: 0.95, eps: 1e-8, eps_hat: false, weight_decay: 0.1, grad_clip: 1.0 };
    assert!(trainer.update(cpu, &optimizer, 1e-3, None).applied);
    *sent.lock().unwrap()
}

#[test]
fn a_step_sends_the_bytes_that_are_planned() {
    // Five million numbers, in two buckets.
    let config = Config { tied_head: true, ..Config::gpt2(40_000, 32, 2, 2, 128) };
    let plan = Plan::new(&config, None, None, Pass::new(32, 4), 8, 0, Method::AdamW);
    let leaves = specs(&config).leaves().len() as u64;
    let network = Network { latency_secs: 0.0, bytes_per_sec: 1.0 };
    let scaling = plan.over_ranks((8, 32), 1e9, network, leaves, 8, |_| 0);
    for (size, planned) in [2, 4].into_iter().zip(&scaling.steps[1..]) {
        assert_eq!(planned.ranks, size as u64);
        let all: Vec<Sent> = (0..size).map(|rank| step(&config, rank, size)).collect();
        let mean = |of: fn(&Sent) -> usize| all.iter().map(of).sum::<usize>() as f64 / size as f64;
        let (out, back) = (mean(|sent| sent.all_to_all), mean(|sent| sent.all_gather));
        let near = |bytes: f64, share: f64| {
            let share = share * planned.bytes_secs;
            assert!((bytes / share - 1.0).abs() < 1e-3, "{size} ranks: {bytes} bytes, planned {share}");
        };
        near(out, 0.25);
        near(back, 0.25);
        // A broadcast of much is a scatter and an all-gather: twice what arrives.
        near(2.0 * mean(|sent| sent.broadcast), 0.5);
        assert!(all.iter().all(|sent| (2..=4).contains(&sent.all_to_alls)), "{all:?}");
    }
}
