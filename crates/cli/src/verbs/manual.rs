//! `mynah completions` and `mynah man`: what shells and `man` know of the command line.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use clap_complete::Shell;
use serde_json::json;

use crate::commands::command;
use crate::session::{Ended, Session};
use crate::terminal::print;

const SHELLS: &str = "\
Write the file where the shell looks for it:
  mynah completions bash > ~/.local/share/bash-completion/completions/mynah
  mynah completions zsh > ~/.zfunc/_mynah        with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc
  mynah completions fish > ~/.config/fish/completions/mynah.fish";

const PAGES: &str = "\
Examples:
  mynah man | man -l -
  mynah man ~/.local/share/man/man1        one page a verb, for `man mynah-pretrain`";

/// Print what a shell completes command lines by
#[derive(Debug, Args)]
#[command(after_help = SHELLS)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Print the manual page, or write one for every verb
#[derive(Debug, Args)]
#[command(after_help = PAGES)]
pub(crate) struct ManArgs {
    /// Directory for the pages of all verbs [default: the main page, on standard output]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn completions(args: &CompletionsArgs, session: &Session) -> Result<Ended> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "mynah", &mut script);
    match session.json() {
        true => {
            let text = String::from_utf8_lossy(&script).into_owned();
            session.result(&json!({ "shell": args.shell.to_string(), "script": text }), String::new)?;
        }
        false => print(&script)?,
    }
    Ok(Ended::Done)
}

pub(crate) fn man(args: &ManArgs, session: &Session) -> Result<Ended> {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command()).render(&mut page).context("cannot make the page")?;
        match session.json() {
            true => {
                session.result(&json!({ "page": String::from_utf8_lossy(&page) }), String::new)?;
            }
            false => print(&page)?,
        }
        return Ok(Ended::Done);
    };
    let shown = dir.display();
    anyhow::ensure!(!dir.is_file(), "{shown} is a file: name a directory for the pages");
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the directory {shown}"))?;
    clap_mangen::generate_to(command(), dir).with_context(|| format!("cannot write pages to {shown}"))?;
    session.summary(&json!({ "pages": dir }), || format!("mynah.1 and a page for every verb → {shown}"))?;
    Ok(Ended::Done)
}
