//! Labelled texts in files: what a classifier learns from, in the four forms of GPT-1 (Radford et al. 2018,
//! figure 1).
//!
//! Labels that print alike are one, whether they are numbers or texts. Some say that nobody agreed on one,
//! [`NoGold`]: they are no class.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;

use super::messages::missing;
use super::rows::{Fault, Record};
use crate::nearest::did_you_mean;

/// What is decided about how many texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The class of a text: `{"text","label"}`.
    Classification,
    /// What a premise says of a hypothesis: `{"premise","hypothesis","label"}`.
    Entailment,
    /// How two texts relate, whichever comes first: `{"a","b","label"}`; a label that is a number with a
    /// fraction is a degree.
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

    /// The fields of its lines, by name.
    pub fn fields(self) -> &'static [&'static str] {
        match self {
            Form::Classification => &["text", "label"],
            Form::Entailment => &["premise", "hypothesis", "label"],
            Form::Similarity => &["a", "b", "label"],
            Form::MultipleChoice => &["context", "question", "answers", "label"],
        }
    }

    /// Reads one line, whose label is needed or may be missing: null and an empty text are no label.
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
            None if needs_label => return Err(missing("label", record)),
            None => None,
            Some(value) => self.label(value, texts.len())?,
        };
        match label {
            None if needs_label => Err(no_gold(record.get("label").unwrap_or(&Value::Null))),
            label => Ok(Labelled { texts, label }),
        }
    }

    fn label(self, value: &Value, texts: usize) -> Result<Option<Label>, Fault> {
        let wrong = |what: &str| Fault::bad("wrong label", format!("label is {value:.60}, {what}"));
        let label = match value {
            Value::Null => return Ok(None),
            Value::String(name) if name.trim().is_empty() => return Ok(None),
            Value::String(name) => Label::Class(name.clone()),
            Value::Bool(truth) => Label::Class(truth.to_string()),
            Value::Number(number) => {
                let finite = number.as_f64().filter(|number| number.is_finite());
                finite.map(Label::Number).ok_or_else(|| wrong("not a finite number"))?
            }
            _ => return Err(wrong("neither a name nor a number")),
        };
        if self != Form::MultipleChoice {
            return Ok(Some(label));
        }
        // Here -1 can mean nothing else.
        if (NoGold { minus_one: true, dash: true }).is(&label) {
            return Ok(None);
        }
        let index =
            label.printed().filter(|index| index.fract() == 0.0 && (0.0..texts as f64 - 1.0).contains(index));
        index
            .map(|index| Some(Label::Number(index)))
            .ok_or_else(|| wrong("not the index of an answer, from 0"))
    }
}

impl Label {
    /// The number that it is, also as a text, if that is how JSON or Python write it: `1` and `1.0`, not
    /// `01`.
    pub fn printed(&self) -> Option<f64> {
        match self {
            Label::Number(number) => Some(*number),
            Label::Class(name) => {
                let number = name.parse::<f64>().ok().filter(|number| number.is_finite())?;
                [number.to_string(), format!("{number:?}")].contains(name).then_some(number)
            }
        }
    }

    /// The number that it is or that its text says in any way.
    pub fn degree(&self) -> Option<f64> {
        match self {
            Label::Number(number) => Some(*number),
            Label::Class(name) => name.trim().parse::<f64>().ok().filter(|number| number.is_finite()),
        }
    }

    /// Which of these classes it is: one of its very name, or else one that is the same number.
    pub fn among(&self, names: &[String]) -> Option<usize> {
        let own = self.to_string();
        names.iter().position(|name| *name == own).or_else(|| {
            let number = self.printed()?;
            names.iter().position(|name| Label::Class(name.clone()).printed() == Some(number))
        })
    }
}

/// Which labels say that there is none. What `datasets` writes, -1, does beside 0 and other whole numbers
/// from 0 on, as it counts classes: of -1 and 1, or of -2 to 2, it is a class. SNLI's `-` does unless `+` is
/// a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoGold {
    minus_one: bool,
    dash: bool,
}

impl NoGold {
    /// Which of these labels, among which every class is, say that there is none.
    pub fn of<'a>(labels: impl IntoIterator<Item = &'a Label>) -> NoGold {
        let (mut zero, mut counts, mut dash) = (false, true, true);
        for label in labels {
            match label.printed() {
                Some(number) => {
                    zero |= number == 0.0;
                    counts &= number == -1.0 || number >= 0.0 && number.fract() == 0.0;
                }
                None => {
                    dash &= !matches!(label, Label::Class(name) if name == "+");
                    counts &= matches!(label, Label::Class(name) if name == DASH);
                }
            }
        }
        NoGold { minus_one: zero && counts, dash }
    }

    /// Whether this one does.
    pub fn is(self, label: &Label) -> bool {
        match label {
            Label::Class(name) if name == DASH => self.dash,
            label => self.minus_one && label.printed() == Some(-1.0),
        }
    }

    /// The fault of a line whose label is none.
    pub fn fault(self, line: &Labelled) -> Option<Fault> {
        let label = line.label.as_ref().filter(|label| self.is(label))?;
        let mut fault = no_gold(&Value::from(label.to_string()));
        if label.printed().is_some() {
            fault.detail =
                "label is -1 beside 0 and others from 0 on: were it a class, it would need another name"
                    .into();
        }
        Some(fault)
    }
}

/// How SNLI writes that nobody agreed (Bowman et al. 2015).
const DASH: &str = "-";

fn no_gold(label: &Value) -> Fault {
    Fault::left_out("no gold label", format!("label is {label}"))
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
        texts.push(answer_of(&format!("answers[{number}]"), answer)?);
    }
    Ok(texts)
}

/// An answer: a text with something in it, or a number, as JSON writes it.
///
/// # Errors
/// It is empty, or something else.
pub fn answer_of(name: &str, value: &Value) -> Result<String, Fault> {
    match value {
        Value::String(text) if text.trim().is_empty() => {
            Err(Fault::bad("empty text", format!("{name} is empty")))
        }
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(Fault::bad("wrong type", format!("{name} is neither a string nor a number"))),
    }
}

impl FromStr for Form {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Form::ALL.map(Form::name).join(", ");
        Form::ALL.into_iter().find(|form| form.name() == name).ok_or_else(|| {
            let meant = did_you_mean(name, Form::ALL.map(Form::name));
            format!("none of {}{meant}", known())
        })
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
        assert_eq!(read(Form::Classification, r#"{"text":"x","label":null}"#).unwrap_err(), "no gold label");
        assert!("nli".parse::<Form>().unwrap_err().contains("entailment"));
    }

    fn label(json: &str) -> Label {
        read(Form::Classification, &format!(r#"{{"text":"x","label":{json}}}"#)).unwrap().label.unwrap()
    }

    #[test]
    fn labels_that_print_alike_are_one() {
        let names = ["0", "1", "01", "true", "2.5"].map(String::from);
        for (json, expected) in [
            ("1", Some(1)),
            ("1.0", Some(1)),
            ("1e0", Some(1)),
            (r#""1""#, Some(1)),
            (r#""1.0""#, Some(1)),
            (r#""01""#, Some(2)),
            ("true", Some(3)),
            (r#""true""#, Some(3)),
            (r#""2.5""#, Some(4)),
            (r#""1e0""#, None),
            (r#"" 1""#, None),
            (r#""True""#, None),
            ("2", None),
        ] {
            assert_eq!(label(json).among(&names), expected, "{json}");
        }
        let versions = ["1", "1.0"].map(String::from);
        assert_eq!(label(r#""1.0""#).among(&versions), Some(1), "its very name comes first");
    }

    #[test]
    fn what_is_no_gold_label_depends_on_the_others() {
        for (labels, none) in [
            ("-1 0 1 2", "-1"),
            (r#""-1" "0" "1""#, r#""-1""#),
            ("-1.0 0.0 1.0", "-1.0"),
            (r#"-1 0 1 "-""#, "-1"),
            (r#""-" "entailment" "neutral""#, r#""-""#),
        ] {
            let labels: Vec<Label> = labels.split(' ').map(label).collect();
            assert!(NoGold::of(&labels).is(&label(none)), "{labels:?}");
        }
        for (labels, class) in [
            ("-1 1", "-1"),
            (r#""-1" "1""#, r#""-1""#),
            ("-2 -1 0 1 2", "-1"),
            ("-1 0 0.5 1", "-1"),
            (r#"-1 0 "neutral""#, "-1"),
            ("-1", "-1"),
            (r#""-" "+""#, r#""-""#),
        ] {
            let labels: Vec<Label> = labels.split(' ').map(label).collect();
            assert!(!NoGold::of(&labels).is(&label(class)), "{labels:?}");
        }
        let choice = |label: &str| {
            read(Form::MultipleChoice, &format!(r#"{{"question":"q","answers":["x",2],"label":{label}}}"#))
        };
        for label in ["-1", "null", r#""""#, r#""-1""#] {
            assert_eq!(choice(label).unwrap_err(), "no gold label", "{label}");
        }
        for label in ["1", "1.0", r#""1""#] {
            let line = choice(label).unwrap();
            assert_eq!((line.texts[2].as_str(), line.label), ("2", Some(Label::Number(1.0))), "{label}");
        }
        assert_eq!(choice("0.5").unwrap_err(), "wrong label");
        assert_eq!(choice("2").unwrap_err(), "wrong label");
    }
}
