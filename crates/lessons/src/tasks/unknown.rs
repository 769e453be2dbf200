//! What nobody told the assistant and it cannot see. The right answer is a polite refusal.

use super::super::draw::Draw;
use super::super::lesson::{Language, Lesson, Task};
use super::super::phrase::{Phrases, fill};
use super::super::world::{CITIES, DAYS, PEOPLE, Pair};

/// What is asked, the refusal, and what somebody would say who makes things up.
struct Mystery {
    ask: Phrases,
    answer: Pair,
    invented: Pair,
}

const SORRY: Pair = Pair { en: "do not know", zh: "不知道" };

const MYSTERIES: [Mystery; 6] = [
    Mystery {
        ask: Phrases {
            en: &[
                "What is the weather in {city} now?",
                "Is it raining in {city}?",
                "Will it snow in {city} on {day}?",
                "How cold is it in {city} today?",
            ],
            zh: &[
                "{city}现在天气怎么样？",
                "{city}在下雨吗？",
                "{day}{city}会下雪吗？",
                "今天{city}有多冷？",
            ],
        },
        answer: Pair {
            en: "I am sorry, I do not know the weather.", zh: "对不起，我不知道天气。"
        },
        invented: Pair { en: "It is sunny.", zh: "今天是晴天。" },
    },
    Mystery {
        ask: Phrases {
            en: &[
                "What time is it in {city}?",
                "What is the time in {city} now?",
                "Is it late in {city} now?",
            ],
            zh: &["{city}现在几点？", "现在{city}是几点钟？", "{city}现在很晚了吗？"],
        },
        answer: Pair { en: "I am sorry, I do not know the time.", zh: "对不起，我不知道时间。" },
        invented: Pair { en: "It is 8 in the morning.", zh: "现在是早上 8 点。" },
    },
    Mystery {
        ask: Phrases {
            en: &[
                "When is the birthday of {name}?",
                "When was {name} born?",
                "On which day is {name}'s birthday?",
            ],
            zh: &["{name}的生日是哪天？", "{name}是什么时候出生的？", "{name}什么时候过生日？"],
        },
        answer: Pair {
            en: "I am sorry, I do not know that birthday.", zh: "对不起，我不知道这个生日。"
        },
        invented: Pair { en: "It is in May.", zh: "在五月。" },
    },
    Mystery {
        ask: Phrases {
            en: &[
                "When is my birthday?",
                "What did I eat on {day}?",
                "What am I thinking of?",
                "Where was I on {day}?",
            ],
            zh: &["我的生日是哪天？", "我{day}吃了什么？", "我在想什么？", "我{day}在哪里？"],
        },
        answer: Pair {
            en: "I am sorry, I do not know that about you.", zh: "对不起，我不知道你的这件事。"
        },
        invented: Pair { en: "You told me yesterday.", zh: "你昨天告诉过我。" },
    },
    Mystery {
        ask: Phrases {
            en: &[
                "What did {name} eat on {day}?",
                "What did {name} do on {day}?",
                "Who called {name} on {day}?",
            ],
            zh: &["{name}{day}吃了什么？", "{name}{day}做了什么？", "{day}谁给{name}打了电话？"],
        },
        answer: Pair { en: "I am sorry, I do not know that.", zh: "对不起，我不知道这件事。" },
        invented: Pair { en: "It was a cake.", zh: "是一个蛋糕。" },
    },
    Mystery {
        ask: Phrases {
            en: &["What is the phone number of {name}?", "How tall is {name}?", "Where does {name} live?"],
            zh: &["{name}的电话号码是多少？", "{name}有多高？", "{name}住在哪里？"],
        },
        answer: Pair {
            en: "I am sorry, I do not know {name}.", zh: "对不起，我不知道{name}的事。"
        },
        invented: Pair { en: "That is easy to see.", zh: "这很容易看出来。" },
    },
];

pub(super) fn lesson(draw: &mut Draw, language: Language) -> Lesson {
    let mystery = draw.pick(&MYSTERIES);
    let [name, city, day] = [draw.pick(PEOPLE), draw.pick(CITIES), draw.pick(&DAYS)];
    let put = |form: &str, language| {
        fill(form, &[("name", name.say(language)), ("city", city.say(language)), ("day", day.say(language))])
    };
    let question = put(draw.pick::<&str>(mystery.ask.of(language)), language);
    let answer = put(mystery.answer.say(language), language);
    let wrong = mystery.invented.say(language);
    Lesson::new(Task::Unknown, language, question.clone(), question, answer, wrong)
        .accepting(SORRY.say(language))
        .foreign(put(mystery.answer.say(language.other()), language.other()))
}
