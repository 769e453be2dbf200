//! Answers that the student samples itself, in place of those that are given (Agarwal et al. 2024, algorithm 1).

use super::Distil;
use crate::data::Batch;
use crate::model::Sampling;
use crate::progress::Progress;
use crate::stage::answers::{Answers, answer};
use crate::stage::training_loop::Cancel;
use crate::streams;
use anyhow::{Result, ensure};
use kernels::{Distil as Distilling, NO_TARGET, rng};

/// What is told of sampled answers.
pub(super) struct Sampled {
    /// The share of them that the student ended.
    pub(super) ended: f64,
    /// Their mean number of tokens.
    pub(super) answer_tokens: f64,
}

impl<B: Distilling> Distil<'_, B> {
    /// Whether the student answers itself in this step.
    pub(super) fn is_own(&self, step: u64) -> bool {
        let drawn = rng::uniform(self.options.seed, streams::DISTIL_OWN, step);
        f64::from(drawn) < self.settings.own.lmbda
    }

    /// In the batch, the last answer of every conversation is the student's own in place of the one that is given, where its
    /// prompt leaves room for one.
    pub(super) fn answer(&mut self, step: u64, cancel: Cancel<'_>) -> Result<Sampled> {
        let (own, room) = (&self.settings.own, self.settings.own.max_tokens);
        let given = sequences(&self.batch);
        let prompts: Vec<Option<&[u32]>> = given
            .iter()
            .map(|(tokens, targets)| asked(tokens, targets))
            .map(|prompt| Some(prompt).filter(|prompt| prompt.len() + room <= self.context))
            .collect();
        let asked: Vec<Vec<u32>> = prompts.iter().flatten().map(|prompt| prompt.to_vec()).collect();
        let sampling = Sampling {
            temperature: own.sampling_temperature as f32,
            seed: rng::bits(self.options.seed, streams::DISTIL_SAMPLING, step),
            ..Sampling::default()
        };
        self.student.trainer.release_pass(&mut self.student.backend);
        let model = (&self.student.trainer.config, &self.student.trainer.weights);
        let Answers { episodes, ended, .. } = answer(
            &mut self.student.backend,
            model,
            &self.prompter,
            asked,
            room,
            sampling,
            (self.student.trainer.ranks(), cancel),
        )?;
        let n = episodes.len().max(1) as f64;
        let sampled = Sampled {
            ended: ended.iter().filter(|ended| **ended).count() as f64 / n,
            answer_tokens: episodes.iter().map(|episode| episode.answer_len()).sum::<usize>() as f64 / n,
        };
        let (mut batch, mut episodes) = (Batch::default(), episodes.iter());
        for (prompt, (tokens, targets)) in prompts.iter().zip(&given) {
            match prompt.and_then(|_| episodes.next()) {
                None => push(&mut batch, tokens, targets),
                Some(episode) => {
                    // What stands after the last token is no input, since nothing is predicted there.
                    let inputs = episode.tokens.len() - 1;
                    let mut targets = vec![NO_TARGET; episode.prompt_len - 1];
                    targets.extend_from_slice(episode.answer());
                    push(&mut batch, &episode.tokens[..inputs], &targets);
                }
            }
        }
        self.batch = batch;
        Ok(sampled)
    }

    /// Says of how many conversations the student cannot answer itself, as their prompts leave no room for `max_tokens`.
    ///
    /// # Errors
    /// It can of none.
    pub(super) fn tell_room(&self, progress: &dyn Progress) -> Result<()> {
        let (own, room, context) = (&self.settings.own, self.settings.own.max_tokens, self.context);
        if own.lmbda == 0.0 {
            return Ok(());
        }
        let n = self.options.train.per_epoch();
        let is_full = |i: &u64| {
            let mut one = Batch::default();
            self.options.train.push(*i, &mut one);
            asked(&one.tokens, &one.targets).len() + room > context
        };
        let full = (0..n).filter(is_full).count() as u64;
        ensure!(
            full < n,
            "no prompt leaves room for an answer of max_tokens {room} within the {context} tokens that teacher and student read at \
             once, so that the student cannot answer itself: take fewer (--set max_tokens=N), or the given answers alone (--set \
             lmbda=0)"
        );
        if full > 0 {
            progress.line(&format!(
                "note: the prompts of {full} of {n} demonstrations leave no room for an answer of max_tokens {room} within {context} \
                 tokens: of these the given answers are always learned"
            ));
        }
        Ok(())
    }

    /// What stands before the last answers of the first `n` held-out conversations, where there is room for another one.
    pub(super) fn held_out_prompts(&self, n: u64) -> Vec<Vec<u32>> {
        let mut batch = Batch::default();
        (0..n.min(self.options.val.per_epoch())).for_each(|i| self.options.val.push(i, &mut batch));
        let sequences = sequences(&batch);
        let prompts = sequences.iter().map(|(tokens, targets)| asked(tokens, targets).to_vec());
        prompts.filter(|prompt| prompt.len() < self.context).collect()
    }
}

/// Tokens and targets of each conversation.
fn sequences(batch: &Batch) -> Vec<(Vec<u32>, Vec<u32>)> {
    let of = |i: usize| {
        let part = batch.part(i..i + 1);
        (part.tokens.to_vec(), part.targets.to_vec())
    };
    (0..batch.lens.len()).map(of).collect()
}

fn push(batch: &mut Batch, tokens: &[u32], targets: &[u32]) {
    batch.tokens.extend_from_slice(tokens);
    batch.targets.extend_from_slice(targets);
    batch.lens.push(tokens.len());
}

/// What stands before the last answer: the tokens up to the row that predicts its first one.
fn asked<'t>(tokens: &'t [u32], targets: &[u32]) -> &'t [u32] {
    let last = targets.iter().rposition(|&target| target != NO_TARGET).unwrap_or(0);
    let before = targets[..last].iter().rposition(|&target| target == NO_TARGET);
    &tokens[..=before.map_or(0, |before| before + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_ends_before_the_last_answer() {
        const NONE: u32 = NO_TARGET;
        assert_eq!(asked(&[1, 2, 3, 4], &[NONE, NONE, 4, 5]), [1, 2, 3]);
        assert_eq!(asked(&[1, 2, 3, 4, 5], &[2, 3, NONE, NONE, 6]), [1, 2, 3, 4, 5]);
        assert_eq!(asked(&[1, 2], &[2, 3]), [1], "all of it is an answer");
    }
}
