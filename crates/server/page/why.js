// Why this word: each token tinted by its probability; what else might have stood there, with bars that follow temperature,
// top-k and top-p; and the way to go on from another word.

import * as api from "./api.js";
import { probabilities } from "./dice.js";
import { $, button, element, legible, percent, say } from "./dom.js";
import { word } from "./words.js";

/** The settings of a draw, and the fields of the dialog that have them. */
const DICE = { temperature: "diceTemperature", top_k: "diceTopK", top_p: "diceTopP" };

/** What is shown of a token in the dialog, and the log-probabilities of all that might stand there. */
let shown = null;

/** Shows an answer token by token. Those that are there already stay, so that whoever is at one is not thrown out. */
export function words(page, node, body) {
  const there = body.querySelectorAll(":scope > .token").length;
  if (there !== body.childNodes.length || there > node.tokens.length) body.replaceChildren();
  const [begun, decoder] = [body.childNodes.length, new TextDecoder("utf-8", { ignoreBOM: true })];
  node.tokens.forEach(({ bytes }, at) => {
    const whole = decoder.decode(new Uint8Array(bytes), { stream: true });
    if (at >= begun) body.append(tokenButton(page, node, at, whole));
  });
}

/** A token with the text that is whole with it: a character of several tokens stands at the last of them. */
function tokenButton(page, node, at, whole) {
  const p = Math.exp(node.tokens[at].logprob);
  const made = button("alternatives", () => alternatives(page, node, at), whole || "·");
  made.removeAttribute("aria-label");
  made.className = "token";
  made.dataset.rank = p > 0.8 ? 0 : p > 0.4 ? 1 : p > 0.1 ? 2 : 3;
  made.title = percent(p);
  return made;
}

/** The text of tokens: a character that the last ones leave unfinished comes with the next. */
export function textOf(tokens) {
  const bytes = new Uint8Array(tokens.flatMap((it) => it.bytes));
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes, { stream: true });
}

/** What an answer has in common with its version that has another token at this place. */
const before = (node, at) => ({ model: node.model, messages: node.request.messages, tokens: node.tokens.slice(0, at) });

async function alternatives(page, node, at) {
  const { model, messages, tokens } = before(node, at);
  const { temperature, top_k, top_p } = node.request;
  const asked = { model, messages, temperature, top_k, top_p, continue_tokens: tokens.map((it) => it.id), rest: true };
  let told;
  try {
    told = await api.distribution(asked);
  } catch (error) {
    say(word("failed", error.message), true);
    return;
  }
  const rows = told.tokens.map((token) => row(page, node, at, token));
  shown = { rows, logprobs: [...told.tokens.map((it) => it.logprob), ...told.rest] };
  $("options").replaceChildren(...rows.map((it) => it.row));
  for (const [name, field] of Object.entries(DICE)) $(field).value = told[name];
  roll();
  $("choices").showPopover();
  rows.find((it) => !it.row.disabled).row.focus();
}

/** A token that might stand there: it is gone on from, unless it ends the answer. */
function row(page, node, at, token) {
  const act = () => {
    $("choices").hidePopover();
    page.halt();
    const begun = before(node, at);
    page.answer(node.parent, { ...begun, tokens: [...begun.tokens, token] });
  };
  const bar = element("meter", [], { ariaHidden: "true" });
  const value = element("span");
  const made = button("alternatives", act, "");
  made.removeAttribute("aria-label");
  made.disabled = token.ends;
  made.append(element("code", token.ends ? word("end") : legible(token)), bar, value);
  return { row: made, bar, value, isHere: token.id === node.tokens[at].id };
}

/** Shows with which probabilities the tokens would be drawn with the dialog's settings. */
function roll() {
  const how = Object.fromEntries(Object.entries(DICE).map(([name, field]) => [name, $(field).valueAsNumber || 0]));
  for (const value of $("choices").querySelectorAll(".value")) value.textContent = value.previousElementSibling.value;
  const shares = probabilities(shown.logprobs, how);
  shown.rows.forEach(({ bar, value, isHere }, at) => {
    bar.value = shares[at];
    value.textContent = `${percent(shares[at])}${isHere ? " ✓" : ""}`;
  });
  const others = shares.slice(shown.rows.length);
  $("others").textContent = word("others", others.length, percent(others.reduce((a, b) => a + b, 0)));
}

for (const field of Object.values(DICE)) $(field).addEventListener("input", roll);
