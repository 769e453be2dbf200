//! What `candidates`, `eval --out` and `grade --out` have done stays, whatever stops them, and the same
//! command ends with the bytes of one that nothing stopped.
#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kernels::rng;
use serde_json::{Value, json as object};

use super::workshop::{fails, json, path, road, run, stderr};

fn start(words: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mynah"));
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

fn lines(file: &str) -> u64 {
    fs::read_to_string(file).map_or(0, |text| text.lines().count() as u64)
}

/// Waits until `file` has more than `more` lines, or the child has ended.
fn wait(child: &mut Child, file: &str, more: u64) {
    let began = Instant::now();
    while lines(file) <= more && child.try_wait().expect("a state").is_none() {
        assert!(began.elapsed() < Duration::from_secs(120), "it does not go on");
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// How many lines of `file` its record vouches for: what comes after them is made again.
fn vouched(file: &str) -> u64 {
    let record = fs::read_to_string(format!("{file}.mynah")).expect("a record");
    let bytes = record.lines().find_map(|line| line.strip_prefix("bytes = ")).expect("a length");
    let text = fs::read(file).expect("a file");
    text[..bytes.parse().expect("a number")].iter().filter(|byte| **byte == b'\n').count() as u64
}

/// A model that answers, a reward model, and prompts for them, `n` of them and one that leaves no room.
fn answering(dir: &Path, n: usize) -> [String; 3] {
    let [demonstrations, rankings, prompts] =
        ["demonstrations", "rankings", "prompts"].map(|name| path(dir, &format!("{name}.jsonl")));
    let write = |file: &str, line: &dyn Fn(usize) -> Value, n: usize| {
        fs::write(file, (0..n).map(|i| format!("{}\n", line(i))).collect::<String>()).expect("a file");
    };
    write(&demonstrations, &|i| object!({ "prompt": format!("{i}"), "completion": "x" }), 30);
    write(&rankings, &|i| object!({ "prompt": format!("{i}"), "chosen": "x", "rejected": "y" }), 60);
    let long = "def function".repeat(80);
    let prompt =
        |i: usize| if i == 7 { object!({ "prompt": long }) } else { object!({ "prompt": format!("{i}") }) };
    write(&prompts, &prompt, n + 1);
    // What bytes are drawn as, a reward model may read as many more tokens: there is room for them.
    let [base, model, reward] = ["base", "sft", "reward"].map(|name| path(dir, name));
    let mut pretrain = road().pretrain("", "20");
    let at = pretrain.iter().position(|word| word == "--out").expect("a run directory");
    pretrain[at + 1].clone_from(&base);
    pretrain.extend(["--set", "seq_len=64"].map(String::from));
    run(&pretrain.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    run(&["sft", "--model", &base, "--data", &demonstrations, "--out", &model, "--steps", "2"], 0);
    run(&["reward", "--model", &model, "--rankings", &rankings, "--out", &reward, "--steps", "2"], 0);
    [model, reward, prompts]
}

/// Kills the command again and again, at random moments, and compares with one that was left alone. Every
/// other call has other threads.
fn survives(kills: u64, of: u64, words: &[&str], dir: &Path) {
    let [whole, killed] = ["whole.jsonl", "killed.jsonl"].map(|name| path(dir, name));
    let expected = json(&[words, &["--out", &whole]].concat());
    assert!(lines(&whole) >= of, "{} lines", lines(&whole));
    let words = [words, &["--out", &killed]].concat();
    let (mut reached, mut died) = (0, 0);
    for kill in 0..kills {
        let mut child = start(&[&words[..], &["--threads", ["1", "2"][kill as usize % 2]]].concat());
        wait(&mut child, &killed, reached + rng::below(1, 1, kill, of / kills));
        std::thread::sleep(Duration::from_micros(rng::below(1, 2, kill, 9_000)));
        child.kill().expect("SIGKILL");
        died += u64::from(child.wait().expect("it ends").code().is_none());
        let before = reached;
        reached = vouched(&killed);
        assert!(reached >= before, "{reached} lines after {before}");
    }
    assert!(died > kills / 2 && reached > 0, "{died} kills, {reached} lines");
    let mut result = json(&words);
    if let Some(out) = expected.get("out") {
        result["out"] = out.clone();
    }
    assert_eq!(result, expected, "the figures of the items that were kept are those of all");
    assert!(fs::read(&whole).expect("a file") == fs::read(&killed).expect("a file"), "the files differ");
    let told = stderr(&run(&words, 0));
    assert!(told.contains("killed.jsonl is complete already"), "{told}");
}

/// Prompts without room do not shift the numbers of the others, and a reward model that keeps the best of
/// them changes nothing of that.
#[test]
fn candidates_survive_kills() {
    let dir = tempfile::tempdir().expect("a directory");
    let [model, reward, prompts] = answering(dir.path(), 1000);
    let words = ["candidates", "--model", &model, "--prompts", &prompts, "--k", "4", "--max-tokens", "10"];
    survives(8, 1000, &words, dir.path());
    let best = tempfile::tempdir().expect("a directory");
    // The reward model reads the answers as text, which may be more tokens than were drawn.
    let words = ["candidates", "--model", &model, "--prompts", &prompts, "--k", "4", "--max-tokens", "2"];
    survives(5, 1000, &[&words[..], &["--best-by", &reward]].concat(), best.path());
}

/// Every form of item, each with its own figures.
#[test]
fn evaluations_survive_kills() {
    let dir = tempfile::tempdir().expect("a directory");
    let model = road().path("run");
    let words = |n: usize| (0..12).map(|i| format!("word{} ", (n * 7 + i) % 13)).collect::<String>();
    let choice = |i: usize| {
        let (right, label) = (i * 3 % 7, i % 2);
        let answers = if label == 0 { [right, right + 1] } else { [right + 1, right] };
        object!({ "context": format!("{i} {right}"), "answers": answers.map(|n| n.to_string()), "label": label })
    };
    let form = |name: &str, line: &dyn Fn(usize) -> Value| {
        let file = path(dir.path(), &format!("{name}.jsonl"));
        fs::write(&file, (0..30).map(|i| format!("{}\n", line(i))).collect::<String>()).expect("a file");
        file
    };
    let texts = form("texts", &|i| object!({ "text": words(i) }));
    let programs = form(
        "programs",
        &|i| object!({ "text": (0..9).map(|j| format!("line {i} {j}\n")).collect::<String>() }),
    );
    let tasks = [
        form("choices", &choice),
        texts.clone(),
        format!("last-word:{texts}"),
        format!("next-line:{programs}"),
        form("free", &|i| object!({ "prompt": format!("{i} is"), "answer": words(i) })),
        "copy".to_owned(),
    ];
    let tasks = tasks.join(",");
    let words = ["eval", "--model", &model, "--tasks", &tasks, "--shots", "0,1", "--limit", "30"];
    survives(10, 300, &[&words[..], &["--max-tokens", "6"]].concat(), dir.path());
}

#[test]
fn grading_survives_kills() {
    if !super::grade::can_grade() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let file = path(dir.path(), "problems.jsonl");
    let problem = |i: usize| {
        let wrong = usize::from(i.is_multiple_of(3));
        object!({
            "task_id": i.to_string(), "prompt": "", "entry_point": "f",
            "canonical_solution": format!("def f():\n    return {}\n", i + wrong),
            "test": format!("def check(candidate):\n    assert candidate() == {i}\n"),
        })
    };
    fs::write(&file, (0..40).map(|i| format!("{}\n", problem(i))).collect::<String>()).expect("a file");
    survives(6, 40, &["grade", "--gold", "--problems", &file, "--k", "1", "--timeout", "60"], dir.path());
}

/// Ctrl-C says what it did; the same command goes on, another one does not, and what was torn or edited is
/// seen.
#[test]
fn what_is_left_unfinished_is_continued_by_the_same_command_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let [model, _, prompts] = answering(dir.path(), 1500);
    let [whole, out] = ["whole.jsonl", "out.jsonl"].map(|name| path(dir.path(), name));
    let asked = ["candidates", "--model", &model, "--prompts", &prompts, "--k", "6", "--max-tokens", "10"];
    run(&[&asked[..], &["--out", &whole]].concat(), 0);
    let words = [&asked[..], &["--out", &out]].concat();
    let mut child = start(&words);
    wait(&mut child, &out, 20);
    let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(signal.expect("kill runs").success());
    let output = child.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{told}");
    assert!(told.contains("what is done stays, and the same command goes on"), "{told}");
    let [kept, record] = [out.clone(), format!("{out}.mynah")].map(|file| fs::read(file).expect("a file"));
    let done = lines(&out);
    assert!((21..1500).contains(&done) && kept.ends_with(b"\n"), "{done} lines");

    // Another command, other data: refused with the difference.
    fails(
        &[&words[..], &["--temperature", "2"]].concat(),
        1,
        &["left unfinished by a different", "settings.temperature: 1.0 → 2.0"],
    );
    let own = fs::read(&prompts).expect("prompts");
    fs::write(&prompts, [&own[..], b"{\"prompt\":\"x\"}\n"].concat()).expect("a file");
    fails(&words, 1, &["inputs.prompts: ", "prompts.jsonl has other contents now", "name another file"]);
    fs::write(&prompts, &own).expect("a file");
    // Whoever reads it is told that it is not whole.
    let judged = ["rank", "simulate", "--candidates", &out, "--judge", "length", "--out", "-"];
    assert!(stderr(&run(&judged, 0)).contains("out.jsonl is not finished"));
    // What was edited is somebody's work.
    let edited =
        String::from_utf8(kept.clone()).expect("text").replacen("\"completions\"", "\"Completions\"", 1);
    fs::write(&out, &edited).expect("a file");
    fails(&words, 1, &["out.jsonl is there already, and was changed since", "--force"]);
    assert_eq!(fs::read_to_string(&out).expect("a file"), edited);

    // A torn line, and what came after the last record, are cut and made again.
    for tail in [&b"{\"messages\":[{\"ro"[..], b"\0\0\0", b"{\"messages\":[]}\n"] {
        fs::write(&out, [&kept[..], tail].concat()).expect("a file");
        fs::write(format!("{out}.mynah"), &record).expect("a file");
        let told = stderr(&run(&[&words[..], &["--threads", "1"]].concat(), 0));
        assert!(told.contains(&format!("{done} prompts are answered already: going on")), "{told}");
        assert!(fs::read(&whole).expect("a file") == fs::read(&out).expect("a file"), "the files differ");
    }

    // With --force the old file stays until the new one is whole, and that goes on, too.
    let other = [&words[..], &["--seed", "7", "--force"]].concat();
    let before = fs::read(&out).expect("a file");
    let new = format!("{out}.new");
    let mut child = start(&other);
    wait(&mut child, &new, 20);
    child.kill().expect("SIGKILL");
    child.wait().expect("it ends");
    assert!(fs::read(&out).expect("a file") == before && lines(&new) > 20);
    let told = stderr(&run(&other, 0));
    assert!(told.contains("answered already: going on"), "{told}");
    let expected = path(dir.path(), "seven.jsonl");
    run(&[&asked[..], &["--out", &expected, "--seed", "7"]].concat(), 0);
    assert!(fs::read(&out).expect("a file") == fs::read(&expected).expect("a file"));
    assert!(!Path::new(&new).exists() && !Path::new(&format!("{new}.mynah")).exists());
}

/// A full disk keeps what is whole; there is room again, and the same command goes on.
#[test]
fn a_full_disk_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let [model, _, prompts] = answering(dir.path(), 300);
    let [whole, out] = ["whole.jsonl", "out.jsonl"].map(|name| path(dir.path(), name));
    let asked = ["candidates", "--model", &model, "--prompts", &prompts, "--k", "6", "--max-tokens", "10"];
    run(&[&asked[..], &["--out", &whole]].concat(), 0);
    let size = fs::metadata(&whole).expect("a file").len();
    // Blocks of 512 bytes in some shells, of 1024 in others: a quarter or half of it.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f $0; exec \"$@\"", &(size / 2048).to_string()])
        .arg(env!("CARGO_BIN_EXE_mynah"))
        .args([&asked[..], &["--out", &out]].concat())
        .output()
        .expect("a shell");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("cannot write ") && told.contains("out.jsonl"), "{told}");
    let done = lines(&out);
    assert!(done > 20 && fs::read(&out).expect("a file").ends_with(b"\n"), "{done} lines");
    let told = stderr(&run(&[&asked[..], &["--out", &out]].concat(), 0));
    assert!(told.contains(&format!("{done} prompts are answered already")), "{told}");
    assert!(fs::read(&whole).expect("a file") == fs::read(&out).expect("a file"), "the files differ");
}
