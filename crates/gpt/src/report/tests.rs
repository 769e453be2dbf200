use std::fs;
use std::path::Path;

use serde_json::json;

use super::*;
use crate::corpus::{Dropped, Example, Reason, Report, Total};
use crate::eval::Rate;
use crate::train::run::{EVENTS, Event, EventKind, Input, METRICS, Recipe, RunDir, Sample};

const HOSTILE: &str = "</pre><script>alert('x')</script> \"&amp;\" \0\u{1b}[31m \u{202e}gnp";

/// What is not well formed, by a parser that knows just enough: elements nest and end, attributes are quoted,
/// `&` begins one of our five references, and no character is one that HTML forbids.
fn flaw(page: &str) -> Option<String> {
    let page = page.trim_start_matches("<!doctype html>\n");
    if let Some(c) = page.chars().find(|&c| c.is_control() && c != '\n' && c != '\t') {
        return Some(format!("character {c:?}"));
    }
    for reference in page.split('&').skip(1) {
        if !["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|known| reference.starts_with(known)) {
            return Some(format!("reference &{}", reference.chars().take(8).collect::<String>()));
        }
    }
    let mut open: Vec<&str> = Vec::new();
    for part in page.split('<').skip(1) {
        let Some((tag, _)) = part.split_once('>') else { return Some(format!("<{part} does not end")) };
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        if let Some(ended) = name.strip_prefix('/') {
            if open.pop() != Some(ended) {
                return Some(format!("</{ended}> ends nothing"));
            }
            continue;
        }
        let pieces: Vec<&str> = attributes.trim_end_matches('/').split('"').collect();
        let named =
            pieces.chunks_exact(2).all(|pair| pair[0].ends_with('=') && !pair[0].trim().contains(' '));
        if pieces.len().is_multiple_of(2) || !pieces[pieces.len() - 1].trim().is_empty() || !named {
            return Some(format!("attributes of <{tag}>"));
        }
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    (!open.is_empty()).then(|| format!("{open:?} do not end"))
}

/// A run directory, and beside it the data that it reads.
struct Place {
    dir: tempfile::TempDir,
    run: std::path::PathBuf,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        fs::create_dir(&run).unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        Place { dir, run }
    }

    fn path(&self) -> &Path {
        &self.run
    }

    fn data(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("data").join(name)
    }
}

fn recipe(dir: &Path) -> Recipe {
    let settings = toml::toml! { steps = 500 lr = 6e-4 model = { n_layer = 2 } note = "<b>&</b>" };
    let mut recipe = Recipe::new("pretrain", settings);
    recipe.runtime = toml::toml! { machine = "2 cores <AVX-512>" };
    recipe.inputs.insert(
        "data".into(),
        Input::new(&dir.with_file_name("data"), "blake3:0123456789abcdef0123456789abcdef"),
    );
    recipe
}

/// A run of `steps` steps with everything that may happen in one.
fn a_run(dir: &Path, steps: u64) -> RunDir {
    let mut run = RunDir::open(dir, &recipe(dir)).unwrap();
    for step in 1..=steps {
        let loss = if step == 9 { f64::NAN } else { 2.0 + 6.0 / step as f64 };
        let mut line =
            json!({"step": step, "loss": loss, "lr": 6e-4, "grad_norm": 0.5, "tokens": 4096 * step});
        if step % 100 == 0 {
            line["val_loss"] = json!(loss + 0.1);
            line["val_bpb"] = json!(loss / 2.0);
            run.sample(&Sample { step, prompt: "你好 < ".into(), completion: HOSTILE.into() }).unwrap();
        }
        run.metrics.append(&line).unwrap();
        run.timings
            .append(&json!({"step": step, "step_secs": 0.5, "tokens_per_sec": 8192.0, "mfu": 0.6}))
            .unwrap();
    }
    run.event(&Event { step: 9, event: EventKind::SkippedStep, detail: "loss is <NaN>".into() }).unwrap();
    run
}

fn page_of(dir: &Path) -> String {
    let page = fs::read_to_string(write(dir).unwrap()).unwrap();
    assert_eq!(flaw(&page), None);
    page
}

fn results() -> Results {
    let baseline = |name: &str, bits_per_byte| Baseline {
        name: name.into(),
        bits_per_byte,
        next_line: Rate { value: 0.25, low: 0.23, high: 0.27, n: 1000 },
    };
    Results {
        stages: vec![Stage { name: "corpus".into(), secs: 14.0, note: "32 MB <".into() }],
        baselines: vec![baseline("mynah", 1.04), baseline("5-gram", 1.61), baseline("untrained", 4.1)],
        completions: vec![Completion {
            source: "a/<b>.rs:12".into(),
            prompt: HOSTILE.into(),
            model: "let é = 1;".into(),
            truth: "let è = 1;".into(),
        }],
    }
}

#[test]
fn the_parser_of_these_tests_finds_flaws() {
    for bad in ["<p>", "<p></b>", "<p a=b></p>", "<p>a & b</p>", "<p>\0</p>", "<p", "<p a=\"b></p>", "&nbsp;"]
    {
        assert!(flaw(bad).is_some(), "{bad:?}");
    }
    assert_eq!(flaw("<p a=\"b\" c=\"&lt;d\"><br/>&amp;</p>"), None);
}

#[test]
fn a_whole_run_is_told() {
    let dir = Place::new();
    a_run(dir.path(), 500)
        .event(&Event { step: 500, event: EventKind::Finished, detail: String::new() })
        .unwrap();
    let page = page_of(dir.path());
    for told in [
        "finished after 500 steps",
        "2 cores &lt;AVX-512&gt;",
        "<strong>2.1120</strong>",
        "2.05M",
        "60 % of peak",
        "4 min 10 s",
        "step 9 was bad: loss is &lt;NaN&gt;",
        "step 500 · training 2.012 · validation 2.112",
        "model.n_layer",
        "你好",
    ] {
        assert!(page.contains(told), "{told}");
    }
    assert_eq!(page.matches("<svg").count(), 4 + 5, "the loss in four drawings, five small charts");
}

/// Of a ranking or of classes a perplexity tells nothing; how many are told right does.
#[test]
fn the_first_numbers_are_those_of_the_stage() {
    for (stage, label, of_what) in [
        ("pretrain", None, ""),
        ("sft", None, ""),
        ("reward", Some("pairs told right"), "held-out pairs, step 2"),
        ("dpo", Some("pairs told right"), "held-out pairs, step 2"),
        ("finetune", Some("told right"), "held-out texts, step 2"),
    ] {
        let dir = Place::new();
        let mut run = RunDir::open(dir.path(), &Recipe::new(stage, toml::Table::new())).unwrap();
        for (step, accuracy) in [(1, 0.5), (2, 0.875), (3, 0.75)] {
            let mut line = json!({"step": step, "loss": 0.6, "val_loss": 0.5 + 0.1 * f64::from(step)});
            if label.is_some() {
                line["val_accuracy"] = json!(accuracy);
            }
            run.metrics.append(&line).unwrap();
        }
        let page = page_of(dir.path());
        assert_eq!(page.contains("perplexity"), label.is_none(), "{stage}");
        if let Some(label) = label {
            let card = format!(">{label}</span><strong>87.5 %</strong><span class=\"note\">{of_what}</span>");
            assert!(page.contains(&card), "{stage}");
            assert!(page.contains(">step 1</span>"), "{stage}: the lowest loss is the first");
        }
    }
}

/// A run that failed says so, and marks the steps that were bad.
#[test]
fn a_run_that_failed_is_told() {
    let dir = Place::new();
    let mut run = a_run(dir.path(), 20);
    for (step, event, detail) in
        [(19, EventKind::ExplodedStep, "the loss is 7e16"), (20, EventKind::Failed, "the loss is 8e16")]
    {
        run.event(&Event { step, event, detail: detail.into() }).unwrap();
    }
    let page = page_of(dir.path());
    for told in [
        "failed at step 20",
        "step 19 was bad: the loss is 7e16",
        "<td>failed</td>",
        "not finite, or exploded",
    ] {
        assert!(page.contains(told), "{told}");
    }
}

#[test]
fn hostile_text_stays_text() {
    let dir = Place::new();
    drop(a_run(dir.path(), 300));
    results().save(dir.path()).unwrap();
    let page = page_of(dir.path());
    assert!(!page.contains("<script"));
    assert!(!page.contains('\u{202e}'));
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &quot;&amp;amp;&quot; ␀␛[31m"));
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    let dir = Place::new();
    drop(a_run(dir.path(), 100));
    let page = page_of(dir.path());
    for reference in ["src=", "href=", "url(", "@import", "http:", "https:"] {
        assert!(!page.contains(reference), "{reference}");
    }
}

#[test]
fn a_run_that_has_only_begun_has_a_page() {
    let dir = Place::new();
    let run = RunDir::open(dir.path(), &recipe(dir.path())).unwrap();
    let page = page_of(dir.path());
    assert!(page.contains("at step 0 of 500") && page.contains("No step is done yet"));
    drop(run);
    drop(a_run(dir.path(), 1));
    assert!(page_of(dir.path()).contains("at step 1 of 500"), "one step is a dot");
    assert_eq!(loss_chart(dir.path(), 40, 4).unwrap().lines().count(), 5);
}

#[test]
fn without_a_recipe_there_is_no_run() {
    let dir = Place::new();
    let error = format!("{:#}", write(dir.path()).unwrap_err());
    assert!(error.contains("a run directory?"), "{error}");
}

#[test]
fn damage_is_told_and_the_rest_shown() {
    let dir = Place::new();
    drop(a_run(dir.path(), 200));
    let mut metrics = fs::read_to_string(dir.path().join(METRICS)).unwrap();
    metrics.insert_str(0, "no <json>\n");
    fs::write(dir.path().join(METRICS), metrics + "{\"step\":201,\"lo").unwrap();
    fs::write(dir.path().join(EVENTS), "{\"step\":1,\"event\":\"unheard of\"}\n").unwrap();
    fs::write(dir.path().join(RESULTS), "{").unwrap();
    fs::write(dir.data("report.json"), "[]").unwrap();
    let page = page_of(dir.path());
    for told in [
        "at step 200 of 500",
        "metrics.jsonl: 1 lines cannot be read, the first is line 1",
        "events.jsonl: 1 lines",
        "results.json cannot be read",
        "report.json cannot be read",
    ] {
        assert!(page.contains(told), "{told}");
    }
}

#[test]
fn results_come_back_from_their_file_and_onto_the_page() {
    let dir = Place::new();
    drop(a_run(dir.path(), 100));
    results().save(dir.path()).unwrap();
    let read: Results = serde_json::from_slice(&fs::read(dir.path().join(RESULTS)).unwrap()).unwrap();
    assert_eq!(read, results());
    let page = page_of(dir.path());
    assert!(page.contains("25 %") && page.contains("23 – 27 % of 1000 lines"));
    assert!(page.contains("<mark class=\"same\">let </mark>é = 1;"), "the common beginning, at a character");
}

#[test]
fn the_corpus_and_the_shards_are_told() {
    let dir = Place::new();
    drop(a_run(dir.path(), 100));
    let total = Total { documents: 1234, bytes: 5_000_000 };
    let mut report = Report { files: 20, read: total, kept: total, ..Report::default() };
    let example = Example { file: "<a>.json".into(), line: 7, detail: "at column 3".into() };
    report.dropped.insert(Reason::TornJson, Dropped { count: 3, bytes: 900, examples: vec![example] });
    fs::write(dir.data("report.json"), serde_json::to_vec(&report).unwrap()).unwrap();
    fs::write(dir.data("meta.json"), r#"{"bytes_per_token":3.18,"shards":[1,2]}"#).unwrap();
    let page = page_of(dir.path());
    for told in
        ["1,234", "5.00 MB", "dropped: torn JSON", "&lt;a&gt;.json:7: at column 3", "bytes_per_token", "3.18"]
    {
        assert!(page.contains(told), "{told}");
    }
}

#[test]
fn lineage_follows_runs_and_ends_in_a_ring() {
    let (first, second) = (Place::new(), Place::new());
    let link = |from: &Path, stage: &str, to: &Path| {
        let mut recipe = Recipe::new(stage, toml::Table::new());
        recipe.inputs.insert("init".into(), Input::new(to, format!("digest of {stage}")));
        drop(RunDir::open(from, &recipe).unwrap());
    };
    link(first.path(), "pretrain", second.path());
    link(second.path(), "sft", &first.path().join("checkpoints/step-000500"));
    let page = page_of(second.path());
    assert!(page.contains("<td>init</td><td>pretrain</td>"));
    assert!(page.contains("<td>↳ init</td><td>sft</td>"));
    assert!(page.matches("↳ init").count() <= 16, "a ring of links ends");
}

#[test]
fn wild_numbers_do_not_break_the_drawing() {
    let dir = Place::new();
    let mut run = RunDir::open(dir.path(), &recipe(dir.path())).unwrap();
    for (step, value) in [(0, 1e300), (1, -1e-300), (2, 0.0), (3, 1e99), (3, -1e99), (u64::MAX, 1.0)] {
        run.metrics
            .append(&json!({"step": step, "loss": value, "odd <key>": value, "grad_norm": value}))
            .unwrap();
    }
    let page = page_of(dir.path());
    let drawings: Vec<&str> =
        page.split("<svg").skip(1).filter_map(|part| part.split("</svg>").next()).collect();
    assert_eq!(drawings.len(), 4 + 2);
    assert!(drawings.iter().all(|drawing| !drawing.contains("NaN") && !drawing.contains("inf")));
    assert!(page.contains("odd &lt;key&gt;"));
}
