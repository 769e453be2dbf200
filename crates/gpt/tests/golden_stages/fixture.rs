//! What the stages have in common here: a tokenizer, models far from their usual first values, data.

use gpt::checkpoint::{self, About, Contents, Dtype};
use gpt::corpus::{self, Split};
use gpt::data::messages::{Message, Role};
use gpt::data::rows::Record;
use gpt::data::{Fim, Overflow, Prompt, Prompter, TokenShards, TokenizeOptions, tokenize};
use gpt::model::{Config, specs};
use gpt::progress::Silent;
use gpt::stage::Init;
use gpt::tokenizer::Tokenizer;
use gpt::tokenizer::chat::with_ours;
use kernels::rng;
use serde_json::{Value, json};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The seeds of the first values.
pub(crate) const WEIGHTS: u64 = 11;
pub(crate) const REWARD_WEIGHTS: u64 = 12;
const CONTEXT: usize = 32;
const FIM_TOKENS: [&str; 3] = ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"];

/// A directory with models and data.
pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) tokenizer: Tokenizer,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let texts = (0..20).map(|i| Ok(format!("user assistant a b c {i}\n")));
        let special = FIM_TOKENS.map(str::to_owned);
        let tokenizer = with_ours(&Tokenizer::train(texts, 272, &special, &Silent).unwrap()).unwrap();
        Fixture { dir: tempfile::tempdir().unwrap(), tokenizer }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The shape of the models, as the script knows it.
    pub(crate) fn shape(&self) -> Value {
        shape_of(&self.config(), self)
    }

    pub(crate) fn config(&self) -> Config {
        Config::gpt2(self.tokenizer.vocab_size(), CONTEXT, 2, 4, 16)
    }

    /// Of a model that is larger.
    pub(crate) fn wide_config(&self) -> Config {
        Config::gpt2(self.tokenizer.vocab_size(), CONTEXT, 3, 2, 20)
    }

    pub(crate) fn scoring_config(&self) -> Config {
        Config { n_label: Some(1), ..self.config() }
    }

    /// The token that ends answers.
    fn end(&self) -> u32 {
        self.tokenizer.special("<|im_end|>").unwrap()
    }

    /// The language model that stages begin from.
    pub(crate) fn base(&self) -> Init {
        self.model("base", &self.config(), WEIGHTS)
    }

    /// A reward model.
    pub(crate) fn reward(&self) -> Init {
        self.model("reward", &self.scoring_config(), REWARD_WEIGHTS)
    }

    pub(crate) fn model(&self, name: &str, config: &Config, seed: u64) -> Init {
        let path = self.at(name);
        self.save(&path, config, seed);
        let model = checkpoint::open(&path, &Silent).unwrap();
        let tokenizer = model.tokenizer().unwrap();
        Init::new(name.into(), model, tokenizer, &[]).unwrap()
    }

    /// Writes a model whose values are functions of the seed, their leaf and their place.
    fn save(&self, path: &Path, config: &Config, seed: u64) {
        let mut leaf = 0..;
        let mut weights = specs(config).map(|spec| {
            let stream = leaf.next().unwrap();
            let mean = if spec.shape.len() == 1 && spec.name.ends_with("weight") { 1.0 } else { 0.0 };
            let value = |i| (mean + 0.25 * rng::normal(seed, stream, i)) as f32;
            (0..spec.len() as u64).map(value).collect::<Vec<f32>>()
        });
        // So that some answers come to an end.
        let bias = weights.final_norm.as_ref().unwrap().bias.clone().unwrap();
        let row = self.end() as usize * config.d_model;
        for (value, bias) in weights.wte[row..].iter_mut().zip(bias) {
            *value = 4.0 * bias;
        }
        let tokenizer = &self.tokenizer;
        let contents = Contents {
            config,
            weights: &weights,
            dtype: Dtype::F32,
            moments: None,
            beside: &[],
            read: &mut checkpoint::from_host,
            eot_token: tokenizer.end_of_text(),
            eos_token: tokenizer.eos(),
            end_tokens: &[],
            files: &tokenizer.files(),
            about: About { stage: "pretrain".into(), ..About::default() },
        };
        checkpoint::save(path, contents).unwrap();
    }

    /// Two corpora as token shards, one of them cut for fill-in-the-middle, with their weights.
    pub(crate) fn mixture(&self) -> Vec<(PathBuf, f64)> {
        let plain = (0..40).map(|i| format!("{i} and {} make {}\n", i % 7, i + i % 7)).collect();
        let code = (0..40).map(|i| format!("def f{i}(a, b):\n    return a + {i} * b\n")).collect();
        let fim = Fim { rate: 0.7, spm_rate: 0.5, seed: 3 };
        vec![(self.shards("plain", plain, None), 3.0), (self.shards("code", code, Some(fim)), 2.0)]
    }

    fn shards(&self, name: &str, documents: Vec<String>, fim: Option<Fim>) -> PathBuf {
        let (texts, corpus) = (self.at(&format!("{name}-texts")), self.at(&format!("{name}-corpus")));
        std::fs::create_dir(&texts).unwrap();
        for (number, text) in documents.iter().enumerate() {
            std::fs::write(texts.join(format!("{number:02}.txt")), text).unwrap();
        }
        let options = corpus::Options {
            paths: vec![texts],
            out: corpus.clone(),
            val_fraction: 0.3,
            ..corpus::Options::default()
        };
        corpus::build(&options, &Silent).unwrap();
        self.tokenizer.save(self.at("tokenizer")).unwrap();
        let options = TokenizeOptions {
            corpus,
            tokenizer: self.at("tokenizer/tokenizer.json"),
            out: self.at(name),
            context: None,
            overflow: Overflow::Pack,
            fim,
        };
        tokenize(&options, &Silent).unwrap();
        options.out
    }

    pub(crate) fn fim_tokens(&self) -> [u32; 3] {
        FIM_TOKENS.map(|name| self.tokenizer.special(name).unwrap())
    }
}

/// The shape of a model, as the script knows it.
pub(crate) fn shape_of(config: &Config, fixture: &Fixture) -> Value {
    let Config { vocab_size, seq_len, n_layer, n_head, d_model, .. } = config;
    json!({
        "vocab_size": vocab_size, "context": seq_len, "layers": n_layer, "heads": n_head, "width": d_model,
        "end": fixture.end(),
    })
}

/// Token shards as the script reads them.
pub(crate) fn mixture_inputs(parts: &[(PathBuf, f64)]) -> Value {
    let part = |(path, weight): &(PathBuf, f64)| {
        let shards = TokenShards::open(path).unwrap();
        let [train, val] = [Split::Train, Split::Val].map(|split| {
            let mut tokens = Vec::new();
            shards.read(split, 0, shards.len(split) as usize, &mut tokens).unwrap();
            tokens
        });
        json!({ "weight": weight, "train": train, "val": val })
    };
    parts.iter().map(part).collect()
}

/// A recipe as the script reads it.
pub(crate) fn recipe(changes: &[&str]) -> Value {
    let value = |change: &&str| {
        let (key, value) = change.split_once('=').unwrap();
        (key.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into()))
    };
    Value::Object(changes.iter().map(value).collect())
}

pub(crate) fn user(text: &str) -> Vec<Message> {
    vec![Message::new(Role::User, text)]
}

/// Prompts of several lengths.
pub(crate) fn prompts(numbers: Range<usize>) -> Vec<Prompt> {
    let texts = ["a", "b c", "ab", "c b a", "bb", "ca"];
    let prompt = |i: usize| Prompt { messages: user(texts[i % texts.len()]), extra: Record::new() };
    numbers.map(prompt).collect()
}

/// The same as the script reads them.
pub(crate) fn tokens(prompter: &Prompter<&Tokenizer>, prompts: &[Prompt]) -> Value {
    prompts.iter().map(|prompt| json!(prompter.prompt(&prompt.messages).unwrap())).collect()
}
