//! What is generated: always the same, much of it, and as mixed as it is said to be.

use std::collections::{HashMap, HashSet};

use super::super::world::Sentence;
use super::*;

/// `examples/lessons.rs` says how the file is made.
#[test]
fn samples_are_those_of_the_golden_file() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/lessons.jsonl");
    let golden = std::fs::read_to_string(path).unwrap();
    let made = (0..4).map(|i| serde_json::json!({ "text": text(0, i) }));
    let made = made.chain((0..4).map(|i| {
        let made = demonstration(0, i);
        let score = judge(&made.key, &made.messages.last().unwrap().content).score();
        serde_json::json!({ "messages": made.messages, "flaw": made.flaw, "score": score })
    }));
    let prompts = [Split::Train, Split::HeldOut]
        .into_iter()
        .flat_map(|split| (0..4).map(move |i| serde_json::to_value(prompt(0, split, i)).unwrap()));
    let made: Vec<String> = made.chain(prompts).map(|line| line.to_string()).collect();
    assert_eq!(golden.lines().collect::<Vec<_>>(), made);
}

#[test]
fn there_is_enough_of_everything() {
    let texts: HashSet<String> = (0..20_000).map(|i| text(0, i)).collect();
    let bytes: usize = texts.iter().map(String::len).sum();
    assert!(texts.len() > 19_500 && bytes > 4_000_000, "{} documents, {bytes} bytes", texts.len());
    let different = |all: &mut dyn Iterator<Item = Vec<Message>>| {
        all.map(|messages| serde_json::to_string(&messages).unwrap()).collect::<HashSet<_>>().len()
    };
    let demonstrations = different(&mut (0..25_000).map(|i| demonstration(0, i).messages));
    assert!(demonstrations > 20_000, "{demonstrations}");
    let prompts = different(&mut (0..7_000).map(|i| prompt(0, Split::Train, i).messages));
    assert!(prompts > 5_000, "{prompts}");
    let held_out = different(&mut (0..3_000).map(|i| prompt(0, Split::HeldOut, i).messages));
    assert!(held_out > 2_000, "{held_out}");
}

#[test]
fn flaws_languages_and_tasks_have_their_shares() {
    let n = 20_000;
    let (mut flawed, mut tasks, mut chinese) = (0, HashMap::new(), 0);
    for i in 0..n {
        let Demonstration { messages, key, flaw } = demonstration(5, i);
        flawed += u32::from(flaw.is_some());
        *tasks.entry(key.task).or_insert(0) += 1;
        let said = &messages.last().unwrap().content;
        assert!(flaw.is_some() || judge(&key, said).score() > 1.0 - 1e-9, "{said}");
        chinese += u32::from(messages.iter().any(|m| m.role == Role::User && !m.content.is_ascii()));
    }
    let share = f64::from(flawed) / n as f64;
    assert!((share - IMPERFECT_SHARE).abs() < 0.015, "{share}");
    assert!(tasks.len() == Task::ALL.len() && tasks.values().all(|&count| count > 300), "{tasks:?}");
    // Translations out of Chinese are asked for in English, too.
    assert!((0.5..0.6).contains(&(f64::from(chinese) / n as f64)), "{chinese}");
}

#[test]
fn a_sentence_has_one_translation() {
    let (mut english, mut chinese) = (HashMap::new(), HashMap::new());
    for i in 0..30_000 {
        let sentence = Sentence::any(&mut Draw::new(0, Stream::Text, i));
        let [en, zh] = Language::ALL.map(|language| sentence.say(language));
        assert_eq!(english.entry(en.clone()).or_insert(zh.clone()), &zh);
        assert_eq!(chinese.entry(zh).or_insert(en.clone()), &en);
    }
    assert!(english.len() > 3_000, "{}", english.len());
}

#[test]
fn conversations_alternate_and_nobody_says_nothing() {
    for i in 0..5_000 {
        let Demonstration { messages, .. } = demonstration(9, i);
        let turns = messages.iter().skip_while(|message| message.role == Role::System);
        let expected = [Role::User, Role::Assistant].into_iter().cycle();
        assert!(turns.zip(expected).all(|(message, role)| message.role == role), "{messages:?}");
        assert_eq!(messages.last().unwrap().role, Role::Assistant);
        for Message { content, .. } in &messages {
            assert!(!content.trim().is_empty() && !content.contains(['{', '}']), "{messages:?}");
        }
    }
}

#[test]
fn files_hold_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let lines = |name: &str| -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(dir.path().join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let n = write_text(&dir.path().join("text.jsonl"), 3, 100_000).unwrap();
    let texts = lines("text.jsonl");
    let bytes: usize = texts.iter().map(|line| line["text"].as_str().unwrap().len()).sum();
    assert!(texts.len() as u64 == n && (100_000..102_000).contains(&bytes));
    write_demonstrations(&dir.path().join("sft.jsonl"), 3, 500).unwrap();
    let distinct = lines("sft.jsonl").iter().map(|line| line.to_string()).collect::<HashSet<_>>();
    assert_eq!(distinct.len(), 500);
    write_prompts(&dir.path().join("prompts.jsonl"), 3, Split::HeldOut, 300).unwrap();
    for line in lines("prompts.jsonl") {
        let key = AnswerKey::of(line.as_object().unwrap()).unwrap();
        assert!(judge(&key, &key.answer).correct);
    }
    // More than there is of a kind is refused, and nothing is left behind.
    let path = dir.path().join("many.jsonl");
    let refused = super::super::files::different((0..).map(|i| i % 7), 8).unwrap_err().to_string();
    assert!(refused.contains("only 7 different items of 8"), "{refused}");
    assert!(!path.exists());
}
