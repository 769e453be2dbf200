"""The server's chat page in a browser: what a person does there, and what hostile text does.

    tools/chat_page.py URL --axe axe.min.js [--model NAME] [--pictures DIR]

Needs a running `mynah serve` at URL with a chat model, `pip install playwright`, and a Chromium such as Debian's package, at
--chromium. Prints a line a check, and exits 1 if one fails.
"""

import argparse
import itertools
import json
import pathlib
import sys
import time

from playwright.sync_api import sync_playwright

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("url")
parser.add_argument("--axe", type=pathlib.Path)
parser.add_argument("--model")
parser.add_argument("--pictures", type=pathlib.Path)
parser.add_argument("--chromium", default="/usr/bin/chromium")
options = parser.parse_args()

SECONDS = 20_000
failed = []


def check(name, holds, shown=""):
    print("ok  " if holds else "FAIL", name, "" if holds else shown)
    if not holds:
        failed.append(name)


class Page:
    def __init__(self, browser, width=1280, scheme="light", language="en"):
        self.context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, locale=language)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page = self.context.new_page()
        self.page.set_default_timeout(SECONDS)
        self.faults, self.asked = [], []
        self.page.on("console", lambda message: self.faults.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.open()

    def open(self):
        self.page.goto(options.url)
        self.page.wait_for_selector("#model option", state="attached")
        if options.model:
            self.page.select_option("#model", options.model)

    def set(self, **fields):
        self.page.evaluate("document.getElementById('settings').open = true")
        for name, value in fields.items():
            if isinstance(value, bool):
                self.page.set_checked(f"#{name}", value)
            else:
                self.page.fill(f"#{name}", str(value))
                self.page.press(f"#{name}", "Tab")
        self.page.evaluate("document.getElementById('settings').open = false")

    def say(self, text):
        self.page.fill("#input", text)
        self.page.press("#input", "Enter")
        self.rest()

    def rest(self):
        """Waits until nothing is being answered."""
        self.page.wait_for_timeout(100)
        self.page.wait_for_selector("#stop", state="hidden")

    def texts(self, who="assistant"):
        return [it.inner_text() for it in self.page.locator(f".message.{who} .body").all()]

    def press(self, name):
        self.page.get_by_role("button", name=name, exact=True).last.click()
        self.rest()


def conversation(browser):
    it = Page(browser)
    it.set(max_tokens=24, seed=1, temperature=1)
    it.say("What is 2 + 3?")
    first = it.texts()
    check("a question gets an answer", len(first) == 1 and first[0].strip() != "", first)
    it.say("And you?")
    check("a conversation goes on", len(it.texts()) == 2, it.texts())
    it.set(seed=2)
    it.press("Another answer")
    check("another answer is a branch", "2/2" in it.page.locator("#talk").inner_text())
    second = it.texts()[-1]
    it.press("The version before")
    check("the branch before is there", it.texts()[-1] != second or "1/2" in it.page.locator("#talk").inner_text())
    it.page.get_by_role("button", name="Edit", exact=True).first.click()
    it.page.locator(".message.user textarea").fill("Who are you?")
    it.page.get_by_role("button", name="Save and send").click()
    it.rest()
    check("an edited question begins a branch", it.texts("user") == ["Who are you?"], it.texts("user"))
    it.press("Copy")
    check("copied", it.page.evaluate("navigator.clipboard.readText()").strip() != "")
    it.press("Same again (curl)")
    command = it.page.evaluate("navigator.clipboard.readText()")
    check("same again is a command", command.startswith("# fp_") and "curl http" in command and '"seed"' in command, command)
    before = it.texts("user") + it.texts()
    it.open()
    check("a reload loses nothing", it.texts("user") + it.texts() == before, [before, it.texts()])
    it.page.locator("#new").click()
    check("a new conversation is empty", it.texts("user") == [])
    it.say("x")
    check("conversations are listed", it.page.locator("#talks li").count() == 2)
    it.page.get_by_role("button", name="中文").click()
    check("the other language", it.page.get_by_role("button", name="发送").is_visible())
    it.open()
    check("the language is remembered", it.page.get_by_role("button", name="发送").is_visible())
    check("no error in the console", not it.faults, it.faults)
    check("nothing is asked elsewhere", all(url.startswith(options.url.rstrip("/")) for url in it.asked), it.asked)
    it.context.close()


def words(browser):
    it = Page(browser)
    it.set(max_tokens=12, seed=3, temperature=1, why=True)
    it.say("What is 4 + 4?")
    tokens = it.page.locator(".token")
    check("each token is shown", tokens.count() > 1)
    tokens.nth(1).focus()
    it.page.keyboard.press("Enter")
    choices = it.page.locator("#choices button")
    check("a key shows what else it might have said", choices.count() == 20)
    begun = tokens.nth(0).inner_text() + choices.nth(1).locator("code").inner_text()
    it.page.keyboard.press("Tab")
    it.page.keyboard.press("Enter")
    it.rest()
    check("another word is gone on from", it.texts()[-1].replace("\n", "").startswith(begun.strip()), [it.texts(), begun])
    check("no error in the console", not it.faults, it.faults)
    it.context.close()


def stopping(browser):
    it = Page(browser)
    it.set(temperature=1.9)
    it.page.fill("#input", "Tell me everything.")
    it.page.press("#input", "Enter")
    it.page.keyboard.press("Escape")
    it.rest()
    check("escape stops", it.page.locator("#send").is_visible())
    it.set(temperature=1, max_tokens=4)
    it.say("x")
    check("and the next is answered", len(it.texts("user")) == 2)
    it.context.close()


HOSTILE = [
    "<img src=x onerror=alert(1)>", "<script>alert(1)</script>", "[x](javascript:alert(1))", "![x](http://bait.invalid/x.png)",
    "<svg onload=alert(1)>", "[x](data:text/html,<script>alert(1)</script>)", "`<b>`", "\u202eevil", "<a href=http://bait.invalid>x</a>",
    "**" * 12_000, "`" * 20_000, "[" * 20_000, "> " * 20_000, "_a_" * 8_000, "| a " * 8_000, "http://" * 5_000, "* " * 9_000,
    "```\n" * 5_000, "# " * 10_000, "(" * 20_000, "[a](" * 5_000, "***a" * 5_000,
]


def hostile(browser):
    it = Page(browser)
    it.page.on("dialog", lambda dialog: failed.append("a dialog"))
    slowest = 0
    for text in HOSTILE:
        began = time.perf_counter()
        shown = it.page.evaluate(
            """async (text) => {
                const { markdown } = await import("/page/markdown.js");
                const place = document.createElement("div");
                place.append(markdown(text));
                document.body.append(place);
                const bad = place.querySelectorAll("img, script, svg, iframe, object, form, style, [onerror], [onload]").length;
                const links = [...place.querySelectorAll("a")].filter((a) => !/^(https?|mailto):/.test(a.href)).length;
                place.remove();
                return [bad, links];
            }""",
            text,
        )
        slowest = max(slowest, time.perf_counter() - began)
        check(f"text stays text: {text[:24]!r}", shown == [0, 0], shown)
    check("hostile text takes no time", slowest < 1, f"{slowest:.2f} s")
    check("nothing is asked elsewhere", not any("bait" in url for url in it.asked), it.asked)
    thrown = it.page.evaluate("try { document.body.innerHTML = '<b>x</b>'; 'set' } catch (error) { error.name }")
    check("the policy refuses text as HTML", thrown == "TypeError", thrown)
    it.context.close()


def views(browser):
    found = {}
    for width, scheme, language in itertools.product([1280, 390], ["light", "dark"], ["en", "zh-CN"]):
        it = Page(browser, width, scheme, language)
        it.set(max_tokens=12, why=True)
        it.say("**a** `b`\n\n- What is 1 + 1?")
        wide = it.page.evaluate("document.documentElement.scrollWidth")
        check(f"{width} {scheme} {language} fits", wide <= width, wide)
        if options.pictures:
            options.pictures.mkdir(parents=True, exist_ok=True)
            it.page.screenshot(path=options.pictures / f"chat-{width}-{scheme}-{language}.png")
        if options.axe:
            it.page.evaluate("document.getElementById('settings').open = true")
            it.page.evaluate(options.axe.read_text())
            for violation in it.page.evaluate("axe.run().then((result) => result.violations)"):
                found[violation["impact"], violation["id"]] = violation["nodes"][0]["html"][:160]
        it.context.close()
    grave = {key: html for key, html in found.items() if key[0] in ("serious", "critical")}
    check("axe-core finds nothing serious", not grave, json.dumps([[*key, html] for key, html in grave.items()], ensure_ascii=False))
    for (impact, rule), html in found.items():
        print("    ", impact, rule, html)


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
    print(f"Chromium {browser.version}")
    for part in (conversation, words, stopping, hostile, views):
        part(browser)
print(f"{len(failed)} failed")
sys.exit(bool(failed))
