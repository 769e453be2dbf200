//! `mynah complete`: continues text or code.

use std::io::{IsTerminal, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use gpt::checkpoint::{self, Generation, Stored};
use gpt::complete::{Completer, Completion, Options};
use gpt::model::{Config, Finish, Sampling, Weights};
use gpt::tokenizer::Tokenizer;
use kernels::Backend;

use super::AdapterArg;
use crate::device::Compute;
use serde_json::{Value, json};

use crate::options::{Usage, WeightsArg, whole};
use crate::session::{Ended, Purpose, Session};
use crate::terminal::text::plural;
use crate::terminal::{Asking, Input, Typed, print, style};

const EXAMPLES: &str = "\
Examples:
  mynah complete --model runs/code 'import numpy as'
  mynah complete --model runs/code --temperature 0 --stop $'\\n' - < half.py
  mynah complete --model runs/infill 'def area(width, height):' --suffix ' * height'
  mynah complete --model runs/tasks/pretrain '我是小明' --task '[问题] 我是谁 [答案]' --temperature 0
  mynah complete --model hf:openai-community/gpt2 'The meaning of life is' --n 5 --json";

/// Where the model's files do not say it.
const TEMPERATURE: f32 = 0.8;

/// Continue text or code
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompleteArgs {
    /// A run directory, a checkpoint, a Hugging Face model directory, a GGUF file, or hf:OWNER/NAME
    #[arg(long, value_name = "MODEL")]
    pub(super) model: PathBuf,
    #[command(flatten)]
    pub(super) adapter: AdapterArg,
    #[command(flatten)]
    weights: WeightsArg,
    /// What to continue, or - for standard input; at a terminal it is asked for
    prompt: Option<String>,
    /// Complete between the prompt and this text; for models that have learned fill-in-the-middle
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    suffix: Option<String>,
    /// What to do with the prompt, for models that have learned task tokens: names of special tokens count
    /// here, and nowhere else
    #[arg(long, value_name = "TASK", conflicts_with = "suffix")]
    task: Option<String>,
    /// Tokens to add at most [default: what the model's files say, else 128]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1..))]
    max_tokens: Option<usize>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// End before this text; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Completions of the same prompt
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = whole::<u16>(1..=1024))]
    n: u16,
}

/// How tokens are drawn. What is not given is as the model's own files say (generation_config.json).
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct SamplingArgs {
    /// Logits are divided by it: below 1 bolder on likely tokens, 0 takes the most likely one [default: what
    /// the model's files say, else 0.8 for complete and 0 for chat]
    #[arg(long, value_name = "F", value_parser = temperature, help_heading = "Sampling")]
    temperature: Option<f32>,
    /// Draw from the N most likely tokens; 0 for all [default: what the model's files say, else 40]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0..), help_heading = "Sampling")]
    top_k: Option<usize>,
    /// Draw from the fewest tokens whose probabilities reach F [default: what the model's files say, else 1]
    #[arg(long, value_name = "F", value_parser = top_p, help_heading = "Sampling")]
    top_p: Option<f32>,
}

impl SamplingArgs {
    /// What was given, else what the model's files say, else the usual; what they say and nobody does is
    /// told.
    pub(crate) fn resolve(
        self,
        generation: &Generation,
        usual_temperature: f32,
        session: &Session,
    ) -> Sampling {
        if !generation.not_done.is_empty() {
            let keys = generation.not_done.join(", ");
            session.say(&format!("note: the model's files ask for {keys}, which is not done here"));
        }
        Sampling {
            temperature: self.temperature.or(generation.writing.temperature).unwrap_or(usual_temperature),
            top_k: self.top_k.or(generation.writing.top_k).unwrap_or(40),
            top_p: self.top_p.or(generation.writing.top_p).unwrap_or(1.0),
            seed: session.seed(),
        }
    }
}

/// The texts that end a text: those that were given, and those of the model's files.
pub(crate) fn stops(given: &[String], generation: &Generation) -> Vec<String> {
    given.iter().chain(&generation.writing.stop).cloned().collect()
}

pub(crate) fn temperature(text: &str) -> Result<f32, String> {
    let value = text.parse::<f32>().ok().filter(|t| t.is_finite() && *t >= 0.0);
    value.ok_or_else(|| "not a number from 0 up".into())
}

fn top_p(text: &str) -> Result<f32, String> {
    let value = text.parse::<f32>().ok().filter(|p| *p > 0.0 && *p <= 1.0);
    value.ok_or_else(|| "not a number above 0 and up to 1".into())
}

/// A model in memory, ready for a [`Completer`].
pub(crate) struct Model {
    pub(crate) compute: Compute,
    pub(crate) config: Config,
    pub(crate) weights: Weights<<Compute as Backend>::Tensor>,
    pub(crate) tokenizer: Tokenizer,
    /// What its files say about how it writes.
    pub(crate) generation: Generation,
}

impl Model {
    /// The model at `path`, its weights as its files have them.
    pub(crate) fn load(path: &Path, purpose: Purpose<'_>, session: &Session) -> Result<Self> {
        Self::load_stored(path, WeightsArg::default(), purpose, session)
    }

    /// The same with its weights stored as is `asked` for.
    pub(crate) fn load_stored(
        path: &Path,
        asked: WeightsArg,
        purpose: Purpose<'_>,
        session: &Session,
    ) -> Result<Self> {
        let model = checkpoint::open(path, session.terminal())?;
        model.warnings.iter().for_each(|warning| session.say(&format!("note: {warning}")));
        let tokenizer = model.needed_tokenizer()?;
        tokenizer.warnings().iter().for_each(|warning| session.say(&format!("note: {warning}")));
        let stored = session.stored_of(asked, &model)?;
        let mut compute = session.compute(purpose)?;
        let weights = match stored {
            Stored::Exactly => model.weights(checkpoint::to_backend(&mut compute, &model.config))?,
            _ => model.stored_weights(stored, |_, leaf| leaf.upload(&mut compute))?,
        };
        Ok(Model { compute, config: model.config, weights, tokenizer, generation: model.generation })
    }
}

/// Continues `prompt` on standard output, piece by piece as it becomes certain.
pub(crate) fn stream<B: Backend>(
    completer: &mut Completer<'_, B>,
    prompt: &str,
    options: &Options,
) -> Result<Completion> {
    let mut heard = Ok(());
    let mut completions = completer.complete(&[prompt], options, |_, text| {
        heard = print(text.as_bytes());
        if heard.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    heard?;
    print(b"\n")?;
    Ok(completions.remove(0))
}

pub(crate) fn run(args: &CompleteArgs, session: &Session) -> Result<Ended> {
    let prompt = prompt(args)?;
    let Model { mut compute, config, weights, tokenizer, generation } =
        Model::load_stored(&args.model, args.weights, Purpose::Text, session)?;
    let n = usize::from(args.n);
    let completer = Completer::new(&mut compute, &config, &weights, &tokenizer, n);
    let mut completer =
        completer.with_context(|| format!("cannot complete with {}", args.model.display()))?;
    // The completer has a copy of its own.
    drop(weights);
    let options = Options {
        max_tokens: args.max_tokens.or(generation.writing.max_tokens).unwrap_or(128),
        sampling: args.sampling.resolve(&generation, TEMPERATURE, session),
        stop: stops(&args.stop, &generation),
        suffix: args.suffix.clone(),
        task: args.task.clone(),
    };

    let completions = if n == 1 && !session.json() {
        if std::io::stdout().is_terminal() {
            print(style::faint(&prompt).as_bytes())?;
        }
        vec![stream(&mut completer, &prompt, &options)?]
    } else {
        let prompts = vec![prompt.as_str(); n];
        let completions = completer.complete(&prompts, &options, |_, _| ControlFlow::Continue(()))?;
        let json =
            json!({ "prompt": prompt, "completions": completions.iter().map(to_json).collect::<Vec<_>>() });
        session.result(&json, || {
            let texts = completions.iter().enumerate();
            texts.map(|(i, c)| format!("── {} of {n}\n{}\n", i + 1, c.text)).collect()
        })?;
        completions
    };
    if let Some(dropped) = completions.first().map(|c| c.dropped_tokens).filter(|&n| n > 0) {
        let tokens = plural(dropped as u64, "token");
        session.say(&match args.suffix {
            None => format!("note: the context is too short for the prompt: its first {tokens} were left out"),
            Some(_) => format!(
                "note: the context is too short for prompt and suffix: {tokens} were left out where the prompt begins and \
                 the suffix ends"
            ),
        });
    }
    Ok(Ended::Done)
}

fn to_json(completion: &Completion) -> Value {
    let Completion { text, tokens, finish, .. } = completion;
    json!({ "text": text, "tokens": tokens, "finish_reason": reason(*finish) })
}

/// Why an answer ended, as programs read it.
pub(crate) fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Cancelled => "cancelled",
        Finish::Failed | Finish::Forbidden => "failed",
    }
}

fn prompt(args: &CompleteArgs) -> Result<String> {
    let mut text = String::new();
    match args.prompt.as_deref() {
        Some("-") => {
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read the prompt from standard input")?;
        }
        Some(prompt) => text.push_str(prompt),
        None if std::io::stdin().is_terminal() => {
            match Input::open(Asking { prompt: "Prompt: ", ..Asking::default() })?.next()? {
                Typed::Line(line) => text.push_str(line.trim_end_matches(['\r', '\n'])),
                Typed::Nothing | Typed::End => return Err(Usage("no prompt was typed".into()).into()),
            }
        }
        None => return Err(Usage("no prompt: give a PROMPT, or - to read standard input".into()).into()),
    }
    Ok(text)
}
