//! All streams of random numbers that mynah draws from.
//!
//! A random number is a function of (seed, stream, index) ([`kernels::rng`]), and nearly everything that a
//! run draws has the run's one seed. So each purpose has a stream of its own, or a range of them: one for
//! each epoch, prompt or array. A test holds that none is used twice.
//!
//! Numbers that are themselves seeds (of one lesson, of the dropout of one step) belong to their purpose
//! alone, which counts its streams under such a seed from 0.

/// A range of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    first: u64,
    len: u64,
}

impl Streams {
    /// The `i`-th stream.
    ///
    /// # Panics
    /// When there are not so many.
    pub const fn at(self, i: u64) -> u64 {
        assert!(i < self.len, "a stream of another purpose");
        self.first + i
    }
}

/// `one NAME = n` is the stream n; `many NAME = n` are the 2³² streams from n · 2³² on; `few NAME = n` are
/// those below n.
macro_rules! streams {
    ($($(#[$doc:meta])* $kind:ident $name:ident = $number:literal;)*) => {
        $(streams!(@$kind $(#[$doc])* $name = $number);)*

        /// Every range by its name.
        #[cfg(test)]
        const ALL: &[(&str, Streams)] = &[$((stringify!($name), streams!(@range $kind $number))),*];
    };
    (@one $(#[$doc:meta])* $name:ident = $number:literal) => { $(#[$doc])* pub const $name: u64 = $number; };
    (@$kind:ident $(#[$doc:meta])* $name:ident = $number:literal) => {
        $(#[$doc])* pub const $name: Streams = streams!(@range $kind $number);
    };
    (@range one $number:literal) => { Streams { first: $number, len: 1 } };
    (@range many $number:literal) => { Streams { first: $number << 32, len: 1 << 32 } };
    (@range few $number:literal) => { Streams { first: 0, len: $number } };
}

streams! {
    /// Fresh weights: one for each array, counted from 1.
    few WEIGHTS = 0x1_0000;
    /// The embeddings of tokens that are added to a model.
    one NEW_ROWS = 0x524f_5753;
    /// Sampled tokens: one for each request.
    many SAMPLES = 0x5341_4d50;
    /// Seeds of what is sampled after tools have returned something: one for each round of calls.
    one ROUNDS_OF_CALLS = 0x4341_4c4c;

    /// Which documents of a corpus are held out.
    one CORPUS_SPLIT = 0x5350_4c49;
    /// The order of a stream's files: one for each epoch.
    many CORPUS_FILES = 0x4649_4c45;

    /// The order of the windows of token shards: one for each epoch.
    many WINDOWS = 0x4f52_4445;
    /// Where an epoch begins to cut windows.
    one WINDOW_OFFSETS = 0x4f46_4653;
    /// Which documents are cut for filling in the middle, where, and in which order their pieces come.
    one FIM_WHETHER = 0x4649_4d00;
    /// See [`FIM_WHETHER`].
    one FIM_CUTS = 0x4649_4d01;
    /// See [`FIM_WHETHER`].
    one FIM_ORDER = 0x4649_4d02;
    /// The order of conversations: one for each epoch.
    many CONVERSATIONS = 0x4348_4154;

    /// Seeds of lessons: one for each kind.
    many LESSONS = 0x4c45_5353;
    /// A noisy judge of answers: one for each prompt.
    many JUDGE_NOISE = 0x4755_4d42;

    /// Seeds of tasks that are made by rule.
    one EVAL_ITEMS = 0x4556_414c;
    /// The words that such tasks are about, under their seeds.
    one EVAL_WORDS = 0x574f_5244;
    /// Examples shown before an item: one for each item.
    many EVAL_SHOTS = 0x5348_4f54;
    /// The items of a task that are asked, where not all are.
    one EVAL_LIMIT = 0x4c49_4d49;
    /// Resamples of the bootstrap: one for each.
    many BOOTSTRAP = 0x424f_4f54;
    /// The lines of a document that are to be predicted: one for each document.
    many NEXT_LINES = 0x4e45_5854;
    /// Which of those lines are asked: one for each document.
    many NEXT_LINES_ORDER = 0x4f4e_4558;

    /// Seeds of dropout in pretraining: one for each step, as in the stages after it.
    one PRETRAIN_DROPOUT = 0x5052_4501;
    /// In fine-tuning.
    one FINETUNE_DROPOUT = 0x4654_4e01;
    /// In fine-tuning, of what the head reads.
    one FINETUNE_HEAD_DROPOUT = 0x4654_4e02;
    /// In supervised fine-tuning.
    one SFT_DROPOUT = 0x5346_5401;
    /// In reward modelling.
    one REWARD_DROPOUT = 0x5257_4401;
    /// In DPO.
    one DPO_DROPOUT = 0x4450_4f01;
    /// In distillation.
    one DISTIL_DROPOUT = 0x4453_5401;
    /// Whether the student answers itself: one number for each step.
    one DISTIL_OWN = 0x4453_5402;
    /// Seeds of its answers.
    one DISTIL_SAMPLING = 0x4453_5403;
    /// In KTO.
    one KTO_DROPOUT = 0x4b54_4f01;
    /// The order of labelled texts: one for each epoch.
    many EXAMPLES = 0x4c41_4245;
    /// The order of rankings: one for each epoch.
    many RANKINGS = 0x5241_4e4b;
    /// The order of judged answers: one for each epoch.
    many JUDGED = 0x4b54_4f02;
    /// The order of PPO's prompts: one for each epoch.
    many PPO_PROMPTS = 0x5050_4f01;
    /// The order of the episodes of an iteration: one for each pass over them.
    many PPO_MINIBATCHES = 0x5050_4f02;
    /// Seeds of sampling in PPO's iterations.
    one PPO_SAMPLING = 0x5050_4f03;
    /// The seed of sampling in its measurements.
    one PPO_MEASURING = 0x5050_4f04;
    /// The order of GRPO's prompts: one for each epoch.
    many GRPO_PROMPTS = 0x4752_5001;
    /// The order of the answers of an iteration: one for each pass over them.
    many GRPO_MINIBATCHES = 0x4752_5002;
    /// Seeds of sampling in GRPO's rounds.
    one GRPO_SAMPLING = 0x4752_5003;
    /// The seed of sampling in its measurements.
    one GRPO_MEASURING = 0x4752_5004;
    /// The order of the held-out documents of the road of code.
    one SNIPPETS = 0x736e_6970;
    /// Where they are cut.
    one SNIPPET_CUTS = 0x736e_6971;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_purposes_draw_the_same_numbers() {
        let mut all = ALL.to_vec();
        all.sort_by_key(|(_, streams)| streams.first);
        for pair in all.windows(2) {
            let [(a, before), (b, after)] = pair else { unreachable!("two of them") };
            assert!(before.first + before.len <= after.first, "{a} and {b}");
        }
    }

    #[test]
    #[should_panic(expected = "another purpose")]
    fn a_range_ends() {
        WEIGHTS.at(0x1_0000);
    }
}
