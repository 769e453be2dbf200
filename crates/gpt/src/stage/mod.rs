//! The stages: what each trains, on what, and by which steps, read like the paper's algorithm.
//!
//! `pretrain`, `finetune`, `sft`, `distil`, `reward`, `dpo`, `kto`, `ppo` and `grpo` say what a step is; `training_loop` does the rest
//! for all of them, and `learner` has the model that all but PPO train. `road` walks whole roads of stages.

mod answers;
mod candidates;
mod distil;
mod dpo;
mod episodes;
mod finetune;
mod grpo;
#[cfg(test)]
mod heard;
mod init;
mod judged;
mod kto;
mod lanes;
mod learner;
mod memory;
mod ppo;
mod pretrain;
mod prompts;
mod ranked;
mod reward;
mod road;
mod rollout;
mod score;
mod settings;
mod sft;
mod sides;
pub mod sweep;
mod talks;
mod training_loop;
mod updates;

pub use candidates::{CandidatesOptions, candidates, candidates_each};
pub use distil::{
    DistilSettings, Figures as DistilFigures, Options as DistilOptions, Outcome as DistilOutcome,
    Source as DistilSource, Store as TeacherStore, distil, store as store_teacher,
};
pub use dpo::{DpoSettings, Figures as DpoFigures, Options as DpoOptions, Outcome as DpoOutcome, dpo};
pub use finetune::{
    Decision, Examples, FinetuneSettings, Options as FinetuneOptions, Outcome as FinetuneOutcome, TaskReport,
    classify, finetune, task_of,
};
pub use grpo::{GrpoSettings, KlIn, Options as GrpoOptions, RewardKind, RewardSpec, grpo};
pub use init::Init;
pub use judged::Judgements;
pub use kto::{Figures as KtoFigures, KtoSettings, Options as KtoOptions, Outcome as KtoOutcome, kto};
pub use memory::available_bytes;
pub use ppo::{Gold, Options as PpoOptions, PpoSettings, ppo};
pub use pretrain::{Options as PretrainOptions, Outcome as PretrainOutcome, Source, Start, pretrain};
pub use ranked::Rankings;
pub use reward::{
    Bin, Options as RewardOptions, Outcome as RewardOutcome, RewardReport, RewardSettings, reward,
};
pub use road::{
    Budget, ChatOptions, ChatOutcome, CodeOptions, CodeOutcome, DEFAULT_SCALE, SCALES, TasksOptions,
    TasksOutcome, chat_road, code_road, tasks_road,
};
pub use rollout::Outcome as PolicyOutcome;
pub use score::{Scorer, score};
pub use settings::{
    Cost, Family, OptimConfig, PRESETS, Settings, Shape, Sized, StageConfig, StageSettings, sized,
    usual_vocab_size,
};
pub use sft::{Options as SftOptions, Outcome as SftOutcome, SftSettings, sft};
pub use training_loop::{Ending, Machine};
