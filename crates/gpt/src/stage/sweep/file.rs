//! The file of a sweep: what its runs have in common, and what they differ in.
//!
//! ```toml
//! verb = "pretrain"          # a training
//! preset = "nano"            # every other key is a flag of it
//! data = "tokens"
//!
//! [set]                      # recipe keys of all
//! steps = 2000
//!
//! [grid]                     # a run for every combination; `seed` and `preset` may be among them
//! lr = [1e-3, 3e-3]
//! d_model = [128, 256]
//! ```
//!
//! In place of `[grid]` a ladder has a `[[ladder]]` for each run: a preset, recipe keys, and `tokens`, `flops` or `steps`.

use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

/// The trainings that a sweep may be of.
pub const VERBS: [&str; 9] = ["pretrain", "finetune", "sft", "distil", "reward", "dpo", "kto", "ppo", "grpo"];
/// Runs of a sweep at most.
const MOST_RUNS: usize = 1000;
/// What a sweep says itself.
const TAKEN: [(&str, &str); 5] = [
    ("out", "every run has a directory of its own in that of the sweep"),
    ("set", "write recipe keys under [set], one a line"),
    ("json", "ask for it beside the sweep"),
    ("quiet", "ask for it beside the sweep"),
    ("help", "`mynah help VERB` tells of a training"),
];

/// How long a run of a ladder is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// As its recipe says.
    Recipe,
    /// So many tokens.
    Tokens(u64),
    /// So many floating-point operations.
    Flops(f64),
}

/// One of the runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The name of its directory, which tells what it is.
    pub name: String,
    /// What it differs in from others: keys and values as people read them.
    pub differs: Vec<(String, String)>,
    /// Its preset, if it has one.
    pub preset: Option<String>,
    /// Its seed, if it has its own.
    pub seed: Option<u64>,
    /// Changes of the recipe, `key=value`, in order.
    pub changes: Vec<String>,
    /// How long it is.
    pub amount: Amount,
    /// The line of the file that it stands in.
    pub line: usize,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepFile {
    /// The training.
    pub verb: String,
    /// Flags of all runs, but the preset and the seed: names, values and the line of each.
    pub flags: Vec<(String, Vec<String>, usize)>,
    /// Whether it is a ladder.
    pub is_ladder: bool,
    /// The runs, in order.
    pub trials: Vec<Trial>,
    /// All that it says, as a table.
    pub table: Table,
}

impl SweepFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Names the file, the line and the key of what is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the sweep {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is no sweep", path.display()))
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        let parsed = DeTable::parse(text)?;
        let reader = Reader { text };
        let mut file = SweepFile {
            verb: "pretrain".into(),
            flags: Vec::new(),
            is_ladder: false,
            trials: Vec::new(),
            table: toml::from_str(text)?,
        };
        let mut base = Trial {
            name: String::new(),
            differs: Vec::new(),
            preset: None,
            seed: None,
            changes: Vec::new(),
            amount: Amount::Recipe,
            line: 0,
        };
        let (mut grid, mut ladder) = (None, None);
        for (key, value, line) in reader.entries(parsed.get_ref()) {
            match key {
                "verb" => {
                    file.verb = reader.name(key, value, line)?;
                    ensure!(
                        VERBS.contains(&file.verb.as_str()),
                        "line {line}: verb is {:?}, and a sweep is of one of {}",
                        file.verb,
                        VERBS.join(", ")
                    );
                }
                "set" => {
                    for (key, value, line) in reader.entries(reader.table(key, value, line)?) {
                        base.changes.push(format!("{key}={}", reader.scalar(key, value, line)?));
                    }
                }
                "grid" => grid = Some((reader.table(key, value, line)?, line)),
                "ladder" => ladder = Some((value, line)),
                _ => reader.base(key, value, line, &mut base, &mut file.flags)?,
            }
        }
        file.trials = match (grid, ladder) {
            (Some((_, line)), Some((_, other))) => {
                bail!("lines {line} and {other}: a sweep has a [grid] or a [[ladder]], not both")
            }
            (None, None) => bail!("it has no [grid] and no [[ladder]]: say what its runs differ in"),
            (Some((grid, line)), None) => reader.grid(grid, line, &base)?,
            (None, Some((ladder, line))) => {
                file.is_ladder = true;
                reader.ladder(ladder, line, &base)?
            }
        };
        let width = file.trials.len().to_string().len();
        for (number, trial) in (1..).zip(&mut file.trials) {
            trial.name = name(number, width, &trial.differs);
        }
        super::clashes::check(&file)?;
        Ok(file)
    }
}

/// `03-lr-0.001-d_model-64`: no character that a shell or a flag would take for something else.
fn name(number: usize, width: usize, differs: &[(String, String)]) -> String {
    let mut name = format!("{number:0width$}");
    for (key, value) in differs {
        name += &format!("-{key}-{value}");
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-+".contains(c) { c } else { '_' };
    name.chars().take(100).map(plain).collect()
}

/// Reads values of a text, and says where they stand.
struct Reader<'t> {
    text: &'t str,
}

type Entry<'e> = (&'e str, &'e Spanned<DeValue<'e>>, usize);

impl Reader<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.text[..at.min(self.text.len())].matches('\n').count()
    }

    /// Keys and values in the order of the file, with their lines.
    fn entries<'e>(&self, table: &'e DeTable<'e>) -> Vec<Entry<'e>> {
        let mut entries: Vec<_> = table.iter().map(|(key, value)| (key.span().start, key, value)).collect();
        entries.sort_by_key(|entry| entry.0);
        let entries = entries.into_iter();
        entries.map(|(at, key, value)| (key.get_ref().as_ref(), value, self.line(at))).collect()
    }

    fn table<'e>(&self, key: &str, value: &'e Spanned<DeValue<'e>>, line: usize) -> Result<&'e DeTable<'e>> {
        let kind = value.get_ref().type_str();
        value
            .get_ref()
            .as_table()
            .with_context(|| format!("line {line}: {key} is a {kind}, and has to be a table: [{key}]"))
    }

    /// A value that is one thing, as TOML writes it.
    fn scalar(&self, key: &str, value: &Spanned<DeValue<'_>>, line: usize) -> Result<String> {
        let kind = value.get_ref().type_str();
        let is_one = !matches!(kind, "table" | "datetime");
        ensure!(is_one, "line {line}: {key} is a {kind}: give a number, a name, true or false");
        let span = value.span();
        let parsed: Table = toml::from_str(&format!("value = {}", &self.text[span]))?;
        Ok(parsed.get("value").map(Value::to_string).unwrap_or_default())
    }

    fn name(&self, key: &str, value: &Spanned<DeValue<'_>>, line: usize) -> Result<String> {
        let kind = value.get_ref().type_str();
        let name = value.get_ref().as_str().map(str::to_owned);
        name.with_context(|| format!("line {line}: {key} is a {kind}, and has to be a name in quotes"))
    }

    /// A key of the file itself: preset, seed or a flag of every run.
    fn base(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        line: usize,
        base: &mut Trial,
        flags: &mut Vec<(String, Vec<String>, usize)>,
    ) -> Result<()> {
        if let Some((_, why)) = TAKEN.iter().find(|(taken, _)| *taken == key) {
            bail!("line {line}: {key} cannot be: {why}");
        }
        match key {
            "preset" => base.preset = Some(self.name(key, value, line)?),
            "seed" => base.seed = Some(self.number(key, value, line)?),
            _ => {
                let values = match value.get_ref() {
                    DeValue::Boolean(false) => return Ok(()),
                    DeValue::Boolean(true) => Vec::new(),
                    DeValue::Array(values) => values
                        .iter()
                        .map(|value| self.scalar(key, value, line).map(|value| plain(&value)))
                        .collect::<Result<_>>()?,
                    _ => vec![plain(&self.scalar(key, value, line)?)],
                };
                flags.push((key.replace('_', "-"), values, line));
            }
        }
        Ok(())
    }

    fn number(&self, key: &str, value: &Spanned<DeValue<'_>>, line: usize) -> Result<u64> {
        let text = plain(&self.scalar(key, value, line)?);
        text.parse()
            .ok()
            .with_context(|| format!("line {line}: {key} is {text}, and has to be a whole number"))
    }

    /// Every combination of the values, the last key's changing first.
    fn grid(&self, grid: &DeTable<'_>, line: usize, base: &Trial) -> Result<Vec<Trial>> {
        let mut trials = vec![Trial { line, ..base.clone() }];
        for (key, values, line) in self.entries(grid) {
            let kind = values.get_ref().type_str();
            let values = values.get_ref().as_array().filter(|values| !values.is_empty());
            let values = values.with_context(|| {
                format!(
                    "line {line}: {key} is a {kind}, and has to be a list of values, such as [1e-3, 3e-3]"
                )
            })?;
            let mut more = Vec::new();
            for trial in &trials {
                for value in values {
                    let mut trial = Trial { line: self.line(value.span().start), ..trial.clone() };
                    self.change(&mut trial, key, value, line)?;
                    more.push(trial);
                }
            }
            trials = more;
            ensure!(
                trials.len() <= MOST_RUNS,
                "line {line}: with {key} there are {} runs, and {MOST_RUNS} is the most",
                trials.len()
            );
        }
        ensure!(
            !trials[0].differs.is_empty(),
            "line {line}: [grid] is empty: name recipe keys, each with a list of values"
        );
        Ok(trials)
    }

    /// What a run has of its own.
    fn change(&self, trial: &mut Trial, key: &str, value: &Spanned<DeValue<'_>>, line: usize) -> Result<()> {
        let text = self.scalar(key, value, line)?;
        match key {
            "seed" => trial.seed = Some(self.number(key, value, line)?),
            "preset" => trial.preset = Some(self.name(key, value, line)?),
            _ => trial.changes.push(format!("{key}={text}")),
        }
        trial.differs.push((key.to_owned(), plain(&text)));
        Ok(())
    }

    fn ladder(&self, ladder: &Spanned<DeValue<'_>>, line: usize, base: &Trial) -> Result<Vec<Trial>> {
        let rungs = ladder.get_ref().as_array().filter(|rungs| !rungs.is_empty());
        let rungs = rungs.with_context(|| format!("line {line}: write a [[ladder]] for each run"))?;
        let mut trials = Vec::new();
        for rung in rungs {
            let line = self.line(rung.span().start);
            let mut trial = Trial { line, ..base.clone() };
            for (key, value, line) in self.entries(self.table("ladder", rung, line)?) {
                match key {
                    "tokens" | "flops" => {
                        ensure!(
                            trial.amount == Amount::Recipe,
                            "line {line}: {key} beside another amount: give one of tokens, flops and steps"
                        );
                        let text = plain(&self.scalar(key, value, line)?);
                        let amount = amount(&text).with_context(|| {
                            format!("line {line}: {key} is {text}, and has to be an amount above 0, such as 20_000_000, \"20M\" or 1e15")
                        })?;
                        let is_tokens = key == "tokens";
                        trial.amount =
                            if is_tokens { Amount::Tokens(amount as u64) } else { Amount::Flops(amount) };
                        trial.differs.push((key.to_owned(), text));
                    }
                    _ => self.change(&mut trial, key, value, line)?,
                }
            }
            trials.push(trial);
        }
        Ok(trials)
    }
}

/// A value as people read it: a name without its quotes.
fn plain(value: &str) -> String {
    let quoted = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    quoted('"').or_else(|| quoted('\'')).unwrap_or(value).to_owned()
}

/// `20M`, `1e15`, `3000`.
fn amount(text: &str) -> Option<f64> {
    let (digits, factor) = match text.chars().last()? {
        'k' | 'K' => (&text[..text.len() - 1], 1e3),
        'M' => (&text[..text.len() - 1], 1e6),
        'G' | 'B' => (&text[..text.len() - 1], 1e9),
        'T' => (&text[..text.len() - 1], 1e12),
        _ => (text, 1.0),
    };
    let amount = digits.parse::<f64>().ok()? * factor;
    (amount.is_finite() && amount >= 1.0).then_some(amount)
}

/// The command of a run, without where it goes and how long it is.
pub fn words(file: &SweepFile, trial: &Trial) -> Vec<String> {
    let mut words = vec![file.verb.clone()];
    for (name, values, _) in &file.flags {
        let flag = format!("--{name}");
        match values.is_empty() {
            true => words.push(flag),
            false => values.iter().for_each(|value| words.extend([flag.clone(), value.clone()])),
        }
    }
    words.extend(trial.preset.iter().flat_map(|preset| ["--preset".to_owned(), preset.clone()]));
    words.extend(trial.seed.iter().flat_map(|seed| ["--seed".to_owned(), seed.to_string()]));
    words.extend(trial.changes.iter().flat_map(|change| ["--set".to_owned(), change.clone()]));
    words
}

/// The keys that runs differ in, in the order of the file.
pub fn columns(file: &SweepFile) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for (key, _) in file.trials.iter().flat_map(|trial| &trial.differs) {
        if !columns.contains(key) {
            columns.push(key.clone());
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_every_combination() {
        let file = SweepFile::parse(
            "preset = \"tiny\"\ndata = \"to kens\"\nkey_token = ['a', 'b']\ntensorboard = true\nseed = 3\n[set]\nsteps = 20\n[grid]\nlr = [1e-3, 3e-3]\nfamily = ['gpt2', \"modern\"]\nseed = [1, 2]\n",
        )
        .unwrap();
        assert_eq!((file.trials.len(), file.is_ladder), (8, false));
        let names: Vec<&str> = file.trials.iter().map(|trial| trial.name.as_str()).collect();
        assert_eq!(names[0], "1-lr-0.001-family-gpt2-seed-1");
        assert_eq!(names[7], "8-lr-0.003-family-modern-seed-2");
        assert_eq!(columns(&file), ["lr", "family", "seed"]);
        let words = words(&file, &file.trials[6]).join(" ");
        assert_eq!(
            words,
            "pretrain --data to kens --key-token a --key-token b --tensorboard --preset tiny --seed 1 --set steps=20 --set lr=0.003 --set family=\"modern\""
        );
    }

    #[test]
    fn a_ladder_is_a_run_a_rung() {
        let file = SweepFile::parse(
            "data = 'tokens'\n[[ladder]]\npreset = 'tiny'\ntokens = '20M'\n[[ladder]]\npreset = 'nano'\nd_model = 96\nflops = 1e15\n[[ladder]]\npreset = 'nano'\nsteps = 7\n",
        )
        .unwrap();
        let amounts: Vec<Amount> = file.trials.iter().map(|trial| trial.amount).collect();
        assert_eq!(amounts, [Amount::Tokens(20_000_000), Amount::Flops(1e15), Amount::Recipe]);
        assert_eq!(file.trials[1].changes, ["d_model=96"]);
        assert_eq!(file.trials[1].name, "2-preset-nano-d_model-96-flops-1000000000000000.0");
        assert_eq!(file.trials[2].line, 9);
        assert_eq!(columns(&file), ["preset", "tokens", "d_model", "flops", "steps"]);
    }

    #[test]
    fn faults_are_named_by_key_and_line() {
        for (text, parts) in [
            ("lr = [1", &["line 1"][..]),
            ("data = 'x'\n", &["no [grid]"]),
            ("verb = 'fly'\n[grid]\nlr = [1]", &["line 1", "\"fly\"", "pretrain"]),
            ("verb = 3\n[grid]\nlr = [1]", &["line 1", "verb is a integer"]),
            ("\nout = 'x'\n[grid]\nlr = [1]", &["line 2", "out cannot be"]),
            ("[grid]\n\nlr = 1e-3", &["line 3", "lr is a float", "list of values"]),
            ("[grid]\nlr = []", &["line 2", "lr"]),
            ("[grid]\n", &["line 1", "[grid] is empty"]),
            ("[grid]\nlr = [{ a = 1 }]", &["line 2", "lr is a table"]),
            ("[grid]\nseed = [1.5]", &["line 2", "seed is 1.5"]),
            ("[grid]\nlr = [1]\n[[ladder]]\ntokens = 1", &["lines 1 and 3", "not both"]),
            ("[[ladder]]\ntokens = 'many'", &["line 2", "tokens is many"]),
            ("[[ladder]]\ntokens = 5\nflops = 6", &["line 3", "flops beside another amount"]),
            ("set = 3\n[grid]\nlr = [1]", &["line 1", "set is a integer"]),
        ] {
            let error = format!("{:#}", SweepFile::parse(text).unwrap_err());
            for part in parts {
                assert!(error.contains(part), "{text:?}: {part:?} is not in: {error}");
            }
        }
    }
}
