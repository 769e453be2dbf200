//! The models of the road beside each other, on the same held-out prompts.

use crate::checkpoint::{self, Checkpoint};
use crate::data::{Prompt, Prompter};
use crate::eval::{Interval, Rate};
use crate::lessons::Judge;
use crate::model::{Sampling, Targets, Weights};
use crate::report::{Answer, System};
use crate::stage::answers::{self, Answers};
use crate::stage::episodes::{Episode, Rows, passes};
use crate::stage::score::rewards;
use crate::tokenizer::Tokenizer;
use crate::train::Frozen;
use anyhow::{Result, ensure};
use kernels::Backend;

/// What the answers of one model were, and what the judge and the reward model say of them.
pub(super) struct Measured {
    texts: Vec<String>,
    gold: Vec<f64>,
    rewards: Vec<f64>,
    kl: Option<f64>,
}

/// A model in memory with its tokenizer.
struct Loaded<T> {
    model: Frozen<T>,
    tokenizer: Tokenizer,
}

/// Compares models: the reward model and the reference that all are measured with.
pub(super) struct Comparison<'a, B: Backend> {
    b: B,
    reward: Loaded<B::Tensor>,
    reference: Loaded<B::Tensor>,
    prompts: &'a [Prompt],
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
        Ok(Comparison { reward: reward?, reference: reference?, b, prompts, max_tokens, seed })
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
        let found = answers::answer(&mut self.b, weights, &own, repeated, self.max_tokens, sampling, 0)?;
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
        let gold = self.prompts.iter().zip(&texts).enumerate().map(|(i, (prompt, text))| {
            let judged = Judge::Lessons.score(&prompt.extra, text);
            judged.map_err(|fault| anyhow::anyhow!("held-out prompt {}: {}", i + 1, fault.detail))
        });
        Ok(Measured { gold: gold.collect::<Result<_>>()?, texts, rewards, kl })
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
        Ok(rewards(&mut self.reward.model, &mut self.b, &episodes))
    }

    /// The KL to the reference, estimated from these answers: the mean over them of `log π - log π_ref`.
    fn kl(&mut self, mut model: Frozen<B::Tensor>, answers: &Answers) -> f64 {
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

impl Measured {
    /// A row of the table; `other` is the model that it is compared with prompt by prompt.
    pub(super) fn system(&self, name: &str, other: Option<&Measured>) -> System {
        System {
            name: name.to_owned(),
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

    /// The answer to prompt `i`.
    pub(super) fn answer(&self, name: &str, i: usize) -> Answer {
        Answer { system: name.to_owned(), text: self.texts[i].clone(), gold: self.gold[i] }
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

fn load<B: Backend>(b: &mut B, model: &Checkpoint) -> Result<Loaded<B::Tensor>> {
    let tokenizer = model.needed_tokenizer()?;
    let weights: Weights<B::Tensor> = model.weights(checkpoint::to_backend(b))?;
    Ok(Loaded { model: Frozen::new(b, model.config.clone(), weights), tokenizer })
}
