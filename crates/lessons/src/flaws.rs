//! What is wrong with the imperfect ones among the demonstrations.

use serde::Serialize;

use super::draw::Draw;
use super::lesson::{Language, Lesson, Task};
use super::phrase::{Phrases, either};

/// The share of demonstrations that are imperfect, as those of real labelers are. A model that imitates them
/// all answers so, too, in that share of cases: what rankings and PPO are there to mend.
pub const IMPERFECT_SHARE: f64 = 0.4;

/// How often each flaw occurs among the imperfect, in percent, in the order of [`Flaw`].
const WEIGHTS: [u32; 4] = [35, 25, 25, 15];

/// What is wrong with a demonstration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Flaw {
    /// Right, within words that nobody asked for.
    Wordy,
    /// In the language that was not asked for.
    Foreign,
    /// Right, but said twice, without its end, or with remains of a form.
    Untidy,
    /// False.
    Wrong,
}

impl Flaw {
    /// All flaws.
    pub const ALL: [Flaw; 4] = [Flaw::Wordy, Flaw::Foreign, Flaw::Untidy, Flaw::Wrong];

    /// The flaw of a demonstration; most have none.
    pub(super) fn draw(draw: &mut Draw) -> Option<Flaw> {
        draw.chance(IMPERFECT_SHARE).then(|| Flaw::ALL[draw.weighted(&WEIGHTS)])
    }

    /// The lesson's answer with this flaw.
    pub(super) fn answer(self, draw: &mut Draw, lesson: &Lesson) -> String {
        match self {
            Flaw::Wordy => wordy(draw, lesson),
            Flaw::Foreign => lesson.foreign.clone(),
            Flaw::Untidy => untidy(draw, lesson),
            Flaw::Wrong => lesson.wrong.clone(),
        }
    }
}

const BEFORE: Phrases = Phrases {
    en: &[
        "That is a very good question, and I am glad that you asked me. The answer is: ",
        "Let me think about this for a moment, because I want to be right. Here it is: ",
        "Sure, I can help you with that, of course! This is what you are looking for: ",
    ],
    zh: &[
        "这是一个很好的问题，我很高兴你来问我。答案是这样的：",
        "让我先好好想一想，因为我想回答得正确。答案在这里：",
        "当然可以，我很乐意帮你解决这个问题！你要的内容如下：",
    ],
};

const AFTER: Phrases = Phrases {
    en: &[
        "I hope that this helps you, and please ask me again at any time.",
        "Please tell me if you want to know anything more about it.",
    ],
    zh: &["希望我的回答对你有帮助，欢迎你随时再来问我。", "如果你还想知道别的，请你一定告诉我。"],
};

/// Words before, after, or both; a line of code stays the last thing on its line.
fn wordy(draw: &mut Draw, lesson: &Lesson) -> String {
    let (language, answer) = (lesson.key.language, &lesson.key.answer);
    let where_ = if lesson.key.task == Task::Code { 0 } else { draw.below(3) };
    let before = if where_ != 1 { BEFORE.say(draw, language, &[]) } else { String::new() };
    if where_ == 0 {
        return before + answer;
    }
    let ended = answer.ends_with(['.', '?', '!', '。', '？', '！']);
    let end = match (ended, language) {
        (true, Language::English) => " ",
        (false, Language::English) => ". ",
        (true, Language::Chinese) => "",
        (false, Language::Chinese) => "。",
    };
    before + answer + end + &AFTER.say(draw, language, &[])
}

fn untidy(draw: &mut Draw, lesson: &Lesson) -> String {
    let (language, answer) = (lesson.key.language, &lesson.key.answer);
    match draw.below(3) {
        0 => format!("{}{answer}", either(language, "Answer: ", "答案：")),
        1 if answer.ends_with('。') => format!("{answer}{answer}"),
        1 => format!("{answer} {answer}"),
        _ => {
            answer.trim_end_matches(['.', '?', '!', '。', '？', '！']).to_string()
                + either(language, " ...", "……")
        }
    }
}
