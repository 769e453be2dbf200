//! What the verbs that write files share: `--force`, and the recipe that tells one command from another.

use std::path::Path;

use anyhow::Result;
use clap::Args;
use gpt::checkpoint;
use gpt::hub::Name;
use gpt::output::{Input, Out, Recipe, digest};
use gpt::progress::Stopped;
use serde::Serialize;

use crate::session::Session;

/// What every verb that writes a file tells about it.
pub(crate) const RULE: &str = "\
A file that this same command left unfinished is continued, and one that it finished is left as it is: FILE.mynah beside it tells
which command made it. `-` is standard output; links, pipes and devices are written through.";

/// Whether somebody else's file may be replaced.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Force {
    /// Replace a file that another command made; it stays until the new one is whole
    #[arg(long)]
    pub(crate) force: bool,
}

/// What makes two commands the same: the verb, the options that decide what comes out, and what is read, by
/// name.
pub(crate) fn recipe(verb: &str, settings: &impl Serialize, inputs: Vec<(&str, Input)>) -> Result<Recipe> {
    Recipe::of_verb(verb, settings, inputs.into_iter().map(|(name, input)| (name.to_owned(), input)))
}

/// A model as an input: its arrays, its shape, and all that stands beside them and has a say in what it
/// writes.
pub(crate) fn model(path: &Path, session: &Session) -> Result<Input> {
    let model = checkpoint::open(path, session.terminal())?;
    let tokenizer = model.tokenizer()?.map(|tokenizer| tokenizer.digest());
    let beside = ["generation_config.json", "chat_template.jinja", "tokenizer_config.json"];
    let beside = beside.map(|name| std::fs::read(model.path.join(name)).unwrap_or_default());
    let digest = digest(&(model.digest()?, &model.config, tokenizer, beside));
    let place =
        model.origin.as_ref().map_or_else(|| path.to_owned(), |origin: &Name| origin.to_string().into());
    Ok(Input::new(&place, digest))
}

/// A number as it was typed: 0.7 is 0.7 among numbers of twice the digits, too.
pub(crate) fn shortest(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

/// Says that the same command finished the file.
pub(crate) fn say_finished(out: &Out, session: &Session) {
    session.say(&format!("{} is complete already: nothing to do", out.asked().display()));
}

/// The error of work that was stopped, where what it did stays.
pub(crate) fn kept(error: anyhow::Error) -> anyhow::Error {
    match error.is::<Stopped>() {
        true => Stopped("what is done stays, and the same command goes on").into(),
        false => error,
    }
}
