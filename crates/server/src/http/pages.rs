//! The pages: plain HTML, CSS and JavaScript, as they stand in `page/`.

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect};
use axum::routing::{MethodRouter, get};
use std::sync::Arc;

use super::routes::Route;
use crate::app::App;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file of the pages.
struct File {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

const FILES: &[File] = &[
    File { path: "/", kind: HTML, text: include_str!("../../page/index.html") },
    File { path: "/page/icon.svg", kind: "image/svg+xml", text: include_str!("../../page/icon.svg") },
    File { path: "/page/style.css", kind: CSS, text: include_str!("../../page/style.css") },
    File { path: "/page/chat.js", kind: SCRIPT, text: include_str!("../../page/chat.js") },
    File { path: "/page/message.js", kind: SCRIPT, text: include_str!("../../page/message.js") },
    File { path: "/page/why.js", kind: SCRIPT, text: include_str!("../../page/why.js") },
    File { path: "/page/dice.js", kind: SCRIPT, text: include_str!("../../page/dice.js") },
    File { path: "/page/reward.js", kind: SCRIPT, text: include_str!("../../page/reward.js") },
    File { path: "/page/again.js", kind: SCRIPT, text: include_str!("../../page/again.js") },
    File { path: "/page/dom.js", kind: SCRIPT, text: include_str!("../../page/dom.js") },
    File { path: "/page/api.js", kind: SCRIPT, text: include_str!("../../page/api.js") },
    File { path: "/page/markdown.js", kind: SCRIPT, text: include_str!("../../page/markdown.js") },
    File { path: "/page/store.js", kind: SCRIPT, text: include_str!("../../page/store.js") },
    File { path: "/page/words.js", kind: SCRIPT, text: include_str!("../../page/words.js") },
    File { path: "/rank", kind: HTML, text: include_str!("../../page/rank.html") },
    File { path: "/page/rank.css", kind: CSS, text: include_str!("../../page/rank.css") },
    File { path: "/page/rank.js", kind: SCRIPT, text: include_str!("../../page/rank.js") },
    File { path: "/page/order.js", kind: SCRIPT, text: include_str!("../../page/order.js") },
    File { path: "/page/ranking.css", kind: CSS, text: include_str!("../../page/ranking.css") },
    File { path: "/page/ranking.js", kind: SCRIPT, text: include_str!("../../page/ranking.js") },
    File { path: "/page/feedback.js", kind: SCRIPT, text: include_str!("../../page/feedback.js") },
    File { path: "/runs", kind: HTML, text: include_str!("../../page/runs.html") },
    File { path: "/page/runs.css", kind: CSS, text: include_str!("../../page/runs.css") },
    File { path: "/page/runs.js", kind: SCRIPT, text: include_str!("../../page/runs.js") },
    File { path: "/page/curves.css", kind: CSS, text: include_str!("../../page/curves.css") },
    File { path: "/page/curves.js", kind: SCRIPT, text: include_str!("../../page/curves.js") },
    File { path: "/page/alarm.js", kind: SCRIPT, text: include_str!("../../page/alarm.js") },
    File { path: "/page/rollouts.css", kind: CSS, text: include_str!("../../page/rollouts.css") },
    File { path: "/page/rollouts.js", kind: SCRIPT, text: include_str!("../../page/rollouts.js") },
    File { path: "/page/run-words.js", kind: SCRIPT, text: include_str!("../../page/run-words.js") },
    File { path: "/learn", kind: HTML, text: include_str!("../../page/learn.html") },
    File { path: "/page/learn.css", kind: CSS, text: include_str!("../../page/learn.css") },
    File { path: "/page/learn.js", kind: SCRIPT, text: include_str!("../../page/learn.js") },
    File { path: "/page/doubts.js", kind: SCRIPT, text: include_str!("../../page/doubts.js") },
    File { path: "/page/learn-words.js", kind: SCRIPT, text: include_str!("../../page/learn-words.js") },
    File { path: "/page/owner.js", kind: SCRIPT, text: include_str!("../../page/owner.js") },
    File { path: "/page/rank-words.js", kind: SCRIPT, text: include_str!("../../page/rank-words.js") },
];

/// Whether a path is that of a page's file, which anybody may read.
pub(super) fn is_page(path: &str) -> bool {
    FILES.iter().any(|file| file.path == path)
}

/// Their places.
pub(super) fn routes() -> impl Iterator<Item = Route> {
    FILES.iter().map(|file| Route { path: file.path, handler: handler(file) })
}

fn handler(file: &'static File) -> MethodRouter<Arc<App>> {
    get(async |State(app): State<Arc<App>>, request: Request| {
        // There is nobody to talk to where nothing is served but answers to rank, or runs.
        if file.path == "/" && app.entries().is_empty() {
            return Redirect::to(if app.station.is_some() { "/rank" } else { "/runs" }).into_response();
        }
        let tag = format!("\"{}\"", &blake3::hash(file.text.as_bytes()).to_hex()[..32]);
        let is_known =
            request.headers().get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
        let mut response =
            if is_known { StatusCode::NOT_MODIFIED.into_response() } else { file.text.into_response() };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.kind));
        // Asked for each time, and sent only when it is another.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(ETAG, tag);
        }
        response
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_code() {
        for file in FILES {
            for sink in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "javascript:",
            ] {
                assert!(!file.text.contains(sink), "{}: {sink}", file.path);
            }
            // A policy that allows nothing inline.
            for inline in [" style=", "<style", " onclick", "<script>"] {
                assert!(!file.text.contains(inline), "{}: {inline}", file.path);
            }
        }
    }

    #[test]
    fn both_languages_have_every_word() {
        let mut known = Vec::new();
        for (path, least) in [
            ("/page/words.js", 40),
            ("/page/rank-words.js", 40),
            ("/page/run-words.js", 15),
            ("/page/learn-words.js", 15),
        ] {
            let words = FILES.iter().find(|file| file.path == path).unwrap().text;
            let (english, chinese) = words.split_once("\n  zh: {").unwrap();
            let names = |text: &str| -> Vec<String> {
                let words = text.split([',', '{', '\n']).filter_map(|part| part.trim().split_once(": "));
                let names = words.map(|(name, _)| name.to_owned());
                names.filter(|name| name.chars().all(char::is_alphanumeric)).collect()
            };
            let (english, chinese) = (
                names(english.split_once("\n  en: {").unwrap().1),
                names(chinese.split_once("\n};").unwrap().0),
            );
            assert!(english.len() > least, "{path}: {english:?}");
            assert_eq!(english, chinese);
            known.extend(english);
        }
        for page in FILES.iter().filter(|file| file.kind == HTML) {
            let asked = page.text.split("data-").skip(1).filter_map(|part| part.split('"').nth(1));
            for name in asked {
                assert!(known.iter().any(|word| word == name), "{}: {name} is no word", page.path);
            }
        }
    }
}
