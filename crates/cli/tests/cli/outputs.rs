//! The one rule for what verbs write: no input is an output, nothing of somebody else's is lost, links and
//! devices are written through.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json as object;
use tempfile::TempDir;

use super::workshop::{fails, json, path, road, run, stderr, stdout};

/// A directory with what the verbs read.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Place(tempfile::tempdir().expect("a directory"));
        let asked = |n: usize| object!([{ "role": "user", "content": format!("question {n}") }]);
        let line = |n| object!({ "messages": asked(n), "completions": ["a", "bbb", "cc"] });
        place.file("candidates.jsonl", &(0..9).map(|n| format!("{}\n", line(n))).collect::<String>());
        place.file("prompts.jsonl", "{\"prompt\":\"x\"}\n");
        place.file("sums.jsonl", "{\"prompt\":\"1 + 1 =\",\"answer\":\"2\"}\n");
        let problem = object!({
            "task_id": "t", "prompt": "", "entry_point": "f", "canonical_solution": "def f():\n    return 1\n",
            "test": "def check(candidate):\n    assert candidate() == 1\n",
        });
        place.file("problems.jsonl", &format!("{problem}\n"));
        place
    }

    fn path(&self, name: &str) -> String {
        path(self.0.path(), name)
    }

    fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.0.path().join(name), text).expect("a file");
        self.path(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).expect("a file")
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).expect("a directory");
        let mut names: Vec<String> =
            names.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }
}

fn simulate<'a>(candidates: &'a str, out: &'a str) -> Vec<&'a str> {
    vec!["rank", "simulate", "--candidates", candidates, "--judge", "length", "--out", out]
}

/// Every verb that writes a file, without what it reads: by whatever name, also with --force.
#[test]
fn an_input_is_never_an_output() {
    let (place, road) = (Place::new(), road());
    let (model, tokenizer) = (road.path("run"), place.path("tokenizer.json"));
    fs::copy(road.path("tokenizer.json"), &tokenizer).expect("a copy");
    fs::create_dir(place.path("dir")).expect("a directory");
    run(&["gguf", "--model", &model, "--out", &place.path("model.gguf")], 0);
    let [prompts, candidates, sums, problems, gguf] =
        ["prompts.jsonl", "candidates.jsonl", "sums.jsonl", "problems.jsonl", "model.gguf"]
            .map(|name| place.path(name));
    let verbs: [(&str, Vec<&str>); 8] = [
        ("prompts.jsonl", vec!["candidates", "--model", &model, "--prompts", &prompts]),
        ("candidates.jsonl", vec!["rank", "simulate", "--candidates", &candidates, "--judge", "length"]),
        ("tokenizer.json", vec!["tokenizer", "extend", "--tokenizer", &tokenizer, "--special", "<|x|>"]),
        ("sums.jsonl", vec!["eval", "--model", &model, "--tasks", &sums]),
        ("sums.jsonl", vec!["eval", "--model", &model, "--tasks", "copy", "--examples", &sums]),
        ("problems.jsonl", vec!["grade", "--gold", "--problems", &problems]),
        ("candidates.jsonl", vec!["grade", "--problems", &problems, "--samples", &candidates]),
        ("model.gguf", vec!["gguf", "--model", &gguf]),
    ];
    for (input, words) in verbs {
        let before = fs::read(place.path(input)).expect("a file");
        for name in ["soft", "hard"] {
            let _ = fs::remove_file(place.path(name));
        }
        symlink(place.path(input), place.path("soft")).expect("a link");
        fs::hard_link(place.path(input), place.path("hard")).expect("a link");
        let roundabout = place.path(&format!("dir/../{input}"));
        for out in [place.path(input), roundabout, place.path("soft"), place.path("hard")] {
            for force in [&[][..], &["--force"]] {
                let words = [&words[..], &["--out", &out], force].concat();
                fails(&words, 1, &["is read by this command", "never written over", "name another file"]);
            }
        }
        assert!(fs::read(place.path(input)).expect("a file") == before, "{input} was changed");
    }
    fails(
        &["eval", "--model", &model, "--tasks", &sums, "--plot", &sums, "--force"],
        1,
        &["never written over"],
    );
    let both = ["eval", "--model", &model, "--tasks", "copy", "--out", "x.html", "--plot", "./x.html"];
    fails(&both, 2, &["--out and --plot are the same file"]);

    // What lies in a directory that is read is read.
    let config = format!("{model}/config.toml");
    let before = fs::read(&config).expect("a file");
    fails(
        &["gguf", "--model", &model, "--out", &config, "--force"],
        1,
        &["belongs to", "never written over"],
    );
    assert_eq!(fs::read(&config).expect("a file"), before);
    // A name that is a record's is none to be lost, either.
    let record = place.file("other.jsonl.mynah", "mine\n");
    fails(&simulate(&candidates, &place.path("other.jsonl")), 1, &["other.jsonl.mynah", "no record"]);
    let read = simulate(&record, "o");
    fails(&[&read[..7], &[&place.path("other.jsonl"), "--force"]].concat(), 1, &["never written over"]);
    assert_eq!(place.read("other.jsonl.mynah"), "mine\n");
}

/// The same command finds its file finished; another's needs --force, and says what differs.
#[test]
fn a_file_of_somebody_else_is_replaced_on_demand_only() {
    let place = Place::new();
    let [candidates, out] = ["candidates.jsonl", "rankings.jsonl"].map(|name| place.path(name));
    let words = simulate(&candidates, &out);
    run(&words, 0);
    let made = place.read("rankings.jsonl");
    assert!(stderr(&run(&words, 0)).contains("rankings.jsonl is complete already: nothing to do"));
    assert_eq!(json(&words)["rankings"], 9, "what a program reads is there all the same");

    let noisier = [&words[..], &["--noise", "3", "--seed", "1"]].concat();
    fails(
        &noisier,
        1,
        &["rankings.jsonl is there already", "settings.noise: 0.04 → 3.0", "settings.seed", "--force"],
    );
    assert_eq!(place.read("rankings.jsonl"), made);
    place.file("candidates.jsonl", &place.read("candidates.jsonl").replace("bbb", "b"));
    fails(&words, 1, &["inputs.candidates: ", "candidates.jsonl has other contents now", "--force"]);
    let copy = place.path("copy.jsonl");
    fs::rename(&candidates, &copy).expect("a file");
    fails(&simulate(&copy, &out), 1, &["candidates.jsonl → ", "copy.jsonl"]);
    assert_eq!(place.read("rankings.jsonl"), made);
    run(&[&simulate(&copy, &out)[..], &["--force"]].concat(), 0);
    assert_ne!(place.read("rankings.jsonl"), made);

    // A file that was changed since is somebody's work.
    place.file("rankings.jsonl", "{}\n");
    fails(&simulate(&copy, &out), 1, &["was changed since this command wrote it", "--force"]);
    // One that is gone is made again, and an empty one is nobody's.
    for empty in [false, true] {
        fs::remove_file(&out).expect("a file");
        if empty {
            fs::write(&out, "").expect("a file");
        }
        run(&simulate(&copy, &out), 0);
        assert_ne!(place.read("rankings.jsonl"), "");
    }
    let plain = place.file("plain.txt", "keep\n");
    fails(
        &simulate(&copy, &plain),
        1,
        &["plain.txt is there already", "no record", "name another file", "--force"],
    );
    assert_eq!(place.read("plain.txt"), "keep\n");
    fails(&simulate(&copy, &place.path("")), 1, &["is a directory: name a file in it"]);
    fails(&simulate(&copy, &format!("{plain}/x.jsonl")), 1, &["part of its path is a file"]);
    fails(&simulate(&copy, &place.path("new/")), 1, &["names a directory"]);
    fails(&simulate(&copy, "/proc/x.jsonl"), 1, &["cannot write /proc/x.jsonl"]);
    run(&simulate(&copy, &place.path("deep/er/x.jsonl")), 0);
    // Nothing else is left about.
    let expected = [
        "copy.jsonl",
        "deep",
        "plain.txt",
        "problems.jsonl",
        "prompts.jsonl",
        "rankings.jsonl",
        "rankings.jsonl.mynah",
        "sums.jsonl",
    ];
    assert_eq!(place.names(), expected);
}

/// A tokenizer is several files, and none of them is lost.
#[test]
fn a_tokenizer_keeps_to_its_own_files() {
    let (place, road) = (Place::new(), road());
    let (corpus, out) = (road.path("corpus"), place.path("tokenizer.json"));
    let train = ["tokenizer", "train", "--corpus", &corpus, "--vocab-size", "270", "--out", &out];
    place.file("tokenizer.json", "{}");
    fails(&train, 1, &["tokenizer.json is there already", "--force"]);
    fs::remove_file(&out).expect("a file");
    place.file("tokenizer_config.json", "{\"mine\":1}");
    fails(&train, 1, &["tokenizer_config.json is there already", "would be written too", "--force"]);
    assert_eq!(place.read("tokenizer_config.json"), "{\"mine\":1}");
    run(&[&train[..], &["--force"]].concat(), 0);
    let config = place.read("tokenizer_config.json");
    assert!(stderr(&run(&train, 0)).contains("complete already"));
    // Another tokenizer beside it does not take its configuration away.
    let other = place.path("other.json");
    run(&["tokenizer", "extend", "--tokenizer", &out, "--special", "<|x|>", "--out", &other], 0);
    assert_eq!(place.read("tokenizer_config.json"), config);
    let larger = ["tokenizer", "train", "--corpus", &corpus, "--vocab-size", "280", "--out", &out];
    fails(&larger, 1, &["settings.vocab_size: 270 → 280"]);
    run(&train[..], 0);
    let model = ["tokenizer", "extend", "--tokenizer", &place.path(""), "--special", "<|x|>", "--out", &out];
    fails(&[&model[..], &["--force"]].concat(), 1, &["never written over"]);
}

#[test]
fn links_pipes_and_devices_are_written_through() {
    let (place, road) = (Place::new(), road());
    let (model, corpus) = (road.path("run"), road.path("corpus"));
    let [candidates, sums, problems] =
        ["candidates.jsonl", "sums.jsonl", "problems.jsonl"].map(|name| place.path(name));
    let rank = ["rank", "simulate", "--candidates", &candidates, "--judge", "length"];
    let verbs: [Vec<&str>; 5] = [
        rank.to_vec(),
        vec!["eval", "--model", &model, "--tasks", &sums, "--max-tokens", "6"],
        vec!["tokenizer", "train", "--corpus", &corpus, "--vocab-size", "270"],
        vec!["gguf", "--model", &model],
        vec![
            "eval",
            "--model",
            &model,
            "--tasks",
            "copy",
            "--limit",
            "2",
            "--shots",
            "0,1",
            "--max-tokens",
            "6",
        ],
    ];
    for (number, words) in verbs.iter().enumerate() {
        // The last one writes a page.
        let flag = if number == 4 { "--plot" } else { "--out" };
        let to = |out: &str| -> Vec<String> {
            let words = words.iter().copied().chain([flag, out, "--seed", "3"]);
            words.map(String::from).collect()
        };
        let run = |out: &str, code| run(&to(out).iter().map(String::as_str).collect::<Vec<_>>(), code);
        let plain = place.path(&format!("plain-{number}.json"));
        run(&plain, 0);
        let expected = fs::read(&plain).expect("a file");

        // A link to a file, one to nothing, and one in the middle of the path.
        let (target, link) =
            (place.path(&format!("target-{number}.json")), place.path(&format!("link-{number}.json")));
        symlink(&target, &link).expect("a link");
        for _ in 0..2 {
            run(&link, 0);
            assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
        }
        assert!(same(number, &fs::read(&target).expect("a file"), &expected));

        // Standard output, by any name, has the file and nothing else.
        for name in ["-", "/dev/stdout", "/dev/fd/1"] {
            let out = run(name, 0).get_output().stdout.clone();
            assert!(same(number, &out, &expected), "{name}: {}", String::from_utf8_lossy(&out));
        }
        let file = place.path(&format!("redirected-{number}"));
        let status = Command::new(env!("CARGO_BIN_EXE_mynah"))
            .args(to("/dev/stdout"))
            .arg("--json")
            .stdout(fs::File::create(&file).expect("a file"))
            .stderr(Stdio::null())
            .status();
        assert!(status.expect("it runs").success());
        assert!(same(number, &fs::read(&file).expect("a file"), &expected));

        // A pipe with a name.
        let fifo = place.path(&format!("fifo-{number}"));
        assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
        let reader = {
            let fifo = fifo.clone();
            std::thread::spawn(move || fs::read(fifo).expect("a pipe"))
        };
        run(&fifo, 0);
        assert!(same(number, &reader.join().expect("a reader"), &expected));
        assert!(fs::symlink_metadata(&fifo).expect("a pipe").file_type().is_fifo());

        // Devices, behind a link so that no mistake can harm this machine.
        for (device, code) in [("null", 0), ("full", 1)] {
            let link = place.path(&format!("{device}-{number}"));
            symlink(format!("/dev/{device}"), &link).expect("a link");
            let told = stderr(&run(&link, code));
            assert!(code == 0 || told.contains(&format!("cannot write {link}")), "{told}");
            assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
            assert!(fs::metadata(&link).expect("a device").file_type().is_char_device());
        }
    }
    let grade = ["grade", "--gold", "--problems", &problems, "--out", "-"];
    if super::grade::can_grade() {
        let line = stdout(&grade);
        assert!(line.starts_with("{\"task_id\":\"t\"") && line.lines().count() == 1, "{line}");
    }
    // Whoever reads only the beginning is no failure.
    let mut child = Command::new(env!("CARGO_BIN_EXE_mynah"));
    let child = child.args(rank).args(["--out", "-"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().expect("it starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    // A ring of links is no place.
    symlink(place.path("b"), place.path("a")).expect("a link");
    symlink(place.path("a"), place.path("b")).expect("a link");
    fails(&[&rank[..], &["--out", &place.path("a")]].concat(), 1, &["ring of symbolic links"]);
}

/// A GGUF file holds its own name, so that only its length can be told; a page has it in the command that made
/// it.
fn same(number: usize, a: &[u8], b: &[u8]) -> bool {
    let but_for_the_name = |page: &[u8]| {
        let page = String::from_utf8(page.to_vec()).expect("a page");
        let (before, name) = page.split_once("--plot").expect("the command");
        (before.to_owned(), name.split_once('<').expect("its end").1.to_owned())
    };
    match number {
        3 => a.len().abs_diff(b.len()) < 64,
        4 => but_for_the_name(a) == but_for_the_name(b),
        _ => a == b,
    }
}

/// Directories hold one thing.
#[test]
fn directories_of_something_else_are_refused() {
    let (place, road) = (Place::new(), road());
    let (tokens, corpus, sources) = (road.path("tokens"), road.path("corpus"), road.path("sources"));
    let tokenizer = road.path("tokenizer.json");
    let pretrain = |out: &str, parts: &[&str]| {
        fails(&["pretrain", "--data", &tokens, "--preset", "tiny", "--out", out, "--steps", "1"], 1, parts);
    };
    let file = place.path("sums.jsonl");
    pretrain(&file, &["sums.jsonl is a file: name a directory for the run"]);
    pretrain(&place.path("sums.jsonl/run"), &["part of its path is a file"]);
    pretrain(&place.path(""), &["is not empty (", "no config.toml", "choose another directory"]);
    pretrain(&tokens, &["is read by this command: choose another --out"]);
    pretrain(&road.path(""), &["holds", "which this command reads"]);
    pretrain("/proc/run", &["cannot create the run directory /proc/run", "that you may write to"]);
    let names = fs::read_dir(&tokens).expect("a directory").count();

    // Files that look like a corpus, and are not one, stay.
    let mine = place.path("mine");
    fs::create_dir(&mine).expect("a directory");
    for name in ["train-web.jsonl", "val-00000.jsonl", "text.jsonl"] {
        fs::write(Path::new(&mine).join(name), "{\"text\":\"mine\"}\n").expect("a file");
    }
    fails(&["corpus", &sources, "--out", &mine], 1, &["mine is not empty (", "choose an --out"]);
    fails(&["lessons", "--out", &mine], 1, &["mine is not empty ("]);
    fails(
        &["corpus", &path(Path::new(&mine), "text.jsonl"), "--out", &mine],
        1,
        &["holds", "which this command reads"],
    );
    fails(&["corpus", &mine, "--out", &mine], 1, &["is read by this command"]);
    fails(
        &["tokenize", "--corpus", &corpus, "--tokenizer", &tokenizer, "--out", &corpus],
        1,
        &["is read by"],
    );
    fails(&["corpus", &sources, "--out", &file], 1, &["sums.jsonl is a file", "choose another --out"]);
    assert_eq!(fs::read_dir(&mine).expect("a directory").count(), 3);
    assert_eq!(fs::read_dir(&tokens).expect("a directory").count(), names);

    // Lessons are finished once, and other ones are others.
    let lessons = place.path("lessons");
    let few = [
        "--text-bytes",
        "20K",
        "--demonstrations",
        "20",
        "--prompts",
        "10",
        "--held-out",
        "4",
        "--task-rows",
        "9",
    ];
    let few = [&["lessons", "--out", &lessons][..], &few].concat();
    run(&few, 0);
    assert!(stderr(&run(&few, 0)).contains("complete already"));
    fails(&[&few[..], &["--seed", "1"]].concat(), 1, &["seed: 0 there, 1 now", "choose another --out"]);
}

/// A run that was begun from other data says where they lay, in paths instead of digests.
#[test]
fn other_data_are_told_by_their_paths() {
    let (place, road) = (Place::new(), road());
    let [more, larger] = ["more", "larger.json"].map(|name| place.path(name));
    let (corpus, tokenizer) = (road.path("corpus"), road.path("tokenizer.json"));
    run(&["tokenizer", "train", "--corpus", &corpus, "--vocab-size", "310", "--out", &larger], 0);
    let tokenize = |tokenizer| ["tokenize", "--corpus", &corpus, "--tokenizer", tokenizer, "--out", &more];
    run(&tokenize(&larger), 0);
    let told = |words: &[&str], parts: &[&str]| {
        let told = stderr(&run(words, 1));
        let is_digest = |word: &str| word.len() >= 64 && word.chars().all(|c| c.is_ascii_hexdigit());
        assert!(!told.split(|c: char| !c.is_ascii_alphanumeric()).any(is_digest), "{told}");
        parts.iter().for_each(|part| assert!(told.contains(part), "{part} is not in {told}"));
    };
    told(&tokenize(&tokenizer), &["more was made with other options", "tokenizer: other contents now"]);
    let (words, tokens) = (road.pretrain("run", "40"), road.path("tokens"));
    let words: Vec<&str> =
        words.iter().map(|word| if *word == tokens { more.as_str() } else { word.as_str() }).collect();
    told(&words, &[&format!("inputs.data: {tokens} → {more}"), "choose another directory"]);

    // The same for files.
    let base = road.path("run");
    let demonstration = |i: usize| object!({ "prompt": format!("{i}"), "completion": "x" });
    let own =
        place.file("own.jsonl", &(0..40).map(|i| format!("{}\n", demonstration(i))).collect::<String>());
    let sft = |data: &str, out: &str| -> Vec<String> {
        let words = ["sft", "--model", &base, "--data", data, "--out", out, "--steps", "1"];
        words.map(String::from).to_vec()
    };
    let words = |words: &[String]| -> Vec<&'static str> {
        words.iter().map(|word| &*Box::leak(word.clone().into_boxed_str())).collect()
    };
    run(&words(&sft(&own, &place.path("sft"))), 0);
    // The file may move.
    let moved = place.path("moved.jsonl");
    fs::rename(&own, &moved).expect("a file");
    run(&words(&sft(&moved, &place.path("sft"))), 0);
    let text = fs::read_to_string(&moved).expect("a file");
    fs::write(&own, text.lines().skip(9).map(|line| format!("{line}\n")).collect::<String>())
        .expect("a file");
    told(&words(&sft(&own, &place.path("sft"))), &[&format!("inputs.train: {moved} → {own}")]);
}
