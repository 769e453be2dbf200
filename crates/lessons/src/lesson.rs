//! What a lesson is: a question, its answer, and the key by which other answers are judged.

use serde::{Deserialize, Serialize};

use super::phrase::either;
use ::text::data::is_held_out;
use ::text::data::rows::{Fault, Record};

/// The language that a person speaks with the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Language {
    /// English.
    #[serde(rename = "en")]
    English,
    /// Chinese, in simplified characters.
    #[serde(rename = "zh")]
    Chinese,
}

impl Language {
    /// Both.
    pub const ALL: [Language; 2] = [Language::English, Language::Chinese];

    /// The one that this is not.
    pub fn other(self) -> Language {
        match self {
            Language::English => Language::Chinese,
            Language::Chinese => Language::English,
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Sums and differences, bare or in a story.
    Arithmetic,
    /// How often a letter or a word occurs.
    Counting,
    /// Letters or words in the opposite order.
    Reversing,
    /// Numbers by size, words by the alphabet.
    Sorting,
    /// The larger of two, yes or no.
    Comparing,
    /// What comes next.
    Patterns,
    /// A question about sentences just given.
    Reading,
    /// A word or a sentence in the other language.
    Translation,
    /// Days and months before and after.
    Dates,
    /// One line of Python.
    Code,
    /// What is known about the world: colours, legs, opposites.
    Facts,
    /// Who the assistant is; good manners.
    Myself,
    /// What nobody told it and it cannot see: a polite refusal.
    Unknown,
}

impl Task {
    /// All tasks, in the order of the declaration.
    pub const ALL: [Task; 13] = [
        Task::Arithmetic,
        Task::Counting,
        Task::Reversing,
        Task::Sorting,
        Task::Comparing,
        Task::Patterns,
        Task::Reading,
        Task::Translation,
        Task::Dates,
        Task::Code,
        Task::Facts,
        Task::Myself,
        Task::Unknown,
    ];

    /// The name in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Task::Arithmetic => "arithmetic",
            Task::Counting => "counting",
            Task::Reversing => "reversing",
            Task::Sorting => "sorting",
            Task::Comparing => "comparing",
            Task::Patterns => "patterns",
            Task::Reading => "reading",
            Task::Translation => "translation",
            Task::Dates => "dates",
            Task::Code => "code",
            Task::Facts => "facts",
            Task::Myself => "myself",
            Task::Unknown => "unknown",
        }
    }
}

/// What a judge has to know about a prompt; it travels with the prompt in the extra fields of its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerKey {
    /// What was asked for.
    pub task: Task,
    /// The language in which to answer: that of the question, or the other one in translations.
    pub language: Language,
    /// A perfect answer.
    pub answer: String,
    /// What an answer has to state, any of these; empty: the perfect answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<String>,
    /// What an answer must not state: the alternatives among which the question lets one choose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reject: Vec<String>,
}

impl AnswerKey {
    /// The key among the further fields of a prompt, of candidates or of a ranking.
    ///
    /// # Errors
    /// There is none.
    pub fn of(fields: &Record) -> Result<AnswerKey, Fault> {
        AnswerKey::deserialize(fields).map_err(|error| {
            Fault::bad("no answer key", format!("{error}; it has task, language and answer"))
        })
    }

    /// The key as further fields of a prompt.
    pub(super) fn fields(&self) -> Record {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(fields)) => fields,
            other => unreachable!("a key is an object, not {other:?}"),
        }
    }
}

/// One question with all that is known about its answers.
#[derive(Clone, Debug)]
pub(super) struct Lesson {
    /// What is asked apart from its wording where an answer can be computed, else the wording; decides the
    /// [`Split`].
    pub(super) instance: String,
    /// The language of the question.
    pub(super) language: Language,
    /// What the question is about, told before it; may be empty.
    pub(super) given: String,
    pub(super) question: String,
    pub(super) key: AnswerKey,
    /// A false answer that looks like a right one.
    pub(super) wrong: String,
    /// The answer in the language that was not asked for.
    pub(super) foreign: String,
}

impl Lesson {
    /// A lesson whose answer has to be stated as it is. Its foreign answer is the same in a sentence of the
    /// other language.
    pub(super) fn new(
        task: Task,
        language: Language,
        instance: impl Into<String>,
        question: impl Into<String>,
        answer: impl Into<String>,
        wrong: impl Into<String>,
    ) -> Lesson {
        let (question, answer) = (question.into(), answer.into());
        let bare = answer.trim_end_matches(['.', '。']);
        let foreign = match language {
            Language::English => format!("答案是 {bare}。"),
            Language::Chinese => format!("The answer is {bare}."),
        };
        let key = AnswerKey { task, language, answer, accept: Vec::new(), reject: Vec::new() };
        Lesson {
            instance: instance.into(),
            language,
            given: String::new(),
            question,
            key,
            wrong: wrong.into(),
            foreign,
        }
    }

    /// The question after what it is about.
    pub(super) fn asked(&self) -> String {
        let space = if self.given.is_empty() { "" } else { either(self.language, " ", "") };
        format!("{}{space}{}", self.given, self.question)
    }

    pub(super) fn split(&self) -> Split {
        Split::of(self.key.task, &self.instance)
    }

    /// The same, after something that was told.
    pub(super) fn given(mut self, told: impl Into<String>) -> Lesson {
        self.given = told.into();
        self
    }

    /// The same, content with any answer that states this.
    pub(super) fn accepting(mut self, phrase: impl Into<String>) -> Lesson {
        self.key.accept.push(phrase.into());
        self
    }

    /// The same, with alternatives that must not be stated.
    pub(super) fn rejecting(mut self, phrases: impl IntoIterator<Item = String>) -> Lesson {
        self.key.reject.extend(phrases);
        self
    }

    /// The same, to be answered in a language other than the question's.
    pub(super) fn answered_in(mut self, language: Language) -> Lesson {
        self.key.language = language;
        self
    }

    /// The same, with an answer in the other language.
    pub(super) fn foreign(mut self, answer: impl Into<String>) -> Lesson {
        self.foreign = answer.into();
        self
    }
}

/// Whether something may be learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Occurs in training.
    Train,
    /// Is only ever asked in evaluations.
    HeldOut,
}

/// The share of instances that are held out.
pub const HELD_OUT_SHARE: f64 = 0.1;

impl Split {
    /// The split of an instance: a hash of its text and of nothing else, so every kind of data under every
    /// seed agrees.
    pub(super) fn of(task: Task, instance: &str) -> Split {
        let bytes = format!("{}: {instance}", task.name());
        if is_held_out(bytes.as_bytes(), HELD_OUT_SHARE) { Split::HeldOut } else { Split::Train }
    }
}
