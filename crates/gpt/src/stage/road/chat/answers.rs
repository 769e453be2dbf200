//! Answers of the road's models: those that are ranked, and those that are compared.

use super::{RoadDir, Stage, Walk};
use crate::checkpoint::{self, Checkpoint};
use crate::data::messages::{Message, candidates as candidates_row, prompt};
use crate::data::rows::{MAX_BAD, read_rows};
use crate::data::{Prompt, Prompter};
use crate::lessons::{self, Judge, Simulated};
use crate::model::Sampling;
use crate::output::write_rows;
use crate::report::{ChatResults, Tried, Turn, percent};
use crate::stage::road::compare::Comparison;
use crate::stage::{CandidatesOptions, candidates};
use anyhow::{Context, Result};
use kernels::Backend;

/// Prompts whose answers are shown side by side.
const SHOWN: usize = 10;

impl<B: Backend> Walk<'_, B> {
    pub(super) fn candidates(&self, road: &mut RoadDir<'_>, _: &mut ChatResults) -> Result<bool> {
        let size = self.size(road, Stage::Candidates)?;
        road.stage("candidates", || {
            let (path, k) = (self.at("candidates.jsonl"), self.scale.k);
            let mut prompts = self.read("prompts.jsonl", prompt)?;
            prompts.truncate(self.scale.prompts(size));
            if !path.exists() {
                let (model, mut b) = (self.model("sft")?, (self.backend)());
                let weights = model.weights(checkpoint::to_backend(&mut b, &model.config))?;
                let tokenizer = model.tokenizer()?.context("the model has a tokenizer")?;
                let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: self.options.seed };
                let asked = CandidatesOptions { k, max_tokens: self.scale.max_tokens, sampling };
                let of = (&model.config, &weights);
                let prompter = Prompter::new(&tokenizer)?;
                let found = candidates(&mut b, of, &prompter, &prompts, &asked, self.progress)?;
                write_rows(&path, &found)?;
            }
            Ok(Some(format!("{k} answers to each of {} prompts", prompts.len())))
        })
    }

    pub(super) fn rankings(&self, road: &mut RoadDir<'_>, results: &mut ChatResults) -> Result<bool> {
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
            write_rows(&self.at("rankings.jsonl"), &rankings)?;
            results.noise = lessons::DEFAULT_NOISE;
            results.ceiling = ceiling.accuracy();
            let right = ceiling.accuracy().map_or(String::new(), |accuracy| {
                format!("; a perfect reward model is right in {:.1} % of them", 100.0 * accuracy)
            });
            Ok(Some(format!("{} rankings, {} pairs{right}", rankings.len(), ceiling.pairs)))
        })
    }

    /// The prompts that leave room for an answer, twice over: what one tokenizer format makes of a text,
    /// another may make longer.
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

    pub(super) fn compare(&self, road: &mut RoadDir<'_>, results: &mut ChatResults) -> Result<bool> {
        let size = self.size(road, Stage::Compare)?;
        road.stage("compare", || {
            let mut prompts = self.read("held-out.jsonl", prompt)?;
            prompts.truncate(self.scale.compared(size));
            let (reward, sft) = (self.model("reward")?, self.model("sft")?);
            let (max_tokens, seed) = (self.scale.max_tokens, self.options.seed);
            let prompts = self.that_fit(prompts, &reward)?;
            let mut comparison =
                Comparison::new((self.backend)(), &reward, &sft, &prompts, max_tokens, seed)?;
            let base = comparison.measure(&self.model("pretrain")?, 1)?;
            let tuned = comparison.measure(&sft, 1)?;
            let by_ppo = comparison.measure(&self.model("ppo")?, 1)?;
            let by_dpo = comparison.measure(&self.model("dpo")?, 1)?;
            let best = comparison.measure(&sft, self.scale.best_of)?;
            let best_name = format!("best of {}", self.scale.best_of);
            results.systems = vec![
                base.system("base", Some(&tuned)),
                tuned.system("sft", None),
                by_ppo.system("ppo", Some(&tuned)),
                by_dpo.system("dpo", Some(&tuned)),
                best.system(&best_name, Some(&tuned)),
            ];
            results.references = comparison
                .references()?
                .iter()
                .map(|(name, measured)| measured.system(name, Some(&tuned)))
                .collect();
            results.compared = vec![
                tuned.compared("sft", &base, "base"),
                by_ppo.compared("ppo", &tuned, "sft"),
                by_dpo.compared("dpo", &tuned, "sft"),
                best.compared(&best_name, &tuned, "sft"),
            ];
            results.prompts = prompts.len();
            results.ppo_kl = by_ppo.kl();
            results.ppo_reward = Some((tuned.mean_reward(), by_ppo.mean_reward()));
            let best_name = best_name.as_str();
            let measured =
                [("base", &base), ("sft", &tuned), ("ppo", &by_ppo), ("dpo", &by_dpo), (best_name, &best)];
            let shown = prompts.iter().enumerate().take(SHOWN).map(|(i, prompt)| Tried {
                messages: prompt.messages.iter().map(turn).collect(),
                expected: comparison.expected(i).to_owned(),
                answers: measured.map(|(name, measured)| measured.answer(name, i)).into(),
            });
            results.tried = shown.collect();
            let right: Vec<String> = results
                .systems
                .iter()
                .map(|system| format!("{} {}", system.name, percent(system.right.value)))
                .collect();
            Ok(Some(format!("right answers to {} prompts: {}", prompts.len(), right.join(", "))))
        })
    }
}

fn turn(message: &Message) -> Turn {
    Turn { role: message.role.name().to_owned(), content: message.content.clone() }
}
