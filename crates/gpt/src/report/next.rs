//! What made a run, and what one does next: commands to be copied.

use std::path::Path;

use super::html::{Element, command, paragraph, section};
use super::record::Record;
use super::text::{Text, both};
use crate::train::run::EventKind;

/// The command that made the run, where that is known.
pub(super) fn made_by(words: Option<&str>) -> Option<Element> {
    let text = both(
        "This command made it. The same command again continues what was interrupted, and changes nothing that is finished.",
        "它由这条命令得来。再运行一次同样的命令，会继续中断了的部分，不会改动已经完成的部分。",
    );
    let made = section(both("The command", "命令")).child(paragraph(text));
    words.map(|words| made.child(command(words)))
}

/// What to do next.
pub(super) fn steps(steps: impl IntoIterator<Item = (Text, String)>) -> Element {
    let step =
        |(what, words): (Text, String)| Element::new("li").child(paragraph(what)).child(command(words));
    section(both("What to do next", "接下来做什么"))
        .child(Element::of("ul", "steps").children(steps.into_iter().map(step)))
}

/// What one does with the model of a run.
pub(super) fn after(record: &Record) -> Element {
    let run = quoted(&record.dir.display().to_string());
    let again = record.command().map_or_else(|| format!("mynah report {run}"), str::to_owned);
    match record.ending() {
        Some(EventKind::Failed) => {
            let what = both(
                "It failed: the last of the events below says how. Begin anew with this, but in another directory (--out) and with a lower learning rate (--lr).",
                "它失败了，下面最后的事件说明了经过。用这条命令重新开始，但换一个目录（--out），学习率（--lr）更小。",
            );
            return steps([(what, again)]);
        }
        Some(EventKind::Finished) => {}
        _ => {
            let what = both(
                "It is not finished. This continues it, and the page is written again when it ends.",
                "它还没有完成。这条命令让它继续，结束时会重写本页。",
            );
            return steps([(what, again)]);
        }
    }
    let input = |name: &str| record.recipe.inputs.get(name).map(|input| run_of(&input.path));
    let chat = || (both("Talk to the model.", "和模型对话。"), format!("mynah chat --model {run}"));
    match record.recipe.stage.as_str() {
        "pretrain" => steps([
            (
                both("Let the model go on with a text.", "让模型续写一段文本。"),
                format!("mynah complete --model {run} 'Once'"),
            ),
            (
                both("Teach it to answer, with conversations that show how.", "用示范对话教它回答。"),
                format!("mynah sft --model {run} --data demonstrations.jsonl --out runs/sft"),
            ),
        ]),
        "sft" | "distil" => steps([
            chat(),
            (
                both(
                    "Let it answer each prompt several times, to be ranked.",
                    "让它对每个提示回答几次，供排序用。",
                ),
                format!(
                    "mynah candidates --model {run} --prompts prompts.jsonl --k 4 --out candidates.jsonl"
                ),
            ),
        ]),
        "reward" => {
            let policy = input("init").unwrap_or_else(|| "runs/sft".into());
            steps([
                (
                    both("Improve the chat model against it.", "用它改进对话模型。"),
                    format!(
                        "mynah ppo --model {policy} --reward {run} --prompts prompts.jsonl --out runs/ppo"
                    ),
                ),
                (
                    both("See what it makes of answers of your own.", "看看它给你自己的回答打多少分。"),
                    format!("mynah score --model {run} --data answers.jsonl"),
                ),
            ])
        }
        "ppo" | "grpo" | "dpo" | "kto" => {
            let before = input("policy").or(input("init")).unwrap_or_else(|| "runs/sft".into());
            steps([
                chat(),
                (
                    both("Compare it with the model that it began from.", "与它出发时的模型比较。"),
                    format!("mynah eval --model {run} --against {before} --tasks text.jsonl"),
                ),
            ])
        }
        "finetune" => steps([(
            both("Ask the classifier.", "问一问分类器。"),
            format!("mynah classify --model {run} 'a text'"),
        )]),
        _ => steps([(both("See what is in it.", "看看里面有什么。"), format!("mynah show {run}"))]),
    }
}

/// The run that a checkpoint belongs to, as a word of a command.
fn run_of(path: &Path) -> String {
    let is_checkpoint = path.parent().is_some_and(|dir| dir.ends_with("checkpoints"));
    let run = if is_checkpoint { path.ancestors().nth(2).unwrap_or(path) } else { path };
    quoted(&run.display().to_string())
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_take_them_apart() {
        let shown = ["runs/a", "", "fn main() {", "it's", "中文", "a=1,b"].map(quoted);
        assert_eq!(shown, ["runs/a", "''", "'fn main() {'", "'it'\\''s'", "中文", "a=1,b"]);
        assert_eq!(run_of(Path::new("runs/sft/checkpoints/step-000360")), "runs/sft");
        assert_eq!(run_of(Path::new("models/a")), "models/a");
    }
}
