//! What got better: sentences about each step of the road, and the table of all models.

use super::super::figures::{percent, percent_of, points_of, score_difference_of, score_of, unbroken};
use super::super::html::{Element, note, section};
use super::super::table::{Table, cell, said};
use super::super::text::{Text, alike, both};
use super::{ChatResults, Compared, Outcome, System, system_name};

/// One sentence for every step, by the paired comparison.
pub(super) fn gains(results: &ChatResults) -> Element {
    let right = |name: &str| results.systems.iter().find(|system| system.name == name).map(|s| s.right.value);
    let item = |compared: &Compared| {
        let Compared { model, than, right: difference, gold } = compared;
        let outcome = Outcome::from(*difference);
        let badge = match outcome {
            Outcome::Better => ("better", "▲"),
            Outcome::Worse => ("worse", "▼"),
            Outcome::Even => ("even", "="),
        };
        let (model_name, than_name) = (system_name(model), system_name(than));
        let heading = both(
            format!("{} against {}: {}", model_name.en, than_name.en, outcome.text().en),
            format!("{} 对 {}：{}", model_name.zh, than_name.zh, outcome.text().zh),
        );
        let from_to = match (right(than), right(model)) {
            (Some(before), Some(after)) => {
                let [before, after] = [before, after].map(|share| unbroken(&percent(share)));
                both(format!("Right answers: {before} → {after}."), format!("正确回答：{before} → {after}。"))
            }
            _ => Text::default(),
        };
        let [points, score] =
            [points_of(*difference), score_difference_of(*gold)].map(|figure| unbroken(&figure));
        let by = both(
            format!(
                "The difference is {points} percentage points; in the judge's score it is {score}, {}.",
                Outcome::from(*gold).text().en
            ),
            format!("相差 {points} 个百分点；裁判的分数相差 {score}，{}。", Outcome::from(*gold).text().zh),
        );
        Element::new("li")
            .child(Element::of("span", &format!("badge {}", badge.0)).attr("aria-hidden", true).data(badge.1))
            .child(
                Element::new("div")
                    .child(Element::new("strong").say(heading))
                    .child(Element::new("p").say(from_to.then(by))),
            )
    };
    let how = both(
        "Both models of a line answered the same prompts, and are compared prompt by prompt. In brackets stands the range in which the difference would lie 95 times out of 100, were the prompts drawn anew (paired bootstrap). If that range holds zero, the difference may be chance, and the line says so.",
        "每一行的两个模型回答同样的提示，逐个提示比较。括号里是区间：如果重新抽取提示，100 次里有 95 次差别会落在里面（配对自助法）。区间里有零，差别就可能只是偶然，那一行会说明。",
    );
    section(both("What got better", "什么变好了"))
        .child(Element::of("ul", "gains").children(results.compared.iter().map(item)))
        .children(results.caveat().map(|caveat| Element::of("p", "caveat").say(caveat)))
        .child(note(how))
}

/// All models, with floor and ceiling below them.
pub(super) fn table(results: &ChatResults) -> Element {
    let heads = [
        both("model", "模型"),
        both("right answers", "正确回答"),
        both("judge's score", "裁判的分数"),
        both("reward", "奖励"),
        alike("KL"),
        both("wins against SFT", "胜过 SFT"),
    ];
    let row = |system: &System| {
        let System { name, right, gold, reward, kl, win_rate } = system;
        vec![
            said(system_name(name)),
            cell(percent_of(*right)),
            cell(score_of(*gold)),
            cell(score_of(*reward)),
            cell(kl.map_or("–".into(), |kl| format!("{kl:.2}"))),
            cell(win_rate.map_or("–".into(), percent_of)),
        ]
    };
    let n = results.prompts;
    let caption = both(
        format!("On {n} held-out prompts; 95 % intervals in brackets"),
        format!("在 {n} 个留出的提示上；括号里是 95 % 区间"),
    );
    let table = Table::new(caption, heads)
        .class("models")
        .rows(results.systems.iter().map(row))
        .rows(results.references.iter().map(row))
        .build();
    let term = |name: Text, text: Text| {
        Element::new("div").child(Element::new("dt").say(name)).child(Element::new("dd").say(text))
    };
    let terms = [
        term(
            both("right answers", "正确回答"),
            both(
                "how many state what is asked for, and nothing that contradicts it. The first number to look at.",
                "说出了所问的内容、又没有说矛盾的话的比例。最先要看的数字。",
            ),
        ),
        term(
            both("judge's score", "裁判的分数"),
            both(
                "from 0 to 1: half of it for being right, the rest for language, form and brevity. A well-formed wrong answer gets about 0.5. No model was trained on it, but the reward model on rankings that follow it with errors.",
                "从 0 到 1：一半看是否正确，其余看语言、形式和简洁。形式完好但答错的回答大约得 0.5。没有模型直接用它训练；奖励模型学的是按它排出、带有错误的排序。",
            ),
        ),
        term(
            both("reward", "奖励"),
            both(
                "what the reward model gives, which PPO raises. If it rises and right answers do not, PPO has learned to please and not to be right.",
                "奖励模型打的分，PPO 提高的就是它。如果它升了而正确回答没有变多，PPO 学会的就是讨好，而不是答对。",
            ),
        ),
        term(
            alike("KL"),
            both(
                "how far a model has moved away from SFT, in nats per answer.",
                "一个模型离 SFT 有多远，单位是每个回答的奈特数。",
            ),
        ),
        term(
            both("wins against SFT", "胜过 SFT"),
            both(
                "of the prompts where the judge prefers one of both answers, the share where it is not SFT's.",
                "在裁判更喜欢其中一个回答的提示里，它胜过 SFT 的比例。",
            ),
        ),
        term(
            both("best of K", "K 选 1"),
            both(
                "SFT answers K times, and the reward model picks one: what it is worth without any training.",
                "SFT 回答 K 次，由奖励模型挑一个：不训练时奖励模型有多大用处。",
            ),
        ),
        term(
            both("the last three rows", "最后三行"),
            both(
                "no models: nothing at all, the right answers to other prompts, and the right answers. They show what the figures mean at their lower and upper end.",
                "不是模型：什么都不说、别的提示的正确答案、正确答案。它们说明各数字的下限和上限是什么意思。",
            ),
        ),
    ];
    let how = both(
        "Answers are sampled at temperature 1; the base model is given the bare question and answers one line.",
        "回答以温度 1 抽样；基础模型只看到问题本身，回答一行。",
    );
    section(both("All models", "所有模型"))
        .child(table)
        .child(Element::of("dl", "terms").children(terms))
        .child(note(how))
}
