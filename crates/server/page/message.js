// A message: how it looks, and what can be done with it.

import { curl, origin } from "./again.js";
import { $, button, element, text } from "./dom.js";
import { corrected, thumbs } from "./feedback.js";
import { markdown } from "./markdown.js";
import { rewardButton } from "./reward.js";
import * as store from "./store.js";
import { words } from "./why.js";
import { word } from "./words.js";

/** The element of a message. `page` is what chat.js has: the conversation, and what can be done with it. */
export function message(page, node) {
  const who = element("p", node.role === "user" ? word("you") : node.model ?? "mynah", { className: "who" });
  const [body, tools, below] = ["body", "tools", "below"].map((className) => element("div", [], { className }));
  const made = element("article", [who, body, tools, below], { id: node.id, className: `message ${node.role}` });
  made.classList.toggle("left-out", Boolean(node.leftOut));
  fill(page, node, body);
  tools.append(...actions(page, node, below));
  return made;
}

export function fill(page, node, body) {
  if (node.role === "user") body.replaceChildren(text(node.content));
  else if (node.tokens && $("why").checked) words(page, node, body);
  else body.replaceChildren(markdown(node.content));
}

/** What can be done with a message; `below` is the place for what that shows. */
function actions(page, node, below) {
  const made = versions(page, node);
  const copy = button("copy", async () => {
    await navigator.clipboard.writeText(node.content);
    copy.textContent = word("copied");
  });
  made.push(copy, button("edit", () => edit(page, node)));
  if (node.role === "assistant") {
    if (page.keepsFeedback && node.content) made.push(...thumbs(page, node, before(page, node)));
    made.push(button("retry", () => { page.halt(); page.answer(node.parent); }));
    if (page.rewardModels.length && node.content) made.push(rewardButton(page.rewardModels, [...before(page, node), { role: "assistant", content: node.content }], below));
    if (node.fingerprint) {
      made.push(button("curl", () => navigator.clipboard.writeText(curl(node))), text(node.about ?? ""), origin(node));
    }
  }
  return made;
}

/** The conversation before an answer, as it was asked. */
function before(page, node) {
  if (node.request) return node.request.messages;
  const path = store.path(page.talk);
  return store.said(page.talk, path.slice(0, path.indexOf(node)));
}

/** The way to other versions of a message, where there are some. */
function versions(page, node) {
  const siblings = store.children(page.talk, node.parent);
  if (siblings.length < 2) return [];
  const at = siblings.indexOf(node);
  const turn = (to) => () => { page.halt(); page.talk.shown[node.parent] = siblings[to].id; page.keep(); page.show(); };
  const [before, after] = [button("earlier", turn(at - 1), "‹"), button("later", turn(at + 1), "›")];
  before.disabled = at === 0;
  after.disabled = at === siblings.length - 1;
  return [before, `${at + 1}/${siblings.length}`, after];
}

function edit(page, node) {
  const body = $(node.id).querySelector(".body");
  const field = element("textarea", [], { value: node.content, rows: Math.min(12, node.content.split("\n").length + 1), ariaLabel: word("edit") });
  const done = button("save", () => {
    page.halt();
    if (page.keepsFeedback && node.role === "assistant") corrected(node, before(page, node), field.value);
    const changed = store.add(page.talk, node.parent, node.role, field.value);
    if (node.role === "assistant") { page.keep(); page.show(); } else page.answer(changed.id);
  });
  body.replaceChildren(field, done, button("cancel", () => fill(page, node, body)));
  field.focus();
}
