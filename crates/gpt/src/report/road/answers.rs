//! The same prompts, before and after.

use super::super::html::{Element, note, section};
use super::super::table::{Table, cell, said};
use super::super::text::{Text, alike, both};
use super::{Answer, ChatResults, Tried, Turn, system_name};

pub(super) fn answers(results: &ChatResults) -> Element {
    let n = results.tried.len();
    let how = both(
        format!(
            "The first {n} held-out prompts, not chosen. ✓ marks answers that state what is asked for, ✗ all others; the number is the judge's score."
        ),
        format!(
            "最前面的 {n} 个留出提示，没有挑选。✓ 表示说出了所问的内容，✗ 表示其他情况；数字是裁判的分数。"
        ),
    );
    section(both("The same prompts, before and after", "同样的提示，之前和之后"))
        .child(note(how))
        .children(results.tried.iter().enumerate().map(tried))
}

fn tried((i, Tried { messages, expected, answers }): (usize, &Tried)) -> Element {
    let turn = |Turn { role, content }: &Turn| {
        Element::of("p", "turn")
            .child(Element::of("span", "role").say(role_name(role)))
            .child(Element::of("span", "content").data(content))
    };
    let row = |Answer { system, text, right, gold }: &Answer| {
        let (mark, class, spoken) = match right {
            true => ("✓", "right", both("right", "正确")),
            false => ("✗", "wrong", both("wrong", "错误")),
        };
        let marked = Element::of("div", "value")
            .child(Element::of("span", class).attr("aria-hidden", true).data(mark))
            .child(Element::of("span", "unseen").say(spoken));
        let text = if text.trim().is_empty() { "∅" } else { text };
        let text = Element::of("div", "value content").data(text);
        vec![said(system_name(system)), marked, text, cell(format!("{gold:.2}"))]
    };
    let heads =
        [both("model", "模型"), both("right?", "对吗"), both("answer", "回答"), both("judge", "裁判")];
    let caption = both(format!("Answers to prompt {}", i + 1), format!("对提示 {} 的回答", i + 1));
    let expected = Element::of("p", "turn expected")
        .child(Element::of("span", "role").say(both("right is", "正确的是")))
        .child(Element::of("span", "content").data(expected));
    Element::of("article", "card tried")
        .children(messages.iter().map(turn))
        .child(expected)
        .child(Table::new(caption, heads).class("answers").rows(answers.iter().map(row)).build())
}

fn role_name(role: &str) -> Text {
    match role {
        "system" => both("system", "系统"),
        "user" => both("user", "用户"),
        "assistant" => both("assistant", "助手"),
        other => alike(other),
    }
}
