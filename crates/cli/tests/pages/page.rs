//! A page as somebody has it before them: what is typed and clicked, what is seen, what it must never do.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fixture::{Server, World};
use super::webdriver::{Browser, Element};

/// How long something may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The folder to which pictures of the pages are written, if somebody wants to see them.
const PICTURES: &str = "MYNAH_PICTURES";
/// The file `axe.min.js`, where it is not in its usual place.
const AXE: &str = "MYNAH_AXE";
const AXE_USUALLY: &str = "mynah-pages/axe-core-4.14.1/axe.min.js";

/// How somebody sees pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) width: u32,
    pub(crate) scheme: &'static str,
    pub(crate) language: &'static str,
}

impl View {
    pub(crate) const USUAL: View = View { width: 1280, scheme: "light", language: "en" };

    /// Wide and narrow, light and dark, in both languages.
    pub(crate) fn all() -> impl Iterator<Item = View> {
        let views = [1280, 390].into_iter().flat_map(|width| ["light", "dark"].map(|scheme| (width, scheme)));
        views.flat_map(|(width, scheme)| ["en", "zh-CN"].map(|language| View { width, scheme, language }))
    }
}

/// A page of the server in a tab of its own, in a browser that remembers nothing.
pub(crate) struct Page<'w> {
    world: &'w World,
    pub(crate) server: &'w Server,
    view: View,
    url: String,
}

impl<'w> Page<'w> {
    /// Opens the page at `path` of a server.
    pub(crate) fn of(server: &'w Server, world: &'w World, path: &str, view: View) -> Page<'w> {
        let (browser, origin) = (&world.browser, &server.origin);
        browser.new_tab();
        // A test that failed may have left an answer on its way.
        server.rest();
        let agent = browser.cdp("Browser.getVersion", json!({}))["userAgent"].clone();
        let size = json!({ "width": view.width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": view.scheme }] });
        let clipboard = json!(["clipboardReadWrite", "clipboardSanitizedWrite"]);
        for (command, parameters) in [
            ("Storage.clearDataForOrigin", json!({ "origin": origin, "storageTypes": "all" })),
            ("Browser.grantPermissions", json!({ "origin": origin, "permissions": clipboard })),
            ("Emulation.setDeviceMetricsOverride", size),
            ("Emulation.setEmulatedMedia", dark),
            (
                "Emulation.setUserAgentOverride",
                json!({ "userAgent": agent, "acceptLanguage": view.language }),
            ),
            ("Emulation.setFocusEmulationEnabled", json!({ "enabled": true })),
        ] {
            browser.cdp(command, parameters);
        }
        // What is logged already is another page's.
        browser.log("browser");
        browser.log("performance");
        let page = Page { world, server, view, url: format!("{origin}{path}") };
        browser.go(&page.url);
        page
    }

    pub(crate) fn browser(&self) -> &Browser {
        &self.world.browser
    }

    /// Loads it again, as somebody does who presses F5.
    pub(crate) fn reload(&self) {
        self.browser().reload();
    }

    /// Opens it anew with `value` in what the browser keeps for it.
    pub(crate) fn remember(&self, key: &str, value: &str) {
        // There no script of the page keeps anything of its own.
        self.browser().go(&format!("{}/health", self.server.origin));
        self.eval("localStorage.setItem(arguments[0], arguments[1]);", json!([key, value]));
        self.browser().go(&self.url);
    }

    /// What a function of this body returns in the page, given `arguments`.
    pub(crate) fn eval(&self, body: &str, arguments: Value) -> Value {
        self.browser().script(body, arguments)
    }

    /// Waits until an expression is true.
    pub(crate) fn wait(&self, expression: &str) {
        let since = Instant::now();
        while self.eval(&format!("return Boolean({expression});"), json!([])) != true {
            assert!(since.elapsed() < PATIENCE, "it does not come to be: {expression}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What can be read of each element that fits.
    pub(crate) fn texts(&self, css: &str) -> Vec<String> {
        let texts = "return [...document.querySelectorAll(arguments[0])].map((it) => it.innerText);";
        serde_json::from_value(self.eval(texts, json!([css]))).expect("texts")
    }

    pub(crate) fn count(&self, css: &str) -> usize {
        self.texts(css).len()
    }

    /// Whether the first element that fits can be seen.
    pub(crate) fn sees(&self, css: &str) -> bool {
        self.eval("return document.querySelector(arguments[0])?.checkVisibility() ?? false;", json!([css]))
            == true
    }

    pub(crate) fn click(&self, css: &str) {
        self.browser().click(&self.browser().find(css));
    }

    /// Writes `text` in place of what stands in a field.
    pub(crate) fn fill(&self, css: &str, text: &str) {
        let field = self.browser().find(css);
        self.browser().clear(&field);
        self.browser().write(&field, text);
    }

    /// Drags the first element that fits `from` to the one that fits `to`.
    pub(crate) fn drag(&self, from: &str, to: &str) {
        let middle = "const box = document.querySelector(arguments[0]).getBoundingClientRect();
            return [box.left + box.width / 2, box.top + box.height / 2].map(Math.round);";
        let moves = |css: &str| {
            let at = self.eval(middle, json!([css]));
            json!({ "type": "pointerMove", "x": at[0], "y": at[1], "duration": 50 })
        };
        let [down, up] = ["pointerDown", "pointerUp"].map(|kind| json!({ "type": kind, "button": 0 }));
        let (start, end) = (moves(from), moves(to));
        let actions = json!([start, down, end, end, up]);
        self.browser().actions(json!([{ "type": "pointer", "id": "mouse", "actions": actions }]));
    }

    /// All buttons of this name that can be seen, as assistive technology names them.
    fn buttons(&self, name: &str) -> Value {
        let named = "return [...document.querySelectorAll('button, summary')].filter((it) =>
            it.checkVisibility() && (it.ariaLabel ?? it.innerText.trim()) === arguments[0]);";
        self.eval(named, json!([name]))
    }

    pub(crate) fn has_button(&self, name: &str) -> bool {
        self.buttons(name).as_array().is_some_and(|found| !found.is_empty())
    }

    /// Presses the last button of this name.
    pub(crate) fn press(&self, name: &str) {
        self.browser().click(&self.button(name, "-1"));
    }

    /// Presses the first button of this name.
    pub(crate) fn press_first(&self, name: &str) {
        self.browser().click(&self.button(name, "0"));
    }

    fn button(&self, name: &str, at: &str) -> Element {
        let found = self.buttons(name);
        assert!(found.as_array().is_some_and(|all| !all.is_empty()), "there is no button {name:?}");
        self.browser().found(&format!("return arguments[0].at({at});"), json!([found]))
    }

    /// Fails if the console tells of an error, or anybody but the server was asked for anything.
    pub(crate) fn check_quiet(&self) {
        let errors: Vec<Value> =
            self.browser().log("browser").into_iter().filter(|entry| entry["level"] == "SEVERE").collect();
        assert!(errors.is_empty(), "the console tells of errors: {errors:?}");
        let elsewhere: Vec<String> = self.asked().into_iter().filter(|url| !self.is_own(url)).collect();
        assert!(elsewhere.is_empty(), "others were asked: {elsewhere:?}");
    }

    fn is_own(&self, url: &str) -> bool {
        url.strip_prefix(&self.server.origin).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The addresses that were asked for since the last look.
    pub(crate) fn asked(&self) -> Vec<String> {
        let url = |entry: &Value| -> Option<String> {
            let told: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let is_request = told["message"]["method"] == "Network.requestWillBeSent";
            let url = told["message"]["params"]["request"]["url"].as_str()?;
            is_request.then(|| url.to_owned())
        };
        self.browser().log("performance").iter().filter_map(url).collect()
    }

    /// Everything that was received since the last look: heads and bodies.
    pub(crate) fn received(&self) -> Vec<String> {
        let text = |entry: &Value| -> Option<String> {
            let told: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            if told["message"]["method"] != "Network.responseReceived" {
                return None;
            }
            let of = &told["message"]["params"];
            let body = self.browser().cdp("Network.getResponseBody", json!({ "requestId": of["requestId"] }));
            Some(format!(
                "{}\n{}\n{}",
                of["response"]["url"],
                of["response"]["headers"],
                body["body"].as_str()?
            ))
        };
        self.browser().log("performance").iter().filter_map(text).collect()
    }

    /// Fails if something is wider than the window.
    pub(crate) fn check_fits(&self) {
        let wide = self.eval("return document.documentElement.scrollWidth;", json!([]));
        assert!(wide.as_u64() <= Some(self.view.width.into()), "{wide} pixels are wide in {:?}", self.view);
    }

    /// Fails if axe-core, whose source is given, finds something serious.
    pub(crate) fn check_axe(&self, axe: &str) {
        let run = format!("{axe}; return axe.run().then((result) => result.violations);");
        let violations = self.eval(&run, json!([]));
        let grave = |it: &&Value| it["impact"] == "serious" || it["impact"] == "critical";
        let told = |it: &Value| format!("{}: {}", it["id"], it["nodes"][0]["html"]);
        let found: Vec<String> =
            violations.as_array().expect("a list").iter().filter(grave).map(told).collect();
        assert!(found.is_empty(), "in {:?}: {found:#?}", self.view);
    }

    /// Writes a picture, where the environment names a folder for it.
    pub(crate) fn picture(&self, name: &str) {
        let Some(dir) = std::env::var_os(PICTURES) else { return };
        let View { width, scheme, language } = self.view;
        fs::create_dir_all(&dir).expect("a folder for pictures");
        let file = PathBuf::from(dir).join(format!("{name}-{width}-{scheme}-{language}.png"));
        fs::write(file, self.browser().picture()).expect("a picture");
    }
}

/// The source of axe-core.
///
/// # Errors
/// It is not at hand: where it would be.
pub(crate) fn axe() -> Result<&'static str, String> {
    static AXE_CORE: OnceLock<Result<String, String>> = OnceLock::new();
    let read = || {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        let usual = || cache.unwrap_or_default().join(AXE_USUALLY);
        let file = std::env::var_os(AXE).map_or_else(usual, PathBuf::from);
        fs::read_to_string(&file).map_err(|_| format!("there is no {}: tools/browser.sh", file.display()))
    };
    AXE_CORE.get_or_init(read).as_deref().map_err(Clone::clone)
}
