//! The top of a run's page: what it is, how far it came, and the numbers that a person looks for first.

use super::axis::number;
use super::figures::{percent, score};
use super::html::{Element, paragraph};
use super::record::Record;
use super::text::{Text, alike, both};
use super::{CHAT_ROAD, REPORT, TASKS_ROAD};
use crate::numbers::{count, secs};
use crate::train::run::EventKind;

/// What a stage is called.
pub(super) fn stage_title(stage: &str) -> Text {
    match stage {
        "pretrain" => both("Pretraining", "预训练"),
        "finetune" => both("Fine-tuning to a task", "任务微调"),
        "sft" => both("Supervised fine-tuning", "监督微调"),
        "reward" => both("Reward model", "奖励模型"),
        "ppo" => both("PPO", "PPO 强化学习"),
        "grpo" => both("GRPO", "GRPO 强化学习"),
        "dpo" => both("DPO", "DPO 直接偏好优化"),
        "kto" => both("KTO", "KTO 前景优化"),
        "distil" => both("Distillation", "知识蒸馏"),
        CHAT_ROAD | TASKS_ROAD => both("the road", "这条路"),
        other => alike(other),
    }
}

/// Name, stage, state and machine.
pub(super) fn header(record: &Record) -> Element {
    let done = record.steps();
    let failed_at = count(record.events.last().map_or(done, |timed| timed.event.step));
    let steps = record.recipe.settings.get("steps").and_then(toml::Value::as_integer);
    let done = count(done);
    let state = match (record.ending(), steps) {
        (Some(EventKind::Finished), _) => {
            both(format!("finished after {done} steps"), format!("{done} 步后完成"))
        }
        (Some(EventKind::Stopped), _) => {
            both(format!("stopped after {done} steps"), format!("{done} 步后停下"))
        }
        (Some(EventKind::Failed), _) => {
            both(format!("failed at step {failed_at}"), format!("在第 {failed_at} 步失败"))
        }
        (_, Some(steps)) => {
            let steps = count(steps.unsigned_abs());
            both(format!("at step {done} of {steps}"), format!("共 {steps} 步，到了第 {done} 步"))
        }
        _ => both(format!("at step {done}"), format!("到了第 {done} 步")),
    };
    let machine = record.recipe.runtime.get("machine").and_then(toml::Value::as_str);
    let road = record.is_of_a_road().then(|| {
        let link = Element::new("a").attr("href", format!("../{REPORT}"));
        Element::new("nav").child(link.say(both("← the whole road", "← 整条路")))
    });
    Element::of("div", "opening")
        .children(road)
        .child(Element::of("p", "stage").say(stage_title(&record.recipe.stage)))
        .child(Element::new("h1").data(&record.name))
        .child(Element::of("p", "pale").say(state))
        .children(machine.map(|name| Element::of("p", "pale").data(name)))
}

/// A number with its name above it and a remark below.
struct Tile {
    label: Text,
    value: String,
    remark: Text,
}

/// Tiles as they are collected.
#[derive(Default)]
pub(super) struct Tiles(Vec<Tile>);

impl Tiles {
    /// Adds a number, where it is known.
    pub(super) fn add(&mut self, label: Text, value: Option<String>, remark: Text) {
        self.0.extend(value.map(|value| Tile { label, value, remark }));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn build(self) -> Element {
        let tile = |Tile { label, value, remark }: Tile| {
            let tile = Element::of("li", "tile")
                .child(Element::of("span", "pale").say(label))
                .child(Element::new("strong").data(value));
            if remark.en.is_empty() { tile } else { tile.child(Element::of("span", "note").say(remark)) }
        };
        Element::of("ul", "tiles").children(self.0.into_iter().map(tile))
    }
}

/// The numbers that a person looks for first: those of held-out data, and of the state that was chosen.
pub(super) fn headline(record: &Record) -> Element {
    let mut tiles = Tiles::default();
    match record.recipe.stage.as_str() {
        "ppo" | "grpo" => of_answers(record, &mut tiles),
        stage => of_losses(record, stage, &mut tiles),
    }
    of_work(record, &mut tiles);
    if tiles.is_empty() {
        return Element::of("p", "empty").say(both("No step is done yet.", "还没有做完一步。"));
    }
    tiles.build()
}

/// The held-out figures of the chosen state, each beside the first that was measured.
fn of_answers(record: &Record, tiles: &mut Tiles) {
    let Some(chosen) = record.chosen() else { return };
    let at = |key: &str| record.at(key, chosen);
    let since = |key: &str, show: &dyn Fn(f64) -> String| {
        let first = record.metric(key).first().copied();
        first.filter(|(step, _)| *step != chosen as f64).map_or_else(Text::default, |(step, value)| {
            let value = show(value);
            both(format!("{value} at step {step}"), format!("第 {step} 步时 {value}"))
        })
    };
    let three = score;
    let steps = count(record.steps());
    let why = both(
        format!("of {steps}: the best held-out reward less the KL penalty"),
        format!("共 {steps} 步：留出奖励减去 KL 惩罚最高"),
    );
    tiles.add(both("chosen step", "选中的步"), Some(count(chosen)), why);
    for (key, label) in [
        ("eval/pass@1", both("right answers (pass@1)", "答对的比例（pass@1）")),
        ("eval/reward", both("held-out reward", "留出奖励")),
        ("eval/gold", both("judge's score", "裁判的分数")),
        ("eval/kl", both("KL from the start", "与起点的 KL")),
    ] {
        tiles.add(label, at(key).map(three), since(key, &three));
    }
    let one = |x: f64| format!("{x:.1}");
    let length = "eval/answer_tokens";
    tiles.add(both("tokens per answer", "每个回答的 token 数"), at(length).map(one), since(length, &one));
}

/// How good predictions or decisions are on held-out data.
fn of_losses(record: &Record, stage: &str, tiles: &mut Tiles) {
    let lowest = |points: Vec<(f64, f64)>| points.into_iter().min_by(|a, b| a.1.total_cmp(&b.1));
    // Of equal ones the earliest, as where the best checkpoint is chosen.
    let highest = |points: Vec<(f64, f64)>| points.into_iter().min_by(|a, b| b.1.total_cmp(&a.1));
    let (accuracy, of_what) = match stage {
        "reward" | "dpo" => (both("pairs told right", "判断正确的对"), both("held-out pairs", "留出的对")),
        _ => (both("told right", "判断正确"), both("held-out texts", "留出的文本")),
    };
    for (label, key, is_share) in [
        (accuracy, "val_accuracy", true),
        (both("F1, mean of the classes", "F1（各类平均）"), "val_f1", false),
        (both("Pearson's correlation", "Pearson 相关"), "val_pearson", false),
        (both("held-out reward", "留出奖励"), "val_reward", false),
        (both("good answers above bad ones", "好回答高出坏回答"), "val_margin", false),
    ] {
        let best = highest(record.metric(key));
        let shown = best.map(|(_, x)| if is_share { percent(x) } else { score(x) });
        let step = best.map_or(0.0, |best| best.0);
        let remark = both(format!("{}, step {step}", of_what.en), format!("{}，第 {step} 步", of_what.zh));
        tiles.add(label, shown, remark);
    }
    let val = lowest(record.metric("val_loss"));
    // Of a loss that is not of the next token, it would tell nothing.
    let predicts = matches!(stage, "pretrain" | "sft");
    let remark = val.map_or_else(Text::default, |(step, loss)| {
        let perplexity = number(loss.exp());
        match predicts {
            true => both(
                format!("perplexity {perplexity}, step {step}"),
                format!("困惑度 {perplexity}，第 {step} 步"),
            ),
            false => both(format!("step {step}"), format!("第 {step} 步")),
        }
    });
    tiles.add(both("validation loss", "验证损失"), val.map(|(_, loss)| format!("{loss:.4}")), remark);
    let text = lowest(record.metric("val_cross_entropy"));
    let remark = text.map_or_else(Text::default, |(step, loss)| {
        let perplexity = number(loss.exp());
        both(format!("perplexity {perplexity}, step {step}"), format!("困惑度 {perplexity}，第 {step} 步"))
    });
    let text = text.map(|(_, loss)| format!("{loss:.4}"));
    tiles.add(both("cross entropy of held-out answers", "留出回答的交叉熵"), text, remark);
    let bpb = lowest(record.metric("val_bpb")).map(|(_, bpb)| format!("{bpb:.4}"));
    tiles.add(both("bits per byte", "每字节比特数"), bpb, both("held-out text", "留出文本"));
    let loss = record.metric("loss");
    let recent = &loss[loss.len() - loss.len().div_ceil(20)..];
    let mean = recent.iter().map(|point| point.1).sum::<f64>() / recent.len() as f64;
    let mean = (!recent.is_empty()).then(|| format!("{mean:.4}"));
    tiles.add(
        both("training loss", "训练损失"),
        mean,
        both("mean of the last twentieth", "最后二十分之一的平均"),
    );
}

/// What it took.
fn of_work(record: &Record, tiles: &mut Tiles) {
    let steps = count(record.steps());
    let tokens = record.metric("tokens").last().map(|point| number(point.1));
    tiles.add(
        both("tokens read", "读过的 token"),
        tokens,
        both(format!("{steps} steps"), format!("{steps} 步")),
    );
    let taken: f64 = record.timings.iter().filter_map(|line| line.get("step_secs")?.as_f64()).sum();
    tiles.add(both("time in steps", "各步用时"), (taken > 0.0).then(|| secs(taken)), Text::default());
    let peak = median(record.timing("mfu")).map_or_else(Text::default, |mfu| {
        let share = format!("{:.0} %", 100.0 * mfu);
        both(format!("{share} of the machine's peak"), format!("机器峰值的 {share}"))
    });
    let speed = median(record.timing("tokens_per_sec")).map(number);
    tiles.add(both("tokens per second", "每秒 token 数"), speed, peak);
    let parameters = record.recipe.runtime.get("parameters").and_then(toml::Value::as_integer);
    tiles.add(both("parameters", "参数"), parameters.map(|n| number(n as f64)), Text::default());
    let bad = record.bad_steps().len();
    let why = both("not finite, or exploded", "出现非有限数，或爆炸");
    tiles.add(both("bad steps", "异常的步"), (bad > 0).then(|| bad.to_string()), why);
}

fn median(points: Vec<(f64, f64)>) -> Option<f64> {
    let mut values: Vec<f64> = points.into_iter().map(|point| point.1).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// One sentence about what the stage is for.
pub(super) fn purpose(record: &Record) -> Option<Element> {
    let text = match record.recipe.stage.as_str() {
        "pretrain" => both(
            "The model learns to guess the next token of a text, over and over.",
            "模型反复学习猜出文本的下一个 token。",
        ),
        "sft" => {
            both("The model learns to answer from conversations that show how.", "模型从示范对话里学会回答。")
        }
        "reward" => both(
            "A model learns to put a number on every answer, the higher the better it would be ranked.",
            "一个模型学会给每个回答打一个数：排得越靠前，数越大。",
        ),
        "ppo" => both(
            "The model answers prompts, the reward model scores the answers, and what scored better than expected becomes more likely. A penalty on the distance (KL) keeps it near to where it began.",
            "模型回答提示，奖励模型给回答打分，比预期好的回答变得更可能。对距离（KL）的惩罚让它不离开起点太远。",
        ),
        "grpo" => both(
            "The model answers each prompt several times, the answers are checked, and those that are better than the others of their group become more likely.",
            "模型对每个提示回答几次，逐个检查回答，比同组其他回答更好的变得更可能。",
        ),
        "dpo" => both(
            "The model learns from rankings directly: answers that were preferred become more likely than those that were not.",
            "模型直接从排序学习：被选中的回答变得比没被选中的更可能。",
        ),
        "distil" => both(
            "A small model learns what a larger one says of every next token, on answers that are given or that it writes itself.",
            "小模型学习大模型对每个下一个 token 的分布，用给定的回答，或它自己写的回答。",
        ),
        "kto" => both(
            "The model learns from answers that were called good or bad one by one: good ones become more likely, bad ones less.",
            "模型从逐个标为好或坏的回答学习：好的变得更可能，坏的变得更不可能。",
        ),
        "finetune" => {
            both("The model learns one task from labelled texts.", "模型从带标签的文本里学会一项任务。")
        }
        _ => return None,
    };
    Some(paragraph(text))
}
