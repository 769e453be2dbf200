// What PPO's policy answered, side by side: a column for each of several steps.

import { element, rounded, text } from "./dom.js";
import { word } from "./words.js";

/** What a rollout says, and figures of it. */
function card({ prompt, answer, ended, ...figures }) {
  const told = Object.entries(figures).filter(([, value]) => typeof value === "number").map(([name, value]) => `${name} ${rounded(value)}`);
  if (ended === false) told.push(word("notEnded"));
  return element("article", [element("p", text(prompt ?? ""), { className: "asked" }), element("p", text(answer ?? "")), element("p", told.join(" · "), { className: "figures" })], { className: "rollout" });
}

/** `[{ step, rollouts }, …]` as columns, first to last. */
export function columns(of) {
  const column = ({ step, rollouts }) => element("div", [element("h3", word("atStep", step)), ...rollouts.map(card)]);
  return element("div", of.map(column), { className: "columns" });
}
