//! What became of a request's choices.

use lm::model::Told;

use super::error::ApiError;
use super::submit::Asked;
use super::usage::Usage;
use crate::worker::{Ending, Token, Update};

/// A choice that is over.
#[derive(Default)]
pub(crate) struct Choice {
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
    /// What was told of its prompt.
    pub(crate) told: Vec<Told>,
    pub(crate) ending: Option<Ending>,
}

impl Choice {
    /// Why it ended, as clients read it.
    pub(crate) fn finish_reason(&self) -> &'static str {
        finish_reason(self.ending.unwrap_or(Ending::Stop))
    }
}

pub(crate) fn finish_reason(ending: Ending) -> &'static str {
    match ending {
        Ending::Stop => "stop",
        Ending::Length => "length",
    }
}

/// Waits until every choice is over.
///
/// # Errors
/// One failed.
pub(crate) async fn collect(asked: &mut Asked) -> Result<(Vec<Choice>, Usage), ApiError> {
    let mut choices: Vec<Choice> = (0..asked.choices).map(|_| Choice::default()).collect();
    let (mut usage, mut open, mut begun) = (Usage::default(), asked.choices, false);
    while open > 0 {
        match asked.updates.recv().await {
            Some(Update::Token { index, token, text }) => {
                if !std::mem::replace(&mut begun, true) {
                    asked.app.shared.metrics.first_token(asked.received.elapsed());
                }
                choices[index].text.push_str(&text);
                choices[index].tokens.push(token);
            }
            Some(Update::Read { index, told }) => choices[index].told.push(told),
            Some(Update::Done { index, text, ending, usage: of_choice }) => {
                choices[index].text.push_str(&text);
                choices[index].ending = Some(ending);
                usage.add(&of_choice, index % asked.n == 0);
                open -= 1;
            }
            Some(Update::Failed(fault)) => return Err(fault.into()),
            None => return Err(ApiError::failed("the engine is gone")),
        }
    }
    asked.app.shared.metrics.answered(&usage);
    Ok((choices, usage))
}
