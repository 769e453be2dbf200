use std::fs;
use std::path::Path;

use serde_json::json;

use super::*;

mod walk;

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
    check(&page);
    page
}

/// What holds for every page.
pub(super) fn check(page: &str) {
    assert_eq!(flaw(page), None);
    assert_eq!(walk::untranslated(page), [""; 0]);
    assert_eq!(walk::inaccessible(page), [""; 0]);
}

fn results() -> Results {
    let baseline = |name: &str, bits_per_byte| Baseline {
        name: name.into(),
        bits_per_byte,
        next_line: Rate { value: 0.25, low: 0.23, high: 0.27, n: 1000 },
    };
    Results {
        stages: vec![Stage { name: "corpus".into(), secs: 14.0, note: "32 MB <".into(), flops: None }],
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
        "<strong translate=\"no\">2.1120</strong>",
        "2.05M",
        "60 % of the machine&#39;s peak",
        "机器峰值的 60 %",
        "4 min 10 s",
        "step 9 was bad: loss is &lt;NaN&gt;",
        "step 500 · training 2.012 · validation 2.112",
        "步 500 · 训练 2.012 · 验证 2.112",
        "model.n_layer",
        "你好",
    ] {
        assert!(page.contains(told), "{told}");
    }
    assert_eq!(
        page.matches("<svg").count(),
        4 + 1 + 4,
        "the loss in four drawings, bits per byte, four folded"
    );
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
            let note = format!("<span class=\"note\"><span lang=\"en\">{of_what}</span>");
            let card = format!(">{label}</span>");
            let card = page
                .split(&card)
                .skip(1)
                .find(|rest| rest.contains("<strong translate=\"no\">87.5 %</strong>"));
            assert!(card.is_some_and(|card| card[..300].contains(&note)), "{stage}");
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
        ">failed</span>",
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
    assert_eq!(page.matches("<script").count(), 1, "our own");
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
    assert!(error.contains("is no run directory"), "{error}");
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
    assert!(page.contains("25.0 % (23.0–27.0)"));
    let same = "<mark class=\"same\" translate=\"no\">let </mark><span translate=\"no\">é = 1;</span>";
    assert!(page.contains(same), "the common beginning, at a character");
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
    for row in ["init", "↳ init"] {
        assert!(page.contains(&format!("<div class=\"value\" translate=\"no\">{row}</div></th>")), "{row}");
    }
    assert!(page.contains(">Pretraining</span>") && page.contains(">Supervised fine-tuning</span>"));
    assert!(page.matches("↳ init").count() <= 3, "a ring of links ends");
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
    assert_eq!(drawings.len(), 4 + 2, "the loss in four drawings, two folded");
    assert!(drawings.iter().all(|drawing| !drawing.contains("NaN") && !drawing.contains("inf")));
    assert!(page.contains("odd &lt;key&gt;"));
}

/// PPO's page shows what was measured on held-out prompts, and the state that was chosen.
#[test]
fn the_page_of_ppo_is_about_the_chosen_state() {
    let dir = Place::new();
    let mut run = RunDir::open(dir.path(), &Recipe::new("ppo", toml::Table::new())).unwrap();
    for step in 1..=6 {
        let mut line = json!({
            "step": step, "objective/reward": 9.0 + f64::from(step), "objective/kl": 0.5, "objective/entropy": 1.0,
            "objective/answer_tokens": 7.0, "policy/approxkl": 0.01, "kl_coef": 0.2, "lr": 5e-5,
        });
        if step % 2 == 0 {
            let reward = [0.25, 0.75, 0.5][step as usize / 2 - 1];
            for (key, value) in
                [("reward", reward), ("gold", 0.5 + reward / 10.0), ("kl", 0.1), ("objective", reward)]
            {
                line[format!("eval/{key}")] = json!(value);
            }
            line["eval/answer_tokens"] = json!(8.5);
        }
        run.metrics.append(&line).unwrap();
    }
    let page = page_of(dir.path());
    let tiles = page.split("<ul class=\"tiles\">").nth(1).unwrap().split("</ul>").next().unwrap();
    for told in
        ["<strong translate=\"no\">4</strong>", ">0.750<", ">0.575<", "0.250 at step 2", "第 2 步时 0.250"]
    {
        assert!(tiles.contains(told), "{told} in {tiles}");
    }
    assert!(!tiles.contains("15"), "the last training batch is no figure of the state");
    let first = page.split("<details").next().unwrap();
    assert_eq!(first.matches("<svg").count(), 4, "reward, judge, KL, length");
    for key in ["eval/reward", "eval/gold", "eval/kl", "eval/answer_tokens"] {
        assert!(first.contains(&format!("<code class=\"pale\" translate=\"no\">{key}</code>")), "{key}");
    }
    assert!(first.contains("step 4 was chosen") && !first.contains("policy/approxkl"));
    let folded = page.split("<details").nth(1).unwrap();
    for told in
        ["Step of the policy within an iteration", "一次迭代里策略走的距离", ">policy/approxkl</code>"]
    {
        assert!(folded.contains(told), "{told}");
    }
}

/// Every stage's page, with every metric and every ending.
#[test]
fn every_page_is_in_both_languages() {
    let endings = [None, Some(EventKind::Stopped), Some(EventKind::Failed), Some(EventKind::Finished)];
    for stage in ["pretrain", "finetune", "sft", "reward", "ppo", "grpo", "dpo", "kto", "distil", "another"] {
        for ending in endings {
            let dir = Place::new();
            let mut run = RunDir::open(dir.path(), &Recipe::new(stage, toml::Table::new())).unwrap();
            for step in 1..=3 {
                let mut line =
                    json!({"step": step, "loss": 0.5, "val_loss": 0.5, "tokens": 99, "unheard of": 1});
                for key in metrics::keys() {
                    line[key] = json!(f64::from(step));
                }
                run.metrics.append(&line).unwrap();
            }
            if let Some(event) = ending {
                run.event(&Event { step: 3, event, detail: "why <".into() }).unwrap();
            }
            let page = page_of(dir.path());
            assert!(page.contains("What to do next") && page.contains("接下来做什么"), "{stage}");
            assert!(page.contains("<strong id=\"chart-"), "{stage}");
        }
    }
}

/// What somebody decides has no noise that could be smoothed away.
#[test]
fn a_learning_rate_is_drawn_as_it_is() {
    let dir = Place::new();
    let mut run = RunDir::open(dir.path(), &Recipe::new("sft", toml::Table::new())).unwrap();
    for step in 1..=200 {
        let lr = if step <= 100 { 1e-3 } else { 1e-4 };
        run.metrics.append(&json!({"step": step, "lr": lr, "other": lr})).unwrap();
    }
    let page = page_of(dir.path());
    let drawing = |title: &str| {
        let rest = page.split(&format!(">{title}</span>")).nth(1).unwrap();
        rest.split("</svg>").next().unwrap().to_owned()
    };
    let (set, measured) = (drawing("Learning rate"), drawing("other"));
    assert_eq!((set.matches("class=\"range").count(), measured.matches("class=\"range").count()), (0, 1));
    let told = |drawing: &str| -> std::collections::BTreeSet<String> {
        drawing
            .split("step ")
            .skip(1)
            .filter_map(|rest| rest.split(" · ").nth(1)?.split('<').next())
            .map(String::from)
            .collect()
    };
    assert_eq!(told(&set), ["0.001", "1e-4"].map(String::from).into(), "it falls at once");
    assert!(told(&measured).len() > 2);
}

/// Every page says which command made it, and what to do next.
#[test]
fn the_command_and_the_next_one_are_told() {
    let dir = Place::new();
    let mut recipe = recipe(dir.path());
    recipe.runtime.insert("command".into(), "mynah pretrain --data 'a b'".into());
    let run = RunDir::open(dir.path(), &recipe).unwrap();
    assert!(page_of(dir.path()).contains("mynah pretrain --data &#39;a b&#39;"));
    let mut run = run;
    run.event(&Event { step: 1, event: EventKind::Finished, detail: String::new() }).unwrap();
    let page = page_of(dir.path());
    let path = quoted(&dir.path().display().to_string());
    assert!(page.contains(&format!("mynah complete --model {path}")), "{page}");
    assert_eq!(page.matches("mynah pretrain --data").count(), 1, "a run that is finished is not continued");
    assert!(
        page.contains("title=\"blake3:0123456789abcdef0123456789abcdef\"")
            && page.contains(">0123456789ab…<")
    );
}
