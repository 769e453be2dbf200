//! One line of Python.

use super::super::draw::Draw;
use super::super::lesson::{Language, Lesson, Task};
use super::super::phrase::{Phrases, either, fill};
use super::super::world::an_english_word;

/// What a line does, how one asks for it, and the line.
struct Form {
    ask: Phrases,
    line: &'static str,
}

const FORMS: [Form; 12] = [
    Form {
        ask: Phrases {
            en: &["Print {word} in Python.", "Write Python code that prints {word}."],
            zh: &["用 Python 打印 {word}。", "写一行 Python 代码，打印 {word}。"],
        },
        line: "print(\"{word}\")",
    },
    Form {
        ask: Phrases {
            en: &["Print the number {n} in Python.", "Write Python code that prints the number {n}."],
            zh: &["用 Python 打印数字 {n}。", "写一行 Python 代码，打印数字 {n}。"],
        },
        line: "print({n})",
    },
    Form {
        ask: Phrases {
            en: &["Set {v} to {n} in Python.", "In Python, give the variable {v} the value {n}."],
            zh: &["用 Python 把 {v} 设为 {n}。", "在 Python 里，让变量 {v} 等于 {n}。"],
        },
        line: "{v} = {n}",
    },
    Form {
        ask: Phrases {
            en: &["Add {n} to {v} in Python.", "In Python, increase {v} by {n}."],
            zh: &["用 Python 给 {v} 加上 {n}。", "在 Python 里，让 {v} 增加 {n}。"],
        },
        line: "{v} += {n}",
    },
    Form {
        ask: Phrases {
            en: &[
                "Write a Python function {f} that adds {v} and {w}.",
                "Define {f} in Python: the sum of {v} and {w}.",
            ],
            zh: &["写一个 Python 函数 {f}，把 {v} 和 {w} 相加。", "用 Python 定义 {f}：{v} 与 {w} 的和。"],
        },
        line: "def {f}({v}, {w}): return {v} + {w}",
    },
    Form {
        ask: Phrases {
            en: &[
                "Write a Python function {f} that multiplies {v} and {w}.",
                "Define {f} in Python: the product of {v} and {w}.",
            ],
            zh: &["写一个 Python 函数 {f}，把 {v} 和 {w} 相乘。", "用 Python 定义 {f}：{v} 与 {w} 的积。"],
        },
        line: "def {f}({v}, {w}): return {v} * {w}",
    },
    Form {
        ask: Phrases {
            en: &[
                "Make a Python list {v} of {n}, {m} and {k}.",
                "In Python, put {n}, {m} and {k} into a list {v}.",
            ],
            zh: &[
                "用 Python 建一个列表 {v}，里面是 {n}、{m}、{k}。",
                "在 Python 里，把 {n}、{m}、{k} 放进列表 {v}。",
            ],
        },
        line: "{v} = [{n}, {m}, {k}]",
    },
    Form {
        ask: Phrases {
            en: &["Get the length of {word} in Python.", "How long is the text {word}? Answer in Python."],
            zh: &["用 Python 求 {word} 的长度。", "在 Python 里，怎样得到 {word} 的长度？"],
        },
        line: "len(\"{word}\")",
    },
    Form {
        ask: Phrases {
            en: &[
                "Print the numbers below {n} in Python.",
                "Write a Python loop that prints the numbers below {n}.",
            ],
            zh: &["用 Python 打印小于 {n} 的数。", "写一个 Python 循环，打印小于 {n} 的数。"],
        },
        line: "for i in range({n}): print(i)",
    },
    Form {
        ask: Phrases {
            en: &[
                "Get the larger of {n} and {m} in Python.",
                "In Python, what is the maximum of {n} and {m}?",
            ],
            zh: &["用 Python 求 {n} 和 {m} 中较大的数。", "在 Python 里，{n} 和 {m} 的最大值怎么写？"],
        },
        line: "max({n}, {m})",
    },
    Form {
        ask: Phrases {
            en: &[
                "If {v} is more than {n}, print {word}, in Python.",
                "In Python, print {word} when {v} is above {n}.",
            ],
            zh: &[
                "用 Python：如果 {v} 大于 {n}，打印 {word}。",
                "在 Python 里，当 {v} 大于 {n} 时打印 {word}。",
            ],
        },
        line: "if {v} > {n}: print(\"{word}\")",
    },
    Form {
        ask: Phrases {
            en: &["Write {word} in capital letters with Python.", "In Python, make {word} upper case."],
            zh: &["用 Python 把 {word} 变成大写。", "在 Python 里，怎样把 {word} 写成大写？"],
        },
        line: "\"{word}\".upper()",
    },
];

const VARIABLES: [&str; 5] = ["a", "b", "x", "y", "n"];
const FUNCTIONS: [&str; 4] = ["f", "g", "total", "both"];

/// What the slots of one instance hold.
struct Slots {
    word: &'static str,
    names: [&'static str; 3],
    numbers: [String; 3],
}

impl Slots {
    fn draw(draw: &mut Draw) -> Slots {
        let [v, w] = draw.several(&VARIABLES);
        Slots {
            word: an_english_word(draw),
            names: [v, w, *draw.pick::<&str>(&FUNCTIONS)],
            numbers: [0; 3].map(|_| draw.within(2..=12).to_string()),
        }
    }

    fn of(&self) -> [(&str, &str); 7] {
        let ([v, w, f], [n, m, k]) = (self.names, &self.numbers);
        [("word", self.word), ("v", v), ("w", w), ("f", f), ("n", n), ("m", m), ("k", k)]
    }
}

pub(super) fn lesson(draw: &mut Draw, language: Language) -> Lesson {
    let [form, other] = draw.several(&FORMS);
    let slots = Slots::draw(draw);
    let line = fill(form.line, &slots.of());
    let question = form.ask.say(draw, language, &slots.of());
    let wrong = fill(other.line, &slots.of());
    let foreign = either(language, format!("代码是：{line}"), format!("The code is: {line}"));
    Lesson::new(Task::Code, language, line.clone(), question, line, wrong).foreign(foreign)
}

const COMMENT: Phrases = Phrases {
    en: &["# print, count and add", "# a few lines of Python", "# numbers and words", "# small steps"],
    zh: &["# 打印、计数和相加", "# 几行 Python 代码", "# 数字和单词", "# 小例子"],
};

/// A few lines of a program, some with a comment that says what is done.
pub(super) fn prose(draw: &mut Draw, language: Language) -> String {
    let mut lines = vec![COMMENT.say(draw, language, &[])];
    for _ in 0..draw.within(3..=6) {
        let make = |draw: &mut Draw| (draw.below(FORMS.len()), Slots::draw(draw));
        let line = |(form, slots): &(usize, Slots)| fill(FORMS[*form].line, &slots.of());
        let made = super::learnable(Task::Code, draw, make, line);
        if draw.chance(0.5) {
            let question = FORMS[made.0].ask.say(draw, language, &made.1.of());
            lines.push(format!("# {question}"));
        }
        lines.push(line(&made));
    }
    lines.join("\n")
}
