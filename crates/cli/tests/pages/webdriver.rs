//! A headless Chromium, driven as <https://www.w3.org/TR/webdriver2/> says: its `chromedriver` takes HTTP.
//! What WebDriver has no words for, such as dark mode, goes through it to Chromium's own protocol (CDP).

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ureq::http::Request;

/// Keys as WebDriver writes them.
pub(crate) const BACKSPACE: &str = "\u{e003}";
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const ESCAPE: &str = "\u{e00c}";

/// The member that holds an element's reference.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Longer than any command takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first program of these names that `PATH` has.
pub(crate) fn program(names: &[&str]) -> Option<PathBuf> {
    let dirs: Vec<PathBuf> = env::split_paths(&env::var_os("PATH")?).collect();
    let places = names.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
    places.map(|place| place.with_extension(env::consts::EXE_EXTENSION)).find(|place| place.is_file())
}

/// A browser with one tab, which ends with its value.
pub(crate) struct Browser {
    driver: Child,
    /// Kept open: who writes into a closed pipe dies.
    _said: BufReader<ChildStdout>,
    agent: ureq::Agent,
    /// The session's address.
    session: String,
}

/// A tab of the browser.
pub(crate) struct Tab(Value);

/// An element of the page that is shown.
pub(crate) struct Element(String);

impl Browser {
    /// Starts one that keeps its files in `dir`.
    ///
    /// # Errors
    /// The driver or the browser does not start.
    pub(crate) fn start(driver: &Path, browser: &Path, dir: &Path) -> Result<Browser> {
        let mut child = Command::new(driver)
            .arg("--port=0")
            .env("TMPDIR", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", driver.display()))?;
        let mut said = BufReader::new(child.stdout.take().context("a pipe")?);
        let port = port(&mut said)?;
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        let session = format!("http://127.0.0.1:{port}/session");
        let mut it = Browser { driver: child, _said: said, agent: config.build().into(), session };
        let asked = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": {
                "binary": browser,
                // Root has no sandbox, and only pages of our own are opened.
                "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
                "perfLoggingPrefs": { "enableNetwork": true, "enablePage": false },
            },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "unhandledPromptBehavior": "ignore",
        } } });
        let made = it.tell("POST", "", &asked).context("cannot open a browser")?;
        let id = made["sessionId"].as_str().context("a session has an id")?;
        it.session = format!("{}/{id}", it.session);
        Ok(it)
    }

    fn tell(&self, method: &str, command: &str, body: &Value) -> Result<Value> {
        let request = Request::builder().method(method).uri(format!("{}{command}", self.session));
        let sent = if method == "POST" {
            self.agent.run(request.header("content-type", "application/json").body(body.to_string())?)
        } else {
            self.agent.run(request.body(())?)
        };
        let mut response = sent.with_context(|| format!("chromedriver: {method} {command}"))?;
        let reader = response.body_mut().with_config().limit(1 << 30).reader();
        let said: Value = serde_json::from_reader(reader)?;
        if let Some(error) = said["value"]["error"].as_str() {
            bail!("{method} {command}: {error}: {}", said["value"]["message"].as_str().unwrap_or_default());
        }
        Ok(said["value"].clone())
    }

    fn post(&self, command: &str, body: Value) -> Value {
        self.tell("POST", command, &body).unwrap_or_else(|error| panic!("{error:#}"))
    }

    fn read(&self, command: &str) -> Value {
        self.tell("GET", command, &Value::Null).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Opens a new tab in place of all that there are: nothing that was set of them is left.
    pub(crate) fn new_tab(&self) {
        let old = self.read("/window/handles");
        let made = self.one_more_tab();
        for handle in old.as_array().expect("a list") {
            self.turn_to(&Tab(handle.clone()));
            self.tell("DELETE", "/window", &Value::Null).expect("a tab is closed");
            self.turn_to(&made);
        }
    }

    /// Opens one more tab and shows it.
    pub(crate) fn one_more_tab(&self) -> Tab {
        let made = Tab(self.post("/window/new", json!({ "type": "tab" }))["handle"].clone());
        self.turn_to(&made);
        made
    }

    /// The tab that is shown.
    pub(crate) fn tab(&self) -> Tab {
        Tab(self.read("/window"))
    }

    /// Shows another tab.
    pub(crate) fn turn_to(&self, tab: &Tab) {
        self.post("/window", json!({ "handle": tab.0 }));
    }

    pub(crate) fn go(&self, url: &str) {
        self.post("/url", json!({ "url": url }));
    }

    pub(crate) fn reload(&self) {
        self.post("/refresh", json!({}));
    }

    /// What a function of this body returns; a promise is waited for.
    pub(crate) fn script(&self, body: &str, arguments: Value) -> Value {
        self.post("/execute/sync", json!({ "script": body, "args": arguments }))
    }

    /// The first element that fits a CSS selector.
    pub(crate) fn find(&self, css: &str) -> Element {
        element(&self.post("/element", json!({ "using": "css selector", "value": css })), css)
    }

    /// The element that a script returns.
    pub(crate) fn found(&self, body: &str, arguments: Value) -> Element {
        element(&self.script(body, arguments), body)
    }

    /// Clicks in the middle of an element, which has to be in sight.
    pub(crate) fn click(&self, it: &Element) {
        self.post(&format!("/element/{}/click", it.0), json!({}));
    }

    pub(crate) fn clear(&self, it: &Element) {
        self.post(&format!("/element/{}/clear", it.0), json!({}));
    }

    /// Types into an element.
    pub(crate) fn write(&self, it: &Element, text: &str) {
        self.post(&format!("/element/{}/value", it.0), json!({ "text": text }));
    }

    /// Types where the focus is.
    pub(crate) fn keys(&self, text: &str) {
        let of =
            |key: char| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }));
        let keys: Vec<Value> = text.chars().flat_map(of).collect();
        self.actions(json!([{ "type": "key", "id": "keyboard", "actions": keys }]));
    }

    /// What keyboards and pointers do at once, as the standard writes it: drags, for one.
    pub(crate) fn actions(&self, of: Value) {
        self.post("/actions", json!({ "actions": of }));
    }

    /// A command of Chromium's own protocol.
    pub(crate) fn cdp(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
    }

    /// What was logged since this was asked last: `browser` is the console, `performance` has requests.
    pub(crate) fn log(&self, kind: &str) -> Vec<Value> {
        self.post("/se/log", json!({ "type": kind })).as_array().cloned().unwrap_or_default()
    }

    /// The page as a PNG.
    pub(crate) fn picture(&self) -> Vec<u8> {
        let text = self.read("/screenshot");
        STANDARD.decode(text.as_str().expect("Base64")).expect("Base64")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser; by itself it would leave it.
        let _ = self.tell("DELETE", "", &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// The port that the driver says it took.
fn port(said: &mut impl BufRead) -> Result<u16> {
    let mut all = String::new();
    while !all.ends_with("successfully.\n") || all.is_empty() {
        let length = all.len();
        ensure!(said.read_line(&mut all)? > 0, "chromedriver ended: {all}");
        if let Some((_, port)) = all[length..].split_once("successfully on port ") {
            return port.trim().trim_end_matches('.').parse().context("chromedriver says a port");
        }
    }
    bail!("chromedriver says no port: {all}")
}

fn element(found: &Value, what: &str) -> Element {
    let id = found[ELEMENT].as_str();
    Element(id.unwrap_or_else(|| panic!("no element is found by: {what}")).to_owned())
}
