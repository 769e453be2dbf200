//! Rows of tasks: their tokens, their faults, and their place beside text.

use std::fs;

use super::*;

const ROW: &str = r#"{"input":"我是小明 [问题]","task":"[问题] 我是谁 [答案]","output":"小明[答案]"}"#;

/// Rows in a file, with a tokenizer that knows two task tokens.
fn world(rows: &[String]) -> World {
    let world = World::new(mixed(), 0.2);
    let names = ["[问题]", "[答案]"].map(String::from);
    let tokenizer = Tokenizer::from_dir(world.dir.path()).unwrap().extended(&names).unwrap();
    tokenizer.save(world.dir.path()).unwrap();
    fs::write(world.path("rows.jsonl"), rows.join("\n")).unwrap();
    world
}

fn options(world: &World, val_fraction: f64) -> TokenizeTasksOptions {
    TokenizeTasksOptions {
        rows: world.path("rows.jsonl"),
        tokenizer: world.path("tokenizer.json"),
        out: world.path("tasks"),
        fields: Vec::new(),
        val_fraction,
    }
}

fn many() -> Vec<String> {
    let row = |i: usize| serde_json::json!({ "input": text(i, 9), "task": "[问题]", "output": text(i, 5) });
    (0..200).map(|i| row(i).to_string()).collect()
}

#[test]
fn only_the_task_names_special_tokens() {
    let world = world(&[ROW.into()]);
    let meta = tokenize_tasks(&options(&world, 0.0), &Silent).unwrap();
    let shards = TokenShards::open(&world.path("tasks")).unwrap();
    let tokenizer = shards.tokenizer();
    let [question, answer] = ["[问题]", "[答案]"].map(|name| tokenizer.special(name).unwrap());
    let text = |text: &str| tokenizer.encode(text);
    let row = [
        &text("我是小明 [问题]")[..],
        &[question],
        &text("我是谁"),
        &[answer],
        &text("小明[答案]"),
        &[tokenizer.end_of_text().unwrap()],
    ];
    assert_eq!(all(&shards, Split::Train), row.concat());
    assert_eq!(meta.train.bytes as usize, "我是小明 [问题]我是谁小明[答案]".len());
}

#[test]
fn rows_that_cannot_be_used_are_counted_and_too_many_refused() {
    let bad = [
        r#"{"input":"a","task":"[問題]","output":"b"}"#,
        r#"{"input":"a","task":"[问题]"}"#,
        r#"{"input":7,"task":"[问题]","output":"b"}"#,
        r#"{"input":"a","task":"[问题]","output":""}"#,
    ];
    let refused = world(&bad.map(String::from));
    let error = format!("{:#}", tokenize_tasks(&options(&refused, 0.0), &Silent).unwrap_err());
    for word in ["rows.jsonl", "not a task of this tokenizer", "missing field", "wrong type", "empty text"] {
        assert!(error.contains(word), "{word} in {error}");
    }
    let nothing_asked = serde_json::json!({ "input": "", "task": "", "output": "b" });
    assert_eq!(TaskRow::read(nothing_asked.as_object().unwrap()).unwrap_err().detail, "task is empty");
    let mut rows = many();
    rows.push(bad[0].into());
    let tolerated = world(&rows);
    let meta = tokenize_tasks(&options(&tolerated, 0.25), &Silent).unwrap();
    assert_eq!(meta.train.documents + meta.val.documents, 200);
    assert!((25..75).contains(&meta.val.documents), "{:?}", meta.val);
    // Nothing is done twice, and other rows are not taken for these.
    assert_eq!(tokenize_tasks(&options(&tolerated, 0.25), &Silent).unwrap(), meta);
    let error = tokenize_tasks(&options(&tolerated, 0.5), &Silent).unwrap_err();
    assert!(format!("{error:#}").contains("val_fraction"), "{error:#}");
}

#[test]
fn text_and_tasks_share_a_batch_by_weight() {
    let world = world(&many());
    world.shards(Overflow::Pack, None);
    tokenize_tasks(&options(&world, 0.25), &Silent).unwrap();
    let mixture = Mixture::open(&[(world.path("tokens"), 1.0), (world.path("tasks"), 3.0)]).unwrap();
    let question = mixture.tokenizer().special("[问题]").unwrap();
    let mut windows = mixture.windows(64, 1).unwrap();
    let mut batch = Batch::default();
    for step in 1..=4 {
        windows.batch(step, 0..8, 8, &mut batch).unwrap();
        let of_tasks = batch.tokens.chunks(64).filter(|row| row.contains(&question)).count();
        assert_eq!((batch.lens.len(), of_tasks), (8, 6), "step {step}");
    }
}
