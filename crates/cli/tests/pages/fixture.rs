//! What the pages stand on: models that were trained, a server, a browser.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::webdriver::{Browser, program};

/// The model that answers slowly, and without end: what happens in the middle of an answer can be seen.
pub(crate) const SLOW: &str = "slow";
/// A model that has learned something, whose context is short: 192 tokens.
pub(crate) const QUICK: &str = "ppo";
/// Another reward model beside the road's.
pub(crate) const OLDER: &str = "older";

/// A run of fifty steps, of which some have a checkpoint.
pub(crate) const MANY: &str = "many";

/// What opens the server that is locked.
pub(crate) const KEY: &str = "open sesame";

/// A folder for the models that outlives the tests: the next ones find what they would make.
const KEPT: &str = "MYNAH_PAGES_MODELS";

/// The programs that drive pages.
pub(crate) struct Programs {
    driver: PathBuf,
    browser: PathBuf,
}

impl Programs {
    /// # Errors
    /// One is missing: which.
    pub(crate) fn find() -> Result<Programs, String> {
        let missing = |what: &str| format!("there is no {what}: tools/browser.sh");
        let browser = program(&["chromium", "chromium-browser", "google-chrome"]);
        Ok(Programs {
            driver: program(&["chromedriver"]).ok_or_else(|| missing("chromedriver"))?,
            browser: browser.ok_or_else(|| missing("Chromium"))?,
        })
    }
}

/// All of it, which ends with this value.
pub(crate) struct World {
    pub(crate) browser: Browser,
    pub(crate) server: Server,
    /// A server whose key is `KEY`, with the slow model alone.
    pub(crate) locked: Server,
    models: PathBuf,
    _temporary: TempDir,
}

impl World {
    /// # Errors
    /// Something does not start, or a training fails.
    pub(crate) fn start(programs: &Programs) -> Result<World> {
        let temporary = tempfile::tempdir()?;
        let dir = std::env::var_os(KEPT).map_or_else(|| temporary.path().to_owned(), PathBuf::from);
        let at = |name: &str| dir.join(name).display().to_string();
        fs::create_dir_all(&dir)?;
        run(&["speedrun", "--preset", "tiny", "--no-chat", "--out", &at("road")])?;
        slow_model(&at)?;
        many_steps(&at)?;
        let (slow, older) = (format!("{SLOW}={}", at("slow")), format!("{OLDER}={}", at("road/reward")));
        let of = |name: &str| temporary.path().join(name);
        fs::write(of("key.txt"), KEY)?;
        let key = of("key.txt").display().to_string();
        let open = ["--model", &at("road"), "--model", &slow, "--model", &older];
        Ok(World {
            server: Server::serve(&open, &of("open.log"))?,
            locked: Server::serve(&["--model", &slow, "--api-key-file", &key], &of("locked.log"))?,
            browser: Browser::start(&programs.driver, &programs.browser, temporary.path())?,
            models: dir,
            _temporary: temporary,
        })
    }

    /// The model or file of this name, among those that were made.
    pub(crate) fn made(&self, name: &str) -> String {
        self.models.join(name).display().to_string()
    }
}

/// A model of hardly any training, but with a context and layers enough to take its time.
fn slow_model(at: &dyn Fn(&str) -> String) -> Result<()> {
    let (tokens, base, slow) = (at("road/tokens"), at("slow-base"), at("slow"));
    let pretrain = ["pretrain", "--data", &tokens, "--preset", "tiny", "--steps", "1", "--out", &base];
    let shape = ["n_layer=8", "d_model=384", "n_head=6", "seq_len=1024", "batch_tokens=1024"];
    let sets = shape.iter().chain(&["eval_windows=1", "sample_every=0"]).flat_map(|set| ["--set", set]);
    let sets: Vec<&str> = sets.collect();
    run(&[&pretrain[..], &sets].concat())?;
    let lessons = at("road/lessons/demonstrations.jsonl");
    let few = at("few.jsonl");
    let lines: String =
        fs::read_to_string(lessons)?.lines().take(10).map(|line| format!("{line}\n")).collect();
    fs::write(&few, lines)?;
    run(&["sft", "--model", &base, "--data", &few, "--steps", "1", "--set", "lr=1e-9", "--out", &slow])
}

/// A run that tells what its model writes after each of fifty steps.
fn many_steps(at: &dyn Fn(&str) -> String) -> Result<()> {
    let (base, few, many) = (at("road/pretrain"), at("few.jsonl"), at(MANY));
    let sft = ["sft", "--model", &base, "--data", &few, "--steps", "50", "--out", &many];
    let sets = ["sample_every=1", "eval_every=10", "checkpoint_every=10", "keep_last=3"];
    run(&[&sft[..], &sets.map(|set| ["--set", set]).concat()].concat())
}

/// Runs `mynah` to its end.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_mynah")).args(arguments).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "mynah {}: {said}", arguments.join(" "));
    Ok(())
}

/// A verb that serves pages, until the value ends.
pub(crate) struct Server {
    arguments: Vec<String>,
    log: PathBuf,
    child: Mutex<Child>,
    agent: ureq::Agent,
    /// `http://127.0.0.1:PORT`.
    pub(crate) origin: String,
    /// What it tells programs when it begins to listen.
    pub(crate) told: Value,
}

impl Server {
    /// `mynah serve` with further arguments.
    ///
    /// # Errors
    /// As of [`Server::start`].
    pub(crate) fn serve(arguments: &[&str], log: &Path) -> Result<Server> {
        Server::start(&[&["serve", "--slots", "4"], arguments].concat(), log)
    }

    /// Starts `mynah` with these arguments; what it says on standard error goes to the file `log`.
    ///
    /// # Errors
    /// It does not begin to listen: what it said.
    pub(crate) fn start(arguments: &[&str], log: &Path) -> Result<Server> {
        let arguments: Vec<String> = arguments.iter().map(|&it| it.to_owned()).collect();
        let (child, told) = listening(&arguments, "0", log)?;
        let origin = told["listening"].as_str().context("an address")?.to_owned();
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let (child, log) = (Mutex::new(child), log.to_owned());
        Ok(Server { arguments, log, child, agent, origin, told })
    }

    /// Ends it as a power failure does.
    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().expect("no panic");
        child.kill().expect("SIGKILL");
        child.wait().expect("it ends");
    }

    /// Starts it again where it was.
    pub(crate) fn restart(&self) {
        let port = self.origin.rsplit(':').next().expect("a port");
        let (child, _) = listening(&self.arguments, port, &self.log).expect("it starts");
        *self.child.lock().expect("no panic") = child;
    }

    /// The token that opens it: of a ranking station the owner's.
    fn key(&self) -> &str {
        self.told["owner"].as_str().and_then(|link| Some(link.split_once('#')?.1)).unwrap_or(KEY)
    }

    /// Status and text of what a program is answered.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let request = self.agent.get(format!("{}{path}", self.origin));
        let key = format!("Bearer {}", self.key());
        let mut response = request.header("authorization", key).call().expect("it answers");
        (response.status().as_u16(), response.body_mut().read_to_string().expect("text"))
    }

    /// What a program is answered that sends `body` and has this token.
    pub(crate) fn post(&self, path: &str, token: &str, body: &Value) -> Value {
        let request = self.agent.post(format!("{}{path}", self.origin));
        let request = request.header("authorization", format!("Bearer {token}"));
        let sent = request.content_type("application/json").send(body.to_string());
        let said = sent.expect("it answers").body_mut().read_to_string().expect("text");
        serde_json::from_str(&said).expect("JSON")
    }

    /// The answer of `model` to one question, as a program gets it.
    pub(crate) fn answer(&self, model: &str, question: &str, further: Value) -> String {
        let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": question }] });
        body.as_object_mut().expect("an object").extend(further.as_object().expect("an object").clone());
        let answer = self.post("/v1/chat/completions", KEY, &body);
        answer["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// A figure of `/metrics`.
    fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in {text}")).parse().expect("a number")
    }

    /// Waits until nothing is computed any more.
    pub(crate) fn rest(&self) {
        let since = Instant::now();
        while self.metric("mynah_running") + self.metric("mynah_waiting") > 0.0 {
            assert!(since.elapsed() < Duration::from_secs(60), "it goes on computing");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Fails if what is computed comes to its end although somebody stops it.
    pub(crate) fn lets_go(&self, stop: impl FnOnce()) {
        let left = self.metric("mynah_left_total");
        stop();
        let since = Instant::now();
        while self.metric("mynah_left_total") == left {
            assert!(since.elapsed() < Duration::from_secs(30), "the server went on to the end");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.rest();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// `mynah` with these arguments, and what it tells when it listens at `port`.
fn listening(arguments: &[String], port: &str, log: &Path) -> Result<(Child, Value)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mynah"));
    command.args(["--threads", "1", "--json"]).args(arguments).args(["--port", port]);
    command
        .env_remove("MYNAH_API_KEY")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(log)?);
    let mut child = command.spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("a pipe")?).read_line(&mut line)?;
    let told = serde_json::from_str(&line);
    let said = || format!("mynah {}: {}", arguments[0], fs::read_to_string(log).unwrap_or_default());
    Ok((child, told.with_context(said)?))
}
