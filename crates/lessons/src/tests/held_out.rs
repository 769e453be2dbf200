//! What is held out occurs in no training data.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::*;

fn held_out(seed: u64, n: u64) -> Vec<Lesson> {
    let draw_one = |index| {
        let mut draw = Draw::new(seed, Stream::HeldOutPrompt, index);
        let language = *draw.pick(&Language::ALL);
        tasks::any(&mut draw, language, Split::HeldOut)
    };
    (0..n).map(draw_one).collect()
}

#[test]
fn prompts_that_are_held_out_are_never_shown() {
    // Whoever set the assistant up, the question is the same.
    let text = |messages: &[Message]| {
        let said: Vec<_> = messages.iter().filter(|message| message.role != Role::System).collect();
        serde_json::to_string(&said).unwrap()
    };
    let asked: HashSet<String> = (0..4)
        .flat_map(|seed| (0..3000).map(move |i| (seed, i)))
        .map(|(seed, i)| text(&prompt(seed, Split::HeldOut, i).messages))
        .collect();
    assert!(asked.len() > 4000, "{} different prompts", asked.len());
    let check = |messages: &[Message]| {
        for (i, message) in messages.iter().enumerate().filter(|(_, message)| message.role == Role::User) {
            assert!(!asked.contains(&text(&messages[..=i])), "{messages:?}");
            assert!(!asked.contains(&text(std::slice::from_ref(message))), "{messages:?}");
        }
    };
    for i in 0..30_000 {
        check(&demonstration(11 + i % 3, i).messages);
        check(&prompt(21 + i % 3, Split::Train, i).messages);
    }
}

/// Texts by their first bytes, to look for thousands of them in one pass.
struct Needles(HashMap<[u8; 5], Vec<String>>);

impl Needles {
    fn new(texts: impl Iterator<Item = String>) -> Needles {
        let mut needles: HashMap<[u8; 5], Vec<String>> = HashMap::new();
        for text in texts {
            if let Some(&first) = text.as_bytes().first_chunk() {
                needles.entry(first).or_default().push(text);
            }
        }
        Needles(needles)
    }

    /// One that stands in the text, not as a part of longer words or rows.
    fn find<'a>(&'a self, text: &str) -> Option<&'a str> {
        let bytes = text.as_bytes();
        let is_word =
            |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_alphanumeric);
        let continues = |at: usize| is_word(at.checked_sub(1)) || text[..at].ends_with(", ");
        (0..bytes.len()).find_map(|at| {
            let candidates = self.0.get(bytes[at..].first_chunk()?)?;
            let found = candidates.iter().find(|needle| {
                // A Chinese row may be the end of a longer one, too.
                let ends_a_row = needle.contains('，') && text[..at].ends_with('，');
                bytes[at..].starts_with(needle.as_bytes())
                    && !continues(at)
                    && !ends_a_row
                    && !is_word(Some(at + needle.len()))
                    && !text[at + needle.len()..].starts_with([',', '，', '、'])
            });
            found.map(String::as_str)
        })
    }
}

#[test]
fn documents_do_not_give_held_out_answers_away() {
    let lessons: Vec<Lesson> = held_out(1, 6000);
    let needles = Needles::new(lessons.iter().flat_map(|lesson| {
        let mut told = vec![lesson.asked()];
        match lesson.key.task {
            // A row may be a part of a longer one, about which it says nothing.
            Task::Counting => {
                told = [("\"", "\""), ("“", "”")].map(|(a, b)| format!("{a}{}{b}", lesson.asked())).into();
            }
            Task::Translation => {
                let (from, to) = (&lesson.foreign, &lesson.key.answer);
                told.extend(
                    ["\" in Chinese is \"", "\" is said as \"", "”用英文说是“", "”就是中文的“", " = "]
                        .map(|between| format!("{from}{between}{to}")),
                );
            }
            Task::Reversing => told.extend(
                [" is ", " backwards is ", " 倒过来是 ", " 反过来，就是 "]
                    .map(|between| format!("{}{between}{}", lesson.instance, lesson.key.answer)),
            ),
            Task::Sorting => {
                told.extend(
                    [" in order: ", " become ", " 从小到大是 ", " 从大到小是 "]
                        .map(|between| format!("{between}{}", lesson.key.answer)),
                );
            }
            _ => {}
        }
        // Single words are knowledge: their wordings are held out, not the words.
        told.retain(|text| lesson.key.task != Task::Translation || text.len() > 40);
        told
    }));
    let mut bytes = 0;
    for i in 0..30_000 {
        let document = text(i % 5, i);
        bytes += document.len();
        assert_eq!(needles.find(&document), None, "{document}");
    }
    assert!(bytes > 5 << 20, "{bytes} bytes looked through");
}

#[test]
fn the_share_is_what_is_said() {
    for task in Task::ALL {
        let all = Language::ALL.into_iter().flat_map(|language| lessons(task, language));
        let instances: HashSet<String> = all.map(|(_, lesson)| lesson.instance).collect();
        let held_out =
            instances.iter().filter(|instance| Split::of(task, instance) == Split::HeldOut).count();
        let (n, share) = (instances.len() as f64, held_out as f64 / instances.len() as f64);
        let error = (HELD_OUT_SHARE * (1.0 - HELD_OUT_SHARE) / n).sqrt();
        assert!((share - HELD_OUT_SHARE).abs() < 3.0 * error, "{task:?}: {share} of {n}");
    }
}

#[test]
fn a_calculators_held_out_sums_are_in_no_demonstration() {
    let called = |messages: &[Message]| {
        let call = messages.iter().find_map(|message| message.calls().next().map(|(_, it)| it.clone()))?;
        call["expression"].as_str().map(str::to_owned)
    };
    let demonstrations: Vec<_> = (0..4000).map(|index| calculator_demonstration(1, index)).collect();
    let learned: HashSet<String> = demonstrations.iter().filter_map(|messages| called(messages)).collect();
    assert!((3000..3400).contains(&learned.len()), "a fifth needs no calculator: {}", learned.len());
    for messages in &demonstrations {
        let Some(expression) = called(messages) else { continue };
        let [.., result, answer] = &messages[..] else { panic!("{messages:?}") };
        let (a, sign, b) = term(&expression);
        let value = match sign {
            "+" => a + b,
            "-" => a - b,
            _ => a * b,
        };
        assert!(result.role == Role::Tool && result.content == value.to_string(), "{messages:?}");
        assert_eq!(answer.content, format!("{expression} = {value}"));
    }
    let tools = json!([]);
    for index in 0..400 {
        let prompt = calculator_prompt(1, index, &tools);
        let answer = prompt.extra["answer"].as_str().unwrap();
        let (expression, value) = answer.split_once(" = ").unwrap();
        assert!(!learned.contains(expression), "{expression}");
        assert_eq!((&prompt.extra["accept"], &prompt.extra["tools"]), (&json!([value]), &tools));
    }
}

/// `12 + 3`.
fn term(expression: &str) -> (i64, &str, i64) {
    let [a, sign, b] = expression.split(' ').collect::<Vec<_>>()[..] else { panic!("{expression}") };
    (a.parse().unwrap(), sign, b.parse().unwrap())
}
