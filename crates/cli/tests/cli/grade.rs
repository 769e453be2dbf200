//! Generated programs: what they try against the machine (`tests/escapes`), and against their tests
//! (`tests/cheats`).
//!
//! Every attempt is harmless where it succeeds, because that is how it is shown to be one: those marked `#
//! control: yes` are run without a sandbox, too, and must succeed there. Where a machine lacks python3 or a
//! layer of the sandbox, it is checked that `mynah grade` refuses.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use serde_json::{Value, json as object};
use tempfile::TempDir;

use super::workshop::{fails, json, mynah, path, road, stderr};

const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
const MARK: &str = "# control: yes\n";

const ESCAPED: &str = "def check(candidate):\n    assert candidate() == 'escaped'\n";
const ADDS: &str = "\
def check(candidate):
    assert candidate([2, 3]) == 5
    assert candidate([-1, 1]) == 0
    assert candidate([]) == 0
    assert candidate([10] * 5) == 50
";

/// What is left of a sandbox can only be told from others' while there are no others.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `name → text` of the programs in a folder.
fn programs(folder: &str) -> BTreeMap<String, String> {
    let entries = fs::read_dir(Path::new(TESTS).join(folder)).expect("a folder of programs");
    let program = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        (name, fs::read_to_string(path).expect("a program"))
    };
    entries.map(program).collect()
}

fn write_lines(path: &str, rows: impl Iterator<Item = Value>) {
    fs::write(path, rows.map(|row| format!("{row}\n")).collect::<String>()).expect("a file");
}

/// Problems with one `test` and no prompt, one for each of `programs`, and the programs as samples: the
/// arguments to grade them.
fn task(dir: &Path, entry_point: &str, test: &str, programs: &BTreeMap<String, String>) -> [String; 5] {
    let [problems, samples] = ["problems.jsonl", "samples.jsonl"].map(|name| path(dir, name));
    let problem = |name| object!({ "task_id": name, "prompt": "", "entry_point": entry_point, "test": test });
    write_lines(&problems, programs.keys().map(problem));
    let sample = |(name, text)| object!({ "task_id": name, "completion": text });
    write_lines(&samples, programs.iter().map(sample));
    ["grade".into(), "--problems".into(), problems, "--samples".into(), samples]
}

/// `task_id → (result, detail)` of a file of verdicts.
fn verdicts(path: &str) -> BTreeMap<String, (String, String)> {
    let text = fs::read_to_string(path).expect("verdicts");
    let line = |line| {
        let row: Value = serde_json::from_str(line).expect("a line is JSON");
        let text = |key: &str| row[key].as_str().expect("a text").to_string();
        assert_eq!(row["passed"], row["result"] == "passed");
        (text("task_id"), (text("result"), text("detail")))
    };
    text.lines().map(line).collect()
}

/// Whether programs can be graded here; else that it is refused, with the reason.
pub(crate) fn can_grade() -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    let programs =
        BTreeMap::from([("one".to_string(), "def add(numbers):\n    return sum(numbers)\n".to_string())]);
    let assert = mynah(&task(dir.path(), "add", ADDS, &programs).each_ref().map(String::as_str)).assert();
    if assert.get_output().status.success() {
        return true;
    }
    let told = stderr(&assert);
    assert_eq!(assert.get_output().status.code(), Some(1), "{told}");
    assert!(is_lacking(&told), "a machine that has all of it refuses: {told}");
    false
}

/// Succeeds where the kernel tells which version of Landlock it has.
const LANDLOCK_VERSION: &str = "import ctypes, sys; sys.exit(ctypes.CDLL(None).syscall(444, None, 0, 1) < 1)";

/// Whether the machine lacks what a refusal names, found out in another way: else the tests that need it would
/// be passed over where the sandbox is broken.
fn is_lacking(told: &str) -> bool {
    let fails = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        !output.is_ok_and(|output| output.status.success())
    };
    let lacks = |file: &str, text: &str| !fs::read_to_string(file).unwrap_or_default().contains(text);
    let namespaces = [
        "--user",
        "--map-root-user",
        "--mount",
        "--pid",
        "--net",
        "--ipc",
        "--uts",
        "--cgroup",
        "--fork",
        "true",
    ];
    told.contains("no python3") && fails("python3", &["--version"])
        || told.contains("namespaces: ") && fails("unshare", &namespaces)
        || told.contains("landlock: ") && fails("python3", &["-c", LANDLOCK_VERSION])
        || told.contains("seccomp: ") && lacks("/proc/self/status", "Seccomp:")
        || told.contains("on Linux only") && cfg!(not(target_os = "linux"))
}

/// Processes of sandboxes whose parents are gone.
fn leftovers() -> Vec<String> {
    let read = |pid: &str, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let pids = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let orphan = |pid: &String| {
        let ours = ["sandbox-process", "The side of the program", "The side of the tests"];
        let status = read(pid, "status");
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap_or_default().trim();
        ours.iter().any(|text| read(pid, "cmdline").contains(text))
            && !read(parent, "cmdline").contains("mynah")
    };
    pids.filter(|pid| pid.parse::<u32>().is_ok()).filter(orphan).collect()
}

fn nothing_is_left() {
    let end = Instant::now() + Duration::from_secs(2);
    while !leftovers().is_empty() {
        assert!(Instant::now() < end, "processes are left: {:?}", leftovers());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What an escape finds outside: a folder with a secret file, and a listening port.
struct Outside {
    dir: TempDir,
    port: TcpListener,
}

impl Outside {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("secret"), "secret").expect("a file");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port");
        port.set_nonblocking(true).expect("a port that does not wait");
        Outside { dir, port }
    }

    /// What an escape is told of it, before its own text.
    fn told(&self, text: &str, timeout: f64) -> String {
        let folder = self.dir.path().display();
        let port = self.port.local_addr().expect("an address").port();
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let (process, host) = (std::process::id(), host.trim());
        format!(
            "FOLDER, PORT, PID, TIMEOUT, HOST = '{folder}', {port}, {process}, {timeout}, '{host}'\n{text}"
        )
    }

    /// A call with the secret in its environment and in a file that it inherits.
    fn call(&self, program: &str, arguments: &[String]) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"exec 9< "$0/secret"; exec "$@""#, &path(self.dir.path(), ""), program]);
        shell.args(arguments).env("MYNAH_SECRET", "secret").timeout(Duration::from_secs(120));
        shell
    }
}

#[test]
fn no_program_escapes() {
    let _alone = alone();
    if !can_grade() {
        return;
    }
    let (outside, work) = (Outside::new(), tempfile::tempdir().expect("a directory"));
    let escapes = programs("escapes");
    assert!(escapes.len() >= 60, "{}", escapes.len());
    let told = escapes.iter().map(|(name, text)| (name.clone(), outside.told(text, 1.0))).collect();
    let out = path(work.path(), "verdicts.jsonl");
    let mut arguments = task(work.path(), "attempt", ESCAPED, &told).to_vec();
    arguments.extend(["--timeout", "1", "--out", &out].map(String::from));
    let temporary = tempfile::tempdir().expect("a directory");
    let mut call = outside.call(env!("CARGO_BIN_EXE_mynah"), &arguments);
    call.env("TMPDIR", temporary.path()).assert().success();

    let escaped: Vec<String> = verdicts(&out)
        .into_iter()
        .filter(|(_, (result, _))| result == "passed")
        .map(|(name, _)| name)
        .collect();
    assert!(escaped.is_empty(), "{escaped:?} escaped");
    // Nor do verdicts say so for want of a program that runs: of each, the last thing heard is a refusal or a
    // limit.
    for (name, (result, detail)) in verdicts(&out) {
        assert!(
            result != "broken" && !detail.contains("NameError") && !detail.contains("SyntaxError"),
            "{name}: {detail}"
        );
    }
    nothing_is_left();
    assert_eq!(fs::read_to_string(outside.dir.path().join("secret")).expect("the secret"), "secret");
    assert_eq!(fs::read_dir(outside.dir.path()).expect("the folder").count(), 1);
    assert_eq!(fs::read_dir(temporary.path()).expect("the folder").count(), 0);
    assert_eq!(outside.port.accept().expect_err("nobody called").kind(), ErrorKind::WouldBlock);
}

/// Seccomp and Landlock keep out what namespaces do, so that the loss of one of these would go unseen: here
/// they stand alone.
#[test]
fn namespaces_hold_alone() {
    let _alone = alone();
    if !can_grade() {
        return;
    }
    let (outside, work) = (Outside::new(), tempfile::tempdir().expect("a directory"));
    let names = [
        "connect",
        "send_datagram",
        "host_name",
        "kill_parent",
        "overwrite_interpreter",
        "read_passwd",
        "read_secret",
        "write_library",
        "write_root",
    ];
    let escapes = programs("escapes");
    let told = names.iter().map(|name| ((*name).to_string(), outside.told(&escapes[*name], 1.0))).collect();
    let out = path(work.path(), "verdicts.jsonl");
    let mut arguments = task(work.path(), "attempt", ESCAPED, &told).to_vec();
    arguments.extend(["--timeout", "1", "--out", &out].map(String::from));
    arguments.extend(["--unsafe-without", "seccomp", "--unsafe-without", "landlock"].map(String::from));
    outside.call(env!("CARGO_BIN_EXE_mynah"), &arguments).assert().success();
    let verdicts = verdicts(&out);
    assert_eq!(verdicts.len(), names.len());
    for (name, (result, detail)) in verdicts {
        assert!(result != "passed", "{name} escaped");
        assert!(result != "broken" && !detail.contains("NameError"), "{name}: {detail}");
    }
    assert_eq!(outside.port.accept().expect_err("nobody called").kind(), ErrorKind::WouldBlock);
}

#[test]
fn what_escapes_try_is_possible_without_a_sandbox() {
    let _alone = alone();
    if !can_grade() {
        return;
    }
    let (outside, work) = (Outside::new(), tempfile::tempdir().expect("a directory"));
    let controls: Vec<_> =
        programs("escapes").into_iter().filter(|(_, text)| text.starts_with(MARK)).collect();
    assert!(controls.len() >= 40, "{}", controls.len());
    for (name, text) in controls {
        let file = path(work.path(), &format!("{name}.py"));
        fs::write(&file, outside.told(&text, 0.02) + "\n\nprint(attempt())\n").expect("a file");
        let output = outside.call("python3", &[file]).current_dir(work.path()).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("escaped"), "{name}: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn no_program_cheats() {
    let _alone = alone();
    if !can_grade() {
        return;
    }
    let work = tempfile::tempdir().expect("a directory");
    let cheats = programs("cheats");
    assert!(cheats.len() >= 25, "{}", cheats.len());
    let out = path(work.path(), "verdicts.jsonl");
    let mut arguments = task(work.path(), "add", ADDS, &cheats).to_vec();
    arguments.extend(["--timeout", "1", "--out", &out].map(String::from));
    json(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    for (name, (result, detail)) in verdicts(&out) {
        assert!(result != "passed" && result != "broken", "{name}: {result}: {detail}");
    }
    nothing_is_left();

    // Where program and tests share a process and the exit code is the verdict, they pass.
    let controls = cheats.into_iter().filter(|(_, text)| text.starts_with(MARK));
    for (name, text) in controls {
        let file = path(work.path(), &format!("{name}.py"));
        fs::write(&file, format!("{text}\n\n{ADDS}\n\ncheck(add)\n")).expect("a file");
        let mut python = Command::new("python3");
        python.arg(file).current_dir(work.path()).timeout(Duration::from_secs(20)).assert().success();
    }
}

#[test]
fn every_fate_is_told() {
    let _alone = alone();
    if !can_grade() {
        return;
    }
    let work = tempfile::tempdir().expect("a directory");
    let fates = [
        ("passed", "def add(numbers):\n    print('passed')\n    return sum(numbers)\n"),
        ("wrong", "def add(numbers):\n    return sum(numbers) + 1\n"),
        ("raised", "def add(numbers):\n    return numbers[9]\n"),
        ("timed_out", "def add(numbers):\n    while True:\n        pass\n"),
        ("out_of_memory", "def add(numbers):\n    return len(bytearray(1 << 40))\n"),
        ("died", "import os\n\n\ndef add(numbers):\n    os._exit(0)\n"),
        ("refused", "def add(numbers):\n    return map(sum, numbers)\n"),
        ("flooded", "def add(numbers):\n    while True:\n        print('x' * 65536)\n"),
    ];
    let programs = fates.iter().map(|(name, text)| ((*name).to_string(), (*text).to_string())).collect();
    let out = path(work.path(), "verdicts.jsonl");
    let mut arguments = task(work.path(), "add", ADDS, &programs).to_vec();
    arguments.extend(["--timeout", "1", "--k", "1,2", "--out", &out].map(String::from));
    let report = json(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    for (name, (result, detail)) in verdicts(&out) {
        assert_eq!(name, result, "{detail}");
    }
    assert_eq!((&report["problems"], &report["samples"]), (&object!(8), &object!(8)));
    assert_eq!(report["pass@k"]["1"]["value"], 0.125);
    assert_eq!(report["pass@k"].as_object().expect("by k").len(), 1, "one sample is too few for pass@2");
    nothing_is_left();
}

/// More than a pipe holds is sent to a program that reads none of it.
#[test]
fn a_program_that_does_not_listen_holds_nobody_up() {
    let _alone = alone();
    if !can_grade() {
        return;
    }
    let work = tempfile::tempdir().expect("a directory");
    let programs = BTreeMap::from([("deaf".to_string(), "import time\n\n\ntime.sleep(600)\n".to_string())]);
    let long = "def check(candidate):\n    candidate('x' * 300000)\n";
    let mut arguments = task(work.path(), "same", long, &programs).to_vec();
    arguments.extend(["--timeout", "1"].map(String::from));
    let report = json(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(report["verdicts"], object!({ "timed_out": 1 }));
}

/// Problems as HumanEval has them: tests that use the prompt's helpers, or call the function by its name.
fn sound_problems(dir: &Path) -> String {
    let file = path(dir, "sound.jsonl");
    let helper = "from typing import List\n\n\ndef double(x: int) -> int:\n    return 2 * x\n\n\ndef halve(x: int) -> int:\n    \"\"\"Undoes double.\"\"\"\n";
    let sets = "def parts(numbers):\n    \"\"\"Many types.\"\"\"\n";
    let rows = [
        object!({
            "task_id": "helper", "prompt": helper, "entry_point": "halve", "canonical_solution": "    return x // 2\n",
            "test": "def check(candidate):\n    for x in [0, 7, 10 ** 5000]:\n        assert candidate(double(x)) == x == halve(double(x))\n",
        }),
        object!({
            "task_id": "types", "prompt": sets, "entry_point": "parts",
            "canonical_solution": "    return {(1, 'ä\\ud800\\n'): {1.5, float('inf')}, None: [True, b'x', 2j, frozenset([-3])]}\n",
            "test": "def check(candidate):\n    assert candidate(numbers=[]) == {(1, 'ä\\ud800\\n'): {1.5, float('inf')}, None: [True, b'x', 2j, frozenset([-3])]}\n",
        }),
        object!({
            "task_id": "derived", "prompt": "from collections import *\n\n\ndef count(numbers):\n    \"\"\"How often each occurs.\"\"\"\n",
            "entry_point": "count", "canonical_solution": "    return [Counter(numbers), OrderedDict(a=1), namedtuple('Pair', 'x y')(1, 2)]\n",
            "test": "def check(candidate):\n    assert candidate('abb') == [{'a': 1, 'b': 2}, {'a': 1}, (1, 2)]\n",
        }),
        object!({
            "task_id": "raises", "prompt": "def first(numbers):\n    \"\"\"The first.\"\"\"\n", "entry_point": "first",
            "canonical_solution": "    return numbers[0]\n",
            "test": "def check(candidate):\n    try:\n        candidate([])\n    except IndexError:\n        return\n    assert False\n",
        }),
        // More than a pipe holds, in both directions.
        object!({
            "task_id": "long", "prompt": "def same(text):\n    \"\"\"The same.\"\"\"\n", "entry_point": "same",
            "canonical_solution": "    return text\n",
            "test": "def check(candidate):\n    assert candidate('x' * 300000) == 'x' * 300000\n",
        }),
    ];
    write_lines(&file, rows.into_iter());
    file
}

#[test]
fn sound_problems_pass_and_broken_ones_are_named() {
    let _alone = alone();
    if !can_grade() {
        return;
    }
    let work = tempfile::tempdir().expect("a directory");
    let problems = sound_problems(work.path());
    let out = path(work.path(), "verdicts.jsonl");
    let report = json(&["grade", "--problems", &problems, "--gold", "--out", &out]);
    assert_eq!(report["verdicts"], object!({ "passed": 5 }), "{:?}", verdicts(&out));

    let broken = path(work.path(), "broken.jsonl");
    let tests = [
        "def check(",
        "def check(candidate):\n    pass\n",
        "def check(candidate):\n    candidate(object())\n",
    ];
    let row = |(number, test): (usize, &&str)| object!({ "task_id": number.to_string(), "prompt": "", "entry_point": "f", "canonical_solution": "def f(x):\n    return x\n", "test": test });
    write_lines(&broken, tests.iter().enumerate().map(row));
    assert_eq!(json(&["grade", "--problems", &broken, "--gold"])["verdicts"], object!({ "broken": 3 }));
}

#[test]
fn nothing_outlives_many_timeouts() {
    let _alone = alone();
    if !can_grade() {
        return;
    }
    let work = tempfile::tempdir().expect("a directory");
    let text = "import threading, time\n\n\ndef add(numbers):\n    open('file', 'w').write('x' * 1000)\n    \
                threading.Thread(target=time.sleep, args=[600]).start()\n    time.sleep(600)\n";
    let programs = (0..24).map(|n| (format!("sleeper {n}"), text.to_string())).collect();
    let temporary = tempfile::tempdir().expect("a directory");
    let arguments = task(work.path(), "add", ADDS, &programs);
    let mut call = mynah(&arguments.each_ref().map(String::as_str));
    let assert = call.args(["--timeout", "0.2", "--json"]).env("TMPDIR", temporary.path()).assert().success();
    let report: Value = serde_json::from_slice(&assert.get_output().stdout).expect("a report");
    assert_eq!(report["verdicts"], object!({ "timed_out": 24 }));
    nothing_is_left();
    assert_eq!(fs::read_dir(temporary.path()).expect("the folder").count(), 0);
}

/// Problems whose prompt is a whole function and the beginning of a comment: whatever a model adds to that
/// line, the first is right and the second wrong.
#[test]
fn a_model_writes_programs_and_they_are_graded() {
    let _alone = alone();
    let work = tempfile::tempdir().expect("a directory");
    let [problems, out, samples] =
        ["five.jsonl", "items.jsonl", "samples.jsonl"].map(|name| path(work.path(), name));
    let problem = |(name, value)| {
        object!({
            "task_id": name, "prompt": "def five():\n    return 5  #", "entry_point": "five",
            "test": format!("def check(candidate):\n    assert candidate() == {value}\n"),
        })
    };
    write_lines(&problems, [("right", 5), ("wrong", 6)].map(problem).into_iter());
    let run = road().path("run");
    // With this seed no program begins another line.
    let eval = ["eval", "--seed", "2", "--model", &run];
    let call = [&eval[..], &["--tasks", &problems, "--max-tokens", "1", "--out", &out]].concat();
    if !can_grade() {
        assert_eq!(mynah(&call).assert().get_output().status.code(), Some(1));
        return;
    }
    for programs in ["1", "10"] {
        let result =
            json(&[&call[..], &["--force", "--programs", programs]].concat())["tasks"]["five"].clone();
        assert_eq!((&result["metric"], &result["value"]), (&object!("pass@1"), &object!(0.5)));
        assert_eq!(
            result["programs"]["pass@k"]["10"]["value"],
            if programs == "1" { Value::Null } else { 0.5.into() }
        );
        let text = fs::read_to_string(&out).expect("--out is written");
        let items: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let written = items.iter().flat_map(|item| {
            let told = item["programs"].as_array().expect("programs").iter();
            told.map(|one| (item["task_id"].clone(), one["completion"].clone()))
        });
        let written = written.map(|(id, text)| object!({ "task_id": id, "completion": text }));
        write_lines(&samples, written);
        let graded = json(&["grade", "--problems", &problems, "--samples", &samples]);
        assert_eq!(graded, result["programs"], "the same verdicts on the programs that were kept");
    }
}

#[test]
fn what_cannot_be_graded_is_refused() {
    let work = tempfile::tempdir().expect("a directory");
    let problems = sound_problems(work.path());
    let empty = path(work.path(), "");
    let assert = mynah(&["grade", "--problems", &problems, "--gold"]).env("PATH", &empty).assert().failure();
    let told = stderr(&assert);
    assert!(told.contains("there is no python3 on this machine") || told.contains("on Linux only"), "{told}");

    let samples = path(work.path(), "samples.jsonl");
    write_lines(&samples, [object!({ "task_id": "unknown", "completion": "" })].into_iter());
    fails(
        &["grade", "--problems", &problems, "--samples", &samples],
        1,
        &["a sample of no known problem", "samples.jsonl:1"],
    );
    let twice = path(work.path(), "twice.jsonl");
    fs::write(&twice, fs::read_to_string(&problems).expect("problems").repeat(2)).expect("a file");
    fails(&["grade", "--problems", &twice, "--gold"], 1, &["two problems have the same task_id"]);
    for wrong in
        [&["--gold", "--samples", "x"][..], &[], &["--gold", "--k", "0"], &["--gold", "--timeout", "0"]]
    {
        mynah(&[&["grade", "--problems", &problems], wrong].concat()).assert().code(2);
    }
    mynah(&["grade", "--problems", &problems, "--gold", "--unsafe-without", "roof"]).assert().code(2);
    mynah(&["sandbox-process"]).assert().code(1);
}
