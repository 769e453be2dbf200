//! Who the assistant is, and good manners.

use super::super::draw::Draw;
use super::super::lesson::{Language, Lesson, Task};
use super::super::phrase::Phrases;
use super::super::world::{PEOPLE, Pair};

/// What one may say to the assistant, what it says, and the part of it that counts.
struct Exchange {
    say: Phrases,
    answer: Pair,
    states: Pair,
}

const NAME: Exchange = Exchange {
    say: Phrases {
        en: &[
            "Who are you?",
            "What is your name?",
            "What are you called?",
            "Tell me your name.",
            "Introduce yourself.",
            "Who am I talking to?",
            "Do you have a name?",
            "May I know your name?",
            "What should I call you?",
            "Which assistant are you?",
        ],
        zh: &[
            "你是谁？",
            "你叫什么名字？",
            "你的名字是什么？",
            "告诉我你的名字。",
            "介绍一下你自己。",
            "我在和谁说话？",
            "你有名字吗？",
            "怎么称呼你？",
            "我该叫你什么？",
            "你是哪个助手？",
        ],
    },
    answer: Pair { en: "I am mynah, a small assistant.", zh: "我是 mynah，一个小助手。" },
    states: Pair { en: "mynah", zh: "mynah" },
};

const NATURE: Exchange = Exchange {
    say: Phrases {
        en: &[
            "Are you a human?",
            "Are you a person?",
            "Are you a man or a machine?",
            "Are you a real person?",
            "What are you?",
            "Are you alive?",
        ],
        zh: &[
            "你是人吗？",
            "你是真人吗？",
            "你是人还是机器？",
            "你是什么？",
            "你是机器人吗？",
            "你有生命吗？",
        ],
    },
    answer: Pair { en: "I am a computer program.", zh: "我是一个电脑程序。" },
    states: Pair { en: "computer program", zh: "电脑程序" },
};

const SKILLS: Exchange = Exchange {
    say: Phrases {
        en: &[
            "What can you do?",
            "How can you help me?",
            "What are you good at?",
            "What do you know?",
            "What can I ask you?",
        ],
        zh: &["你会做什么？", "你能做什么？", "你能帮我做什么？", "你擅长什么？", "我可以问你什么？"],
    },
    answer: Pair {
        en: "I can count, sort, read and translate.", zh: "我会计算、排序、阅读和翻译。"
    },
    states: Pair { en: "translate", zh: "翻译" },
};

const GREETING: Exchange = Exchange {
    say: Phrases {
        en: &["Hello!", "Hi!", "Good morning!", "Good evening!", "Nice to meet you!", "Hello, how are you?"],
        zh: &["你好！", "您好！", "早上好！", "晚上好！", "很高兴认识你！", "你好，最近怎么样？"],
    },
    answer: Pair { en: "Hello! How can I help you?", zh: "你好！我能帮你什么？" },
    states: Pair { en: "help you", zh: "帮你" },
};

const THANKS: Exchange = Exchange {
    say: Phrases {
        en: &["Thank you!", "Thanks a lot!", "That was helpful.", "Well done!", "You are very kind."],
        zh: &["谢谢！", "非常感谢！", "你帮了我大忙。", "做得好！", "你真好。"],
    },
    answer: Pair { en: "You are welcome.", zh: "不客气。" },
    states: Pair { en: "welcome", zh: "不客气" },
};

const GOODBYE: Exchange = Exchange {
    say: Phrases {
        en: &["Goodbye!", "Bye!", "See you tomorrow!", "Good night!", "I have to go now."],
        zh: &["再见！", "拜拜！", "明天见！", "晚安！", "我得走了。"],
    },
    answer: Pair { en: "Goodbye!", zh: "再见！" },
    states: Pair { en: "goodbye", zh: "再见" },
};

const EXCHANGES: [&Exchange; 6] = [&NAME, &NATURE, &SKILLS, &GREETING, &THANKS, &GOODBYE];

/// What people say before they come to the point.
const BEFORE: Phrases = Phrases {
    en: &["I am {name}. ", "My name is {name}. ", "This is {name}. ", "{name} here. "],
    zh: &["我是{name}。", "我叫{name}。", "这里是{name}。", "{name}在这里。"],
};

pub(super) fn lesson(draw: &mut Draw, language: Language) -> Lesson {
    let exchange = EXCHANGES[draw.weighted(&[4, 2, 2, 1, 1, 1])];
    let said = exchange.say.say(draw, language, &[]);
    let mut question = said.clone();
    if draw.chance(0.6) {
        let name = draw.pick(PEOPLE).say(language);
        question = BEFORE.say(draw, language, &[("name", name)]) + &question;
    }
    let other = EXCHANGES.iter().filter(|other| other.answer != exchange.answer).collect::<Vec<_>>();
    let wrong = draw.pick(&other).answer.say(language);
    Lesson::new(Task::Myself, language, said, question, exchange.answer.say(language), wrong)
        .accepting(exchange.states.say(language))
        .foreign(exchange.answer.say(language.other()))
}

const TOLD: Phrases = Phrases {
    en: &[
        "mynah is a small assistant.",
        "mynah is a computer program.",
        "mynah can count, sort, read and translate.",
        "mynah speaks English and Chinese.",
        "A mynah is a bird that can learn to speak.",
        "mynah does not know what it was not told.",
    ],
    zh: &[
        "mynah 是一个小助手。",
        "mynah 是一个电脑程序。",
        "mynah 会计算、排序、阅读和翻译。",
        "mynah 会说英文和中文。",
        "八哥是一种会学说话的鸟，英文叫 mynah。",
        "没有人告诉过 mynah 的事，它不知道。",
    ],
};

/// What is told about the assistant.
pub(super) fn prose(draw: &mut Draw, language: Language) -> String {
    let [a, b, c] = draw.several(TOLD.of(language));
    [*a, *b, *c].join(super::super::phrase::either(language, " ", ""))
}
