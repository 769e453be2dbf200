//! `--tool`: what a model may call while it answers.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use gpt::chat::MAX_ROUNDS;
use gpt::sandbox::{Limits, Sandbox};
use gpt::tools::{CallLimits, Toolbox};

use crate::options::whole;

/// A tool by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ToolName {
    Calculator,
    Python,
}

/// Which tools there are, and how long a call of one may take.
#[derive(Clone, Debug, Args)]
pub(super) struct ToolArgs {
    /// What the model may call while it answers; may be repeated. Programs run in a sandbox, as those of `mynah grade`
    #[arg(long = "tool", value_name = "calculator|python", value_enum, hide_possible_values = true)]
    pub(super) names: Vec<ToolName>,
    /// Seconds that a call may take
    #[arg(long, value_name = "N", value_parser = whole::<u64>(1..), default_value_t = 5, requires = "names")]
    tool_secs: u64,
    /// Rounds of calls before an answer; a further one is the answer, as it stands
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1..), default_value_t = MAX_ROUNDS, requires = "names")]
    tool_rounds: usize,
}

impl ToolArgs {
    /// What of them decides an answer.
    pub(super) fn settings(&self) -> Option<String> {
        let rounds = match self.tool_rounds {
            MAX_ROUNDS => String::new(),
            rounds => format!(" {rounds} rounds"),
        };
        (!self.names.is_empty()).then(|| format!("{:?} {} s{rounds}", self.named(), self.tool_secs))
    }

    /// The tools' names, each once.
    fn named(&self) -> Vec<ToolName> {
        let mut names: Vec<ToolName> = Vec::new();
        for name in &self.names {
            if !names.contains(name) {
                names.push(*name);
            }
        }
        names
    }

    /// The tools, if there are any.
    ///
    /// # Errors
    /// Programs cannot be run here.
    pub(super) fn open(&self) -> Result<Option<Toolbox>> {
        let names = self.named();
        let limits = CallLimits {
            time: Duration::from_secs(self.tool_secs),
            rounds: self.tool_rounds,
            ..CallLimits::default()
        };
        let mut tools = Toolbox::new(limits);
        for name in &names {
            tools = match name {
                ToolName::Calculator => tools.with_calculator(),
                ToolName::Python => {
                    let sandbox = Sandbox::open(Limits::new(limits.time), &[]);
                    tools.with_python(sandbox.context("the tool python runs programs in a sandbox")?)
                }
            };
        }
        Ok((!names.is_empty()).then_some(tools))
    }
}
