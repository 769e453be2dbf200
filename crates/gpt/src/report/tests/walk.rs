//! Walks over pages: whether every text is there in both languages, and what whoever cannot see, or has no
//! pointer, needs.

use std::collections::BTreeMap;

use crate::report::html::{CHINESE, ENGLISH};
use crate::report::text::is_han;

/// An element that is open, with its attributes.
struct Open<'a> {
    name: &'a str,
    attributes: BTreeMap<&'a str, &'a str>,
}

/// What a walk meets, with the elements that are open around it.
enum Met<'a> {
    Begins,
    Ends,
    Text(&'a str),
}

/// Walks over a well-formed page.
fn walk<'a>(page: &'a str, mut meets: impl FnMut(&[Open<'a>], Met<'a>)) {
    let mut open: Vec<Open> = Vec::new();
    for part in page.trim_start_matches("<!doctype html>\n").split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap();
        if tag.starts_with('/') {
            meets(&open, Met::Ends);
            open.pop();
        } else {
            let (name, rest) =
                tag.trim_end_matches('/').split_once(' ').unwrap_or((tag.trim_end_matches('/'), ""));
            let pieces: Vec<&str> = rest.split('"').collect();
            let attributes =
                pieces.chunks_exact(2).map(|pair| (pair[0].trim().trim_end_matches('='), pair[1]));
            open.push(Open { name, attributes: attributes.collect() });
            meets(&open, Met::Begins);
            if tag.ends_with('/') {
                open.pop();
            }
        }
        if !text.trim().is_empty() && !matches!(open.last(), Some(Open { name: "style" | "script", .. })) {
            meets(&open, Met::Text(text));
        }
    }
}

/// Texts that are not there in both languages. One in English is followed at once by the same in Chinese;
/// everything else belongs to no language, and says so by `translate="no"`.
pub(super) fn untranslated(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    // The English half whose Chinese one is to come.
    let mut half: Option<&str> = None;
    walk(page, |open, met| {
        let last = open.last();
        let language = last.and_then(|element| element.attributes.get("lang").copied());
        let is_half = last.is_some_and(|element| matches!(element.name, "span" | "tspan"));
        match met {
            Met::Begins => {
                let follows = language == Some(CHINESE) && is_half;
                if let Some(text) = half.filter(|_| !follows) {
                    found.push(format!("no Chinese for `{text}`"));
                    half = None;
                }
                for (name, text) in last.iter().flat_map(|element| &element.attributes) {
                    let speaks = matches!(*name, "aria-label" | "alt" | "placeholder" | "aria-description");
                    if speaks && !(text.contains(is_han) && text.contains(|c: char| c.is_ascii_alphabetic()))
                    {
                        found.push(format!("{name}=`{text}` is in one language"));
                    }
                }
            }
            Met::Ends => {}
            Met::Text(text) => {
                let is_data = open.iter().any(|element| element.attributes.get("translate") == Some(&"no"));
                let is_choice = last.is_some_and(|element| element.name == "button");
                match language {
                    _ if is_data || is_choice => {}
                    Some(ENGLISH) if is_half => half = Some(text),
                    Some(CHINESE) if is_half => {
                        if half.take().is_none() {
                            found.push(format!("no English for `{text}`"));
                        }
                        if !text.contains(is_han) {
                            found.push(format!("`{text}` is not Chinese"));
                        }
                    }
                    _ => found.push(format!("`{text}` is neither data nor in two languages")),
                }
            }
        }
    });
    found
}

/// What a page lacks for whoever cannot see it or has no pointer.
pub(super) fn inaccessible(page: &str) -> Vec<String> {
    let (mut found, mut ids, mut named_by) = (Vec::new(), Vec::new(), Vec::new());
    let (mut headings, mut landmarks) = (Vec::new(), Vec::new());
    walk(page, |open, met| {
        let Met::Begins = met else { return };
        let Some(Open { name, attributes }) = open.last() else { return };
        let inside = |outer: &str| open[..open.len() - 1].iter().any(|element| element.name == outer);
        ids.extend(attributes.get("id").copied());
        named_by.extend(["aria-labelledby", "for"].iter().filter_map(|key| attributes.get(key).copied()));
        match *name {
            "h1" | "h2" | "h3" | "h4" => headings.push(name[1..].parse::<u8>().unwrap()),
            "main" | "footer" => landmarks.push(*name),
            "header" if open.len() == 3 => landmarks.push(*name),
            "svg"
                if attributes.get("role") != Some(&"img") || !attributes.contains_key("aria-labelledby") =>
            {
                found.push("an svg without a name".to_owned());
            }
            "th" if !attributes.contains_key("scope") => found.push("a th without a scope".to_owned()),
            "html" if !matches!(attributes.get("lang"), Some(&ENGLISH)) => {
                found.push("no language".to_owned())
            }
            "a" if attributes.get("href").is_none_or(|to| to.is_empty()) => {
                found.push("a link to nowhere".to_owned())
            }
            // A browser ends the paragraph there.
            "p" | "div" | "ul" | "table" if inside("p") => {
                found.push(format!("<{name}> inside <p>"));
            }
            _ => {}
        }
        if let Some(lang) = attributes.get("lang").filter(|lang| ![ENGLISH, CHINESE].contains(lang)) {
            found.push(format!("lang={lang}"));
        }
    });
    let tables = page.matches("<table").count();
    if tables != page.matches("<caption").count() {
        found.push("a table without a caption".to_owned());
    }
    found.extend(named_by.iter().filter(|id| !ids.contains(id)).map(|id| format!("nothing has the id {id}")));
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() != all {
        found.push("an id occurs twice".to_owned());
    }
    if headings.iter().filter(|level| **level == 1).count() != 1 || headings.first() != Some(&1) {
        found.push(format!("headings {headings:?}: one h1, and first"));
    }
    if headings.windows(2).any(|two| two[1] > two[0] + 1) {
        found.push(format!("headings {headings:?} leave a level out"));
    }
    if landmarks != ["header", "main", "footer"] {
        found.push(format!("landmarks {landmarks:?}"));
    }
    found
}

#[test]
fn the_walks_find_what_they_look_for() {
    let page = |body: &str| format!("<!doctype html>\n<html lang=\"en\"><body>{body}</body></html>\n");
    let pair = "<span lang=\"en\">two</span><span lang=\"zh-CN\">二</span>";
    for (bad, why) in [
        ("<p>alone</p>", "`alone` is neither"),
        ("<p><span lang=\"en\">alone</span></p><p translate=\"no\">1</p>", "no Chinese for `alone`"),
        ("<p><span lang=\"zh-CN\">一</span></p>", "no English for `一`"),
        ("<p><span lang=\"en\">two</span><span lang=\"zh-CN\">two</span></p>", "`two` is not Chinese"),
        ("<svg aria-label=\"loss\"></svg>", "aria-label=`loss`"),
    ] {
        let found = untranslated(&page(bad)).join("; ");
        assert!(found.contains(why), "{bad}: {found}");
    }
    let good = format!("<p>{pair}</p><p translate=\"no\">data</p>");
    assert_eq!(untranslated(&page(&good)), [""; 0]);

    let frame = |main: &str| page(&format!("<header></header><main><h1></h1>{main}</main><footer></footer>"));
    assert_eq!(
        inaccessible(&frame("<h2 id=\"a\"></h2><svg role=\"img\" aria-labelledby=\"a\"></svg>")),
        [""; 0]
    );
    for (bad, why) in [
        ("<svg></svg>", "svg without a name"),
        ("<svg role=\"img\" aria-labelledby=\"b\"></svg>", "nothing has the id b"),
        ("<i id=\"a\"></i><i id=\"a\"></i>", "twice"),
        ("<h1></h1>", "one h1"),
        ("<h3></h3>", "leave a level out"),
        ("<table></table>", "without a caption"),
        ("<th></th>", "without a scope"),
        ("<main></main>", "landmarks"),
        ("<p><div></div></p>", "inside <p>"),
    ] {
        let found = inaccessible(&frame(bad)).join("; ");
        assert!(found.contains(why), "{bad}: {found}");
    }
}
