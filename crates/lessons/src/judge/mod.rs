//! The judge of answers: how good is this, from 0 to 1?
//!
//! It does not parse the prompt. A prompt's record carries its [`AnswerKey`] in extra fields from the
//! generator through every file of candidates and rankings, because the alternative, reading the task back
//! out of some two hundred wordings in two languages, would be a second implementation of them all that fails
//! in silence. With a key of their own, people's prompts are judged as well.
//!
//! `score = 0.5 correctness + 0.2 language + 0.15 form + 0.15 brevity`, each from 0 to 1; an answer without
//! words scores 0.

mod words;

use serde::Serialize;

use super::lesson::{AnswerKey, Language, Task};
use super::world::PEOPLE;
use ::text::data::Candidates;
use ::text::data::rows::{Fault, Record};
use words::{Kind, MARKS, Word, places, without_stops, words};

/// A judge by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// [`judge`], for prompts that carry an [`AnswerKey`].
    Lessons,
    /// The shorter the better, for any prompt: `1 / (1 + characters / 20)`.
    Length,
}

impl Judge {
    /// What it thinks of an answer, from 0 to 1. `fields` are the further fields of the prompt.
    ///
    /// # Errors
    /// It needs a key, and there is none.
    pub fn score(self, fields: &Record, answer: &str) -> Result<f64, Fault> {
        match self {
            Judge::Lessons => Ok(judge(&AnswerKey::of(fields)?, answer).score()),
            Judge::Length => Ok(1.0 / (1.0 + answer.chars().count() as f64 / 20.0)),
        }
    }

    /// What it thinks of each of several answers.
    ///
    /// # Errors
    /// As [`score`](Self::score).
    pub fn scores(self, candidates: &Candidates) -> Result<Vec<f64>, Fault> {
        candidates.completions.iter().map(|answer| self.score(&candidates.extra, answer)).collect()
    }
}

/// What each part of a verdict weighs: correctness, language, form, brevity.
pub const WEIGHTS: [f64; 4] = [0.5, 0.2, 0.15, 0.15];

/// Words beyond those of the perfect answer that cost nothing.
const SPARE_WORDS: usize = 3;

/// What a judge says about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Whether it states what the key asks for, and none of the alternatives.
    pub correct: bool,
    /// The share of its words that are in the language asked for, from 0 to 1; words of the perfect answer
    /// belong to it.
    pub language: f64,
    /// Ends cleanly, repeats nothing, has no remains of a template: 1; one of these fails: 0.5; more: 0.
    pub form: f64,
    /// 1 up to three words more than the perfect answer has, from there on inversely proportional to the
    /// number of words. A Chinese character is a word.
    pub brevity: f64,
}

impl Verdict {
    const NOTHING: Verdict = Verdict { correct: false, language: 0.0, form: 0.0, brevity: 0.0 };

    /// The weighted sum of the parts, from 0 to 1.
    pub fn score(&self) -> f64 {
        let parts = [f64::from(u8::from(self.correct)), self.language, self.form, self.brevity];
        WEIGHTS.iter().zip(parts).map(|(weight, part)| weight * part).sum()
    }
}

/// Judges an answer by the key of its prompt.
pub fn judge(key: &AnswerKey, answer: &str) -> Verdict {
    let (said, perfect) = (without_stops(answer), without_stops(&key.answer));
    if said.is_empty() {
        return Verdict::NOTHING;
    }
    let brevity = (perfect.len() + SPARE_WORDS) as f64 / said.len() as f64;
    Verdict {
        correct: is_correct(key, answer),
        language: language(key, &said, &perfect),
        form: form(key, answer),
        brevity: brevity.min(1.0),
    }
}

fn is_correct(key: &AnswerKey, answer: &str) -> bool {
    let accept = if key.accept.is_empty() { std::slice::from_ref(&key.answer) } else { &key.accept };
    let said = words(answer);
    let states = |phrase: &String| match key.task {
        Task::Code => ends_a_line(answer, phrase),
        Task::Sorting | Task::Reversing => is_whole_list(&said, &without_stops(phrase)),
        _ => match &without_stops(phrase)[..] {
            // The result of a calculation comes last, after its terms.
            [number] if number.kind == Kind::Number => {
                said.iter().rfind(|word| word.kind == Kind::Number) == Some(number)
            }
            phrase => places(&without_stops(answer), phrase).next().is_some(),
        },
    };
    let rejected = |phrase: &String| places(&said, &without_stops(phrase)).next().is_some();
    accept.iter().any(states) && !key.reject.iter().any(rejected) && !names_a_stranger(key, &said)
}

/// Whether an answer states a phrase as whole words, whatever their case.
pub fn states(answer: &str, phrase: &str) -> bool {
    let phrase = without_stops(phrase);
    !phrase.is_empty() && places(&without_stops(answer), &phrase).next().is_some()
}

/// Whether the answer is about somebody whom the right ones do not name.
fn names_a_stranger(key: &AnswerKey, said: &[Word]) -> bool {
    let right: Vec<Vec<Word>> = key.accept.iter().chain([&key.answer]).map(|text| words(text)).collect();
    let occurs = |said: &[Word], name: &[Word]| places(said, name).next().is_some();
    PEOPLE.iter().any(|person| {
        let names = Language::ALL.map(|language| words(person.say(language)));
        let is_right = names.iter().any(|name| right.iter().any(|right| occurs(right, name)));
        !is_right && names.iter().any(|name| occurs(said, name))
    })
}

/// Whether the list occurs, and not as a part of a longer one: its neighbours in the same sentence are of
/// other kinds. Words before a list of words may belong to the sentence.
fn is_whole_list(said: &[Word], list: &[Word]) -> bool {
    places(said, list).any(|at| {
        let kind = list[0].kind;
        let before = at.checked_sub(1).map(|at| said[at].kind);
        let after = said.get(at + list.len()).map(|word| word.kind);
        let listed = matches!(kind, Kind::Number | Kind::Letter);
        after != Some(kind) && !(listed && before == Some(kind))
    })
}

/// Whether a line of the answer is this code, or ends with it after words and a colon. Spaces and the kind of
/// quotes do not matter.
fn ends_a_line(answer: &str, code: &str) -> bool {
    let squeeze = |text: &str| -> String {
        text.chars()
            .filter(|c| !c.is_whitespace() && *c != '`')
            .map(|c| if c == '\'' { '"' } else { c })
            .collect()
    };
    let are_words = |before: &str| !before.contains(['(', ')', '<', '>', '=', '"', '[', '+']);
    let code = squeeze(code);
    answer.lines().map(squeeze).any(|line| {
        line.strip_suffix(&code)
            .is_some_and(|before| before.is_empty() || before.ends_with([':', '：']) && are_words(before))
    })
}

/// English words that give a sentence away among letters and lines of code.
const FUNCTION_WORDS: [&str; 7] = ["the", "is", "answer", "this", "that", "you", "of"];

fn language(key: &AnswerKey, said: &[Word], perfect: &[Word]) -> f64 {
    let is_own = |word: &Word| match key.language {
        Language::English => word.is_latin(),
        Language::Chinese => word.kind == Kind::Han,
    };
    let speaks = |word: &Word| word.kind != Kind::Number;
    // Where the perfect answer holds code or a row of letters, a wrong one may hold others.
    let is_material = matches!(key.task, Task::Code | Task::Reversing | Task::Sorting | Task::Patterns);
    let is_prose = !(is_material && perfect.iter().any(|word| speaks(word) && !is_own(word)));
    let tells = |word: &&Word| {
        speaks(word)
            && !perfect.contains(word)
            && (is_prose || is_own(word) || FUNCTION_WORDS.contains(&&*word.text))
    };
    let added: Vec<&Word> = said.iter().filter(tells).collect();
    let own = added.iter().filter(|word| is_own(word)).count();
    if added.is_empty() { 1.0 } else { own as f64 / added.len() as f64 }
}

/// What a template or a cut leaves behind.
const DEBRIS: [&str; 14] = [
    "<|",
    "|>",
    "[问题]",
    "[答案]",
    "\u{fffd}",
    "...",
    "…",
    "Question:",
    "Answer:",
    "User:",
    "Assistant:",
    "问题：",
    "答案：",
    "\n",
];

fn form(key: &AnswerKey, answer: &str) -> f64 {
    let perfect = key.answer.trim_end();
    let end = answer.trim_end();
    let has_end = if perfect.ends_with(MARKS) {
        end.ends_with(MARKS)
    } else {
        !end.ends_with([',', ':', ';', '-', '+', '=', '(', '，', '、', '：', '；'])
    };
    let has_debris = DEBRIS.iter().any(|debris| answer.trim().contains(debris) && !perfect.contains(debris));
    let (said, expected) = (without_stops(answer), without_stops(perfect));
    // What has to repeat itself may do so as far as it has to.
    let repeats = repeats(&said) && (!repeats(&expected) || said.len() >= 2 * expected.len());
    let failures = u8::from(!has_end) + u8::from(has_debris) + u8::from(repeats);
    (1.0 - 0.5 * f64::from(failures)).max(0.0)
}

/// Whether three or more words come twice in a row, or fewer three times; or it is all said twice.
fn repeats(said: &[Word]) -> bool {
    let in_a_row = |n: usize, times: usize| {
        said.windows(n * times).any(|row| row.chunks(n).all(|chunk| chunk == &row[..n]))
    };
    let half = said.len() / 2;
    (3..=half).any(|n| in_a_row(n, 2))
        || (1..3).any(|n| in_a_row(n, 3))
        || (half > 0 && said.len().is_multiple_of(2) && said[..half] == said[half..])
}
