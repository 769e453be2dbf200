//! Plots: steps told one after another, each in one of several wordings.

use super::super::phrase::Phrases;

/// A sentence or two of a plot.
pub(super) enum Step {
    Always(Phrases),
    /// In half of the stories.
    Perhaps(Phrases),
}

const fn step(en: &'static [&'static str], zh: &'static [&'static str]) -> Step {
    Step::Always(Phrases { en, zh })
}

const fn perhaps(en: &'static [&'static str], zh: &'static [&'static str]) -> Step {
    Step::Perhaps(Phrases { en, zh })
}

const BEGIN: Step = step(
    &["It was {day}.", "On {day}, the sun was shining.", "It was a warm day.", "One day, {a} got up early."],
    &["那天是{day}。", "{day}，太阳出来了。", "那是暖和的一天。", "有一天，{a}很早就起床了。"],
);

const END: Step = step(
    &["{a} was happy.", "It was a good day.", "In the evening, everybody was tired.", "{a} smiled."],
    &["{a}很高兴。", "这是愉快的一天。", "晚上，大家都累了。", "{a}笑了。"],
);

const GIFT: &[Step] = &[
    BEGIN,
    step(&["{a} had {thing}.", "{a} found {thing} {at}."], &["{a}有{thing}。", "{a}{at}看到了{thing}。"]),
    step(&["{b} was sad.", "{b} had no {object}."], &["{b}很难过。", "{b}没有{object}。"]),
    perhaps(
        &["\"What is the matter?\" asked {a}.", "{a} looked at {b}."],
        &["“怎么了？”{a}问。", "{a}看着{b}。"],
    ),
    step(
        &["{a} gave {b} the {object}.", "\"The {object} is for you,\" said {a}."],
        &["{a}把{object}给了{b}。", "“{object}给你。”{a}说。"],
    ),
    step(
        &["Now {b} had the {object}.", "\"Thank you, {a}!\" said {b}."],
        &["现在{b}有{object}了。", "“谢谢你，{a}！”{b}说。"],
    ),
    END,
];

const LOST: &[Step] = &[
    BEGIN,
    step(
        &["{a} could not find the {object}.", "{a} lost {thing}."],
        &["{a}找不到{object}了。", "{a}丢了{thing}。"],
    ),
    step(&["{a} looked for it {at}.", "It was not {at}."], &["{a}{at}找了找。", "它不{at}。"]),
    perhaps(
        &["\"Where is the {object}?\" asked {a}.", "\"Did you see my {object}?\" asked {a}."],
        &["“{object}在哪里？”{a}问。", "“你看见我的{object}了吗？”{a}问。"],
    ),
    step(
        &["\"It is {at2},\" said {b}.", "{b} found it {at2}."],
        &["“它{at2}。”{b}说。", "{b}{at2}找到了它。"],
    ),
    step(
        &["The {object} was {colour}, so it was easy to see.", "{a} ran {to2} and took the {object}."],
        &["{object}是{colour}的，很容易看见。", "{a}{to2}拿了{object}。"],
    ),
    END,
];

const HUNGRY: &[Step] = &[
    BEGIN,
    step(&["{a} saw a {colour} {animal} {at}."], &["{a}{at}看见了{colour}的{animal}。"]),
    step(
        &["The {animal} was hungry.", "\"The {animal} is hungry,\" said {b}."],
        &["{animal}很饿。", "“{animal}很饿。”{b}说。"],
    ),
    step(
        &[
            "A hungry {animal} wants {eats}.",
            "\"What does it eat?\" asked {a}. \"It eats {eats},\" said {b}.",
        ],
        &["{animal}喜欢吃{eats}。", "“它吃什么？”{a}问。“它吃{eats}。”{b}说。"],
    ),
    step(
        &["{a} gave it some {eats}.", "{b} had {eats} at home."],
        &["{a}给了它一些{eats}。", "{b}家里有{eats}。"],
    ),
    step(
        &["After that, the {animal} was sleeping.", "The {animal} ate and drank water."],
        &["后来，{animal}睡着了。", "{animal}吃了东西，喝了水。"],
    ),
    END,
];

const LEARN: &[Step] = &[
    step(
        &["{a} wanted to {verb}.", "\"I want to {verb},\" said {a}."],
        &["{a}想学{verb}。", "“我想{verb}。”{a}说。"],
    ),
    step(&["But {a} could not {verb}."], &["可是{a}不会{verb}。"]),
    step(
        &["{b} could {verb} very well.", "{b} was a good teacher."],
        &["{b}很会{verb}。", "{b}是一个好老师。"],
    ),
    step(
        &["On {day}, {b} went {to} with {a}.", "\"Look at me,\" said {b}, \"and then you do it.\""],
        &["{day}，{b}和{a}一起{to}。", "“看着我，”{b}说，“然后你来做。”"],
    ),
    perhaps(
        &["On {day2}, they went again.", "It was not easy, but {a} did not stop."],
        &["{day2}，他们又去了。", "这不容易，可是{a}没有停下来。"],
    ),
    step(
        &["On {day3}, {a} was {verbing}.", "Now {a} could {verb}, too."],
        &["{day3}，{a}在{verb}了。", "现在{a}也会{verb}了。"],
    ),
    END,
];

const RAIN: &[Step] = &[
    step(&["It was raining.", "On {day}, it was raining."], &["下雨了。", "{day}下雨了。"]),
    step(
        &["{a} had no umbrella.", "{a} was {at} and had no umbrella."],
        &["{a}没有雨伞。", "{a}{at}，没有雨伞。"],
    ),
    step(
        &["{b} had a {colour} umbrella.", "{b} came with an umbrella."],
        &["{b}有一把{colour}的雨伞。", "{b}带着雨伞来了。"],
    ),
    perhaps(&["\"Come with me,\" said {b}."], &["“跟我来。”{b}说。"]),
    step(
        &["{a} and {b} walked home.", "They went home together."],
        &["{a}和{b}走回家。", "他们一起回家了。"],
    ),
    step(
        &["At home they ate {foods}.", "\"Thank you,\" said {a}. \"You are welcome,\" said {b}."],
        &["他们在家吃了{foods}。", "“谢谢。”{a}说。“不客气。”{b}说。"],
    ),
    END,
];

const SHOP: &[Step] = &[
    BEGIN,
    step(&["{a} went to the shop.", "{a} and {b} went to the shop."], &["{a}去商店。", "{a}和{b}去商店。"]),
    step(
        &["{a} bought {number}.", "\"I want {number}, please,\" said {a}."],
        &["{a}买了{number}。", "“我要{number}。”{a}说。"],
    ),
    perhaps(
        &["{a} bought {thing}, too.", "{b} bought {thing}."],
        &["{a}还买了{thing}。", "{b}买了{thing}。"],
    ),
    step(
        &["{a} gave {b} {few}.", "{b} likes {foods2}, but {a} likes {foods}."],
        &["{a}给了{b}{few}。", "{b}喜欢{foods2}，{a}喜欢{foods}。"],
    ),
    step(&["Then they went {to}.", "They ate {at}."], &["然后他们{to}。", "他们{at}吃东西。"]),
    END,
];

const WEEK: &[Step] = &[
    step(&["On {day}, {a} went {to}."], &["{day}，{a}{to}。"]),
    perhaps(&["{b} was {at}, too.", "{a} met {b} {at}."], &["{b}也{at}。", "{a}{at}遇见了{b}。"]),
    step(&["On {day2}, {a} went {to2}."], &["{day2}，{a}{to2}。"]),
    perhaps(
        &["{a} saw a {animal} {at2}.", "{a} was {verbing} {at2}."],
        &["{a}{at2}看见了{animal}。", "{a}{at2}{verb}。"],
    ),
    step(
        &["On {day3}, {a} went {to3}.", "On {day3}, {a} was tired."],
        &["{day3}，{a}{to3}。", "{day3}，{a}很累。"],
    ),
    step(&["Then {a} was at home and slept."], &["然后{a}在家睡觉。"]),
];

const BIRTHDAY: &[Step] = &[
    step(
        &["It was the birthday of {a}.", "On {day}, {a} had a birthday."],
        &["今天是{a}的生日。", "{day}是{a}的生日。"],
    ),
    step(
        &["{b} gave {a} {thing}.", "{b} came with {thing}."],
        &["{b}送给{a}{thing}。", "{b}带来了{thing}。"],
    ),
    step(
        &["{c} gave {a} {thing2}.", "{c} made a big cake."],
        &["{c}送给{a}{thing2}。", "{c}做了一个大蛋糕。"],
    ),
    perhaps(
        &["They ate {foods} and cake.", "They were singing and dancing."],
        &["他们吃了{foods}和蛋糕。", "他们唱歌、跳舞。"],
    ),
    step(
        &["\"Thank you all,\" said {a}.", "{a} liked the {object}."],
        &["“谢谢大家。”{a}说。", "{a}喜欢{object}。"],
    ),
    END,
];

const FRIENDS: &[Step] = &[
    step(&["{a} and {b} are friends."], &["{a}和{b}是朋友。"]),
    step(&["{a} likes {foods} and {b} likes {foods2}."], &["{a}喜欢{foods}，{b}喜欢{foods2}。"]),
    step(&["{a} has {thing}.", "{b} has {thing2}."], &["{a}有{thing}。", "{b}有{thing2}。"]),
    perhaps(&["{a} can {verb}, and {b} can {verb}, too."], &["{a}会{verb}，{b}也会{verb}。"]),
    step(
        &["Today {a} is {at} and {b} is {at2}.", "Today {a} is {verb2ing}."],
        &["今天{a}{at}，{b}{at2}。", "今天{a}在{verb2ing}。"],
    ),
    step(
        &["\"Where is {b}?\" asks {c}. \"{b} is {at2},\" says {a}.", "Tomorrow they go {to}."],
        &["“{b}在哪里？”{c}问。“{b}{at2}。”{a}说。", "明天他们{to}。"],
    ),
];

pub(super) const PLOTS: &[&[Step]] = &[GIFT, LOST, HUNGRY, LEARN, RAIN, SHOP, WEEK, BIRTHDAY, FRIENDS];
