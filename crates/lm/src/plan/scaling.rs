//! How long a step takes that several processes share, and how many of them are worth having.
//!
//! ```text
//! t(N) = ⌈S/N⌉ · s · F / C  +  16 · P · (N − 1)/N / B  +  λ · (2 · b · (N − 1) + 2 · w · log₂ N)
//! ```
//!
//! for `S` sequences of `s` tokens a step, `F` operations a token, `C` operations a second of a process, `P` numbers that
//! are learned, and a network of `B` bytes a second with `λ` from the sending of a message to its end. Gradients go out
//! by an all-to-all and come back by an all-gather, in `b` buckets: 4 bytes a number each way, in messages to every
//! other process. Then each process sends the weights that it has the moments of (ZeRO's first stage), in `w`
//! broadcasts: a scatter and an all-gather, 8 bytes a number, in a tree of log₂ N levels each. What overlaps nothing is
//! added up; what processes wait for each other is in none of it.

use serde::Serialize;

use super::Plan;

/// Numbers of gradients or weights that are on their way at once.
const BUCKET: u64 = 1 << 22;
/// Bytes that each number costs: out and back as a gradient, scattered and gathered as a weight.
const BYTES: f64 = 16.0;
/// A doubling that makes a step less than so many times as fast is not worth its machines.
const WORTH: f64 = 1.2;

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Network {
    /// Seconds from the sending of a message to its end, beside what its bytes take.
    pub latency_secs: f64,
    /// Bytes a second that a process sends while it receives as many.
    pub bytes_per_sec: f64,
}

/// A step of so many processes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SharedStep {
    /// Processes.
    pub ranks: u64,
    /// All of it.
    pub step_secs: f64,
    /// What the process computes that has the most sequences.
    pub compute_secs: f64,
    /// What the bytes take.
    pub bytes_secs: f64,
    /// What the messages take, however short they are.
    pub latency_secs: f64,
    /// How many times as fast as one process.
    pub speed_up: f64,
    /// Of all processes.
    pub tokens_per_sec: f64,
    /// Bytes that the process takes that has most of the moments.
    pub memory_bytes: u64,
}

/// Steps of 1, 2, 4 … processes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scaling {
    /// What the network is taken to be.
    pub network: Network,
    /// Sequences of a step.
    pub sequences: u64,
    /// In the order of their number.
    pub steps: Vec<SharedStep>,
    /// The first number of processes of which twice as many are less than 1.2 times as fast; none where that is
    /// beyond the last.
    pub stops_at: Option<u64>,
}

impl Plan {
    /// Steps of `sequences` sequences of `seq_len` tokens, by 1, 2, 4 … `most` processes that reach so many operations a
    /// second each; what is learned has so many `leaves`, and one of some processes takes `memory` bytes.
    pub fn over_ranks(
        &self,
        (sequences, seq_len): (u64, u64),
        flops: f64,
        network: Network,
        leaves: u64,
        most: u64,
        memory: impl Fn(u64) -> u64,
    ) -> Scaling {
        let sequences = sequences.max(1);
        let counts = std::iter::successors(Some(1u64), |ranks| Some(2 * ranks));
        let shared = |ranks| self.shared_step(ranks, (sequences, seq_len), flops, network, leaves);
        let alone = shared(1).step_secs;
        let step = |ranks| {
            let step = shared(ranks);
            let tokens_per_sec = (sequences * seq_len) as f64 / step.step_secs;
            let memory_bytes = memory(ranks);
            SharedStep { speed_up: alone / step.step_secs, tokens_per_sec, memory_bytes, ..step }
        };
        let steps: Vec<SharedStep> = counts.take_while(|ranks| *ranks <= most).map(step).collect();
        let stops_at =
            steps.windows(2).find(|two| two[1].speed_up < WORTH * two[0].speed_up).map(|two| two[0].ranks);
        Scaling { network, sequences, steps, stops_at }
    }

    fn shared_step(
        &self,
        ranks: u64,
        (sequences, seq_len): (u64, u64),
        flops: f64,
        network: Network,
        leaves: u64,
    ) -> SharedStep {
        let (n, others) = (ranks as f64, (ranks - 1) as f64);
        let tokens = (sequences.div_ceil(ranks) * seq_len) as f64;
        let buckets = self.learned.div_ceil(BUCKET);
        let broadcasts = ranks.min(leaves).max(buckets);
        let messages = 2.0 * buckets as f64 * others + 2.0 * broadcasts as f64 * n.log2();
        let compute_secs = tokens * self.flops_per_token / flops;
        let bytes_secs = BYTES * self.learned as f64 * others / n / network.bytes_per_sec;
        let latency_secs = network.latency_secs * messages;
        let step_secs = compute_secs + bytes_secs + latency_secs;
        SharedStep {
            ranks,
            step_secs,
            compute_secs,
            bytes_secs,
            latency_secs,
            speed_up: 1.0,
            tokens_per_sec: 0.0,
            memory_bytes: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Config, Method, Pass, specs};
    use crate::plan::BF16_BYTES;

    const NETWORK: Network = Network { latency_secs: 20e-6, bytes_per_sec: 1.25e9 };

    fn gpt2(sequences: u64, network: Network) -> Scaling {
        let config = Config::gpt2(50_257, 1024, 12, 12, 768);
        let plan = Plan::new(&config, None, None, Pass::new(4096, BF16_BYTES), 8, 0, Method::AdamW);
        let leaves = specs(&config).leaves().len() as u64;
        plan.over_ranks((sequences, 1024), 1e12, network, leaves, 1024, |_| 0)
    }

    /// By hand: 124,439,808 numbers in 30 buckets, 148 leaves, 803,069,952 operations a token.
    #[test]
    fn a_step_is_what_the_formula_says() {
        let scaling = gpt2(512, NETWORK);
        let ranks: Vec<u64> = scaling.steps.iter().map(|step| step.ranks).collect();
        assert_eq!(ranks, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]);
        let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{a} {b}");
        let SharedStep { compute_secs, bytes_secs, latency_secs, step_secs, speed_up, .. } = scaling.steps[3];
        let operations = Config::gpt2(50_257, 1024, 12, 12, 768).training_flops_per_token();
        near(compute_secs, 64.0 * 1024.0 * operations / 1e12);
        near(bytes_secs, 16.0 * 124_439_808.0 * 7.0 / 8.0 / 1.25e9);
        near(latency_secs, 20e-6 * (2.0 * 30.0 * 7.0 + 2.0 * 30.0 * 3.0));
        near(step_secs, compute_secs + bytes_secs + latency_secs);
        near(speed_up, scaling.steps[0].compute_secs / step_secs);
        near(scaling.steps[10].latency_secs, 20e-6 * (2.0 * 30.0 * 1023.0 + 2.0 * 148.0 * 10.0));
        let alone = scaling.steps[0];
        assert_eq!((alone.bytes_secs, alone.latency_secs, alone.speed_up), (0.0, 0.0, 1.0));
    }

    #[test]
    fn it_stops_where_the_network_or_the_sequences_end() {
        let free = Network { latency_secs: 0.0, bytes_per_sec: f64::INFINITY };
        assert_eq!(gpt2(64, free).stops_at, Some(64), "one sequence each");
        assert_eq!(gpt2(4096, free).stops_at, None);
        let slow = gpt2(512, Network { bytes_per_sec: 1.25e8, ..NETWORK }).stops_at.unwrap();
        let usual = gpt2(512, NETWORK).stops_at.unwrap();
        assert!(slow < usual && usual < 512, "{slow} {usual}");
    }
}
