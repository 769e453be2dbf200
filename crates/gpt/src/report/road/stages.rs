//! What each stage of the road did, in plain sentences, and what it cost. Amounts are read from the files that
//! the stages left; a sentence whose amount is not there goes without it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::super::REPORT;
use super::super::figures::{operations, percent, percent_of, unbroken};
use super::super::html::{Element, note, section};
use super::super::record::Record;
use super::super::results::{Stage, road_stage};
use super::super::text::{Text, both};
use super::ChatResults;
use crate::numbers::{bytes, count, secs};

/// The stages with what they did, and what they cost.
pub(super) fn stages(dir: &Path, results: &ChatResults) -> Element {
    let total: f64 = results.stages.iter().map(|stage| stage.secs).sum();
    let flops: f64 = results.stages.iter().filter_map(|stage| stage.flops).sum();
    let item = |stage: &Stage| {
        let name = road_stage(&stage.name);
        // Stages that train have a page of their own.
        let is_run = dir.join(&stage.name).join(REPORT).exists();
        let name = if is_run {
            Element::new("a").attr("href", format!("{}/{REPORT}", stage.name)).say(name)
        } else {
            Element::new("span").say(name)
        };
        let share = if total > 0.0 { 100.0 * stage.secs / total } else { 0.0 };
        let fill = Element::of("span", "fill").attr("style", format!("width:{share:.1}%"));
        let cost = Element::of("p", "cost")
            .child(Element::new("span").data(secs(stage.secs)))
            .children(stage.flops.map(|flops| {
                let flops = operations(flops);
                Element::new("span").say(both(format!("{flops} operations"), format!("{flops} 次运算")))
            }))
            .child(Element::of("span", "rail").child(fill));
        Element::of("li", "card stage")
            .child(Element::new("h3").child(name))
            .child(Element::new("p").say(what(dir, results, &stage.name)))
            .child(cost)
    };
    let (total, flops) = (secs(total), operations(flops));
    let sum = both(
        format!(
            "Together {total} on this machine, and {flops} floating-point operations of models (counted from their shapes and amounts, not measured)."
        ),
        format!("在这台机器上一共用了 {total}，模型做了 {flops} 次浮点运算（由形状和数量算出，不是测得）。"),
    );
    section(both("What was done, and what it cost", "做了什么，花了多少"))
        .child(Element::of("ol", "stages").children(results.stages.iter().map(item)))
        .child(note(sum))
}

/// What a stage does, and how much of it there was.
fn what(dir: &Path, results: &ChatResults, stage: &str) -> Text {
    let plain = purpose(stage);
    match amounts(dir, results, stage) {
        Some(amounts) => plain.then(amounts),
        None => plain,
    }
}

fn purpose(stage: &str) -> Text {
    match stage {
        "lessons" => both(
            "The program writes its own teaching material, in English and Chinese: texts to read, conversations to imitate, and prompts to practise on. The prompts of the examination occur in none of it.",
            "程序用中英文自己写教材：供阅读的文本、供模仿的对话、供练习的提示。考试用的提示不会出现在其中。",
        ),
        "corpus" => both(
            "The texts are checked, cleaned and split: most to learn from, a few to test with.",
            "检查、清理文本并分成两份：大部分用来学习，少量用来检验。",
        ),
        "tokenizer" => both(
            "Pieces of text that occur often become tokens, the letters of the model's alphabet.",
            "常出现的文字片段成为 token，它们是模型的字母表。",
        ),
        "tokens" => both("All texts are written down in these tokens.", "所有文本都改用这些 token 写下来。"),
        "pretrain" => both(
            "A model of random numbers reads the tokens and learns to guess the next one. Afterwards it can go on with a text, but does not know that a question wants an answer.",
            "一个由随机数组成的模型阅读这些 token，学习猜下一个。之后它能续写文本，但还不知道问题需要回答。",
        ),
        "sft" => both(
            "The model imitates example conversations, and learns that a question is followed by an answer, and where an answer ends.",
            "模型模仿示范对话，学会问题之后是回答，以及回答在哪里结束。",
        ),
        "candidates" => both(
            "The model answers new prompts several times over, by chance each time differently.",
            "模型对新的提示回答好几次，每次因为随机而不同。",
        ),
        "rankings" => both(
            "A judge puts the answers to each prompt in order, the best first. It makes mistakes, as people do.",
            "裁判把每个提示的回答从好到坏排序。它像人一样会出错。",
        ),
        "reward" => both(
            "A second model learns from the rankings to give every answer a number, the reward: the higher, the better it would be ranked.",
            "另一个模型从排序中学会给每个回答打一个数，叫奖励：排得越靠前，数越大。",
        ),
        "ppo" => both(
            "The chat model practises: it answers, the reward model scores the answers, and what scored better than expected becomes more likely. A penalty (KL) keeps it near to where it began. This is RLHF, reinforcement learning from human feedback.",
            "对话模型开始练习：它回答，奖励模型打分，比预期好的回答变得更可能。一项惩罚（KL）让它不离开起点太远。这就是 RLHF：从人类反馈中强化学习。",
        ),
        "dpo" => both(
            "To compare: another copy of the SFT model learns from the same rankings without a reward model.",
            "作为对照：SFT 模型的另一个副本不用奖励模型，直接从同样的排序学习。",
        ),
        "compare" => both(
            "All models answer the same held-out prompts, and the judge marks them, this time without mistakes.",
            "所有模型回答同样的留出提示，由裁判打分，这一次不出错。",
        ),
        _ => Text::default(),
    }
}

/// How much there was of a stage, and what came out.
fn amounts(dir: &Path, results: &ChatResults, stage: &str) -> Option<Text> {
    let lesson = |name: &str| lines(&dir.join("lessons").join(name)).map(count);
    let run = || Record::read(&dir.join(stage)).ok();
    Some(match stage {
        "lessons" => {
            let (shown, asked, held) =
                (lesson("demonstrations.jsonl")?, lesson("prompts.jsonl")?, lesson("held-out.jsonl")?);
            both(
                format!("{shown} conversations, {asked} prompts, {held} prompts held out."),
                format!("{shown} 段对话，{asked} 个提示，另外留出 {held} 个提示。"),
            )
        }
        "corpus" => {
            let report = json(&dir.join("corpus/report.json"))?;
            let kept = |key: &str| report["kept"][key].as_u64();
            let (size, documents) = (bytes(kept("bytes")?), count(kept("documents")?));
            both(format!("{size} in {documents} documents."), format!("{documents} 篇文档，共 {size}。"))
        }
        "tokenizer" => {
            let n = count(json(&dir.join("tokens/meta.json"))?["vocab_size"].as_u64()?);
            both(format!("There are {n} of them."), format!("共 {n} 个。"))
        }
        "tokens" => {
            let meta = json(&dir.join("tokens/meta.json"))?;
            let (tokens, of) = (meta["train"]["tokens"].as_u64()?, meta["train"]["bytes"].as_u64()?);
            let (each, tokens) = (of as f64 / tokens as f64, count(tokens));
            both(
                format!("{tokens} tokens to learn from, {each:.2} bytes each."),
                format!("有 {tokens} 个 token 用来学习，平均每个 {each:.2} 字节。"),
            )
        }
        "pretrain" => {
            let record = run()?;
            let tokens = count(record.metric("tokens").last()?.1 as u64);
            let bits = record.metric("val_bpb").last()?.1;
            both(
                format!(
                    "It read {tokens} tokens, and then needed {bits:.2} bits for each byte of text that it had not seen."
                ),
                format!("它读了 {tokens} 个 token，之后对没见过的文本每个字节需要 {bits:.2} 比特。"),
            )
        }
        "candidates" => {
            let n = count(lines(&dir.join("candidates.jsonl"))?);
            both(format!("{n} prompts were answered."), format!("共回答了 {n} 个提示。"))
        }
        "rankings" => {
            let n = count(lines(&dir.join("rankings.jsonl"))?);
            let noisy = results.ceiling.map_or_else(Text::default, |ceiling| {
                let ceiling = percent(ceiling);
                both(
                    format!("Even a perfect reward model would agree with only {ceiling} of its pairs."),
                    format!("即使完美的奖励模型，也只会同意其中 {ceiling} 的对。"),
                )
            });
            both(format!("{n} rankings."), format!("共 {n} 份排序。")).then(noisy)
        }
        "reward" => {
            let rate = results.pair_accuracy?;
            let (share, n) = (unbroken(&percent_of(rate)), count(rate.n));
            both(
                format!("Of {n} pairs that it had not seen it put {share} in the judge's order."),
                format!("在 {n} 个没见过的对里，它有 {share} 与裁判的顺序一致。"),
            )
        }
        "ppo" => {
            let record = run()?;
            let (steps, chosen) = (count(record.steps()), count(record.chosen()?));
            both(
                format!(
                    "{steps} rounds; the state after round {chosen} was the best on held-out prompts, and was kept."
                ),
                format!("共 {steps} 轮；第 {chosen} 轮之后的状态在留出的提示上最好，留下了它。"),
            )
        }
        "sft" | "dpo" => {
            let steps = count(run()?.steps());
            both(format!("{steps} steps."), format!("共 {steps} 步。"))
        }
        "compare" => {
            let n = count(results.prompts as u64);
            both(format!("{n} prompts."), format!("共 {n} 个提示。"))
        }
        _ => return None,
    })
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Lines of a file.
fn lines(path: &Path) -> Option<u64> {
    Some(fs::read(path).ok()?.iter().filter(|&&byte| byte == b'\n').count() as u64)
}
