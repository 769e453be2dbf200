"""Pictures of pages as a browser shows them, and what axe-core says of them.

    tools/pages.py look OUT PAGE...     every page at 1280 and 390 pixels, light and dark, in both languages
    tools/pages.py axe AXE PAGE...      serious and critical violations, likewise; AXE is axe.min.js
    tools/pages.py readme ROAD          the READMEs' pictures, from the directory of a finished road

Needs `pip install playwright` and a Chromium, such as Debian's package, at --chromium. Prints the versions.
"""

import argparse
import itertools
import json
import pathlib
import sys

from playwright.sync_api import sync_playwright

IMAGES = pathlib.Path(__file__).resolve().parent.parent / "docs" / "images"
# Of the pictures: the top of a page.
HEIGHT = 1350
WIDTHS = [1280, 390]
SCHEMES = ["light", "dark"]
LANGUAGES = ["en", "zh-CN"]
VIEWS = list(itertools.product(WIDTHS, SCHEMES, LANGUAGES))


def opened(browser, page_file, width, scheme, language):
    """The page as somebody sees it whose browser is of this language."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, locale=language
    )
    page = context.new_page()
    faults = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(pathlib.Path(page_file).resolve().as_uri())
    assert page.evaluate("document.documentElement.lang") == language, "the browser's language is not taken"
    wide = page.evaluate("document.documentElement.scrollWidth")
    if wide > width:
        faults.append(f"{wide} pixels wide")
    return context, page, faults


def check_switch(browser, page_file):
    """The choice of a language is remembered, and goes before the browser's."""
    context, page, _ = opened(browser, page_file, 1280, "light", "en")
    page.get_by_role("button", name="中文").click()
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    page.reload()
    assert page.evaluate("document.documentElement.lang") == "zh-CN", "it is forgotten"
    context.close()
    context = browser.new_context(java_script_enabled=False, locale="zh-CN")
    page = context.new_page()
    page.goto(pathlib.Path(page_file).resolve().as_uri())
    assert page.locator("h2").first.inner_text().isascii(), "without scripts a page is in English"
    assert not page.get_by_role("button", name="中文").is_visible()
    context.close()


def look(browser, out, pages):
    out.mkdir(parents=True, exist_ok=True)
    for page_file, (width, scheme, language) in itertools.product(pages, VIEWS):
        context, page, faults = opened(browser, page_file, width, scheme, language)
        path = pathlib.Path(page_file)
        name = f"{path.parent.name}-{path.stem}-{width}-{scheme}-{language}.png"
        page.screenshot(path=out / name, full_page=True)
        print(name, *faults, sep="  ")
        context.close()


def axe(browser, script, pages):
    """Violations of each page in every view, folded parts opened; whether there was a grave one."""
    grave = 0
    for page_file in pages:
        check_switch(browser, page_file)
        found = {}
        for width, scheme, language in VIEWS:
            context, page, faults = opened(browser, page_file, width, scheme, language)
            assert not faults, faults
            page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
            # The page runs no script but its own, which is what the policy is for; the examiner stands outside.
            page.evaluate(pathlib.Path(script).read_text())
            result = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
            for violation in result["violations"]:
                key = (violation["impact"], violation["id"])
                found.setdefault(key, [0, violation["nodes"][0]["html"][:160]])[0] += len(violation["nodes"])
            context.close()
        version = result["testEngine"]["version"]
        grave += sum(impact in ("serious", "critical") for impact, _ in found)
        print(f"{page_file}: axe-core {version}, {len(VIEWS)} views, {len(result['passes'])} rules passed, {len(found)} violated")
        for (impact, rule), (count, example) in sorted(found.items()):
            print(f"  {impact} {rule}, {count} nodes, such as {json.dumps(example, ensure_ascii=False)}")
    return grave > 0


def readme(browser, road):
    """The top of the road's page and of PPO's, in the language of each README."""
    for name, page_file in [("road", road / "report.html"), ("ppo", road / "ppo" / "report.html")]:
        for language, suffix in [("en", ""), ("zh-CN", ".zh-CN")]:
            context, page, faults = opened(browser, page_file, 1080, "light", language)
            assert not faults, faults
            page.screenshot(full_page=True, path=IMAGES / f"{name}{suffix}.png", clip={"x": 0, "y": 0, "width": 1080, "height": HEIGHT})
            context.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("look")
    verb.add_argument("out", type=pathlib.Path)
    verb.add_argument("pages", nargs="+")
    verb = verbs.add_parser("axe")
    verb.add_argument("script")
    verb.add_argument("pages", nargs="+")
    verb = verbs.add_parser("readme")
    verb.add_argument("road", type=pathlib.Path)
    args = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])
        print(f"Chromium {browser.version}")
        if args.verb == "look":
            look(browser, args.out, args.pages)
        elif args.verb == "axe":
            sys.exit(axe(browser, args.script, args.pages))
        else:
            readme(browser, args.road)


if __name__ == "__main__":
    main()
