//! What a road will do, for people.

use super::super::budget::Speeds;
use super::{Amount, Scale, Stage};
use crate::model::Config;
use crate::numbers::plural;
use anyhow::Result;

impl Scale {
    /// What the road does at a size, stage by stage; with the time of each where the machine's speeds are
    /// known.
    pub(in crate::stage::road) fn describe(
        &self,
        size: f64,
        config: &Config,
        speeds: Option<Speeds>,
    ) -> Result<String> {
        let (_, pretraining) = self.pretraining(size)?;
        let (prompts, k) = (self.prompts(size), self.k);
        let trained = |amount: Amount, of: &str| {
            let (steps, batch_size) = amount.at(size);
            format!("{} of {batch_size} {of}", plural(steps, "step"))
        };
        let mut text = String::from("The plan:");
        for stage in Stage::ALL {
            let amount = match stage {
                Stage::Pretrain => {
                    format!("{} steps of {} tokens", pretraining.steps, pretraining.batch_tokens)
                }
                Stage::Sft => trained(self.sft, "demonstrations"),
                Stage::Candidates => format!("{k} answers to each of {prompts} prompts"),
                Stage::Reward => trained(self.reward, "rankings"),
                Stage::Ppo => trained(self.ppo, "answers"),
                Stage::Dpo => trained(self.dpo, "rankings"),
                Stage::Compare => format!("on {} held-out prompts", self.compared(size)),
            };
            text += &format!("\n  {:<10} {amount}", stage.name());
            if let Some(speeds) = speeds {
                text += &format!(", about {:.0} s", self.secs(stage, size, config, speeds)?);
            }
        }
        let operations: f64 = Stage::ALL
            .into_iter()
            .map(|stage| Ok(self.operations(stage, size, config)?.total()))
            .sum::<Result<f64>>()?;
        text += &format!("\n{operations:.2e} operations");
        if speeds.is_some() {
            text +=
                "; each stage is sized again when it begins, by the speed and the time that are left then";
        }
        Ok(text)
    }
}
