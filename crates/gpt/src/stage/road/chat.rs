//! The road to a chat: lessons → corpus → tokenizer → tokens → pretraining → supervised fine-tuning → candidates → rankings →
//! reward model → PPO and DPO → comparison.

use super::compare::Comparison;
use super::scale::Scale;
use super::{Road, tokens_per_sec, train_tokenizer};
use crate::checkpoint::{self, Checkpoint};
use crate::corpus::{self, Documents, Split};
use crate::data::messages::{candidates as candidates_row, demonstration, prompt, ranking};
use crate::data::rows::{MAX_BAD, Record, read_rows};
use crate::data::{
    self, Conversations, Overflow, Prompt, Prompter, ReadOptions, TokenShards, TokenizeOptions, TooLong,
};
use crate::eval::Rate;
use crate::lessons::{self, Judge, Simulated};
use crate::model::Sampling;
use crate::progress::Progress;
use crate::report::{self, ChatResults, Tried};
use crate::stage::{
    CandidatesOptions, DpoOptions, Gold, Init, Machine, PpoOptions, PretrainOptions, Rankings, RewardOptions,
    Settings, SftOptions, Shape, Source, StageSettings, Start, candidates, dpo, ppo, pretrain, reward, sft,
};
use crate::tokenizer::chat::ChatTemplate;
use crate::train::run::write_atomically;
use anyhow::{Context, Result};
use kernels::Backend;
use std::path::{Path, PathBuf};

/// Where the road goes.
#[derive(Clone, Debug)]
pub struct ChatOptions {
    /// Where everything goes.
    pub out: PathBuf,
    /// How far it goes: one of [`SCALES`](super::SCALES).
    pub scale: String,
    /// Decides everything random.
    pub seed: u64,
    /// Threads for what is not training.
    pub threads: usize,
}

/// How the road ended.
#[derive(Clone, Debug)]
pub struct ChatOutcome {
    /// The figures; none when somebody stopped it on the way.
    pub results: Option<ChatResults>,
    /// The run directory of the model to chat with.
    pub run: PathBuf,
    /// The page about the road.
    pub report: PathBuf,
}

/// Stages of the road.
const STAGES: usize = 12;
/// The share of demonstrations that are validated with.
const HELD_OUT: f64 = 0.05;
/// Prompts whose answers are shown side by side.
const SHOWN: usize = 12;

/// Walks the road, from where it was left. `backend` makes a backend for each stage that computes.
///
/// # Errors
/// The scale is not known; a stage fails.
pub fn chat_road<B: Backend>(
    backend: &dyn Fn() -> B,
    machine: &Machine,
    options: &ChatOptions,
    progress: &dyn Progress,
) -> Result<ChatOutcome> {
    let walk = Walk { backend, machine, options, scale: Scale::named(&options.scale)?, progress };
    let mut road = Road::new(STAGES, progress);
    let mut results = ChatResults { scale: options.scale.clone(), ..ChatResults::default() };
    let page = |results: &ChatResults| report::write_road(&options.out, results);
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot create {}", options.out.display()))?;

    road.stage("lessons", || walk.write_lessons())?;
    road.stage("corpus", || walk.gather())?;
    road.stage("tokenizer", || walk.train_tokenizer())?;
    road.stage("tokens", || walk.tokenize())?;
    let mut stopped = false;
    for stage in [Walk::pretrain, Walk::sft, Walk::candidates, Walk::rankings] {
        if !stopped {
            stopped = stage(&walk, &mut road, &mut results)?;
        }
    }
    for stage in [Walk::reward, Walk::ppo, Walk::dpo, Walk::compare] {
        if !stopped {
            stopped = stage(&walk, &mut road, &mut results)?;
        }
    }
    results.stages = road.stages;
    let report = page(&results)?;
    let run = walk.at("ppo");
    Ok(ChatOutcome { results: (!stopped).then_some(results), run, report })
}

/// What all stages know.
struct Walk<'a, B> {
    backend: &'a dyn Fn() -> B,
    machine: &'a Machine,
    options: &'a ChatOptions,
    scale: Scale,
    progress: &'a dyn Progress,
}

impl<B: Backend> Walk<'_, B> {
    fn at(&self, name: &str) -> PathBuf {
        self.options.out.join(name)
    }

    fn lesson(&self, name: &str) -> PathBuf {
        self.at("lessons").join(name)
    }

    fn write_lessons(&self) -> Result<String> {
        let (scale, seed, dir) = (&self.scale, self.options.seed, self.at("lessons"));
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let missing = |name: &str| Some(self.lesson(name)).filter(|path| !path.exists());
        if let Some(path) = missing("text.jsonl") {
            lessons::write_text(&path, seed, scale.text_bytes)?;
        }
        if let Some(path) = missing("demonstrations.jsonl") {
            lessons::write_demonstrations(&path, seed, scale.demonstrations)?;
        }
        if let Some(path) = missing("prompts.jsonl") {
            lessons::write_prompts(&path, seed, lessons::Split::Train, scale.prompts)?;
        }
        if let Some(path) = missing("held-out.jsonl") {
            lessons::write_prompts(&path, seed, lessons::Split::HeldOut, scale.held_out)?;
        }
        Ok(format!(
            "{:.1} MB of text, {} demonstrations, {} prompts",
            scale.text_bytes as f64 / 1e6,
            scale.demonstrations,
            scale.prompts
        ))
    }

    fn gather(&self) -> Result<String> {
        let options = corpus::Options {
            paths: vec![self.lesson("text.jsonl")],
            out: self.at("corpus"),
            text_fields: vec!["text".into()],
            // The lessons repeat themselves as children's books do.
            dedup: false,
            val_fraction: 0.005,
            seed: self.options.seed,
            threads: self.options.threads,
            ..corpus::Options::default()
        };
        let report = corpus::build(&options, self.progress)?;
        Ok(format!("{:.1} MB in {} documents", report.kept.bytes as f64 / 1e6, report.kept.documents))
    }

    fn train_tokenizer(&self) -> Result<String> {
        let documents = Documents::open(&self.at("corpus"), Split::Train)?;
        let texts = documents.map(|document| Ok(document?.text));
        let tokenizer =
            train_tokenizer(&self.at("tokenizer"), texts, self.scale.vocab_size, &[], self.progress)?;
        Ok(format!("{} tokens", tokenizer.vocab_size()))
    }

    fn tokenize(&self) -> Result<String> {
        let options = TokenizeOptions {
            corpus: self.at("corpus"),
            tokenizer: self.at("tokenizer").join("tokenizer.json"),
            out: self.at("tokens"),
            context: None,
            overflow: Overflow::Pack,
            fim: None,
        };
        let meta = data::tokenize(&options, self.progress)?;
        let per_token = meta.train.bytes as f64 / meta.train.tokens as f64;
        Ok(format!("{} for training, {per_token:.2} bytes each", meta.train.tokens))
    }

    fn pretrain(&self, road: &mut Road<'_>, _: &mut ChatResults) -> Result<bool> {
        let (shape, settings) = self.pretraining()?;
        let mut stopped = false;
        road.stage("pretrain", || {
            let tokens = settings.batch_tokens;
            let options = PretrainOptions {
                source: Source::Shards(vec![(self.at("tokens"), 1.0)]),
                out: self.at("pretrain"),
                settings,
                seed: self.options.seed,
                start: Start::Random(shape),
            };
            let outcome = pretrain((self.backend)(), self.machine, &options, self.progress)?;
            stopped = outcome.stopped;
            Ok(format!("{} steps of {tokens} tokens", outcome.step))
        })?;
        Ok(stopped)
    }

    /// The recipe of pretraining: decided once, then read again.
    fn pretraining(&self) -> Result<(Shape, Settings)> {
        let path = self.at("pretrain.toml");
        if path.exists() {
            return Settings::resolve(path.to_str().context("a path that is UTF-8 is needed")?, &[]);
        }
        let vocab_size = TokenShards::open(&self.at("tokens"))?.vocab_size();
        let (shape, settings) = self.scale.pretraining(&mut (self.backend)(), vocab_size, tokens_per_sec)?;
        let mut table = toml::Table::try_from(&shape).context("the shape is a TOML table")?;
        table.extend(toml::Table::try_from(&settings).context("settings are a TOML table")?);
        let text = toml::to_string_pretty(&table).context("a table is TOML")?;
        write_atomically(&path, text.as_bytes())?;
        Ok((shape, settings))
    }

    /// The model of a stage, to begin another from.
    fn init(&self, stage: &str) -> Result<Init> {
        let model = self.model(stage)?;
        let (name, tokenizer) = (self.at(stage).display().to_string(), model.tokenizer()?);
        Init::new(name, model, tokenizer, &[])
    }

    fn model(&self, stage: &str) -> Result<Checkpoint> {
        checkpoint::open(&self.at(stage), self.progress)
    }

    fn sft(&self, road: &mut Road<'_>, _: &mut ChatResults) -> Result<bool> {
        let mut stopped = false;
        road.stage("sft", || {
            let base = self.at("pretrain");
            let init = Init::with_chat(base.display().to_string(), self.model("pretrain")?)?;
            let tokenizer = init.tokenizer().context("it was given a chat template")?;
            let template = ChatTemplate::of(tokenizer)?.context("it was given a chat template")?;
            let read = ReadOptions {
                template: &template,
                tokenizer,
                context: init.model().config.seq_len,
                too_long: TooLong::Drop,
                max_bad: MAX_BAD,
                seed: self.options.seed,
            };
            let path = self.lesson("demonstrations.jsonl");
            let (all, report) = Conversations::read(&path, &read, self.progress)?;
            if report.used < report.lines {
                self.progress.line(&report.to_string());
            }
            let (train, val) = all.split(HELD_OUT)?;
            let options = SftOptions {
                init: &init,
                train: &train,
                val: &val,
                reward: None,
                ptx: Vec::new(),
                out: self.at("sft"),
                settings: StageSettings::resolve(&Scale::changes(self.scale.sft))?,
                seed: self.options.seed,
            };
            let outcome = sft((self.backend)(), self.machine, &options, self.progress)?;
            stopped = outcome.stopped;
            Ok(format!("{} steps, validation loss {:.3}", outcome.step, outcome.after))
        })?;
        Ok(stopped)
    }

    fn candidates(&self, road: &mut Road<'_>, _: &mut ChatResults) -> Result<bool> {
        road.stage("candidates", || {
            let (path, k) = (self.at("candidates.jsonl"), self.scale.k);
            if !path.exists() {
                let (model, mut b) = (self.model("sft")?, (self.backend)());
                let weights = model.weights(checkpoint::to_backend(&mut b))?;
                let tokenizer = model.tokenizer()?.context("the model has a tokenizer")?;
                let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: self.options.seed };
                let asked = CandidatesOptions { k, max_tokens: self.scale.max_tokens, sampling };
                let (prompter, prompts) = (Prompter::new(&tokenizer)?, self.read("prompts.jsonl", prompt)?);
                let of = (&model.config, &weights);
                let found = candidates(&mut b, of, &prompter, &prompts, &asked, self.progress)?;
                write_lines(&path, &found)?;
            }
            Ok(format!("{k} answers to each of {} prompts", self.scale.prompts))
        })?;
        Ok(false)
    }

    fn read<T: Send>(
        &self,
        name: &str,
        row: impl Fn(Record) -> Result<T, crate::data::rows::Fault> + Sync,
    ) -> Result<Vec<T>> {
        Ok(read_rows(&self.lesson(name), MAX_BAD, self.progress, row)?.rows)
    }

    fn rankings(&self, road: &mut Road<'_>, results: &mut ChatResults) -> Result<bool> {
        road.stage("rankings", || {
            let scored = |record| {
                let found = candidates_row(record)?;
                let scores = Judge::Lessons.scores(&found)?;
                Ok((found, scores))
            };
            let path = self.at("candidates.jsonl");
            let scored = read_rows(&path, MAX_BAD, self.progress, scored)?.rows;
            let (rankings, Simulated { ceiling, .. }) =
                lessons::simulate(scored, lessons::DEFAULT_NOISE, self.options.seed);
            write_lines(&self.at("rankings.jsonl"), &rankings)?;
            results.noise = lessons::DEFAULT_NOISE;
            results.ceiling = ceiling.accuracy();
            let right = ceiling.accuracy().map_or(String::new(), |accuracy| {
                format!("; a perfect reward model is right in {:.1} % of them", 100.0 * accuracy)
            });
            Ok(format!("{} rankings, {} pairs{right}", rankings.len(), ceiling.pairs))
        })?;
        Ok(false)
    }

    /// The rankings as a model of this tokenizer reads them.
    fn ranked(&self, init: &Init, prompter: &Prompter<'_>) -> Result<Rankings> {
        let rows = read_rows(&self.at("rankings.jsonl"), MAX_BAD, self.progress, ranking)?.rows;
        Rankings::new(&rows, &[], 0.1, prompter, init.model().config.seq_len, self.progress)
    }

    fn reward(&self, road: &mut Road<'_>, results: &mut ChatResults) -> Result<bool> {
        let mut stopped = false;
        road.stage("reward", || {
            let init = self.init("sft")?;
            let prompter = Prompter::new(init.tokenizer().context("the model has a tokenizer")?)?;
            let rankings = self.ranked(&init, &prompter)?;
            let demonstrations = self.demonstrations(&init, &prompter)?;
            let options = RewardOptions {
                init: &init,
                rankings: &rankings,
                demonstrations: &demonstrations,
                out: self.at("reward"),
                settings: StageSettings::resolve(&Scale::changes(self.scale.reward))?,
                seed: self.options.seed,
            };
            let outcome = reward((self.backend)(), self.machine, &options, self.progress)?;
            stopped = outcome.stopped;
            let Rate { value, n, .. } = outcome.judged.pair_accuracy;
            results.pair_accuracy = Some(outcome.judged.pair_accuracy);
            Ok(format!("right in {:.1} % of {n} held-out pairs", 100.0 * value))
        })?;
        Ok(stopped)
    }

    /// Demonstrations whose scores have mean 0.
    fn demonstrations(&self, init: &Init, prompter: &Prompter<'_>) -> Result<Vec<(Vec<u32>, Vec<u32>)>> {
        const ENOUGH: usize = 1000;
        let context = init.model().config.seq_len;
        let mut found = Vec::new();
        for messages in self.read("demonstrations.jsonl", demonstration)?.into_iter().take(ENOUGH) {
            let (answer, asked) = messages.split_last().context("a demonstration has an answer")?;
            let (prompt, answer) = (prompter.prompt(asked)?, prompter.answer(&answer.content));
            if prompt.len() + answer.len() <= context {
                found.push((prompt, answer));
            }
        }
        Ok(found)
    }

    fn ppo(&self, road: &mut Road<'_>, results: &mut ChatResults) -> Result<bool> {
        let mut stopped = false;
        road.stage("ppo", || {
            let (policy, reward) = (self.init("sft")?, self.init("reward")?);
            let prompts = self.read("prompts.jsonl", prompt)?;
            let held_out = self.read("held-out.jsonl", prompt)?;
            let gold = |prompt: &Prompt, answer: &str| {
                Judge::Lessons.score(&prompt.extra, answer).expect("lessons carry their keys")
            };
            let mut changes = Scale::changes(self.scale.ppo);
            changes.push(format!("max_tokens={}", self.scale.max_tokens));
            let options = PpoOptions {
                policy: &policy,
                reward: &reward,
                prompts: &prompts,
                held_out: &held_out,
                ptx: Vec::new(),
                gold: Some(&gold as &Gold<'_>),
                out: self.at("ppo"),
                settings: StageSettings::resolve(&changes)?,
                seed: self.options.seed,
            };
            let outcome = ppo((self.backend)(), self.machine, &options, self.progress)?;
            stopped = outcome.stopped;
            let figure = |name: &str| outcome.after.get(name).and_then(|value| value.as_f64()).unwrap_or(0.0);
            results.frontier = report::frontier(&self.at("ppo"))?;
            let (reward, kl) = (figure("eval/reward"), figure("eval/kl"));
            Ok(format!("{} iterations, held-out reward {reward:.3} at a KL of {kl:.2}", outcome.step))
        })?;
        Ok(stopped)
    }

    fn dpo(&self, road: &mut Road<'_>, _: &mut ChatResults) -> Result<bool> {
        let mut stopped = false;
        road.stage("dpo", || {
            let init = self.init("sft")?;
            let prompter = Prompter::new(init.tokenizer().context("the model has a tokenizer")?)?;
            let rankings = self.ranked(&init, &prompter)?;
            let options = DpoOptions {
                init: &init,
                rankings: &rankings,
                out: self.at("dpo"),
                settings: StageSettings::resolve(&Scale::changes(self.scale.dpo))?,
                seed: self.options.seed,
            };
            let outcome = dpo((self.backend)(), self.machine, &options, self.progress)?;
            stopped = outcome.stopped;
            Ok(format!(
                "{} steps, {:.1} % of held-out pairs right",
                outcome.step,
                100.0 * outcome.val_accuracy
            ))
        })?;
        Ok(stopped)
    }

    /// The prompts that leave room for an answer, twice over: what one tokenizer format makes of a text, another may make longer.
    fn that_fit(&self, prompts: Vec<Prompt>, model: &Checkpoint) -> Result<Vec<Prompt>> {
        let tokenizer = model.tokenizer()?.context("the model has a tokenizer")?;
        let prompter = Prompter::new(&tokenizer)?;
        let room = model.config.seq_len.saturating_sub(2 * self.scale.max_tokens);
        let all = prompts.len();
        let mut kept = Vec::with_capacity(all);
        for prompt in prompts {
            if prompter.prompt(&prompt.messages)?.len() <= room {
                kept.push(prompt);
            }
        }
        if kept.len() < all {
            let (dropped, progress) = (all - kept.len(), self.progress);
            progress.line(&format!(
                "{dropped} of {all} held-out prompts have more than {room} tokens and are left out"
            ));
        }
        Ok(kept)
    }

    fn compare(&self, road: &mut Road<'_>, results: &mut ChatResults) -> Result<bool> {
        road.stage("compare", || {
            let prompts = self.read("held-out.jsonl", prompt)?;
            let (reward, sft) = (self.model("reward")?, self.model("sft")?);
            let (max_tokens, seed) = (self.scale.max_tokens, self.options.seed);
            let prompts = self.that_fit(prompts, &reward)?;
            let mut comparison =
                Comparison::new((self.backend)(), &reward, &sft, &prompts, max_tokens, seed)?;
            let base = comparison.judge(&self.model("pretrain")?, 1)?;
            let tuned = comparison.judge(&sft, 1)?;
            let by_ppo = comparison.judge(&self.model("ppo")?, 1)?;
            let by_dpo = comparison.judge(&self.model("dpo")?, 1)?;
            let best = comparison.judge(&sft, self.scale.best_of)?;
            let best_name = format!("best of {}", self.scale.best_of);
            results.systems = vec![
                base.system("base", Some(&tuned)),
                tuned.system("sft", None),
                by_ppo.system("ppo", Some(&tuned)),
                by_dpo.system("dpo", Some(&tuned)),
                best.system(&best_name, Some(&tuned)),
            ];
            results.ppo_kl = by_ppo.kl();
            results.ppo_reward = Some((tuned.mean_reward(), by_ppo.mean_reward()));
            let shown = prompts.iter().enumerate().take(SHOWN).map(|(i, prompt)| Tried {
                prompt: prompt.messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>().join("\n"),
                answers: [("base", &base), ("sft", &tuned), ("ppo", &by_ppo)]
                    .map(|(name, judged)| judged.answer(name, i))
                    .into(),
            });
            results.tried = shown.collect();
            let golds: Vec<String> = results
                .systems
                .iter()
                .map(|system| format!("{} {:.3}", system.name, system.gold.value))
                .collect();
            Ok(format!("gold score on {} prompts: {}", prompts.len(), golds.join(", ")))
        })?;
        Ok(false)
    }
}

fn write_lines<T: serde::Serialize>(path: &Path, rows: &[T]) -> Result<()> {
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, row).context("a row is JSON")?;
        text.push(b'\n');
    }
    write_atomically(path, &text)
}
