//! Task tokens: what is asked of a text, written with special tokens (Radford et al. 2019: one model for
//! `P(output | input, task)`).
//!
//! A *task* is the only kind of text in which names of special tokens count: in `[问题] 我是谁 [答案]` the two names
//! become the tokens of a tokenizer that has them, and what stands between them is text. White space next to
//! a special token belongs to the notation and is left out. Inputs and outputs are never read in this way.

use super::Tokenizer;
use anyhow::{Result, bail, ensure};

/// What [`Tokenizer::encode_task`] does.
pub(super) fn encode(tokenizer: &Tokenizer, task: &str) -> Result<Vec<u32>> {
    let (mut ids, mut rest) = (Vec::new(), task);
    while let Some((at, name, id)) = first_special(tokenizer, rest) {
        ensure!(Some(id) != tokenizer.end_of_text(), "the task `{task}` ends the document: leave {name} out");
        let (before, after) = rest.split_at(at);
        ids.extend(tokenizer.encode(before.trim_end()));
        ids.push(id);
        rest = after[name.len()..].trim_start();
    }
    if ids.is_empty() {
        let known: Vec<&str> = tokenizer.specials().iter().map(|(name, _)| name.as_str()).collect();
        bail!(
            "the task `{task}` names no special token; those of the tokenizer are {}: add others with \
             `mynah tokenizer train --special NAME` or `mynah tokenizer extend --special NAME`",
            known.join(", ")
        );
    }
    ids.extend(tokenizer.encode(rest));
    Ok(ids)
}

/// What [`Tokenizer::names_special`] does.
pub(super) fn names_special(tokenizer: &Tokenizer, task: &str) -> bool {
    first_special(tokenizer, task).is_some()
}

/// The special token that is named first in `text`, of several at one place the longest, and where.
fn first_special<'a>(tokenizer: &'a Tokenizer, text: &str) -> Option<(usize, &'a str, u32)> {
    let specials = tokenizer.specials().iter();
    let found = specials.filter_map(|(name, id)| Some((text.find(name.as_str())?, name.as_str(), *id)));
    found.min_by_key(|&(at, name, _)| (at, std::cmp::Reverse(name.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn tokenizer() -> Tokenizer {
        let documents = ["我是小明。我是谁？", "Today is a good day."].map(|text| Ok(text.to_string()));
        let special = ["[问题]", "[答案]", "[答案]!"].map(String::from);
        Tokenizer::train(documents.into_iter(), 300, &special, &Silent).unwrap()
    }

    #[test]
    fn names_become_tokens_and_the_rest_is_text() {
        let tokenizer = tokenizer();
        let [question, answer, loud] =
            ["[问题]", "[答案]", "[答案]!"].map(|name| tokenizer.special(name).unwrap());
        let asked = tokenizer.encode("我是谁");
        for task in ["[问题] 我是谁 [答案]", "[问题]我是谁[答案]", "[问题]\n我是谁 \t[答案] "]
        {
            assert_eq!(
                tokenizer.encode_task(task).unwrap(),
                [&[question], &asked[..], &[answer]].concat(),
                "{task:?}"
            );
        }
        assert!(tokenizer.names_special("x [答案]") && !tokenizer.names_special("TL;DR:"));
        let longest = tokenizer.encode_task("[答案]!x").unwrap();
        assert_eq!(longest, [&[loud], &tokenizer.encode("x")[..]].concat());
        // The same names in any other text stay text.
        assert!(
            !tokenizer.encode("[问题] 我是谁 [答案]").iter().any(|id| [question, answer, loud].contains(id))
        );
    }

    #[test]
    fn a_task_without_a_token_and_one_that_ends_the_document_are_refused() {
        let refusal = |task: &str| tokenizer().encode_task(task).unwrap_err().to_string();
        assert!(refusal("[問題] 我是谁").contains("names no special token"), "{}", refusal("[問題] 我是谁"));
        assert!(refusal("").contains("[问题], [答案]"));
        assert!(refusal("[问题] <|endoftext|>").contains("ends the document"));
    }
}
