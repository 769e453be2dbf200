// Why this reward: what each reward model makes of an answer, token by token.

import * as api from "./api.js";
import { button, element, legible } from "./dom.js";
import { word } from "./words.js";

const [WIDTH, HEIGHT] = [400, 60];

/** A button that shows rewards under a message and hides them; `messages` are those that end with the answer. */
export function rewardButton(models, messages, place) {
  const made = button("reward", async () => {
    const opens = made.ariaExpanded !== "true";
    made.ariaExpanded = String(opens);
    place.replaceChildren();
    if (!opens) return;
    place.ariaBusy = "true";
    const told = await Promise.all(models.map((model) => rewards(model, messages)));
    place.ariaBusy = "false";
    if (made.ariaExpanded === "true") place.replaceChildren(figure(told));
  });
  made.ariaExpanded = "false";
  return made;
}

/** What a model says, or why it does not. */
async function rewards(model, messages) {
  try {
    const { data } = await api.score({ model, messages, per_token: true });
    return { model, tokens: data[0].tokens };
  } catch (error) {
    return { model, why: error.message };
  }
}

/** All models one above the other on one scale, so that they can be compared. */
function figure(told) {
  const scores = told.flatMap(({ tokens }) => tokens?.map((it) => it.score) ?? []);
  const range = [Math.min(0, ...scores), Math.max(0, ...scores)];
  const lines = told.map((of) => (of.tokens ? line(of, range) : element("p", `${of.model}: ${of.why}`)));
  const tables = told.filter((of) => of.tokens).map(table);
  return element("figure", [element("figcaption", word("rewardIf")), ...lines, ...tables], { className: "reward" });
}

const round = (score) => score.toFixed(3);

function line({ model, tokens }, [low, high]) {
  const scores = tokens.map((it) => it.score);
  const last = scores.at(-1);
  const x = (at) => (WIDTH * (at + 0.5)) / scores.length;
  const y = (score) => HEIGHT - 3 - ((HEIGHT - 6) * (score - low)) / (high - low || 1);
  const points = scores.map((score, at) => `${x(at).toFixed(1)},${y(score).toFixed(1)}`).join(" ");
  const alternative = word("rewardAlt", model, scores.length, ...[scores[0], Math.min(...scores), Math.max(...scores), last].map(round));
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": alternative });
  picture.append(svg("line", { class: "zero", x1: 0, x2: WIDTH, y1: y(0), y2: y(0) }), svg("polyline", { points }));
  return element("div", [element("span", model), picture, element("strong", round(last))], { className: "of-model" });
}

function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}

function table({ model, tokens }) {
  const rows = tokens.map((it) => element("tr", [element("td", element("code", legible(it))), element("td", round(it.score))]));
  const head = element("tr", [element("th", word("token"), { scope: "col" }), element("th", word("reward"), { scope: "col" })]);
  const whole = element("table", [element("thead", head), element("tbody", rows)]);
  return element("details", [element("summary", word("rewardTable", model)), whole]);
}
