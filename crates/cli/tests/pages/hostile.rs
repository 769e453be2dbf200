//! What a model writes stays text, whatever it writes: nothing of it runs, nothing is asked of anybody, no
//! element comes of it that the page's own Markdown does not make.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::Tests;
use super::chat::{Chat, conversation};
use super::fixture::{QUICK, World};
use super::page::{Page, View};

pub(crate) const TESTS: Tests = tests![
    a_hundred_hostile_texts_stay_text,
    hostile_text_takes_no_longer_than_other_text,
    hostile_text_stays_text_while_it_streams,
    the_policy_holds_without_the_page,
];

/// `CODE` is what must not run, `BAIT` an address that must not be asked.
const TEXTS: [&str; 85] = [
    // HTML that runs code.
    "<script>CODE</script>",
    "<SCRIPT SRC=BAIT></SCRIPT>",
    "<scr<script>ipt>CODE</scr</script>ipt>",
    "<script type=module>CODE</script>",
    "<img src=x onerror=CODE>",
    "<img/src=x/onerror=CODE>",
    "<svg onload=CODE>",
    "<svg><script>CODE</script></svg>",
    "<svg><animate onbegin=CODE attributeName=x dur=1s>",
    "<svg><a xlink:href=javascript:CODE><text y=9>x</text></a></svg>",
    "<math><mtext></form><form><mglyph><style></math><img src=x onerror=CODE>",
    "<iframe srcdoc='<script>parent.CODE</script>'></iframe>",
    "<iframe src=javascript:CODE></iframe>",
    "<object data='data:text/html,<script>CODE</script>'></object>",
    "<embed src=javascript:CODE>",
    "<body onload=CODE>",
    "<input autofocus onfocus=CODE>",
    "<details open ontoggle=CODE>x</details>",
    "<video><source onerror=CODE></video>",
    "<marquee onstart=CODE>x</marquee>",
    "<x contenteditable onfocus=CODE autofocus tabindex=1>x</x>",
    "<style>@keyframes x{}</style><p style='animation:x 1s' onanimationstart=CODE>x</p>",
    "<noscript><p title=\"</noscript><img src=x onerror=CODE>\">",
    "<template><script>CODE</script></template>",
    "<textarea></textarea><script>CODE</script>",
    "<!--><img src=x onerror=CODE>-->",
    "<![CDATA[<script>CODE</script>]]>",
    "</p></div></article></main><script>CODE</script>",
    "\"><script>CODE</script>",
    "'-CODE-'",
    "`${CODE}` {{CODE}} #{CODE}",
    "&lt;script&gt;CODE&lt;/script&gt; &#60;img src=x onerror=CODE&#62;",
    "\\u003cscript\\u003eCODE\\u003c/script\\u003e",
    "<p onclick=CODE>x</p>",
    "<button onclick=CODE popovertarget=key>x</button>",
    // HTML that asks for something, or takes the page away.
    "<img src=BAIT>",
    "<link rel=stylesheet href=BAIT>",
    "<link rel=prefetch href=BAIT>",
    "<style>@import 'BAIT';</style>",
    "<style>*{background:url(BAIT)}</style>",
    "<div style=\"background:url(BAIT)\">x</div>",
    "<table background=BAIT><td>x</td></table>",
    "<meta http-equiv=refresh content='0;url=BAIT'>",
    "<base href=BAIT>",
    "<iframe src=BAIT></iframe>",
    "<audio src=BAIT autoplay></audio>",
    "<video poster=BAIT></video>",
    "<form action=BAIT><button autofocus>x</button></form>",
    "<a href=x ping=BAIT>x</a>",
    "<?xml-stylesheet href='BAIT'?>",
    "<dialog open>x</dialog><h1 id=talk>x</h1>",
    // Markdown.
    "[x](javascript:CODE)",
    "[x](JaVaScRiPt:CODE)",
    "[x](\u{1}javascript:CODE)",
    "[x](java&Tab;script:CODE)",
    "[x](&#106;avascript:CODE)",
    "[x](%6aavascript:CODE)",
    "[x](vbscript:CODE)",
    "[x](data:text/html,<script>CODE</script>)",
    "[x](blob:BAIT)",
    "[x](file:///etc/passwd)",
    "[x](view-source:BAIT)",
    "[x](//127.0.0.1/x)",
    "[x](/v1/unload/ppo)",
    "[x](http://a\" onmouseover=\"CODE)",
    "[x](http://a'onclick='CODE')",
    "http://a\"onmouseover=\"CODE",
    "<javascript:CODE> <BAIT>",
    "[javascript:CODE](https://example.invalid/)",
    "[https://bank.example](https://example.invalid/)",
    "[x](mailto:a@b?body=<script>CODE</script>)",
    "[x](http://[::1)",
    "![x](BAIT)",
    "[![x](BAIT)](https://example.invalid/)",
    "![x][y]\n\n[y]: BAIT",
    "# <img src=BAIT onerror=CODE>\n## ![x](BAIT)",
    "- <script>CODE</script>\n- ![x](BAIT)\n* [x](javascript:CODE)",
    "> <iframe src=BAIT></iframe>\n> ![x](BAIT)",
    "| <img src=BAIT> | ![x](BAIT) |\n| --- | --- |\n| <script>CODE</script> | [x](javascript:CODE) |",
    "```html\n<script>CODE</script>\n<img src=BAIT>\n```",
    "~~~\n<script>CODE</script>",
    "`<img src=x onerror=CODE>` **<script>CODE</script>** _<img src=BAIT>_",
    // What is not what it seems.
    "\u{202e}evil\u{2066}x\u{2069}\u{200f}\u{61c}",
    "\u{0}<\u{0}script>\u{feff}CODE\u{2028}</script>\r\n\u{fffd}",
    "__proto__ constructor toString **__proto__** [__proto__](https://example.invalid/__proto__)",
];

/// Texts that cost somebody dearly who reads them twice.
const LONG: [(&str, usize); 15] = [
    ("**", 12_000),
    ("`", 20_000),
    ("[", 20_000),
    ("> ", 20_000),
    ("_a_", 8_000),
    ("| a ", 8_000),
    ("http://", 5_000),
    ("* ", 9_000),
    ("```\n", 5_000),
    ("# ", 10_000),
    ("(", 20_000),
    ("[a](", 5_000),
    ("***a", 5_000),
    ("![", 10_000),
    ("`*[", 7_000),
];

/// Somebody who should never be asked for anything.
pub(crate) struct Bait {
    pub(crate) url: String,
    asked: Arc<AtomicUsize>,
}

impl Bait {
    pub(crate) fn lay() -> Bait {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/bait", listener.local_addr().expect("an address"));
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for _ in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Bait { url, asked }
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// All hundred, with this address as bait.
pub(crate) fn texts(bait: &Bait) -> Vec<String> {
    let short = TEXTS.iter().map(|text| text.replace("CODE", "window.ran=1").replace("BAIT", &bait.url));
    let texts: Vec<String> = short.chain(LONG.iter().map(|(text, times)| text.repeat(*times))).collect();
    assert_eq!(texts.len(), 100);
    texts
}

/// What in a part of a page should not be there: elements, attributes and links that no Markdown of ours
/// makes, and code that ran.
const FOREIGN: &str = "
    const known = new Set(['P', 'BR', 'STRONG', 'EM', 'CODE', 'PRE', 'UL', 'OL', 'LI', 'BLOCKQUOTE', 'TABLE', 'TR', 'TH', 'TD',
        'H3', 'H4', 'H5', 'H6', 'A', 'SPAN']);
    const attributes = { A: ['href', 'rel', 'target'], SPAN: ['class'], OL: ['start'], PRE: ['tabindex'] };
    const found = window.ran ? ['code ran'] : [];
    for (const it of document.querySelectorAll(arguments[0])) {
        if (!known.has(it.tagName)) found.push(it.outerHTML.slice(0, 100));
        for (const { name } of it.attributes) if (!attributes[it.tagName]?.includes(name)) found.push(`${it.tagName} ${name}`);
        if (it.tagName !== 'A') continue;
        if (!/^(https?|mailto):/.test(it.href) || it.rel !== 'noopener noreferrer') found.push(it.outerHTML);
        const shown = /\\(([^()\\s]*)\\)$/.exec(it.innerText)?.[1] ?? it.innerText;
        if (new URL(shown).href !== it.href) found.push(`hides where it leads: ${it.outerHTML}`);
    }
    return found;";

/// The same of the whole page: elements that no page of ours has, whatever part of it made them.
const FOREIGN_ANYWHERE: &str = "
    const found = window.ran ? ['code ran'] : [];
    for (const it of document.querySelectorAll('img, svg, math, iframe, object, embed, style, base, audio, video, meta[http-equiv]'))
        found.push(it.outerHTML.slice(0, 100));
    for (const it of document.querySelectorAll('*'))
        for (const { name } of it.attributes) if (name.startsWith('on') || name === 'style') found.push(`${it.tagName} ${name}`);
    const scripts = [...document.scripts].map((it) => it.getAttribute('src'));
    if (scripts.join() !== arguments[0]) found.push(`scripts: ${scripts}`);
    return found;";

/// Fails if what fits `within` is more than text.
pub(crate) fn check_text(it: &Page<'_>, within: &str) {
    assert_eq!(it.eval(FOREIGN, json!([within])), json!([]));
}

/// Fails if the page, whose script is given, has something that no page of ours has.
pub(crate) fn check_anywhere(it: &Page<'_>, script: &str) {
    assert_eq!(it.eval(FOREIGN_ANYWHERE, json!([script])), json!([]));
}

fn a_hundred_hostile_texts_stay_text(world: &World) {
    let bait = Bait::lay();
    let it = Chat::open(world, View::USUAL, QUICK);
    let texts = texts(&bait);
    // Long ones are cut, so that the browser keeps them all.
    let texts: Vec<String> = texts.into_iter().map(|text| text.chars().take(2_000).collect()).collect();
    it.remember("mynah.conversations", &conversation(&texts));
    assert_eq!(it.count(".message"), 200);
    check_text(&it, ".body *");
    check_anywhere(&it, "/page/chat.js");
    assert_eq!(it.said("user")[0], texts[0], "it is all to be read");
    // As words, with what else it might have said: the model wrote those as well.
    it.show_why();
    assert_eq!(it.texts(".token")[0], texts[0]);
    assert_eq!(it.count(".token"), 100);
    check_anywhere(&it, "/page/chat.js");
    it.eval(
        "const tokens = arguments[0].map((token, id) => ({ id, token, bytes: [], logprob: -5, ends: false }));
        const told = { tokens, rest: [], temperature: 1, top_k: 0, top_p: 1 };
        window.fetch = async () => new Response(JSON.stringify(told));
        document.querySelector('.token').click();",
        json!([texts]),
    );
    it.wait("document.getElementById('choices').matches(':popover-open')");
    assert_eq!(it.count("#options button"), 100);
    check_anywhere(&it, "/page/chat.js");
    it.check_quiet();
    assert_eq!(bait.asked(), 0);
}

fn hostile_text_takes_no_longer_than_other_text(world: &World) {
    let it = Chat::open(world, View::USUAL, QUICK);
    let measure = "const { markdown } = await import(new URL('/page/markdown.js', location).href);
        const since = performance.now();
        document.createElement('div').append(markdown(arguments[0]));
        return performance.now() - since;";
    let measure = format!("return (async (...arguments) => {{ {measure} }})(...arguments);");
    for (text, times) in LONG {
        let millis = it.eval(&measure, json!([text.repeat(times)])).as_f64().expect("a time");
        assert!(millis < 1000.0, "{text:?} takes {millis} ms");
    }
}

/// An answer is drawn anew with each piece: what is half written is no less hostile.
fn hostile_text_stays_text_while_it_streams(world: &World) {
    let bait = Bait::lay();
    let it = Chat::open(world, View::USUAL, QUICK);
    let texts: Vec<String> = texts(&bait).into_iter().take(TEXTS.len()).collect();
    // In place of the server: it writes the texts in pieces of seven characters.
    it.eval(
        "const [text] = arguments;
        const frame = (delta) => `data: ${JSON.stringify({ id: 'x', choices: [{ index: 0, delta, logprobs: null }] })}\\n\\n`;
        const pieces = text.match(/[^]{1,7}/g).map((content) => frame({ content }));
        window.fetch = async () => new Response(new ReadableStream({
            async pull(stream) {
                if (!pieces.length) { stream.enqueue('data: [DONE]\\n\\n'); stream.close(); return; }
                await new Promise((done) => setTimeout(done));
                stream.enqueue(pieces.splice(0, 8).join(''));
            },
        }).pipeThrough(new TextEncoderStream()));",
        json!([texts.join("\n\n")]),
    );
    it.send("x");
    let mut looks = 0;
    while it.sees("#stop") {
        check_text(&it, ".body *");
        looks += 1;
    }
    assert!(looks > 2, "it is over before it is seen");
    check_text(&it, ".body *");
    check_anywhere(&it, "/page/chat.js");
    assert!(it.length() > 2_000);
    it.check_quiet();
    assert_eq!(bait.asked(), 0);
}

/// Were the page to fail, the browser would still refuse; and the bait is one.
fn the_policy_holds_without_the_page(world: &World) {
    let bait = Bait::lay();
    let it = Chat::open(world, View::USUAL, QUICK);
    let set =
        "try { document.body.innerHTML = '<b>x</b>'; return 'set'; } catch (error) { return error.name; }";
    assert_eq!(it.eval(set, json!([])), "TypeError");
    let add = "const made = document.createElement('img');
        made.src = arguments[0];
        document.body.append(made);
        return new Promise((done) => { made.onload = made.onerror = () => done('over'); });";
    assert_eq!(it.eval(add, json!([bait.url])), "over");
    assert_eq!(bait.asked(), 0, "an image of elsewhere is not asked for");
    it.browser().go("about:blank");
    it.eval(
        "const made = new Image(); made.src = arguments[0]; document.body.append(made);",
        json!([bait.url]),
    );
    let since = std::time::Instant::now();
    while bait.asked() == 0 {
        assert!(since.elapsed().as_secs() < 20, "without the policy it would be");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
