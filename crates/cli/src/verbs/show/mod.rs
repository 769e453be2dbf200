//! `mynah show`: what is in a model, a run, a corpus, or a directory of tokens.

mod tree;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use gpt::checkpoint::{self, About, Checkpoint};
use gpt::corpus::Report;
use gpt::data::Meta;
use gpt::hub::Name;
use gpt::model::{Config, Mlp, NormKind, NormPlace, Positions, RopeScaling};
use gpt::tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::{corpus, tokenize};
use crate::session::{Ended, Session};
use crate::terminal::text::{count, scaled};

/// Show what is in a model, a run, a corpus or a directory of tokens
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A run, a checkpoint, a Hugging Face model directory, a GGUF file, hf:OWNER/NAME, or what `mynah
    /// corpus` or `mynah tokenize` made
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

pub(crate) fn run(args: &ShowArgs, session: &Session) -> Result<Ended> {
    let path = args.path.as_path();
    if Name::is(path) {
        show_model(path, session)?;
        return Ok(Ended::Done);
    }
    if path.join("meta.json").exists() {
        let meta = Meta::load(path)?;
        session.result(&tagged("tokens", &meta)?, || tokenize::describe(&meta))?;
    } else if path.join("report.json").exists() {
        let report = Report::load(path)?;
        session.result(&tagged("corpus", &report)?, || corpus::describe(&report))?;
    } else {
        show_model(path, session)?;
    }
    Ok(Ended::Done)
}

/// An object that says what it is.
fn tagged(kind: &str, value: &impl serde::Serialize) -> Result<Value> {
    let mut object = json!({ "kind": kind });
    if let (Value::Object(all), Value::Object(fields)) = (&mut object, serde_json::to_value(value)?) {
        all.extend(fields);
    }
    Ok(object)
}

fn show_model(path: &Path, session: &Session) -> Result<()> {
    let model = checkpoint::open(path, session.terminal())?;
    let mut warnings = model.warnings.clone();
    let tokenizer = model.tokenizer();
    // A model whose tokenizer cannot be read is complete, but writes no text.
    warnings.extend(tokenizer.as_ref().err().map(|error| format!("{error:#}")));
    let found = tokenizer.as_ref().ok().and_then(Option::as_ref);
    let all = warnings.iter().chain(found.iter().flat_map(|tokenizer| tokenizer.warnings()));
    all.for_each(|warning| session.say(&format!("note: {warning}")));
    let not_finite = model.not_finite()?;
    session
        .result(&to_json(&model, found, &warnings, &not_finite), || describe(&model, &tokenizer, &not_finite))
}

fn to_json(
    model: &Checkpoint,
    tokenizer: Option<&Tokenizer>,
    warnings: &[String],
    not_finite: &[String],
) -> Value {
    json!({
        "kind": "model",
        "path": model.path,
        "origin": model.origin.as_ref().map(ToString::to_string),
        "architecture": model.architecture(),
        "parameters": model.config.parameters(),
        "dtype": model.dtype(),
        "adapter": model.adapted().map(|(lora, _)| lora.to_string()),
        "config": config_json(&model.config),
        "tokenizer": tokenizer.map(|t| json!({
            "vocab_size": t.vocab_size(), "digest": t.digest(), "chat_template": t.chat_template().ok().flatten(), "warnings": t.warnings(),
        })),
        "lineage": model.manifest.as_ref().map(|manifest| &manifest.about),
        "warnings": warnings,
        "not_finite": not_finite,
    })
}

fn config_json(config: &Config) -> Value {
    let Config {
        vocab_size,
        seq_len,
        n_layer,
        n_head,
        n_kv_head,
        head_dim,
        d_model,
        d_ff,
        dropout,
        norm_eps,
        tied_head,
        norm,
        norm_place,
        positions,
        mlp,
        biases,
        qk_norm,
        n_label,
        band,
    } = config;
    json!({
        "vocab_size": vocab_size, "seq_len": seq_len, "n_layer": n_layer, "n_head": n_head,
        "n_kv_head": n_kv_head, "head_dim": head_dim, "d_model": d_model, "d_ff": d_ff,
        "dropout": shortest(*dropout), "norm_eps": shortest(*norm_eps), "tied_head": tied_head,
        "norm": norm, "norm_place": norm_place, "positions": positions, "mlp": mlp, "biases": biases,
        "qk_norm": qk_norm, "n_label": n_label, "band": band,
    })
}

/// The number of fewest digits that is `x`: 1e-5 and not 9.999999747378752e-6.
fn shortest(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| f64::from(x))
}

fn describe(model: &Checkpoint, tokenizer: &Result<Option<Tokenizer>>, not_finite: &[String]) -> String {
    let c = &model.config;
    let mut rows = vec![
        ["model", model.architecture()].map(String::from),
        ["path".into(), model.path.display().to_string()],
        [
            "parameters".into(),
            format!("{} ({})", count(c.parameters() as u64), scaled(c.parameters() as f64)),
        ],
        ["stored as".into(), model.dtype()],
        ["context".into(), format!("{} tokens", count(c.seq_len as u64))],
        ["heads".into(), heads(c)],
        ["positions".into(), positions(&c.positions)],
        ["blocks".into(), blocks(c)],
        ["tokenizer".into(), about_tokenizer(tokenizer)],
    ];
    if !not_finite.is_empty() {
        rows.push(["not finite".into(), format!("{}: it cannot be used", not_finite.join(", "))]);
    }
    if let Some((lora, base)) = model.adapted() {
        rows.push(["adapter".into(), format!("{lora}, beside {}", base.display())]);
    }
    if let Some(origin) = &model.origin {
        rows.insert(1, ["from".into(), origin.to_string()]);
    }
    if let Some(manifest) = &model.manifest {
        rows.extend(lineage(&manifest.about));
    }
    let width = rows.iter().map(|row| row[0].len()).max().unwrap_or(0);
    let facts: String = rows.iter().map(|[name, value]| format!("  {name:<width$}  {value}\n")).collect();
    format!("{facts}\n{}", tree::tree(c))
}

fn about_tokenizer(tokenizer: &Result<Option<Tokenizer>>) -> String {
    match tokenizer {
        Ok(Some(t)) => {
            let chat = match t.chat_template() {
                Ok(Some(_)) => ", with a chat template",
                Ok(None) => "",
                Err(_) => ", with several chat templates and none named default",
            };
            format!("{} tokens{chat}", count(t.vocab_size() as u64))
        }
        Ok(None) => "none".into(),
        Err(_) => "there, but not readable".into(),
    }
}

fn heads(c: &Config) -> String {
    let queries = format!("{} of {}", c.n_head, c.head_dim);
    if c.n_kv_head == c.n_head { queries } else { format!("{queries}, {} for keys and values", c.n_kv_head) }
}

/// How a token knows its place.
fn positions(positions: &Positions) -> String {
    let Positions::Rotary(rope) = positions else { return "learned".into() };
    let stretched = match &rope.scaling {
        RopeScaling::None => String::new(),
        RopeScaling::Linear { factor } => format!(", slowed down {factor} times"),
        RopeScaling::Llama3 { factor, original_seq_len, .. } => {
            format!(
                ", slowed down {factor} times as in Llama 3, from {} tokens",
                count(*original_seq_len as u64)
            )
        }
        RopeScaling::Yarn { factor, original_seq_len, .. } => {
            format!(
                ", slowed down {factor} times as in YaRN, from {} tokens",
                count(*original_seq_len as u64)
            )
        }
    };
    format!("rotary, base {}{stretched}", rope.theta)
}

/// The choices that the families differ in, as far as the tree does not show them.
fn blocks(c: &Config) -> String {
    let norm = match c.norm {
        NormKind::LayerNorm => "LayerNorm",
        NormKind::RmsNorm => "RMSNorm",
    };
    let place = match c.norm_place {
        NormPlace::Pre => "before",
        NormPlace::Post => "after",
    };
    let mlp = match c.mlp {
        Mlp::Gelu => "GELU",
        Mlp::SwiGlu => "SwiGLU",
    };
    let band = c.band.map(|w| format!("; every second one sees {} tokens", count(w as u64)));
    format!("{norm} {place} the layers, {mlp}{}", band.unwrap_or_default())
}

/// Where a checkpoint comes from.
fn lineage(about: &About) -> Vec<[String; 2]> {
    let short = |digest: &str| digest.chars().take(16).collect::<String>();
    let made = format!("{}, step {}, seed {}", about.stage, count(about.step), about.seed);
    let mut rows = vec![["made by".into(), made]];
    rows.push(["began from".into(), about.parent.clone().unwrap_or_else(|| "random weights".into())]);
    let digests = [("data", &about.data_digest), ("recipe", &about.recipe_digest)];
    rows.extend(
        digests.iter().filter_map(|(name, digest)| Some([name.to_string(), short(digest.as_deref()?)])),
    );
    for (name, value) in &about.evaluation {
        rows.push([name.clone(), value.map_or("not finite".into(), |value| format!("{value:.4}"))]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpt::model::Rope;

    #[test]
    fn the_choices_of_a_family_are_said() {
        let gpt3 = Config::gpt3(100, 16, 2, 2, 8);
        assert_eq!(blocks(&gpt3), "LayerNorm before the layers, GELU; every second one sees 256 tokens");
        assert_eq!(blocks(&Config::gpt1(100, 16, 2, 2, 8)), "LayerNorm after the layers, GELU");
        assert_eq!(blocks(&Config::modern(100, 16, 2, 2, 8)), "RMSNorm before the layers, SwiGLU");
        assert_eq!(positions(&gpt3.positions), "learned");
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_seq_len: 8192,
        };
        let rope = Positions::Rotary(Rope { theta: 5e5, scaling });
        assert_eq!(
            positions(&rope),
            "rotary, base 500000, slowed down 8 times as in Llama 3, from 8,192 tokens"
        );
    }
}
