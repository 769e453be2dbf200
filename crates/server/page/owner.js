// What the owner of a ranking page sees: what ratings say, and the links of raters.

import * as api from "./api.js";
import { $, element, percent } from "./dom.js";
import { word } from "./words.js";

const told = (agreement) => (agreement ? `${percent(agreement.value)} (${agreement.items})` : "–");
const line = (content) => element("p", content);
const rounded = (value) => (value === null || value === undefined ? "–" : value.toFixed(2));

function table(head, rows) {
  const made = element("table");
  const add = (cells, name) => made.insertRow().append(...cells.map((content) => element(name, String(content))));
  add(head.map((name) => word(name)), "th");
  for (const cells of rows) add(cells, "td");
  return made;
}

/** What blind votes say of two models. */
export function votes({ model, other, wins, ties, losses, value, low, high, missing }) {
  return word("votes", model, other, percent(value), percent(low), percent(high), wins + ties + losses, missing);
}

let report = null;
let raters = [];

function results() {
  const shown = [line(word("ratings", report.ratings, report.items, report.all_bad))];
  const { agreement } = report;
  if (agreement) {
    const [value, low, high] = [agreement.value, agreement.low, agreement.high].map(percent);
    shown.push(line(word("agree", value, low, high, agreement.items)), line(word("alpha", report.alpha?.toFixed(3) ?? "–")));
  } else shown.push(line(word("agreeLater", report.double_rated_missing)));
  shown.push(table(
    ["rater", "ranked", "skippedMany", "each", "withOthers", "withSelf"],
    report.raters.map((it) => [it.name, it.rated, it.skipped, it.seconds?.toFixed(0) ?? "–", told(it.with_others), told(it.with_self)]),
  ));
  if (report.no_strengths) shown.push(line(word("noStrengths")));
  if (report.models.length) {
    shown.push(table(
      ["modelName", "strength", "interval", "atEqualLength", "comparisons"],
      report.models.map((it) => [it.name, rounded(it.strength), it.interval?.map(rounded).join(" … ") ?? "–", rounded(it.length_controlled), it.comparisons]),
    ));
  }
  shown.push(...report.votes.map((it) => line(votes(it))));
  return shown;
}

function linkOf({ name, token }) {
  const link = element("a", undefined, { href: `/rank#${token}` });
  link.textContent = link.href;
  return element("li", [word("linkOf", name), link]);
}

/** Shows what is known, in the language of the page. */
export function showOwner() {
  $("results").replaceChildren(...(report ? results() : []));
  $("links").replaceChildren(...raters.map(linkOf));
}

/** Asks the server, and shows what is known then. */
async function ask(about) {
  try {
    await about();
    showOwner();
  } catch (error) {
    $("results").replaceChildren(line(word("failed", error.message)));
  }
}

const askRaters = () => ask(async () => { ({ raters } = await api.get("/v1/rank/raters")); });

/** Lets the owner use it; nothing of it is there for raters. */
export function beginOwner(learns) {
  $("toLearn").hidden = !learns;
  $("toLearn").href = `/learn${location.hash}`;
  $("own").hidden = false;
  $("refresh").addEventListener("click", () => ask(async () => { report = await api.get("/v1/rank/report"); }));
  $("invite").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = $("name").value.trim();
    if (!name) return;
    ask(async () => {
      await api.post("/v1/rank/raters", { name });
      $("name").value = "";
      await askRaters();
    });
  });
  askRaters();
}
