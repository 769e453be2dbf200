//! Tokens of a request.

use serde::Serialize;
use utoipa::ToSchema;

/// What was read and drawn. The prompt counts once, however many answers there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u64,
    /// Tokens drawn, the one that ended an answer included.
    pub(crate) completion_tokens: u64,
    pub(crate) total_tokens: u64,
    pub(crate) prompt_tokens_details: PromptTokensDetails,
}

/// What is told of the prompt's tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct PromptTokensDetails {
    /// Those whose keys and values were there already.
    pub(crate) cached_tokens: u64,
}

impl Usage {
    /// Adds a choice; `is_first` of its prompt.
    pub(crate) fn add(&mut self, usage: &lm::model::Usage, is_first: bool) {
        if is_first {
            self.prompt_tokens += usage.prompt_tokens as u64;
            self.prompt_tokens_details.cached_tokens += usage.cached_tokens as u64;
        }
        self.completion_tokens += usage.drawn_tokens as u64;
        self.total_tokens = self.prompt_tokens + self.completion_tokens;
    }
}
