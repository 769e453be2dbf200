//! What answers get: rewards by rules, by a reward model, and by programs, added up with weights.
//!
//! A reward that fails gives nothing, which is not zero: an answer that lacks one has no reward at all.

mod key;
mod number;
mod spec;

pub use spec::{RewardKind, RewardSpec};

use crate::data::Prompt;
use crate::data::messages::Message;
use crate::data::rows::Record;
use crate::eval::code::{self, Problem};
use crate::lessons::Judge;
use crate::progress::Silent;
use crate::sandbox::Sandbox;
use crate::stage::Init;
use crate::stage::episodes::Episode;
use crate::stage::score::{check_reward, rewards};
use crate::stage::training_loop::Cancel;
use crate::train::Frozen;
use anyhow::{Context, Result, ensure};
use kernels::Backend;
use ranks::Ranks;
use regex::Regex;
use serde_json::{Value, json};
use std::time::Duration;

/// An answer that is to be judged.
#[derive(Clone)]
pub(super) struct Answer<'a> {
    pub(super) prompt: &'a Prompt,
    pub(super) text: String,
    /// With an end, where the policy did not come to one.
    pub(super) whole: Episode,
    /// What was said on the way to it: calls of tools, and what they returned.
    pub(super) said: &'a [Message],
}

/// What a reward gives an answer, or why it gives nothing.
pub(super) type Given = Result<f64, String>;

/// A reward that is ready to judge.
struct Judging<B: Backend> {
    spec: RewardSpec,
    /// Its kind, numbered from the second of the same kind on.
    name: String,
    how: How<B>,
}

enum How<B: Backend> {
    Key,
    Number,
    Pattern(Regex),
    Length,
    Model(Box<Frozen<B>>),
    Tests,
    Program(String),
}

/// All rewards of a run.
pub(super) struct Rewards<'a, B: Backend> {
    judging: Vec<Judging<B>>,
    sandbox: Option<&'a Sandbox>,
    program_time: Duration,
}

/// What some answers got.
#[derive(Default)]
pub(super) struct Graded {
    /// By reward, then by answer.
    pub(super) given: Vec<Vec<Given>>,
    /// The weighted sum of each answer's, where none is missing.
    pub(super) totals: Vec<Option<f64>>,
    /// Whether each is right, where that can be told.
    pub(super) right: Vec<Option<bool>>,
}

impl<'a, B: Backend> Rewards<'a, B> {
    /// Makes rewards ready: reads their programs, and takes the models of those that are some, in their
    /// order.
    ///
    /// # Errors
    /// A model is no reward model of the policy's tokenizer; a program cannot be read, or there is no sandbox
    /// to run it in.
    pub(super) fn new(
        b: &mut B,
        specs: &[RewardSpec],
        models: &[Init],
        policy: &Init,
        sandbox: Option<&'a Sandbox>,
        program_time: Duration,
    ) -> Result<Self> {
        ensure!(!specs.is_empty(), "there is no reward (--reward KIND)");
        let (mut models, mut judging) = (models.iter(), Vec::<Judging<B>>::new());
        for spec in specs {
            ensure!(
                sandbox.is_some() || !spec.runs_programs(),
                "{}: programs are run in a sandbox",
                spec.text()
            );
            let how = match &spec.kind {
                RewardKind::Answer => How::Key,
                RewardKind::Number => How::Number,
                RewardKind::Regex(pattern) | RewardKind::Format(pattern) => How::Pattern(pattern.clone()),
                RewardKind::Length => How::Length,
                RewardKind::Tests => How::Tests,
                RewardKind::Program(path) => {
                    How::Program(std::fs::read_to_string(path).with_context(|| {
                        format!("cannot read the reward program {}: check the path", path.display())
                    })?)
                }
                RewardKind::Model(_) => {
                    let model = models.next().with_context(|| format!("{}: no such model", spec.text()))?;
                    check_reward(model, policy)?;
                    let config = model.config(0.0);
                    let weights = model.weights(b, &config, 0)?;
                    How::Model(Box::new(Frozen::new(b, config, weights)))
                }
            };
            let before = judging.iter().filter(|other| other.spec.name() == spec.name()).count();
            let number = if before > 0 { (before + 1).to_string() } else { String::new() };
            judging.push(Judging { spec: spec.clone(), name: format!("{}{number}", spec.name()), how });
        }
        Ok(Rewards { judging, sandbox, program_time })
    }

    /// Their names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.judging.iter().map(|judging| judging.name.as_str())
    }

    /// Whether some tell right answers from wrong ones.
    pub(super) fn tell_right(&self) -> bool {
        self.judging.iter().any(|judging| judging.spec.tells_right() > 0)
    }

    /// The longest sequence that all reward models read.
    pub(super) fn context(&self) -> usize {
        let of = |judging: &Judging<B>| match &judging.how {
            How::Model(model) => model.config.seq_len,
            _ => usize::MAX,
        };
        self.judging.iter().map(of).min().unwrap_or(usize::MAX)
    }

    /// Refuses prompts that a reward knows nothing of.
    pub(super) fn check(&self, what: &str, prompts: &[Prompt]) -> Result<()> {
        for (number, prompt) in (1..).zip(prompts) {
            for judging in &self.judging {
                let known = match judging.how {
                    How::Key => key::phrases(&prompt.extra).map(drop),
                    How::Number => key::numbers(&prompt.extra).map(drop),
                    How::Tests => problem(&prompt.extra).map(drop),
                    _ => Ok(()),
                };
                known.with_context(|| {
                    format!("{what}, prompt {number}: the reward {} needs a key", judging.name)
                })?;
            }
        }
        Ok(())
    }

    /// What answers get. They are dealt to `ranks`, since what becomes of a program may depend on the moment, and
    /// all have to hear the same; a reward program reads them one after another, and the first rank asks it for all.
    ///
    /// # Errors
    /// A sandbox cannot be set up.
    pub(super) fn grade(&mut self, b: &mut B, answers: &[Answer<'_>], ranks: &Ranks) -> Result<Graded> {
        let count = answers.len();
        let dealt: Vec<Answer<'_>> = ranks.dealt(count).map(|place| answers[place].clone()).collect();
        let Self { judging, sandbox, program_time } = self;
        let mut given = Vec::with_capacity(judging.len());
        for Judging { how, .. } in judging {
            let is_program = matches!(how, How::Program(_));
            let mut judge = |answers: &[Answer<'_>]| judge(how, b, *sandbox, *program_time, answers);
            given.push(match is_program {
                true => ranks.lead(|| texts(judge(answers)?))?,
                false => ranks.collect_lists(&texts(judge(&dealt)?)?, count),
            });
        }
        let all = given.iter().zip(&self.judging);
        let of_reward = |(texts, judging): (&Vec<Vec<u8>>, &Judging<B>)| {
            texts
                .iter()
                .map(|text| Ok(read(text)?.and_then(|given| bounded(given, judging.spec.weight))))
                .collect()
        };
        let given = all.map(of_reward).collect::<Result<_>>()?;
        Ok(self.add_up(given, count))
    }

    fn add_up(&self, given: Vec<Vec<Given>>, answers: usize) -> Graded {
        let surest = self.judging.iter().map(|judging| judging.spec.tells_right()).max().unwrap_or(0);
        let of = |at: usize| {
            given
                .iter()
                .zip(&self.judging)
                .map(move |(given, judging)| (given[at].as_ref().ok(), &judging.spec))
        };
        let total = |at| of(at).map(|(given, spec)| given.map(|given| spec.weight * given)).sum();
        let right = |at| {
            let telling = of(at).filter(|(_, spec)| surest > 0 && spec.tells_right() == surest);
            let all =
                telling.map(|(given, _)| given.map(|given| *given >= 1.0)).collect::<Option<Vec<bool>>>()?;
            (!all.is_empty()).then(|| all.into_iter().all(|is_right| is_right))
        };
        let (totals, right) = ((0..answers).map(total).collect(), (0..answers).map(right).collect());
        Graded { given, totals, right }
    }
}

impl Graded {
    /// Those of further answers.
    pub(super) fn extend(&mut self, other: Graded) {
        if self.given.is_empty() {
            *self = other;
            return;
        }
        self.given.iter_mut().zip(other.given).for_each(|(given, further)| given.extend(further));
        self.totals.extend(other.totals);
        self.right.extend(other.right);
    }

    /// Those of some answers.
    pub(super) fn of(&self, places: &[usize]) -> Graded {
        let chosen = |given: &Vec<Given>| places.iter().map(|&at| given[at].clone()).collect();
        Graded {
            given: self.given.iter().map(chosen).collect(),
            totals: places.iter().map(|&at| self.totals[at]).collect(),
            right: places.iter().map(|&at| self.right[at]).collect(),
        }
    }
}

/// What a reward gives answers.
fn judge<B: Backend>(
    how: &mut How<B>,
    b: &mut B,
    sandbox: Option<&Sandbox>,
    program_time: Duration,
    answers: &[Answer<'_>],
) -> Result<Vec<Given>> {
    Ok(match how {
        How::Key => each(answers, |answer| Ok(key::stated(&answer.prompt.extra, &answer.text))),
        How::Number => each(answers, |answer| Ok(key::equals(&answer.prompt.extra, &answer.text))),
        How::Pattern(pattern) => each(answers, |answer| Ok(f64::from(pattern.is_match(&answer.text)))),
        How::Length => each(answers, |answer| {
            Judge::Length.score(&answer.prompt.extra, &answer.text).map_err(|fault| fault.detail)
        }),
        How::Model(model) => {
            let whole: Vec<Episode> = answers.iter().map(|answer| answer.whole.clone()).collect();
            let finite =
                |score: f64| if score.is_finite() { Ok(score) } else { Err(format!("it gives {score}")) };
            rewards(model, b, &whole, Cancel::never())?.into_iter().map(finite).collect()
        }
        How::Tests => tested(needed(sandbox)?, answers)?,
        How::Program(source) => code::numbers(needed(sandbox)?, source, &lines(answers)?, program_time)?,
    })
}

/// What is given, unless its sum of squares could be beyond all numbers.
fn bounded(given: f64, weight: f64) -> Given {
    const MOST: f64 = 1e100;
    let weighted = weight * given;
    match weighted.abs() <= MOST {
        true => Ok(given),
        false => Err(format!("it gives {given:e} with a weight of {weight}, which is not within {MOST:e}")),
    }
}

/// What was given, as ranks tell each other: bits, as JSON has no numbers that are not finite.
fn texts(given: Vec<Given>) -> Result<Vec<Vec<u8>>> {
    given.into_iter().map(|given| Ok(serde_json::to_vec(&given.map(f64::to_bits))?)).collect()
}

/// The reverse.
fn read(text: &[u8]) -> Result<Given> {
    let given: Result<u64, String> = serde_json::from_slice(text).context("what was given is JSON")?;
    Ok(given.map(f64::from_bits))
}

fn each(answers: &[Answer<'_>], judge: impl Fn(&Answer<'_>) -> Given) -> Vec<Given> {
    answers.iter().map(judge).collect()
}

fn needed(sandbox: Option<&Sandbox>) -> Result<&Sandbox> {
    sandbox.context("programs are run in a sandbox, and there is none")
}

/// The problem that a prompt's tests are.
fn problem(fields: &Record) -> Result<Problem> {
    let tests = match fields.get("tests") {
        Some(Value::String(tests)) => Some(tests.clone()),
        Some(Value::Array(lines)) => {
            lines.iter().map(Value::as_str).collect::<Option<Vec<_>>>().map(|lines| lines.join("\n"))
        }
        _ => None,
    };
    let tests = tests.context(
        "it has no `tests`, a program or a list of its lines: give prompts whose rows have them, or another --reward",
    )?;
    let entry_point = fields.get("entry_point").and_then(Value::as_str);
    code::problem_of_tests(&tests, entry_point)
        .context("its `tests` call no function by its name: give the name as `entry_point`")
}

/// Whether the programs in answers pass their prompts' tests.
fn tested(sandbox: &Sandbox, answers: &[Answer<'_>]) -> Result<Vec<Given>> {
    let problems: Vec<Problem> =
        answers.iter().map(|answer| problem(&answer.prompt.extra)).collect::<Result<_>>()?;
    let programs: Vec<(&Problem, &str)> = problems
        .iter()
        .zip(answers)
        .map(|(problem, answer)| (problem, code::code_of(&answer.text)))
        .collect();
    let mut given = Vec::with_capacity(answers.len());
    code::grade(sandbox, &programs, code::TIMEOUT, &Silent, &mut |verdict| {
        given.push(match verdict.kind {
            code::Kind::Broken => Err(format!("the tests do not run: {}", verdict.detail)),
            _ => Ok(f64::from(verdict.passed())),
        });
        Ok(())
    })?;
    Ok(given)
}

/// Answers as a reward program reads them: one JSON object a line, with the prompt's further fields.
fn lines(answers: &[Answer<'_>]) -> Result<Vec<String>> {
    let line = |answer: &Answer<'_>| {
        let mut line = answer.prompt.extra.clone();
        let asked = answer.prompt.messages.last().map_or("", |message| message.content.as_str());
        line.insert("prompt".into(), asked.into());
        line.insert("messages".into(), json!(answer.prompt.messages));
        line.insert("completion".into(), answer.text.clone().into());
        if !answer.said.is_empty() {
            line.insert("said".into(), json!(answer.said));
        }
        Ok(serde_json::to_string(&line)?)
    };
    answers.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::Reference;

    fn rewards(specs: &[&str]) -> Rewards<'static, Reference> {
        let judging = specs.iter().map(|text| {
            let spec: RewardSpec = text.parse().unwrap();
            Judging { name: spec.name().into(), spec, how: How::Key }
        });
        Rewards { judging: judging.collect(), sandbox: None, program_time: Duration::from_secs(1) }
    }

    #[test]
    fn what_lacks_a_reward_has_none() {
        let rewards = rewards(&["answer", "format=a:0.5", "length:-1"]);
        let given = vec![
            vec![Ok(1.0), Ok(0.0), Ok(1.0), Err("hung".into())],
            vec![Ok(0.0), Ok(1.0), Err("hung".to_owned()), Ok(1.0)],
            vec![Ok(0.25); 4],
        ];
        let graded = rewards.add_up(given, 4);
        assert_eq!(graded.totals, [Some(0.75), Some(0.25), None, None]);
        assert_eq!(graded.right, [Some(true), Some(false), Some(true), None], "by the key alone");
    }

    #[test]
    fn what_was_given_is_told_to_the_bit() {
        let given: Vec<Given> = vec![Ok(0.1), Ok(-0.0), Ok(f64::NAN), Ok(f64::INFINITY), Err("hung".into())];
        let bits = |given: &Given| given.clone().map(f64::to_bits);
        let told = texts(given.clone()).unwrap().iter().map(|text| read(text).unwrap()).collect::<Vec<_>>();
        assert_eq!(told.iter().map(bits).collect::<Vec<_>>(), given.iter().map(bits).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_too_much_to_be_averaged_is_no_reward() {
        assert_eq!(bounded(-3.0, 0.5), Ok(-3.0));
        for (given, weight) in [(1e308, 10.0), (-1e99, 1e3), (f64::INFINITY, 0.0), (f64::NAN, 1.0)] {
            assert!(bounded(given, weight).is_err(), "{given} {weight}");
        }
    }

    /// Answers are judged by whom they were dealt to, and by keys and lengths as one process judges them.
    #[test]
    fn ranks_judge_what_one_process_judges() {
        let prompt = |answer: &str| {
            let extra = serde_json::from_value(json!({ "answer": answer })).unwrap();
            Prompt { messages: Vec::new(), extra }
        };
        let prompts = [prompt("7"), prompt("12")];
        let said = ["7", "It is 12.", "7 or 8", "12", ""];
        let answers = || -> Vec<Answer<'_>> {
            let answer = |(at, text): (usize, &&str)| Answer {
                prompt: &prompts[at % 2],
                text: (*text).to_owned(),
                whole: Episode::default(),
                said: &[],
            };
            said.iter().enumerate().map(answer).collect()
        };
        let graded = |ranks: &Ranks| {
            let mut rewards = rewards(&["answer", "length:0.5"]);
            rewards.judging[1].how = How::Length;
            let graded = rewards.grade(&mut Reference, &answers(), ranks).unwrap();
            (graded.given, graded.totals, graded.right)
        };
        let alone = graded(&Ranks::alone());
        assert!([true, false].iter().all(|right| alone.2.contains(&Some(*right))), "{alone:?}");
        assert_eq!(ranks::threads(3, |ranks| graded(&ranks)), vec![alone; 3]);
    }

    /// As in MBPP's `test_list`.
    #[test]
    fn tests_may_be_a_list_of_lines() {
        let problem = |tests: Value| problem(json!({ "tests": tests }).as_object().unwrap());
        let (listed, written) =
            (json!(["assert f(1) == 2", "assert f(2) == 3"]), json!("assert f(1) == 2\nassert f(2) == 3"));
        assert_eq!(problem(listed).unwrap().test, problem(written).unwrap().test);
        for odd in [json!([1]), json!(null), json!({})] {
            assert!(format!("{:#}", problem(odd).unwrap_err()).contains("no `tests`"));
        }
    }

    #[test]
    fn where_nothing_tells_right_from_wrong_nothing_is_right() {
        let graded = rewards(&["length"]).add_up(vec![vec![Ok(1.0)]], 1);
        assert_eq!((graded.totals, graded.right), (vec![Some(1.0)], vec![None]));
        let graded = rewards(&["format=a", "regex=b"]).add_up(vec![vec![Ok(1.0)], vec![Ok(0.0)]], 1);
        assert_eq!(graded.right, [Some(false)]);
    }
}
