//! What to type instead, where what was typed is no command.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};
use gpt::nearest::nearest;

/// Flags that have another name here, or that somebody may take for one another.
const MEANT: [(&str, &str); 18] = [
    ("--epochs", "--steps"),
    ("--max-steps", "--steps"),
    ("--dtype", "--quant"),
    ("--learning-rate", "--lr"),
    ("--checkpoint", "--model"),
    ("--model", "--init"),
    ("--init", "--model"),
    ("--input", "--data"),
    ("--output", "--out"),
    ("--output-dir", "--out"),
    ("--dataset", "--data"),
    ("--train", "--data"),
    ("--demonstrations", "--data"),
    ("--data", "--prompts"),
    ("--max-new-tokens", "--max-tokens"),
    ("--num-samples", "--n"),
    ("--batch-size", "--batch-tokens"),
    ("--reward-model", "--reward"),
];

/// Options that name the first thing that a verb reads.
const NAMED: [&str; 5] = ["--model", "--data", "--corpus", "--problems", "--preset"];

/// The error with a hint at what may have been meant, where that can be told.
pub(super) fn with_hint(mut error: Error, command: &Command) -> Error {
    let Some(hint) = hint(&error, command) else { return error };
    for replaced in
        [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedCommand]
    {
        error.remove(replaced);
    }
    // It is that of the suggestion, which is none here.
    error.remove(ContextKind::Usage);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(hint)]));
    error
}

fn hint(error: &Error, command: &Command) -> Option<String> {
    if error.kind() == ErrorKind::InvalidSubcommand && error.get(ContextKind::SuggestedSubcommand).is_none() {
        let ContextValue::String(typed) = error.get(ContextKind::InvalidSubcommand)? else { return None };
        let name = nearest(typed, command.get_subcommands().map(Command::get_name))?;
        return Some(format!("did you mean `{name}`?"));
    }
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let ContextValue::String(typed) = error.get(ContextKind::InvalidArg)? else { return None };
    let words: Vec<String> = std::env::args().collect();
    if let Some([flag, key, _]) = words.windows(3).find(|words| words[0] == "--set" && words[2] == *typed)
        && !key.contains('=')
    {
        return Some(format!("key and value are one word: {flag} {key}={typed}"));
    }
    let verbs = verbs();
    let verb = verbs.iter().try_fold(command, |at, verb| at.find_subcommand(verb)).unwrap_or(command);
    let name = if verbs.is_empty() { "mynah".into() } else { format!("mynah {}", verbs.join(" ")) };
    if ["-v", "--verbose"].contains(&typed.as_str()) {
        return Some(
            "`mynah --version` (-V) tells the version; everything else is said without being asked for, \
                     and `--quiet` leaves it out"
                .into(),
        );
    }
    let has = |command: &Command, flag: &str| {
        let own = flag.trim_start_matches("--");
        command.get_arguments().any(|arg| arg.get_long() == Some(own) && !arg.is_global_set())
    };
    if !typed.starts_with('-') {
        return match verb.get_positionals().next() {
            Some(text) if text.get_num_args().is_none_or(|n| n.max_values() < 2) => {
                Some(format!("put a text of several words between quotes: {name} … 'two words'"))
            }
            Some(_) => None,
            None => {
                let flag = NAMED.into_iter().find(|flag| has(verb, flag))?;
                Some(format!("what a verb reads is named by an option: {name} {flag} {typed}"))
            }
        };
    }
    if let Some(own) = verb.get_positionals().find(|arg| arg.get_id() == typed.trim_start_matches("--")) {
        return Some(format!(
            "it is given without a name: {name} … {}",
            own.get_id().as_str().to_uppercase()
        ));
    }
    // In the verb's own verbs, or by its name here.
    if let Some(below) = verb.get_subcommands().find(|below| has(below, typed)).filter(|_| !verbs.is_empty())
    {
        return Some(format!("`{typed}` belongs to `{name} {}`", below.get_name()));
    }
    if let Some((_, ours)) = MEANT.iter().find(|(theirs, ours)| theirs == typed && has(verb, ours)) {
        return Some(format!("here that is `{ours}`"));
    }
    if verbs.is_empty() {
        let first = |name: &&str| command.find_subcommand(name).is_some_and(|verb| has(verb, typed));
        let known = ["speedrun", "chat", "pretrain", "sft"].into_iter().find(first)?;
        return Some(format!("`{typed}` belongs to a verb: mynah {known} {typed} …"));
    }
    None
}

/// The verbs that were typed, as far as there are such.
fn verbs() -> Vec<String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let command = super::command();
    let mut at = &command;
    let mut verbs = Vec::new();
    for word in words.iter().filter(|word| !word.starts_with('-')) {
        match at.find_subcommand(word) {
            Some(below) => {
                at = below;
                verbs.push(word.clone());
            }
            None => break,
        }
    }
    verbs
}
