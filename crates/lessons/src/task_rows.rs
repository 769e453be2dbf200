//! Texts with what is asked of them, for task tokens: who somebody is, and what a sentence is in Chinese; and
//! plain text about the same world to learn beside them.
//!
//! The one idea: what is held out occurs nowhere in training, neither in rows nor in text, in neither
//! language. Of names that holds for family name and first character together, so that an unseen name is no
//! piece of a name that was seen.

use super::Split;
use super::draw::{Draw, Stream};
use super::lesson::{Language, Task};
use super::phrase::either;
use super::world::{FOODS, PEOPLE, Pair, Sentence};
use ::text::data::TaskRow;

/// The special tokens that the tasks name.
pub const TASK_TOKENS: [&str; 3] = ["[问题]", "[答案]", "[翻译为中文]"];
/// Asks who somebody is who has just said it.
pub const WHO: &str = "[问题] 我是谁 [答案]";
/// Asks what somebody likes who has just said it.
const LIKES: &str = "[问题] 我喜欢什么 [答案]";
/// Asks for the Chinese of an English sentence.
pub const TO_CHINESE: &str = "[翻译为中文]";

/// Characters that names begin with, and those that they go on with; no character is in both.
const FAMILY: &str = "小王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕";
const GIVEN: &str = "明华丽红刚强伟芳娜敏静秀英磊军洋勇艳杰娟涛超霞平桂玉兰春梅海波鹏宇浩博文思雨欣怡佳琪晨阳子轩诺梓涵雪婷慧琳颖倩莹洁薇菲岚珊";

/// How a day can be.
const DAYS_ARE: [Pair; 8] = [
    Pair { en: "good", zh: "好" },
    Pair { en: "warm", zh: "温暖的" },
    Pair { en: "cold", zh: "寒冷的" },
    Pair { en: "quiet", zh: "安静的" },
    Pair { en: "busy", zh: "忙碌的" },
    Pair { en: "happy", zh: "快乐的" },
    Pair { en: "long", zh: "漫长的" },
    Pair { en: "special", zh: "特别的" },
];

/// Row `index` to learn from.
pub fn task_row(seed: u64, index: u64) -> TaskRow {
    let draw = &mut Draw::new(seed, Stream::TaskRow, index);
    if draw.chance(0.5) { introduction(draw) } else { translation(draw) }
}

/// Row `index` of those that are held out: who somebody is, if it is even, else a translation.
pub fn held_out_task_row(seed: u64, index: u64) -> TaskRow {
    let draw = &mut Draw::new(seed, Stream::HeldOutTaskRow, index);
    if index.is_multiple_of(2) {
        let name = name(draw, Split::HeldOut);
        row(format!("我是{name}"), WHO, name)
    } else {
        let sentence = sentence(draw, Split::HeldOut);
        row(sentence.say(Language::English), TO_CHINESE, sentence.say(Language::Chinese))
    }
}

/// Document `index` of plain text: somebody or something, in one language, often on a certain day.
pub fn plain_text(seed: u64, index: u64) -> String {
    let draw = &mut Draw::new(seed, Stream::PlainText, index);
    let language = *draw.pick(&Language::ALL);
    let mut told = Vec::new();
    if draw.chance(0.5) {
        told.push(day(draw).say(language).to_owned());
    }
    let first = sentence(draw, Split::Train);
    told.push(first.say(language));
    for _ in 0..draw.within(2..=5) {
        let next = loop {
            // Said of the same one, where that makes sense.
            let next = sentence(draw, Split::Train);
            let alike = std::mem::discriminant(&next.who) == std::mem::discriminant(&first.who);
            let same = Sentence { who: first.who, ..next };
            if alike && split_of(&same) == Split::Train {
                break same;
            }
        };
        told.push(next.say(language));
    }
    told.join(either(language, " ", ""))
}

/// Somebody tells a name, and perhaps what they like; one of both is asked for.
fn introduction(draw: &mut Draw) -> TaskRow {
    let name = name(draw, Split::Train);
    if draw.chance(0.6) {
        return row(format!("我是{name}"), WHO, name);
    }
    let food = draw.pick(FOODS).zh;
    let input = format!("我是{name}，我喜欢{food}");
    if draw.chance(0.5) { row(input, WHO, name) } else { row(input, LIKES, food.to_owned()) }
}

/// A sentence in both languages; sometimes of a day, and only its beginning.
fn translation(draw: &mut Draw) -> TaskRow {
    if draw.chance(0.9) {
        let sentence = sentence(draw, Split::Train);
        return row(sentence.say(Language::English), TO_CHINESE, sentence.say(Language::Chinese));
    }
    let Day { en, zh } = day(draw);
    let (en, zh) = if draw.chance(0.5) { ("Today is a".into(), "今天是一个".into()) } else { (en, zh) };
    row(en, TO_CHINESE, zh)
}

fn row(input: String, task: &str, output: String) -> TaskRow {
    TaskRow { input, task: task.to_owned(), output }
}

/// A name of two or three characters.
pub(super) fn name(draw: &mut Draw, split: Split) -> String {
    loop {
        let (family, given) = (character(draw, FAMILY), character(draw, GIVEN));
        let beginning = format!("{family}{given}");
        // Whoever the world knows may be told of in any text.
        let known = PEOPLE.iter().any(|person| person.zh == beginning);
        let own = if known { Split::Train } else { Split::of(Task::Reading, &beginning) };
        if own == split {
            let more = draw.chance(0.6).then(|| character(draw, GIVEN));
            return beginning.chars().chain(more).collect();
        }
    }
}

fn character(draw: &mut Draw, of: &str) -> char {
    let characters: Vec<char> = of.chars().collect();
    *draw.pick(&characters)
}

fn sentence(draw: &mut Draw, split: Split) -> Sentence {
    loop {
        let sentence = Sentence::any(draw);
        if split_of(&sentence) == split {
            return sentence;
        }
    }
}

fn split_of(sentence: &Sentence) -> Split {
    Split::of(Task::Translation, &sentence.say(Language::English))
}

/// What a day is, in both languages.
struct Day {
    en: String,
    zh: String,
}

impl Day {
    fn say(&self, language: Language) -> &str {
        either(language, &self.en, &self.zh)
    }
}

fn day(draw: &mut Draw) -> Day {
    let Pair { en, zh } = draw.pick(&DAYS_ARE);
    Day { en: format!("Today is a {en} day."), zh: format!("今天是一个{zh}日子。") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_character_both_begins_a_name_and_goes_on_with_it() {
        let all: Vec<char> = FAMILY.chars().chain(GIVEN.chars()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        let seen: String = (0..20_000).map(|index| task_row(1, index).output).collect();
        assert!(
            all.iter().all(|&character| seen.contains(character)),
            "every character is in some name to learn from"
        );
    }

    #[test]
    fn what_is_held_out_occurs_nowhere_in_training() {
        let rows =
            (0..20_000).map(|index| task_row(2, index)).map(|row| format!("{} {}", row.input, row.output));
        let training: Vec<String> = rows.chain((0..5000).map(|index| plain_text(2, index))).collect();
        let training = training.join("\n");
        let mut asked = HashSet::new();
        for index in 0..300 {
            let TaskRow { input, task, output } = held_out_task_row(3, index);
            let needle: String = if task == WHO { output.chars().take(2).collect() } else { input.clone() };
            assert!(!training.contains(&needle), "{input} {task} {output}");
            // A sentence may end another one: `猫在睡觉。`, `黑色的猫在睡觉。`
            let whole = ["\n", " ", "。"].map(|before| format!("{before}{output}"));
            assert!(!whole.iter().any(|whole| training.contains(whole)), "{input} {task} {output}");
            asked.insert(input);
        }
        assert!(asked.len() > 200, "{} different ones", asked.len());
    }
}
