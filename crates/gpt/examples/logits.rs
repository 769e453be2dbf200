//! Prints, as JSON, the logits and the most likely continuation that mynah computes in `f32` for a model
//! directory:
//!
//! ```text
//! cargo run --release -p mynah-gpt --example logits -- DIR "def main" > ours.json
//! python tools/check_checkpoint.py DIR ours.json
//! ```
//!
//! A directory without tokenizer takes token ids, separated by spaces, instead of a text.

#![allow(clippy::print_stdout)] // That is what it is for.

use std::path::Path;

use anyhow::{Context, Result};
use gpt::checkpoint;
use gpt::model::{self, Activations, Engine, Request, Sampling, Sequences};
use kernels::{Backend, Cpu, CpuOptions, LinearShape, Precision};
use serde_json::json;

/// Tokens of the continuation; fewer where the context ends.
const NEW_TOKENS: usize = 64;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, prompt] = arguments.as_slice() else { anyhow::bail!("give a model directory and a prompt") };
    let model = checkpoint::open(Path::new(dir), &gpt::progress::Silent)?;
    let config = &model.config;
    let b = &mut Cpu::new(CpuOptions { precision: Precision::F32, ..CpuOptions::default() });
    let weights = model.weights(checkpoint::to_backend(b, config))?;
    let tokenizer = model.tokenizer()?;
    let tokens: Vec<u32> = match &tokenizer {
        Some(tokenizer) => tokenizer.encode(prompt),
        None => prompt.split(' ').map(str::parse).collect::<Result<_, _>>().context("ids are numbers")?,
    };

    let mut activations = Activations::new(b, config);
    let batch = Sequences { tokens: &tokens, lens: &[tokens.len()], noise: None };
    model::forward(b, config, &weights, &mut activations, batch);
    let shape = LinearShape { rows: tokens.len(), d_in: config.d_model, d_out: config.vocab_size };
    let mut logits = b.zeros(shape.rows * shape.d_out);
    b.linear_forward(&mut logits, &activations.hidden, weights.head(), None, shape);
    let mut values = vec![0.0; shape.rows * shape.d_out];
    b.download(&mut values, &logits);

    let request = Request {
        prompt: tokens.clone(),
        max_tokens: NEW_TOKENS.min(config.seq_len.saturating_sub(tokens.len())),
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        number: 0,
        stop_tokens: Vec::new(),
        ..Request::default()
    };
    let generated = Engine::new(b, config, &weights, 1)
        .generate(b, &[request], |_, _| std::ops::ControlFlow::Continue(()))?;
    let completion = &generated[0].tokens;
    let text = tokenizer.map(|tokenizer| tokenizer.decode(completion)).transpose()?;
    let rows: Vec<&[f32]> = values.chunks(config.vocab_size).collect();
    let printed = json!({
        "tokens": tokens, "logits": rows, "prompt": tokens, "completion": completion, "text": text,
    });
    println!("{printed}");
    Ok(())
}
