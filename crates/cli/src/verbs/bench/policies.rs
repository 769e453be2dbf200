//! Iterations of PPO and of GRPO: random models of one shape, whose policy answers random prompts.

use std::path::Path;

use anyhow::{Context, Result};
use gpt::checkpoint::{self, About, Contents, Dtype};
use gpt::data::Prompt;
use gpt::data::messages::{Message, Role};
use gpt::model::{self, Config};
use gpt::progress::Silent;
use gpt::stage::{
    GrpoOptions, GrpoSettings, Init, Machine, PpoOptions, PpoSettings, StageSettings, grpo, ppo,
};
use gpt::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::{Bench, largest, median, peak_memory_bytes, random_tokens, smallest};
use crate::device::{Compute, Computes};
use crate::precision;
use crate::session::Purpose;

const PROMPTS: usize = 16;
const PROMPT_TOKENS: usize = 32;
const NEW_TOKENS: usize = 64;
/// Passes of PPO over its answers.
const EPOCHS: u64 = 4;
/// Answers of GRPO to each prompt.
const GROUP: usize = 8;

impl Bench<'_> {
    /// Times `steps` iterations of 16 answers of 64 tokens to prompts of 32, learned from in four epochs of one
    /// minibatch.
    pub(super) fn ppo(&self, steps: u32) -> Result<()> {
        let mut place = self.place()?;
        let reward = Config { n_label: Some(1), ..self.config.clone() };
        let (policy, reward) = (&place.model(&self.config, "policy")?, &place.model(&reward, "reward")?);
        let settings = StageSettings::with(|optim, own: &mut PpoSettings| {
            (optim.steps, optim.lr) = (Some(u64::from(steps) + 1), 1e-6);
            (own.batch_size, own.epochs, own.minibatches) = (PROMPTS, EPOCHS, 1);
            (own.max_tokens, own.eval_prompts) = (NEW_TOKENS, 1);
        })?;
        let Place { dir, compute, precision, prompts, .. } = place;
        let (prompts, held_out, out) = (&prompts[..], &prompts[..1], dir.path().join("run"));
        let (ptx, gold) = (Vec::new(), None);
        let run =
            PpoOptions { policy, reward, prompts, held_out, ptx, gold, out: out.clone(), settings, seed: 0 };
        ppo(compute, &Machine::unmeasured(), &run, &Silent)?;
        self.told("ppo", precision, &out, PROMPTS, &json!({ "epochs": EPOCHS, "minibatches": 1 }))
    }

    /// Times `steps` iterations of 8 answers of 64 tokens to each of 16 prompts of 32, learned from once, beside a
    /// reference.
    pub(super) fn grpo(&self, steps: u32) -> Result<()> {
        let mut place = self.place()?;
        let policy = &place.model(&self.config, "policy")?;
        let settings = StageSettings::with(|optim, own: &mut GrpoSettings| {
            (optim.steps, optim.lr) = (Some(u64::from(steps) + 1), 1e-6);
            (own.batch_size, own.group, own.epochs, own.minibatches) = (PROMPTS, GROUP, 1, 1);
            (own.max_tokens, own.eval_prompts, own.eval_samples) = (NEW_TOKENS, 1, 1);
        })?;
        let Place { dir, compute, precision, prompts, .. } = place;
        let (prompts, held_out, out) = (&prompts[..], &prompts[..1], dir.path().join("run"));
        // Random answers differ in their length.
        let (rewards, reward_models, sandbox) = (&["length".parse()?][..], &[][..], None);
        let run = GrpoOptions {
            tools: None,
            policy,
            rewards,
            reward_models,
            sandbox,
            prompts,
            held_out,
            out: out.clone(),
            settings,
            seed: 0,
        };
        grpo(compute, &Machine::unmeasured(), &run, &Silent)?;
        self.told("grpo", precision, &out, PROMPTS * GROUP, &json!({ "group": GROUP, "epochs": 1 }))
    }

    /// Where models and runs lie while they are measured.
    fn place(&self) -> Result<Place> {
        let compute = self.session.compute(Purpose::NewTraining)?;
        Ok(Place {
            dir: tempfile::tempdir().context("a directory for the models that are measured")?,
            tokenizer: tokenizer(self.config.vocab_size)?,
            precision: precision::name(compute.precision()),
            compute,
            prompts: (0..PROMPTS as u64).map(|number| self.prompt(number)).collect(),
        })
    }

    /// Tells the times of the run in `out`, of `answers` answers an iteration, with what is the algorithm's own.
    fn told(&self, what: &str, precision: &str, out: &Path, answers: usize, own: &Value) -> Result<()> {
        // Memory is allocated in the first.
        let times = step_times(&out.join("timings.jsonl"))?.split_off(1);
        let mut json = json!({
            "bench": what,
            "preset": self.name,
            "precision": precision,
            "threads": self.session.threads(),
            "prompts": PROMPTS,
            "prompt_tokens": PROMPT_TOKENS,
            "new_tokens": NEW_TOKENS,
        });
        let times_told = json!({
            "iteration_secs_median": median(&times),
            "iteration_secs_min": smallest(&times),
            "iteration_secs_max": largest(&times),
            "peak_memory_bytes": peak_memory_bytes(),
        });
        for further in [own, &times_told] {
            let fields = json.as_object_mut().expect("an object");
            fields.extend(further.as_object().expect("an object").clone());
        }
        self.session.result(&json, || {
            format!(
                "{what:<9} {} in {precision}: {:.2} s an iteration of {answers} answers of {NEW_TOKENS} tokens\n",
                self.name,
                median(&times),
            )
        })
    }

    /// A prompt of as many bytes as it has tokens.
    fn prompt(&self, number: u64) -> Prompt {
        let tokens = random_tokens(&self.config, self.session.seed(), number, PROMPT_TOKENS);
        let text: String = tokens.into_iter().map(|token| char::from(b'a' + (token % 26) as u8)).collect();
        Prompt { messages: vec![Message::new(Role::User, text)], extra: Map::new() }
    }
}

/// What an algorithm is measured with.
struct Place {
    dir: TempDir,
    tokenizer: Tokenizer,
    compute: Compute,
    precision: &'static str,
    prompts: Vec<Prompt>,
}

impl Place {
    /// A model of random weights.
    fn model(&mut self, config: &Config, name: &str) -> Result<Init> {
        let path = self.dir.path().join(name);
        save(&mut self.compute, config, &self.tokenizer, &path)?;
        Init::open(&path, &Silent)
    }
}

/// Bytes, and as many special tokens as fill the vocabulary: each that is drawn is one token of an answer, and
/// hardly any ends it.
fn tokenizer(vocab_size: usize) -> Result<Tokenizer> {
    let special: Vec<String> = (0..vocab_size.saturating_sub(257)).map(|i| format!("<{i}>")).collect();
    Tokenizer::train(std::iter::once(Ok("a".to_owned())), vocab_size, &special, &Silent)
}

/// Writes a model with first weights.
fn save(compute: &mut Compute, config: &Config, tokenizer: &Tokenizer, path: &Path) -> Result<()> {
    let weights = model::init(compute, config, 1);
    let contents = Contents {
        config,
        weights: &weights,
        dtype: Dtype::F32,
        moments: None,
        beside: &[],
        read: &mut checkpoint::from_backend(compute),
        eot_token: tokenizer.end_of_text(),
        eos_token: tokenizer.eos(),
        end_tokens: &[],
        files: &tokenizer.files(),
        about: About::default(),
    };
    checkpoint::save(path, contents)
}

/// The seconds of each step of a run.
fn step_times(timings: &Path) -> Result<Vec<f64>> {
    let text = std::fs::read_to_string(timings)?;
    let secs = |line| serde_json::from_str::<Value>(line).ok()?["step_secs"].as_f64();
    text.lines().map(|line| secs(line).context("a line of timings without seconds")).collect()
}
