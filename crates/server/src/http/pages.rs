//! The pages: plain HTML, CSS and JavaScript, as they stand in `page/`.

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderValue, StatusCode};
use axum::response::IntoResponse;
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

const FILES: [File; 8] = [
    File { path: "/", kind: HTML, text: include_str!("../../page/index.html") },
    File { path: "/page/icon.svg", kind: "image/svg+xml", text: include_str!("../../page/icon.svg") },
    File { path: "/page/style.css", kind: CSS, text: include_str!("../../page/style.css") },
    File { path: "/page/chat.js", kind: SCRIPT, text: include_str!("../../page/chat.js") },
    File { path: "/page/api.js", kind: SCRIPT, text: include_str!("../../page/api.js") },
    File { path: "/page/markdown.js", kind: SCRIPT, text: include_str!("../../page/markdown.js") },
    File { path: "/page/store.js", kind: SCRIPT, text: include_str!("../../page/store.js") },
    File { path: "/page/words.js", kind: SCRIPT, text: include_str!("../../page/words.js") },
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
    get(async |_: State<Arc<App>>, request: Request| {
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
        for file in &FILES {
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
        let words = FILES.iter().find(|file| file.path == "/page/words.js").unwrap().text;
        let (english, chinese) = words.split_once("\n  zh: {").unwrap();
        let names = |text: &str| -> Vec<String> {
            let words = text.split([',', '{', '\n']).filter_map(|part| part.trim().split_once(": "));
            let names = words.map(|(name, _)| name.to_owned());
            names.filter(|name| name.chars().all(char::is_alphanumeric)).collect()
        };
        let (english, chinese) =
            (names(english.split_once("\n  en: {").unwrap().1), names(chinese.split_once("\n};").unwrap().0));
        assert!(english.len() > 40, "{english:?}");
        assert_eq!(english, chinese);
        let page = FILES[0].text;
        let asked = page.split("data-").skip(1).filter_map(|part| part.split('"').nth(1));
        for name in asked {
            assert!(english.iter().any(|word| word == name), "{name} is no word");
        }
    }
}
