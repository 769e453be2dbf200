//! `mynah show`: what is in a model, a run, a corpus, or a directory of tokens.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;
use gpt::checkpoint::{self, About, Checkpoint};
use gpt::corpus::Report;
use gpt::data::Meta;
use gpt::hub::Name;
use gpt::model::{Config, Spec, specs};
use gpt::tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::{corpus, tokenize};
use crate::Ended;
use crate::session::Session;
use crate::terminal::text::{count, scaled, table};

/// Show what is in a model, a run, a corpus or a directory of tokens
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A run, a checkpoint, a Hugging Face model directory, a GGUF file, hf:OWNER/NAME, or what `mynah corpus` or `mynah
    /// tokenize` made
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

pub(crate) fn run(args: &ShowArgs, session: &Session) -> Result<Ended> {
    let path = args.path.as_path();
    if Name::is(path) {
        show_model(path, session)?;
        return Ok(Ended::Done);
    }
    ensure!(path.exists(), "{} does not exist: name a directory with a model, a run or data", path.display());
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
    // A model whose tokenizer cannot be read is whole, only speechless.
    warnings.extend(tokenizer.as_ref().err().map(|error| format!("{error:#}")));
    let found = tokenizer.as_ref().ok().and_then(Option::as_ref);
    let all = warnings.iter().chain(found.iter().flat_map(|tokenizer| tokenizer.warnings()));
    all.for_each(|warning| session.say(&format!("note: {warning}")));
    session.result(&to_json(&model, found, &warnings), || describe(&model, &tokenizer))
}

fn to_json(model: &Checkpoint, tokenizer: Option<&Tokenizer>, warnings: &[String]) -> Value {
    json!({
        "kind": "model",
        "path": model.path,
        "origin": model.origin.as_ref().map(ToString::to_string),
        "architecture": model.architecture(),
        "parameters": model.config.parameters(),
        "dtype": model.dtype(),
        "config": config_json(&model.config),
        "tokenizer": tokenizer.map(|t| json!({
            "vocab_size": t.vocab_size(), "digest": t.digest(), "chat_template": t.chat_template(), "warnings": t.warnings(),
        })),
        "lineage": model.manifest.as_ref().map(|manifest| &manifest.about),
        "warnings": warnings,
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
        band,
    } = config;
    json!({
        "vocab_size": vocab_size, "seq_len": seq_len, "n_layer": n_layer, "n_head": n_head,
        "n_kv_head": n_kv_head, "head_dim": head_dim, "d_model": d_model, "d_ff": d_ff,
        "dropout": shortest(*dropout), "norm_eps": shortest(*norm_eps), "tied_head": tied_head,
        "norm": norm, "norm_place": norm_place, "positions": positions, "mlp": mlp, "biases": biases,
        "qk_norm": qk_norm, "band": band,
    })
}

/// The number of fewest digits that is `x`: 1e-5 and not 9.999999747378752e-6.
fn shortest(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| f64::from(x))
}

fn describe(model: &Checkpoint, tokenizer: &Result<Option<Tokenizer>>) -> String {
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
        ["tokenizer".into(), about_tokenizer(tokenizer)],
    ];
    if let Some(origin) = &model.origin {
        rows.insert(1, ["from".into(), origin.to_string()]);
    }
    if let Some(manifest) = &model.manifest {
        rows.extend(lineage(&manifest.about));
    }
    let width = rows.iter().map(|row| row[0].len()).max().unwrap_or(0);
    let facts: String = rows.iter().map(|[name, value]| format!("  {name:<width$}  {value}\n")).collect();
    format!("{facts}\n{}", tree(c))
}

fn about_tokenizer(tokenizer: &Result<Option<Tokenizer>>) -> String {
    match tokenizer {
        Ok(Some(t)) => {
            let chat = if t.chat_template().is_some() { ", with a chat template" } else { "" };
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

/// The architecture as a tree: modules in the order of the forward pass, their shapes and parameters.
fn tree(config: &Config) -> String {
    let specs = specs(config);
    let leaves = specs.leaves();
    // Blocks are all alike: the first stands for them.
    let shown = leaves
        .into_iter()
        .filter(|spec| !spec.name.starts_with("blocks.") || spec.name.starts_with("blocks.0."));
    let mut modules: Vec<(String, Vec<&Spec>)> = Vec::new();
    for spec in shown {
        let module =
            spec.name.trim_end_matches(".weight").trim_end_matches(".bias").replace("blocks.0.", "│  ");
        match modules.last_mut().filter(|(name, _)| *name == module) {
            Some((_, specs)) => specs.push(spec),
            None => modules.push((module, vec![spec])),
        }
    }
    let size = |specs: &[&Spec]| specs.iter().map(|spec| spec.len()).sum::<usize>();
    let shape = |specs: &[&Spec]| {
        let shapes =
            specs.iter().map(|spec| spec.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" × "));
        shapes.collect::<Vec<_>>().join(" + ")
    };
    let inside = |name: &str| name.starts_with('│');
    let mut rows: Vec<[String; 3]> = Vec::new();
    for (i, (name, specs)) in modules.iter().enumerate() {
        let row_of =
            |branch: &str, name: &str| [format!("{branch} {name}"), shape(specs), count(size(specs) as u64)];
        if !inside(name) {
            let last = i + 1 == modules.len() && !config.tied_head;
            rows.push(row_of(if last { "└─" } else { "├─" }, name));
            continue;
        }
        if !inside(&modules[i - 1].0) {
            let block: usize =
                modules.iter().filter(|(name, _)| inside(name)).map(|(_, specs)| size(specs)).sum();
            let all = block * config.n_layer;
            let each = format!("{} each", count(block as u64));
            rows.push([format!("├─ blocks × {}", config.n_layer), each, count(all as u64)]);
        }
        let last = modules.get(i + 1).is_none_or(|(next, _)| !inside(next));
        rows.push(row_of(if last { "│  └─" } else { "│  ├─" }, name.trim_start_matches("│  ")));
    }
    if config.tied_head {
        rows.push(["└─ lm_head".into(), "= wte".into(), "0".into()]);
    }
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_shows_every_array_and_its_size() {
        let config = Config::gpt2(100, 16, 3, 2, 8);
        let drawn = tree(&config);
        let expected = "  \
  ├─ wte              100 × 8    800
  ├─ wpe               16 × 8    128
  ├─ blocks × 3      872 each  2,616
  │  ├─ norm1           8 + 8     16
  │  ├─ qkv       24 × 8 + 24    216
  │  ├─ attn_out    8 × 8 + 8     72
  │  ├─ norm2           8 + 8     16
  │  ├─ mlp_up    32 × 8 + 32    288
  │  └─ mlp_down   8 × 32 + 8    264
  ├─ final_norm         8 + 8     16
  └─ lm_head            = wte      0
";
        assert_eq!(drawn, expected);
        assert_eq!(config.parameters(), 800 + 128 + 2616 + 16);
    }
}
