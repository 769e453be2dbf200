//! The page about the road.

use std::path::Path;

use super::super::axis::Scale;
use super::super::chart::Chart;
use super::super::curves::figure;
use super::super::document::document;
use super::super::figures::{operations, percent, unbroken};
use super::super::headline::Tiles;
use super::super::html::{Element, folded, note};
use super::super::next::{self, quoted};
use super::super::record::command_of;
use super::super::text::{Text, both};
use super::{ChatResults, FrontierPoint, System, answers, models, stages, system_name};
use crate::numbers::secs;

pub(in crate::report) fn page(dir: &Path, results: &ChatResults) -> String {
    let title = both("From text to a chat", "从文本到聊天");
    let explained = both(
        "On this page a language model comes into being. It starts as random numbers, reads, learns to answer from examples, and then practises on what a judge likes better. Below stands whether each of these steps helped, on prompts that no step has seen.",
        "这一页讲一个语言模型怎样诞生：从随机数开始，先阅读，再照着示范学会回答，然后朝着裁判更喜欢的方向练习。下面说明每一步有没有用，用的都是各步从未见过的提示。",
    );
    let header = Element::of("div", "opening")
        .child(Element::new("h1").say(title.clone()))
        .child(Element::of("p", "lead").say(explained))
        .child(scale(results))
        .child(headline(results));
    let sections = if results.systems.is_empty() {
        vec![unfinished(dir), stages::stages(dir, results)]
    } else {
        let found = [models::gains(results), models::table(results), answers::answers(results)];
        let done = [stages::stages(dir, results)].into_iter().chain(frontier(results));
        found.into_iter().chain(done).chain([next_steps(dir, results)]).collect()
    };
    document(title, header, sections.into_iter().chain(next::made_by(command_of(dir).as_deref())))
}

/// What is said of a road that was stopped on the way.
fn unfinished(dir: &Path) -> Element {
    let what = both(
        "The road is not walked to its end: nothing is measured yet. This continues it.",
        "这条路还没有走完，什么都还没测。这条命令继续走。",
    );
    let again = command_of(dir)
        .unwrap_or_else(|| format!("mynah speedrun --out {}", quoted(&dir.display().to_string())));
    next::steps([(what, again)])
}

fn scale(results: &ChatResults) -> Element {
    let scale = &results.scale;
    Element::of("p", "pale").say(match results.minutes {
        Some(minutes) => both(
            format!("The scale “{scale}”, sized for {minutes} minutes."),
            format!("规模“{scale}”，按 {minutes} 分钟安排。"),
        ),
        None => both(format!("The scale “{scale}”."), format!("规模“{scale}”。")),
    })
}

/// The best trained model beside the one before any answering was taught, and what it all took.
fn headline(results: &ChatResults) -> Element {
    let mut tiles = Tiles::default();
    let system = |name: &str| results.systems.iter().find(|system| system.name == name);
    for name in ["base", "sft", "ppo"] {
        let Some(System { right, .. }) = system(name) else { continue };
        let name = system_name(name);
        let label = both(format!("{}: right answers", name.en), format!("{}：正确回答", name.zh));
        let range = unbroken(&format!("{:.1}–{:.1} %", 100.0 * right.low, 100.0 * right.high));
        let remark = both(format!("95 % interval {range}"), format!("95 % 区间 {range}"));
        tiles.add(label, Some(percent(right.value)), remark);
    }
    let taken: f64 = results.stages.iter().map(|stage| stage.secs).sum();
    let flops: Vec<f64> = results.stages.iter().filter_map(|stage| stage.flops).collect();
    let flops = (!flops.is_empty()).then(|| operations(flops.iter().sum()));
    let counted = flops
        .map_or_else(Text::default, |flops| both(format!("{flops} operations"), format!("{flops} 次运算")));
    tiles.add(both("time", "用时"), Some(secs(taken)), counted);
    tiles.build()
}

/// Reward and gold score over the distance from the supervised model (Gao et al. 2023): where the reward
/// rises and the gold score falls, the policy exploits the reward model.
fn frontier(results: &ChatResults) -> Option<Element> {
    if results.frontier.is_empty() {
        return None;
    }
    let curve = |id: &str, title: Text, unit: Text, value: &dyn Fn(&FrontierPoint) -> f64| {
        let mut points: Vec<(f64, f64)> =
            results.frontier.iter().map(|point| (point.kl.max(0.0).sqrt(), value(point))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let along = both("√KL, distance from SFT", "√KL，与 SFT 的距离");
        let chart = Chart { along, unit, x: Scale::Linear, ..Chart::of(id, title, points) };
        figure(&chart.smoothed(), &[])
    };
    let charts = [
        curve(
            "chart-reward",
            both("The reward model's score", "奖励模型的分数"),
            both("reward", "奖励"),
            &|point: &FrontierPoint| point.reward,
        ),
        curve(
            "chart-gold",
            both("The judge's score", "裁判的分数"),
            both("score, 0 to 1", "分数，0 到 1"),
            &|point: &FrontierPoint| point.gold,
        ),
    ];
    let explained = both(
        "Each dot is the model after some rounds of PPO, on held-out prompts: how far it has moved away from SFT, and its score. Where the reward model's score rises and the judge's falls, PPO exploits the mistakes of the reward model.",
        "每个点是 PPO 若干轮之后的模型，在留出的提示上测得：离 SFT 有多远，分数是多少。如果奖励模型的分数上升而裁判的下降，PPO 就是在利用奖励模型的错误。",
    );
    let summary = both("PPO: score over distance", "PPO：分数与距离");
    let charts = Element::of("div", "charts").children(charts.into_iter().flatten());
    Some(Element::new("section").child(folded(summary).child(charts).child(note(explained))))
}

fn next_steps(dir: &Path, results: &ChatResults) -> Element {
    let at = |stage: &str| quoted(&dir.join(stage).display().to_string());
    let longer = results
        .longer()
        .map(|longer| (both("Give it more time: it learns more.", "给它更多时间，它会学到更多。"), longer));
    let steps = [
        (both("Talk to the model.", "和模型对话。"), format!("mynah chat --model {}", at("ppo"))),
        (
            both(
                "Talk to the model of every stage, compare two blind and rank their answers, in a browser at http://127.0.0.1:8000.",
                "在浏览器里与每个阶段的模型对话，盲测比较两个模型，给回答排序：http://127.0.0.1:8000。",
            ),
            format!(
                "mynah serve --model {} --store {}",
                quoted(&dir.display().to_string()),
                quoted(&dir.join("feedback.db").display().to_string())
            ),
        ),
        (
            both(
                "See what the reward model makes of your own answers.",
                "看看奖励模型给你自己的回答打多少分。",
            ),
            format!("mynah score --model {} --data answers.jsonl", at("reward")),
        ),
    ];
    next::steps(steps.into_iter().chain(longer))
}
