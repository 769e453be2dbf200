//! The models of the road beside each other, on the same held-out prompts.

use crate::checkpoint::{self, Checkpoint};
use crate::data::{Prompt, Prompter};
use crate::eval::{Interval, Rate, difference};
use crate::lessons::{AnswerKey, judge};
use crate::model::{Sampling, Targets, Weights};
use crate::report::{Answer, Compared, System};
use crate::stage::answers::{self, Answers};
use crate::stage::episodes::{Episode, Rows};
use crate::stage::lanes::passes;
use crate::stage::score::rewards;
use crate::stage::training_loop::Cancel;
use crate::tokenizer::Tokenizer;
use crate::train::Frozen;
use anyhow::{Result, ensure};
use kernels::Backend;
use ranks::Ranks;

/// What the answers of one model were, and what the judge and the reward model say of them.
pub(super) struct Measured {
    texts: Vec<String>,
    /// Whether each answer states what is asked for: 1 or 0.
    right: Vec<f64>,
    gold: Vec<f64>,
    rewards: Vec<f64>,
    kl: Option<f64>,
}

/// A model in memory with its tokenizer.
struct Loaded<B: Backend> {
    model: Frozen<B>,
    tokenizer: Tokenizer,
}

/// Compares models: the reward model and the reference that all are measured with.
pub(super) struct Comparison<'a, B: Backend> {
    b: B,
    reward: Loaded<B>,
    reference: Loaded<B>,
    prompts: &'a [Prompt],
    keys: Vec<AnswerKey>,
    max_tokens: usize,
    seed: u64,
}

impl<'a, B: Backend> Comparison<'a, B> {
    /// A comparison on these prompts; answers are sampled at temperature 1, as in PPO.
    pub(super) fn new(
        mut b: B,
        reward: &Checkpoint,
        reference: &Checkpoint,
        prompts: &'a [Prompt],
        max_tokens: usize,
        seed: u64,
    ) -> Result<Self> {
        let [reward, reference] = [reward, reference].map(|model| load(&mut b, model));
        let key = |(i, prompt): (usize, &Prompt)| {
            let key = AnswerKey::of(&prompt.extra);
            key.map_err(|fault| anyhow::anyhow!("held-out prompt {}: {}", i + 1, fault.detail))
        };
        let keys = prompts.iter().enumerate().map(key).collect::<Result<_>>()?;
        Ok(Comparison { reward: reward?, reference: reference?, b, prompts, keys, max_tokens, seed })
    }

    /// A perfect answer to prompt `i`.
    pub(super) fn expected(&self, i: usize) -> &str {
        &self.keys[i].answer
    }

    /// Answers that need no model, by name: floor and ceiling of every figure. Nothing at all; the right
    /// answer to another prompt; the right one.
    pub(super) fn references(&mut self) -> Result<[(&'static str, Measured); 3]> {
        let perfect: Vec<String> = self.keys.iter().map(|key| key.answer.clone()).collect();
        // Prompts stand in random order, so that the one that lies half of them away is any other.
        let mut shuffled = perfect.clone();
        shuffled.rotate_left(perfect.len() / 2);
        let empty = vec![String::new(); perfect.len()];
        let mut measure = |texts: Vec<String>| -> Result<Measured> {
            let rewards = self.rewards(&texts, 1)?;
            Ok(judged(&self.keys, texts, rewards))
        };
        Ok([("empty", measure(empty)?), ("shuffled", measure(shuffled)?), ("perfect", measure(perfect)?)])
    }

    /// The answers of a language model, judged. One without a chat template is given the bare texts and
    /// answers up to the end of the line. With `best_of` above 1 the answer of the highest reward counts, of
    /// so many.
    pub(super) fn measure(&mut self, model: &Checkpoint, best_of: usize) -> Result<Measured> {
        let Loaded { model, tokenizer } = load(&mut self.b, model)?;
        let own = Prompter::new(&tokenizer)?;
        let asked = self.prompts.iter().map(|prompt| {
            if own.is_chat() {
                return own.prompt(&prompt.messages);
            }
            let texts: Vec<&str> = prompt.messages.iter().map(|message| message.content.as_str()).collect();
            Ok(tokenizer.encode_from_start(&(texts.join("\n") + "\n")))
        });
        let asked = asked.collect::<Result<Vec<_>>>()?;
        let repeated = asked.iter().flat_map(|tokens| std::iter::repeat_n(tokens.clone(), best_of)).collect();
        let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: self.seed };
        let weights = (&model.config, &model.weights);
        let found = answers::answer(
            &mut self.b,
            weights,
            &own,
            repeated,
            self.max_tokens,
            sampling,
            (&Ranks::alone(), Cancel::never()),
        )?;
        let mut texts = found.texts(&own)?;
        if !own.is_chat() {
            texts.iter_mut().for_each(|text| text.truncate(text.find('\n').unwrap_or(text.len())));
        }
        let mut rewards = self.rewards(&texts, best_of)?;
        let mut kl = None;
        if best_of > 1 {
            let of = |group: &[f64]| (0..group.len()).max_by(|&i, &j| group[i].total_cmp(&group[j]));
            let best: Vec<usize> = rewards.chunks(best_of).map(|group| of(group).unwrap_or(0)).collect();
            let at = |i: usize| i * best_of + best[i];
            texts = (0..best.len()).map(|i| texts[at(i)].clone()).collect();
            rewards = (0..best.len()).map(|i| rewards[at(i)]).collect();
        } else if own.is_chat() {
            kl = Some(self.kl(model, &found));
        }
        Ok(Measured { kl, ..judged(&self.keys, texts, rewards) })
    }

    /// The rewards of `each` texts for every prompt, in the reward model's own format.
    fn rewards(&mut self, texts: &[String], each: usize) -> Result<Vec<f64>> {
        let prompter = Prompter::new(&self.reward.tokenizer)?;
        let mut episodes = Vec::with_capacity(texts.len());
        for (prompt, texts) in self.prompts.iter().zip(texts.chunks(each)) {
            let prompt = prompter.prompt(&prompt.messages)?;
            episodes.extend(texts.iter().map(|text| Episode::new(&prompt, &prompter.answer(text))));
        }
        let context = self.reward.model.config.seq_len;
        ensure!(
            episodes.iter().all(|episode| episode.tokens.len() <= context),
            "an answer does not fit the reward model's context of {context} tokens"
        );
        rewards(&mut self.reward.model, &mut self.b, &episodes, Cancel::never())
    }

    /// The KL to the reference, estimated from these answers: the mean over them of `log π - log π_ref`.
    fn kl(&mut self, mut model: Frozen<B>, answers: &Answers) -> f64 {
        let b = &mut self.b;
        let mut sum = 0.0;
        let most = model.config.pass_tokens();
        for run in passes(answers.episodes.iter().map(|episode| episode.tokens.len()), most) {
            let rows = Rows::of(&answers.episodes[run]);
            let (batch, targets) = (rows.sequences(), Targets::new(&rows.targets));
            sum += model.logprobs(b, batch, targets).iter().sum::<f64>();
            sum -= self.reference.model.logprobs(b, batch, targets).iter().sum::<f64>();
        }
        sum / answers.episodes.len() as f64
    }
}

/// What the judge says of answers, one to each key.
fn judged(keys: &[AnswerKey], texts: Vec<String>, rewards: Vec<f64>) -> Measured {
    let verdicts = keys.iter().zip(&texts).map(|(key, text)| judge(key, text));
    let (right, gold) =
        verdicts.map(|verdict| (f64::from(u8::from(verdict.correct)), verdict.score())).unzip();
    Measured { texts, right, gold, rewards, kl: None }
}

impl Measured {
    /// A row of the table; `other` is the model that it is compared with prompt by prompt.
    pub(super) fn system(&self, name: &str, other: Option<&Measured>) -> System {
        let right = self.right.iter().filter(|&&right| right == 1.0).count();
        System {
            name: name.to_owned(),
            right: Rate::wilson(right as u64, self.right.len() as u64),
            gold: Interval::of_mean(&self.gold),
            reward: Interval::of_mean(&self.rewards),
            kl: self.kl,
            win_rate: other.map(|other| {
                let pairs = self.gold.iter().zip(&other.gold);
                let (wins, ties) = pairs
                    .fold((0, 0), |(wins, ties), (a, b)| (wins + u64::from(a > b), ties + u64::from(a == b)));
                Rate::wilson(wins, self.gold.len() as u64 - ties)
            }),
        }
    }

    /// How much better this model is than the one that it began from, on the same prompts.
    pub(super) fn compared(&self, name: &str, other: &Measured, other_name: &str) -> Compared {
        Compared {
            model: name.to_owned(),
            than: other_name.to_owned(),
            right: difference(&self.right, &other.right).interval,
            gold: difference(&self.gold, &other.gold).interval,
        }
    }

    /// The answer to prompt `i`.
    pub(super) fn answer(&self, name: &str, i: usize) -> Answer {
        let (text, right) = (self.texts[i].clone(), self.right[i] == 1.0);
        Answer { system: name.to_owned(), text, right, gold: self.gold[i] }
    }

    /// Mean reward.
    pub(super) fn mean_reward(&self) -> f64 {
        self.rewards.iter().sum::<f64>() / self.rewards.len().max(1) as f64
    }

    /// The KL to the reference, where it was estimated.
    pub(super) fn kl(&self) -> Option<f64> {
        self.kl
    }
}

fn load<B: Backend>(b: &mut B, model: &Checkpoint) -> Result<Loaded<B>> {
    let tokenizer = model.needed_tokenizer()?;
    let weights: Weights<B::Tensor> = model.weights(checkpoint::to_backend(b, &model.config))?;
    Ok(Loaded { model: Frozen::new(b, model.config.clone(), weights), tokenizer })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lessons::{Split, prompt};

    fn keys(n: u64) -> Vec<AnswerKey> {
        (0..n).map(|i| AnswerKey::of(&prompt(3, Split::HeldOut, i).extra).unwrap()).collect()
    }

    fn measured(keys: &[AnswerKey], texts: Vec<String>) -> Measured {
        let rewards = vec![0.0; texts.len()];
        judged(keys, texts, rewards)
    }

    /// The share of right answers is the judge's, whatever it thinks of their form.
    #[test]
    fn right_answers_are_those_that_the_judge_calls_correct() {
        let keys = keys(40);
        let said = |i: usize, key: &AnswerKey| match i % 4 {
            0 => key.answer.clone(),
            1 => String::new(),
            2 => format!("{} Question:", key.answer.trim_end()),
            _ => "I do not know what to say about zebras.".to_owned(),
        };
        let texts: Vec<String> = keys.iter().enumerate().map(|(i, key)| said(i, key)).collect();
        let found = measured(&keys, texts.clone());
        let verdicts: Vec<_> = keys.iter().zip(&texts).map(|(key, text)| judge(key, text)).collect();
        let correct = verdicts.iter().filter(|verdict| verdict.correct).count() as u64;
        assert!((10..=25).contains(&correct), "{correct} of 40");
        let system = found.system("a", None);
        assert_eq!(system.right, Rate::wilson(correct, 40));
        let mean = verdicts.iter().map(|verdict| verdict.score()).sum::<f64>() / 40.0;
        assert!((system.gold.value - mean).abs() < 1e-12);
        assert_eq!(
            (0..40).map(|i| found.answer("a", i).right).filter(|right| *right).count() as u64,
            correct
        );
        let perfect = measured(&keys, keys.iter().map(|key| key.answer.clone()).collect());
        assert_eq!(perfect.system("perfect", None).right.value, 1.0);
        assert!((perfect.system("perfect", None).gold.value - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_mean_reward_is_that_of_all_answers() {
        let keys = keys(3);
        let texts = vec![String::new(); 3];
        assert_eq!(judged(&keys, texts, vec![1.0, 2.0, 6.0]).mean_reward(), 3.0);
    }

    /// By values: 30 prompts of 40 are right before, and 6 of the others as well afterwards.
    #[test]
    fn models_are_compared_prompt_by_prompt() {
        let keys = keys(40);
        let right_up_to = |n: usize| {
            let said = |(i, key): (usize, &AnswerKey)| if i < n { key.answer.clone() } else { String::new() };
            measured(&keys, keys.iter().enumerate().map(said).collect())
        };
        let (before, after) = (right_up_to(30), right_up_to(36));
        let Compared { right, gold, .. } = after.compared("after", &before, "before");
        assert!((right.value - 0.15).abs() < 1e-12 && (gold.value - 0.15).abs() < 1e-12);
        // Of 40 draws with replacement, 6 of 40 each: standard deviation of the share 0.0565.
        assert!((0.025..=0.075).contains(&right.low) && (0.25..=0.3).contains(&right.high), "{right:?}");
        let back = before.compared("before", &after, "after").right;
        assert!((back.value + 0.15).abs() < 1e-12 && back.high < 0.0, "{back:?}");
        let same = before.compared("before", &before, "before").right;
        assert_eq!(same, Interval::default());
        // Wins and losses that cancel out are no gain, though every prompt differs.
        let every_other = |odd: usize| {
            let said =
                |(i, key): (usize, &AnswerKey)| if i % 2 == odd { key.answer.clone() } else { String::new() };
            measured(&keys, keys.iter().enumerate().map(said).collect())
        };
        let even = every_other(0).compared("a", &every_other(1), "b").right;
        assert!(even.low < 0.0 && even.high > 0.0, "{even:?}");
    }
}
