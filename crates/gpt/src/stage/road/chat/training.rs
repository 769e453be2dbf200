//! The trainings of the road.

use super::{RoadDir, Stage, Walk};
use crate::checkpoint::{self, Checkpoint};
use crate::data::messages::{answered, prompt, ranking};
use crate::data::rows::{MAX_BAD, read_rows};
use crate::data::{Columns, Conversations, Prompt, Prompter, ReadOptions, TooLong};
use crate::eval::Rate;
use crate::lessons::Judge;
use crate::report::{self, ChatResults};
use crate::stage::{
    DpoFigures, DpoOptions, Gold, Init, PpoOptions, PretrainOptions, Rankings, RewardOptions, SftOptions,
    Source, StageSettings, Start, dpo, ppo, pretrain, reward, sft,
};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::ChatTemplate;
use anyhow::{Context, Result};
use kernels::Backend;
use serde_json::{Map, Value};

/// The share of demonstrations that are validated with, and how many are enough.
const HELD_OUT: f64 = 0.05;
const ENOUGH_HELD_OUT: f64 = 500.0;

impl<B: Backend> Walk<'_, B> {
    pub(super) fn pretrain(&self, road: &mut RoadDir<'_>, _: &mut ChatResults) -> Result<bool> {
        let size = self.size(road, Stage::Pretrain)?;
        road.stage("pretrain", || {
            let (shape, settings) = self.scale.pretraining(size)?;
            let tokens = settings.batch_tokens;
            let options = PretrainOptions {
                source: Source::Shards(vec![(self.at("tokens"), 1.0)]),
                out: self.at("pretrain"),
                settings,
                seed: self.options.seed,
                start: Start::Random(shape),
            };
            let outcome = pretrain((self.backend)(), self.machine, &options, self.progress)?;
            Ok((!outcome.ending.stopped).then(|| format!("{} steps of {tokens} tokens", outcome.ending.step)))
        })
    }

    /// The model of a stage, to begin another from.
    fn init(&self, stage: &str) -> Result<Init> {
        Init::open(&self.at(stage), self.progress)
    }

    pub(super) fn model(&self, stage: &str) -> Result<Checkpoint> {
        checkpoint::open(&self.at(stage), self.progress)
    }

    pub(super) fn sft(&self, road: &mut RoadDir<'_>, _: &mut ChatResults) -> Result<bool> {
        let size = self.size(road, Stage::Sft)?;
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
                columns: &Columns::default(),
                seed: self.options.seed,
            };
            let path = self.lesson("demonstrations.jsonl");
            let (all, report) = Conversations::read(&path, &read, self.progress)?;
            if report.used < report.lines {
                self.progress.line(&report.to_string());
            }
            let (train, val) = all.split(HELD_OUT.min(ENOUGH_HELD_OUT / report.used as f64))?;
            let options = SftOptions {
                init: &init,
                train: &train,
                val: &val,
                reward: None,
                ptx: Vec::new(),
                out: self.at("sft"),
                settings: StageSettings::resolve(&self.scale.sft(size))?,
                seed: self.options.seed,
            };
            let outcome = sft((self.backend)(), self.machine, &options, self.progress)?;
            let said = |loss| format!("{} steps, validation loss {loss:.3}", outcome.ending.step);
            Ok(outcome.after.map(said))
        })
    }

    /// The rankings as a model of this tokenizer reads them.
    fn ranked(&self, init: &Init, prompter: &Prompter<&Tokenizer>) -> Result<Rankings> {
        let rows = read_rows(&self.at("rankings.jsonl"), MAX_BAD, self.progress, ranking)?.rows;
        Rankings::new(&rows, &[], 0.1, prompter, init.model().config.seq_len, self.progress)
    }

    pub(super) fn reward(&self, road: &mut RoadDir<'_>, results: &mut ChatResults) -> Result<bool> {
        let size = self.size(road, Stage::Reward)?;
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
                settings: StageSettings::resolve(&self.scale.reward(size))?,
                seed: self.options.seed,
            };
            let outcome = reward((self.backend)(), self.machine, &options, self.progress)?;
            results.pair_accuracy = outcome.evaluation.map(|evaluation| evaluation.pair_accuracy);
            let said =
                |Rate { value, n, .. }| format!("right in {:.1} % of {n} held-out pairs", 100.0 * value);
            Ok(results.pair_accuracy.map(said))
        })
    }

    /// Demonstrations whose scores have mean 0.
    fn demonstrations(
        &self,
        init: &Init,
        prompter: &Prompter<&Tokenizer>,
    ) -> Result<Vec<(Vec<u32>, Vec<u32>)>> {
        const ENOUGH: usize = 1000;
        let context = init.model().config.seq_len;
        let mut found = Vec::new();
        for shown in self.read("demonstrations.jsonl", answered)?.into_iter().take(ENOUGH) {
            let prompt = prompter.prompt(&shown.messages)?;
            let answer = prompter.answer(&shown.completions[0]);
            if prompt.len() + answer.len() <= context {
                found.push((prompt, answer));
            }
        }
        Ok(found)
    }

    pub(super) fn ppo(&self, road: &mut RoadDir<'_>, results: &mut ChatResults) -> Result<bool> {
        let size = self.size(road, Stage::Ppo)?;
        road.stage("ppo", || {
            let (policy, reward) = (self.init("sft")?, self.init("reward")?);
            let prompts = self.read("prompts.jsonl", prompt)?;
            let held_out = self.read("held-out.jsonl", prompt)?;
            let gold = |prompt: &Prompt, answer: &str| {
                Judge::Lessons.score(&prompt.extra, answer).expect("lessons carry their keys")
            };
            let options = PpoOptions {
                policy: &policy,
                reward: &reward,
                prompts: &prompts,
                held_out: &held_out,
                ptx: Vec::new(),
                gold: Some(&gold as &Gold<'_>),
                out: self.at("ppo"),
                settings: StageSettings::resolve(&self.scale.ppo(size))?,
                seed: self.options.seed,
            };
            let outcome = ppo((self.backend)(), self.machine, &options, self.progress)?;
            results.frontier = report::frontier(&self.at("ppo"))?;
            let said = |after: Map<String, Value>| {
                let figure = |name: &str| after.get(name).and_then(Value::as_f64).unwrap_or(0.0);
                let (reward, kl) = (figure("eval/reward"), figure("eval/kl"));
                format!("{} iterations, held-out reward {reward:.3} at a KL of {kl:.2}", outcome.ending.step)
            };
            Ok(outcome.after.map(said))
        })
    }

    pub(super) fn dpo(&self, road: &mut RoadDir<'_>, _: &mut ChatResults) -> Result<bool> {
        let size = self.size(road, Stage::Dpo)?;
        road.stage("dpo", || {
            let init = self.init("sft")?;
            let prompter = Prompter::new(init.tokenizer().context("the model has a tokenizer")?)?;
            let rankings = self.ranked(&init, &prompter)?;
            let options = DpoOptions {
                init: &init,
                rankings: &rankings,
                out: self.at("dpo"),
                settings: StageSettings::resolve(&self.scale.dpo(size))?,
                seed: self.options.seed,
            };
            let outcome = dpo((self.backend)(), self.machine, &options, self.progress)?;
            let said = |after: DpoFigures| {
                let right = 100.0 * after.accuracy;
                format!("{} steps, {right:.1} % of held-out pairs right", outcome.ending.step)
            };
            Ok(outcome.after.map(said))
        })
    }
}
