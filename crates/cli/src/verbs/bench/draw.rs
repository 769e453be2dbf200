//! Draws of a token from the logits of large vocabularies.

use std::time::{Duration, Instant};

use anyhow::Result;
use gpt::model::Sampling;
use kernels::{Backend, Drawn, rng};
use serde_json::json;

use super::{Bench, median};
use crate::session::Purpose;
use crate::terminal::text::count;

const DURATION: Duration = Duration::from_millis(200);
const VOCABULARIES: [usize; 3] = [8192, 50257, 151936];
const ROWS: usize = 16;

impl Bench<'_> {
    /// Times draws in every manner, from one row and from many.
    pub(super) fn draw(&self) -> Result<()> {
        let usual = Sampling::default();
        let manners = [
            ("greedy", Sampling { temperature: 0.0, ..usual }),
            ("temperature 1", usual),
            ("top_k 40", Sampling { top_k: 40, ..usual }),
            ("top_p 0.95", Sampling { top_p: 0.95, ..usual }),
        ];
        let mut cpu = self.session.cpu(Purpose::Text)?;
        for vocab_size in VOCABULARIES {
            let values: Vec<f32> =
                (0..ROWS * vocab_size).map(|i| 3.0 * rng::normal(1, 2, i as u64) as f32).collect();
            for rows in [1, ROWS] {
                let mut logits = cpu.zeros(rows * vocab_size);
                cpu.upload(&mut logits, &values[..rows * vocab_size]);
                for (name, sampling) in &manners {
                    let (mut times, began) = (Vec::new(), Instant::now());
                    while began.elapsed() < DURATION {
                        let draw = |row| sampling.draw(row as u64, times.len(), vocab_size);
                        let draws: Vec<_> = (0..rows).map(draw).collect();
                        let (mut drawn, began) = (vec![Drawn::Nothing; rows], Instant::now());
                        cpu.draw(&mut drawn, &logits, vocab_size, &draws);
                        times.push(began.elapsed().as_secs_f64());
                    }
                    let ms = 1e3 * median(&times);
                    let json = json!({
                        "bench": "draw",
                        "vocab_size": vocab_size,
                        "rows": rows,
                        "manner": name,
                        "threads": cpu.options().threads,
                        "ms": ms,
                    });
                    let vocab_size = count(vocab_size as u64);
                    self.session.result(&json, || {
                        format!("draw      {rows} of {vocab_size} tokens, {name}: {ms:.3} ms\n")
                    })?;
                }
            }
        }
        Ok(())
    }
}
