//! Labelled texts in files: what a classifier learns from, in the four forms of GPT-1 (Radford et al. 2018, figure 1).

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;

use super::messages::missing;
use super::rows::{Fault, Record};

/// What is decided about how many texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The class of a text: `{"text","label"}`.
    Classification,
    /// What a premise says of a hypothesis: `{"premise","hypothesis","label"}`.
    Entailment,
    /// How two texts relate, whichever comes first: `{"a","b","label"}`; a label that is a number with a fraction is a degree.
    Similarity,
    /// Which answer is right: `{"context"?,"question"?,"answers","label"}`, where the label counts from 0.
    MultipleChoice,
}

/// A label as its file says it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Label {
    /// A class.
    Class(String),
    /// A number: the index of an answer, a class that is written as a number, or a degree.
    Number(f64),
}

/// One labelled line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Labelled {
    /// The texts: one, two, or what all answers share and then the answers.
    pub texts: Vec<String>,
    /// The label; none where nobody has said.
    pub label: Option<Label>,
}

impl Form {
    /// All of them.
    pub const ALL: [Form; 4] =
        [Form::Classification, Form::Entailment, Form::Similarity, Form::MultipleChoice];

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Form::Classification => "classification",
            Form::Entailment => "entailment",
            Form::Similarity => "similarity",
            Form::MultipleChoice => "multiple-choice",
        }
    }

    /// Reads one line, whose label is needed or may be missing.
    ///
    /// # Errors
    /// A field is missing, of the wrong type or empty; the label is none of the answers.
    pub fn read(self, record: &Record, needs_label: bool) -> Result<Labelled, Fault> {
        let texts = match self {
            Form::Classification => vec![text(record, "text")?],
            Form::Entailment => vec![text(record, "premise")?, text(record, "hypothesis")?],
            Form::Similarity => vec![text(record, "a")?, text(record, "b")?],
            Form::MultipleChoice => choices(record)?,
        };
        let label = match record.get("label") {
            None | Some(Value::Null) if needs_label => return Err(missing("label", record)),
            None | Some(Value::Null) => None,
            Some(value) => Some(self.label(value, texts.len())?),
        };
        Ok(Labelled { texts, label })
    }

    fn label(self, value: &Value, texts: usize) -> Result<Label, Fault> {
        let wrong = |what: &str| Fault::bad("wrong label", format!("label is {value:.60}, {what}"));
        match (self, value) {
            (Form::MultipleChoice, value) => {
                let index = value.as_u64().filter(|&index| index + 1 < texts as u64);
                let index = index.ok_or_else(|| wrong("not the index of an answer, from 0"))?;
                Ok(Label::Number(index as f64))
            }
            (_, Value::String(name)) if !name.is_empty() => Ok(Label::Class(name.clone())),
            (_, Value::Bool(truth)) => Ok(Label::Class(truth.to_string())),
            (_, Value::Number(number)) => {
                let finite = number.as_f64().filter(|number| number.is_finite());
                finite.map(Label::Number).ok_or_else(|| wrong("not a finite number"))
            }
            _ => Err(wrong("neither a name nor a number")),
        }
    }
}

/// A field that is a text with something in it.
fn text(record: &Record, name: &str) -> Result<String, Fault> {
    match record.get(name) {
        Some(Value::String(text)) if text.trim().is_empty() => {
            Err(Fault::bad("empty text", format!("{name} is empty")))
        }
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(Fault::bad("wrong type", format!("{name} is not a string"))),
        None => Err(missing(name, record)),
    }
}

/// What the answers share, context and question on a line each, and the answers.
fn choices(record: &Record) -> Result<Vec<String>, Fault> {
    let asked = ["context", "question"].map(|name| match record.get(name) {
        None | Some(Value::Null) => None,
        Some(_) => Some(text(record, name)),
    });
    let asked: Vec<String> = asked.into_iter().flatten().collect::<Result<_, _>>()?;
    if asked.is_empty() {
        return Err(missing("context or question", record));
    }
    let Some(Value::Array(answers)) = record.get("answers") else {
        return Err(match record.get("answers") {
            Some(_) => Fault::bad("wrong type", "answers is not an array"),
            None => missing("answers", record),
        });
    };
    if answers.len() < 2 {
        return Err(Fault::bad("no choice", format!("answers has {} entries", answers.len())));
    }
    let mut texts = vec![asked.join("\n")];
    for (number, answer) in answers.iter().enumerate() {
        match answer.as_str() {
            Some(answer) if !answer.trim().is_empty() => texts.push(answer.to_owned()),
            Some(_) => return Err(Fault::bad("empty text", format!("answers[{number}] is empty"))),
            None => return Err(Fault::bad("wrong type", format!("answers[{number}] is not a string"))),
        }
    }
    Ok(texts)
}

impl FromStr for Form {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Form::ALL.map(Form::name).join(", ");
        Form::ALL.into_iter().find(|form| form.name() == name).ok_or_else(|| format!("none of {}", known()))
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Label::Class(name) => f.write_str(name),
            Label::Number(number) => write!(f, "{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: Form, json: &str) -> Result<Labelled, String> {
        let record = serde_json::from_str(json).unwrap();
        form.read(&record, true).map_err(|fault| fault.kind)
    }

    #[test]
    fn every_form_is_read() {
        let texts = |form, json| read(form, json).map(|line| line.texts);
        let label = |form, json| read(form, json).map(|line| line.label.unwrap().to_string());
        let review = r#"{"text":"fine","label":"positive"}"#;
        assert_eq!(texts(Form::Classification, review).unwrap(), ["fine"]);
        assert_eq!(label(Form::Classification, review).unwrap(), "positive");
        let pair = r#"{"a":"x","b":"y","label":1}"#;
        assert_eq!(texts(Form::Similarity, pair).unwrap(), ["x", "y"]);
        assert_eq!(label(Form::Similarity, pair).unwrap(), "1");
        assert_eq!(label(Form::Similarity, r#"{"a":"x","b":"y","label":3.8}"#).unwrap(), "3.8");
        let question = r#"{"context":"c","question":"q","answers":["x","y"],"label":1}"#;
        assert_eq!(texts(Form::MultipleChoice, question).unwrap(), ["c\nq", "x", "y"]);
        let record = serde_json::from_str(r#"{"text":"fine"}"#).unwrap();
        assert_eq!(Form::Classification.read(&record, false).unwrap().label, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let choice = |json| read(Form::MultipleChoice, json).unwrap_err();
        assert_eq!(choice(r#"{"question":"q","answers":["x","y"],"label":2}"#), "wrong label");
        assert_eq!(choice(r#"{"question":"q","answers":["x"],"label":0}"#), "no choice");
        assert_eq!(choice(r#"{"question":"q","answers":["x"," "],"label":0}"#), "empty text");
        assert_eq!(choice(r#"{"answers":["x","y"],"label":0}"#), "missing field");
        assert_eq!(read(Form::Classification, r#"{"text":"fine"}"#).unwrap_err(), "missing field");
        assert_eq!(read(Form::Entailment, r#"{"premise":"p","label":0}"#).unwrap_err(), "missing field");
        assert_eq!(read(Form::Classification, r#"{"text":1,"label":0}"#).unwrap_err(), "wrong type");
        assert_eq!(read(Form::Classification, r#"{"text":"x","label":[]}"#).unwrap_err(), "wrong label");
        assert!("nli".parse::<Form>().unwrap_err().contains("entailment"));
    }
}
