//! `mynah tokenizer`: learn a vocabulary, try it, measure it.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use gpt::corpus::{Documents, Report, Split};
use gpt::output::{Input, Out, Recipe, digest};
use gpt::tokenizer::{Stats, Tokenizer};
use serde_json::json;

use crate::options::{Usage, whole};
use crate::session::{Ended, Session};
use crate::terminal::text::{bytes, count, plural, table};
use crate::terminal::{print, print_json};
use crate::verbs::out::{Force, RULE, recipe, say_finished};

const EXAMPLES: &str = "\
Examples:
  mynah tokenizer train --corpus corpus --vocab-size 8192 --out tokenizer.json
  mynah tokenizer encode --tokenizer tokenizer.json 'fn main() {}'
  mynah tokenizer encode --tokenizer tokenizer.json - < main.rs | mynah tokenizer decode --tokenizer tokenizer.json -
  mynah tokenizer show --tokenizer tokenizer.json --corpus corpus
  mynah tokenizer extend --tokenizer path/to/model --special '<|user|>' --special '<|assistant|>' --out more/tokenizer.json";

/// What goes beside a `tokenizer.json`.
const BESIDE: [&str; 3] = ["tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json"];

/// Learn a vocabulary (byte-level BPE), encode, decode, measure.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES,subcommand_value_name = "ACTION", subcommand_help_heading = "Actions", disable_help_subcommand = true)]
pub(crate) struct TokenizerArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Train(TrainArgs),
    Extend(ExtendArgs),
    Encode(EncodeArgs),
    Decode(DecodeArgs),
    Show(ShowArgs),
}

/// Learn the merges from a corpus and write a Hugging Face tokenizer.json.
#[derive(Debug, Args)]
#[command(after_help = RULE)]
struct TrainArgs {
    /// Directory made by `mynah corpus`; its training documents are read
    #[arg(long, value_name = "DIR")]
    corpus: PathBuf,
    /// Tokens of the vocabulary, the 256 bytes and the special tokens included
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1..))]
    vocab_size: usize,
    /// The file, or a directory for it; tokenizer_config.json goes beside a tokenizer.json
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    force: Force,
    /// A special token beside <|endoftext|>; may be repeated
    #[arg(long, value_name = "TOKEN")]
    special: Vec<String>,
}

/// Add special tokens to a tokenizer, its own or a foreign one; tokens that are there keep their ids.
#[derive(Debug, Args)]
#[command(after_help = RULE)]
struct ExtendArgs {
    #[command(flatten)]
    file: TokenizerFile,
    /// A special token; may be repeated
    #[arg(long, value_name = "TOKEN", required = true)]
    special: Vec<String>,
    /// The new file, or a directory for it; what came with the old one goes beside a tokenizer.json
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    force: Force,
}

/// Text to token ids. Special tokens are never made from text.
#[derive(Debug, Args)]
struct EncodeArgs {
    #[command(flatten)]
    file: TokenizerFile,
    /// The text, or - for standard input (any bytes)
    #[arg(allow_hyphen_values = true)]
    text: String,
}

/// Token ids to text, byte for byte what was encoded.
#[derive(Debug, Args)]
struct DecodeArgs {
    #[command(flatten)]
    file: TokenizerFile,
    /// Ids separated by spaces, or - for standard input
    #[arg(required = true, allow_hyphen_values = true)]
    ids: Vec<String>,
}

/// How well a vocabulary fits a corpus: bytes per token.
#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    file: TokenizerFile,
    /// Directory made by `mynah corpus`; its validation documents are encoded, or the training ones if there
    /// are none
    #[arg(long, value_name = "DIR")]
    corpus: PathBuf,
}

#[derive(Debug, Args)]
struct TokenizerFile {
    /// A tokenizer.json, GPT-2's encoder.json or vocab.bpe, or a directory that holds them
    #[arg(long, value_name = "FILE")]
    tokenizer: PathBuf,
}

pub(crate) fn run(args: &TokenizerArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    match &args.action {
        Action::Train(args) => train(args, session)?,
        Action::Extend(args) => extend(args, session)?,
        Action::Encode(args) => encode(args, session)?,
        Action::Decode(args) => decode(args, session)?,
        Action::Show(args) => show(args, session)?,
    }
    Ok(Ended::Done)
}

fn train(args: &TrainArgs, session: &Session) -> Result<()> {
    let place = Place::new(&args.out, args.force, &args.corpus, session)?;
    let corpus = Input::new(&args.corpus, Report::load(&args.corpus)?.digest);
    let settings = json!({ "vocab_size": args.vocab_size, "special": args.special });
    let recipe = recipe("tokenizer train", &settings, vec![("corpus", corpus)])?;
    place.save(&recipe, session, || {
        let documents = texts(&args.corpus, Split::Train)?;
        Tokenizer::train(documents, args.vocab_size, &args.special, session.watcher())
    })
}

fn extend(args: &ExtendArgs, session: &Session) -> Result<()> {
    let path = &args.file.tokenizer;
    let place = Place::new(&args.out, args.force, path, session)?;
    let old = Tokenizer::from_file(path)?;
    let settings = json!({ "special": args.special });
    let input = Input::new(path, digest(&old.files()));
    let recipe = recipe("tokenizer extend", &settings, vec![("tokenizer", input)])?;
    place.save(&recipe, session, || old.extended(&args.special))
}

/// Where a tokenizer goes.
struct Place {
    asked: PathBuf,
    file: PathBuf,
    out: Out,
}

impl Place {
    fn new(asked: &Path, force: Force, read: &Path, session: &Session) -> Result<Self> {
        let file = Tokenizer::file_for(asked);
        let out = session.out(&file, force.force, &[read, &Tokenizer::file_for(read)])?;
        Ok(Place { asked: asked.to_owned(), file, out })
    }

    /// Writes the tokenizer that `make` makes, unless the same command did so before.
    fn save(
        &self,
        recipe: &Recipe,
        session: &Session,
        make: impl FnOnce() -> Result<Tokenizer>,
    ) -> Result<()> {
        let beside: &[&str] = if self.file.ends_with("tokenizer.json") { &BESIDE } else { &[] };
        let tokenizer = if self.out.is_finished(recipe, beside)? {
            say_finished(&self.out, session);
            Tokenizer::from_file(&self.file)?
        } else {
            let tokenizer = make()?;
            let files = tokenizer.files_as(&self.file);
            let files: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), *content)).collect();
            self.out.write(recipe, files[0].1, &files[1..])?;
            tokenizer
        };
        let specials = tokenizer.specials().iter().map(|(name, id)| (name.clone(), json!(id)));
        let summary = json!({
            "vocab_size": tokenizer.vocab_size(),
            "specials": specials.collect::<serde_json::Map<_, _>>(),
            "digest": tokenizer.digest(),
            "out": self.asked,
        });
        session.summary(&summary, || {
            format!("{} tokens → {}", count(tokenizer.vocab_size() as u64), self.asked.display())
        })
    }
}

fn encode(args: &EncodeArgs, session: &Session) -> Result<()> {
    let tokenizer = Tokenizer::from_file(&args.file.tokenizer)?;
    let ids = match args.text.as_str() {
        "-" => tokenizer.encode_bytes(&read_stdin()?),
        text => tokenizer.encode(text),
    };
    session.result(&json!({ "ids": ids }), || {
        let mut line = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        line.push('\n');
        line
    })
}

fn decode(args: &DecodeArgs, session: &Session) -> Result<()> {
    let tokenizer = Tokenizer::from_file(&args.file.tokenizer)?;
    let typed = match args.ids.as_slice() {
        [dash] if dash == "-" => String::from_utf8(read_stdin()?).context("standard input is not text")?,
        ids => ids.join(" "),
    };
    let parse = |word: &str| {
        word.parse::<u32>()
            .map_err(|_| Usage(format!("{word:?} is not a token id: ids are numbers separated by spaces")))
    };
    let ids = typed.split_ascii_whitespace().map(parse).collect::<Result<Vec<u32>, Usage>>()?;
    if session.json() {
        return print_json(&json!({ "text": tokenizer.decode(&ids)? }));
    }
    let mut text = tokenizer.decode_bytes(&ids)?;
    // Into a file or a pipe go the bytes and nothing else.
    if std::io::stdout().is_terminal() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    print(&text)
}

fn show(args: &ShowArgs, session: &Session) -> Result<()> {
    let tokenizer = Tokenizer::from_file(&args.file.tokenizer)?;
    let mut documents = texts(&args.corpus, Split::Val)?.peekable();
    let stats = match documents.peek() {
        Some(_) => tokenizer.stats(documents, session.watcher())?,
        None => tokenizer.stats(texts(&args.corpus, Split::Train)?, session.watcher())?,
    };
    session.result(&stats, || describe(&stats))
}

fn describe(stats: &Stats) -> String {
    let specials: Vec<String> = stats.specials.iter().map(|(name, id)| format!("{name} = {id}")).collect();
    let longest: Vec<String> = stats.longest.iter().map(|token| format!("{token:?}")).collect();
    let mut text = table(&[
        ["bytes per token".into(), format!("{:.3}", stats.bytes_per_token)],
        ["documents".into(), count(stats.documents)],
        ["text".into(), bytes(stats.bytes)],
        ["tokens".into(), count(stats.tokens)],
        ["vocabulary".into(), plural(stats.vocab_size as u64, "token")],
        ["of which used".into(), count(stats.tokens_used as u64)],
    ]);
    text += &format!("  special  {}\n  longest  {}\n", specials.join(", "), longest.join(" "));
    text
}

/// The texts of a corpus, one after another.
fn texts(dir: &Path, split: Split) -> Result<impl Iterator<Item = Result<String>> + Send> {
    Ok(Documents::open(dir, split)?.map(|document| document.map(|document| document.text)))
}

fn read_stdin() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
    Ok(bytes)
}
