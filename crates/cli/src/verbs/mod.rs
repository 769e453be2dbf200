//! One file a verb: its arguments, the call of the library, and its result as text and as JSON.

pub(crate) mod corpus;
pub(crate) mod tokenizer;

use anyhow::Result;

use crate::Ended;
use crate::args::Verb;
use crate::session::Session;

/// Runs a verb.
pub(crate) fn run(verb: Verb, session: &Session) -> Result<Ended> {
    match verb {
        Verb::Corpus(args) => corpus::run(&args, session),
        Verb::Tokenizer(args) => tokenizer::run(&args, session),
    }
}
