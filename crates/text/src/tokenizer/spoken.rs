//! Tokens as a person reads them: what was said, without the marks around it.

use super::Tokenizer;
use anyhow::Result;

/// The names that chat templates write after a special token, for whoever speaks next.
const ROLES: [&str; 8] = ["system", "developer", "user", "human", "assistant", "model", "tool", "function"];

impl Tokenizer {
    /// What is said in `ids`: their text without special tokens, and without the roles that a chat template
    /// names after these. Where there are several turns, each is a line that begins with its role.
    ///
    /// It is for people to look at: templates that mark turns by plain text keep that text.
    ///
    /// # Errors
    /// An id is not in the vocabulary.
    pub fn spoken(&self, ids: &[u32]) -> Result<String> {
        let is_special = |id: &u32| self.specials().iter().any(|(_, special)| special == id);
        let mut turns: Vec<(Option<&str>, String)> = Vec::new();
        let mut role = None;
        for (place, piece) in ids.split(is_special).enumerate() {
            let text = self.decode(piece)?;
            let (named, said) = if place > 0 { named(&text) } else { (None, text.as_str()) };
            role = named.or(role);
            if !said.trim().is_empty() {
                turns.push((role.take(), said.trim().to_owned()));
            }
        }
        Ok(match turns.as_slice() {
            [(_, only)] => only.clone(),
            _ => {
                let line = |(role, said): &(Option<&str>, String)| match role {
                    Some(role) => format!("{role}: {said}"),
                    None => said.clone(),
                };
                turns.iter().map(line).collect::<Vec<_>>().join("\n")
            }
        })
    }
}

/// The role that a text after a special token begins with, if it stands alone on its line, and the rest.
fn named(text: &str) -> (Option<&'static str>, &str) {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    match ROLES.into_iter().find(|role| *role == first.trim()) {
        Some(role) => (Some(role), rest),
        None => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::chat::{ChatTemplate, Message, Role, with_ours};
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn marks_and_roles_are_left_out() {
        let texts = ["user and assistant", "What is 2 plus 3?"].map(|text| Ok(text.to_owned()));
        let tokenizer = Tokenizer::train(texts.into_iter(), 300, &[], &Silent).unwrap();
        let tokenizer = with_ours(&tokenizer).unwrap();
        let template = ChatTemplate::of(&tokenizer).unwrap().unwrap();
        let spoken = |messages: &[(Role, &str)]| {
            let messages: Vec<Message> =
                messages.iter().map(|(role, text)| Message::new(*role, *text)).collect();
            tokenizer.spoken(&template.prompt(&tokenizer, &messages).unwrap()).unwrap()
        };
        assert_eq!(spoken(&[(Role::User, "What is 2 plus 3?")]), "What is 2 plus 3?");
        let turns = [(Role::User, "Hi"), (Role::Assistant, "Ho"), (Role::User, "user\nis a word")];
        assert_eq!(spoken(&turns), "user: Hi\nassistant: Ho\nuser: user\nis a word");
        let plain = tokenizer.encode("user\nis how this text begins");
        assert_eq!(tokenizer.spoken(&plain).unwrap(), "user\nis how this text begins");
    }
}
