//! `mynah gguf`: a model as one file for llama.cpp, Ollama and LM Studio.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use gpt::checkpoint::{self, Quant, Written};
use serde_json::{Value, json};

use super::AdapterArg;
use super::out::{Force, RULE, recipe, say_finished};
use crate::session::{Ended, Session};
use crate::terminal::text::bytes as sized;

const EXAMPLES: &str = "\
Models of the shape of GPT-2, Llama, Qwen2 and Qwen3 can be written; those of GPT-1 and GPT-3 cannot, as llama.cpp has
no such architecture. The way back needs no verb: --model takes a GGUF file wherever it takes a directory.

Examples:
  mynah gguf --model runs/code --out code.gguf
  mynah gguf --model runs/code --out code-q8.gguf --quant q8_0
  mynah complete --model code-q8.gguf 'fn main() {'";

/// Write a model as a GGUF file, for llama.cpp, Ollama and LM Studio
#[derive(Debug, Args)]
#[command(after_help = format!("{RULE}\n\n{EXAMPLES}"))]
pub(crate) struct GgufArgs {
    /// A run directory, a checkpoint, a Hugging Face model directory, another GGUF file, or hf:OWNER/NAME
    #[arg(long, value_name = "MODEL")]
    pub(super) model: PathBuf,
    #[command(flatten)]
    pub(super) adapter: AdapterArg,
    /// The file to write
    #[arg(long, value_name = "F.gguf")]
    out: PathBuf,
    #[command(flatten)]
    force: Force,
    /// Number format of matrices [default: f32, as they are]
    #[arg(long, value_enum, value_name = "f16|q8_0|q4_0", hide_possible_values = true)]
    quant: Option<QuantName>,
}

/// A [`Quant`] as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum QuantName {
    F16,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_0")]
    Q4_0,
}

pub(crate) fn run(args: &GgufArgs, session: &Session) -> Result<Ended> {
    let out = session.out(&args.out, args.force.force, &[&args.model])?;
    let model = checkpoint::open(&args.model, session.terminal())?;
    model.warnings.iter().for_each(|warning| session.say(&format!("note: {warning}")));
    let tokenizer = model.tokenizer()?.with_context(|| {
        format!("{} has no tokenizer, which a GGUF file holds too: lay one beside it", model.path.display())
    })?;
    let quant = match args.quant {
        None => Quant::F32,
        Some(QuantName::F16) => Quant::F16,
        Some(QuantName::Q8_0) => Quant::Q8_0,
        Some(QuantName::Q4_0) => Quant::Q4_0,
    };
    let name = name(&args.out);
    let settings = json!({ "quant": format!("{quant:?}"), "name": name });
    let recipe = recipe("gguf", &settings, vec![("model", super::out::model(&args.model, session)?)])?;
    if out.is_finished(&recipe, &[])? {
        say_finished(&out, session);
        let bytes = std::fs::metadata(out.path()).map_or(0, |about| about.len());
        session.summary(&json!({ "file": args.out, "bytes": bytes }), || {
            format!("{} → {}", sized(bytes), args.out.display())
        })?;
        return Ok(Ended::Done);
    }
    let written = checkpoint::write_gguf(&model, &tokenizer, &name, quant, &out.path(), session.watcher())?;
    out.adopt(&recipe)?;
    let Written { architecture, bytes, formats } = &written;
    let tensors: Vec<String> = formats.iter().map(|(format, count)| format!("{count} {format}")).collect();
    session.summary(&to_json(&args.out, &written), || {
        let shown = args.out.display();
        format!("{architecture}, {}, tensors: {} → {shown}", sized(*bytes), tensors.join(", "))
    })?;
    Ok(Ended::Done)
}

fn to_json(out: &Path, written: &Written) -> Value {
    let formats: serde_json::Map<String, Value> =
        written.formats.iter().map(|(format, count)| (format.clone(), (*count).into())).collect();
    json!({ "file": out, "architecture": written.architecture, "bytes": written.bytes, "tensors": formats })
}

/// What the model is called in the programs that list it: the file's name.
fn name(out: &Path) -> String {
    let stem = out.file_stem().filter(|stem| *stem != "-");
    stem.map_or_else(|| "model".into(), |stem| stem.to_string_lossy().into_owned())
}
