// The conversation: what is said, what is answered, and what can be done with either.

import * as api from "./api.js";
import { markdown, text } from "./markdown.js";
import * as store from "./store.js";
import { change, word, write } from "./words.js";

const $ = (id) => document.getElementById(id);
const NUMBERS = ["temperature", "top_p", "top_k", "max_tokens", "seed"];

let talk = store.all()[0] ?? store.create();
let running = null;

function button(name, act, label) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = label ?? word(name);
  if (label) made.ariaLabel = word(name);
  made.addEventListener("click", act);
  return made;
}

function say(status, isBad = false) {
  $("status").textContent = status;
  $("status").classList.toggle("bad", isBad);
}

// Settings

function settings() {
  const given = NUMBERS.filter((name) => $(name).value !== "").map((name) => [name, Number($(name).value)]);
  return Object.fromEntries(given);
}

function keepSettings() {
  talk.system = $("system").value;
  const kept = { ...settings(), model: $("model").value, why: $("why").checked };
  localStorage.setItem("mynah.settings", JSON.stringify(kept));
  keep();
}

function keep() {
  if (!store.save()) say(word("full"), true);
}

// Messages

function showTalks() {
  const items = store.all().map((it) => {
    const item = document.createElement("li");
    const open = button("talk", () => { halt(); talk = it; show(); $("side").classList.remove("open"); }, it.title || word("untitled"));
    open.removeAttribute("aria-label");
    open.ariaCurrent = String(it === talk);
    const remove = button("remove", () => {
      if (it === talk) halt();
      store.remove(it);
      if (it === talk) talk = store.all()[0] ?? store.create();
      show();
    }, "×");
    item.append(open, remove);
    return item;
  });
  $("talks").replaceChildren(...items);
}

function show() {
  $("system").value = talk.system;
  showTalks();
  $("talk").replaceChildren(...store.path(talk).map(message));
  $("talk").scrollTop = $("talk").scrollHeight;
}

function message(node) {
  const made = document.createElement("article");
  made.className = `message ${node.role}`;
  made.id = node.id;
  made.classList.toggle("left-out", Boolean(node.leftOut));
  const who = document.createElement("p");
  who.className = "who";
  who.append(text(node.role === "user" ? word("you") : node.model ?? "mynah"));
  const body = document.createElement("div");
  body.className = "body";
  const tools = document.createElement("div");
  tools.className = "tools";
  made.append(who, body, tools);
  fill(node, body);
  equip(node, tools);
  return made;
}

function fill(node, body) {
  if (node.role === "user") body.replaceChildren(text(node.content));
  else if (node.tokens && $("why").checked) body.replaceChildren(...node.tokens.map((token, at) => tokenButton(node, token, at)));
  else body.replaceChildren(markdown(node.content));
}

function equip(node, tools) {
  const siblings = store.children(talk, node.parent);
  const at = siblings.indexOf(node);
  const made = [];
  if (siblings.length > 1) {
    const turn = (to) => () => { halt(); talk.shown[node.parent] = siblings[to].id; keep(); show(); };
    const [before, after] = [button("earlier", turn(at - 1), "‹"), button("later", turn(at + 1), "›")];
    before.disabled = at === 0;
    after.disabled = at === siblings.length - 1;
    made.push(before, `${at + 1}/${siblings.length}`, after);
  }
  const copy = button("copy", async () => {
    await navigator.clipboard.writeText(node.content);
    copy.textContent = word("copied");
  });
  made.push(copy, button("edit", () => edit(node)));
  if (node.role === "assistant") {
    made.push(button("retry", () => { halt(); answer(node.parent); }));
    if (node.request) made.push(button("curl", () => navigator.clipboard.writeText(curl(node))));
    if (node.about) made.push(text(node.about));
  }
  tools.replaceChildren(...made);
}

/** The command that gets the same answer again: precision and processor belong to the fingerprint. */
function curl(node) {
  const body = JSON.stringify({ ...node.request, seed: node.seed }).replaceAll("'", "'\\''");
  return `# ${node.fingerprint}\ncurl ${location.origin}/v1/chat/completions -H 'Content-Type: application/json' -d '${body}'`;
}

function edit(node) {
  const body = $(node.id).querySelector(".body");
  const field = document.createElement("textarea");
  field.value = node.content;
  field.rows = Math.min(12, node.content.split("\n").length + 1);
  field.ariaLabel = word("edit");
  const done = button("save", () => {
    halt();
    const changed = store.add(talk, node.parent, node.role, field.value);
    if (node.role === "assistant") { keep(); show(); } else answer(changed.id);
  });
  body.replaceChildren(field, done, button("cancel", () => fill(node, body)));
  field.focus();
}

// Why this word

function tokenButton(node, token, at) {
  const made = button("alternatives", () => alternatives(node, at), "");
  made.removeAttribute("aria-label");
  made.className = "token";
  made.append(text(token.token));
  const p = Math.exp(token.logprob);
  made.dataset.rank = p > 0.8 ? 0 : p > 0.4 ? 1 : p > 0.1 ? 2 : 3;
  made.title = percent(p);
  return made;
}

const percent = (p) => (p < 0.001 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`);

function alternatives(node, at) {
  const token = node.tokens[at];
  const options = token.top_logprobs.map(({ token: other, logprob }) => {
    const p = Math.exp(logprob);
    const made = button("alternatives", () => {
      $("choices").hidePopover();
      halt();
      const begun = node.tokens.slice(0, at).map((it) => it.token).join("") + other;
      answer(node.parent, begun);
    }, "");
    made.removeAttribute("aria-label");
    const shown = document.createElement("code");
    shown.append(text(JSON.stringify(other).slice(1, -1)));
    const bar = document.createElement("meter");
    bar.value = p;
    bar.ariaHidden = "true";
    made.append(shown, bar, `${percent(p)}${other === token.token ? " ✓" : ""}`);
    return made;
  });
  $("choices").replaceChildren(...options);
  $("choices").showPopover();
  options[0]?.focus();
}

// Asking

function halt() {
  running?.abort();
  running = null;
}

/** Answers the message `parent`; what is `begun` is gone on with. */
async function answer(parent, begun = "") {
  const node = store.add(talk, parent, "assistant", begun);
  const [asked, of] = [talk, new AbortController()];
  running = of;
  node.model = $("model").value;
  show();
  $("send").hidden = true;
  $("stop").hidden = false;
  say("");
  const before = store.path(asked).slice(0, -1);
  let left = 0;
  for (;;) {
    try {
      await hear(asked, node, before.slice(left), begun, of.signal);
      break;
    } catch (error) {
      // The page leaves out what is oldest, and shows it; nothing is cut in silence.
      if (error.code === "context_length_exceeded" && before.length - left > 2) {
        left += 2;
        before.slice(0, left).forEach((it) => { it.leftOut = true; });
        say(word("leftOut", left));
        continue;
      }
      if (of.signal.aborted) node.about = word("stopped");
      else say(word("failed", error.message === "lost" ? word("gone") : error.message), true);
      if (error.status === 401) $("key").showModal();
      break;
    }
  }
  if (!node.content) { delete asked.nodes[node.id]; delete asked.shown[parent]; }
  if (running === of) running = null;
  $("send").hidden = false;
  $("stop").hidden = true;
  keep();
  if (asked === talk) show();
}

async function hear(asked, node, messages, begun, signal) {
  const why = $("why").checked;
  const said = messages.map(({ role, content }) => ({ role, content }));
  if (asked.system) said.unshift({ role: "system", content: asked.system });
  if (begun) said.push({ role: "assistant", content: begun });
  const request = { model: node.model, messages: said, ...settings(), ...(why && { logprobs: true, top_logprobs: 20 }) };
  const since = performance.now();
  node.tokens = why && !begun ? [] : undefined;
  node.request = { ...request, logprobs: undefined, top_logprobs: undefined };
  for await (const chunk of api.chat(request, signal)) {
    node.seed = chunk.seed;
    node.fingerprint = chunk.system_fingerprint;
    const choice = chunk.choices[0];
    if (choice?.delta.content) node.content += choice.delta.content;
    if (choice?.logprobs && node.tokens) node.tokens.push(...choice.logprobs.content);
    if (choice?.finish_reason === "length") node.cut = true;
    if (chunk.usage) {
      const n = chunk.usage.completion_tokens;
      const speed = Math.round((1e3 * n) / (performance.now() - since));
      node.about = `${word("tokens", n, speed)} · ${word("seed")} ${node.seed}${node.cut ? ` · ${word("cut")}` : ""}`;
    }
    if (asked === talk) grow(node);
  }
}

/** Shows what has come, and keeps the reader's place: who scrolled up stays there. */
function grow(node) {
  const body = $(node.id)?.querySelector(".body");
  if (!body) return;
  const log = $("talk");
  const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  fill(node, body);
  if (follows) log.scrollTo({ top: log.scrollHeight, behavior: "instant" });
}

async function listModels() {
  try {
    const models = (await api.models()).filter((it) => it.kind === "chat" && it.state === "loaded");
    const wanted = $("model").value || JSON.parse(localStorage.getItem("mynah.settings") ?? "{}").model;
    $("model").replaceChildren(...models.map(({ id }) => new Option(id, id, false, id === wanted)));
    if (!models.length) say(word("failed", word("noChat")), true);
  } catch (error) {
    if (error.status === 401) $("key").showModal();
    else say(word("failed", error.message), true);
  }
}

// The page

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const said = $("input").value.trim();
  if (!said || running) return;
  $("input").value = "";
  const last = store.path(talk).at(-1);
  answer(store.add(talk, last?.id ?? "", "user", said).id);
});
$("input").addEventListener("keydown", (event) => {
  // A line is ended by shift and enter; an input method's own enter is not ours.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") halt(); });
$("stop").addEventListener("click", halt);
$("new").addEventListener("click", () => { halt(); talk = store.create(); show(); $("input").focus(); });
$("menu").addEventListener("click", () => {
  $("menu").ariaExpanded = String($("side").classList.toggle("open"));
});
$("language").addEventListener("click", () => { change(); show(); });
$("settings").addEventListener("change", keepSettings);
$("model").addEventListener("change", keepSettings);
$("why").addEventListener("change", show);
$("key").addEventListener("close", () => { api.setKey($("keyInput").value); $("keyInput").value = ""; listModels(); });

const kept = JSON.parse(localStorage.getItem("mynah.settings") ?? "{}");
for (const name of NUMBERS) if (kept[name] !== undefined) $(name).value = kept[name];
$("why").checked = Boolean(kept.why);
write();
show();
listModels();
$("input").focus();
