//! A whole page around its contents: head, language switch, landmarks.
//!
//! The script knows one thing, the language. Without it a page is in English and misses nothing.

use super::html::{CHINESE, ENGLISH, Element};
use super::text::{Text, both};

const SCRIPT: &str = include_str!("page.js");
/// The only script that the browser runs here, by its SHA-256 in base64. Should text ever slip through
/// unescaped, nothing that it holds is run or loaded.
const SCRIPT_HASH: &str = "vhponn3AHaH9ceHYs0kT2Qo+hQSh0BoL1nWSuykoOXw=";

/// A page: its title, what stands above everything else, and its sections.
pub(super) fn document(title: Text, header: Element, sections: impl IntoIterator<Item = Element>) -> String {
    let meta = |name: &str, content: &str| Element::new("meta").attr("name", name).attr("content", content);
    let policy = format!("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{SCRIPT_HASH}'");
    let policy = Element::new("meta").attr("http-equiv", "Content-Security-Policy").attr("content", policy);
    let titled = Element::new("title").attr("data-en", &title.en).attr("data-zh-cn", &title.zh);
    let head = Element::new("head")
        .child(Element::new("meta").attr("charset", "utf-8"))
        .child(policy)
        .child(meta("viewport", "width=device-width, initial-scale=1"))
        .child(meta("color-scheme", "light dark"))
        .child(titled.data(&title.en))
        .child(Element::verbatim("style", include_str!("style.css")))
        .child(Element::verbatim("script", SCRIPT));
    let body = Element::new("body")
        .child(top())
        .child(Element::new("main").child(header).children(sections))
        .child(foot());
    let html = Element::new("html").attr("lang", ENGLISH).child(head).child(body);
    format!("<!doctype html>\n{html}\n")
}

/// The program's name, and the choice of a language for whoever can choose.
fn top() -> Element {
    let language = |lang: &str, name: &str, pressed: bool| {
        Element::new("button")
            .attr("type", "button")
            .attr("lang", lang)
            .attr("aria-pressed", pressed)
            .data(name)
    };
    let languages = Element::of("div", "languages")
        .attr("role", "group")
        .attr("aria-label", "Language · 语言")
        .attr("hidden", "hidden")
        .child(language(ENGLISH, "English", true))
        .child(language(CHINESE, "中文", false));
    Element::of("header", "top").child(Element::of("span", "brand").data("mynah")).child(languages)
}

fn foot() -> Element {
    Element::of("footer", "foot").say(both(
        "Written by mynah from the files beside this page. It needs no network, and everything on it can be read in them as well.",
        "本页由 mynah 根据同一目录里的文件写成。它不需要网络，页面上的一切也都能在那些文件里读到。",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let group = |group: &[u8]| {
            let bits =
                group.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
            let digit = move |i: usize| char::from(DIGITS[(bits >> (18 - 6 * i) & 63) as usize]);
            let of = group.len();
            (0..4).map(move |i| if i <= of { digit(i) } else { '=' })
        };
        bytes.chunks(3).flat_map(group).collect()
    }

    /// Without this the browser would run no script, and nobody could choose a language.
    #[test]
    fn the_browser_is_told_the_scripts_digest() {
        assert_eq!(base64(b"mynah"), "bXluYWg=");
        assert_eq!(SCRIPT_HASH, base64(&Sha256::digest(SCRIPT.as_bytes())));
    }
}
