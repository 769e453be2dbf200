// The conversation: what is said and asked, and what is answered.

import * as api from "./api.js";
import { $, button, element, say } from "./dom.js";
import { compare } from "./feedback.js";
import { fill, message } from "./message.js";
import { LEARN_WORDS } from "./learn-words.js";
import { RANK_WORDS } from "./rank-words.js";
import { RUN_WORDS } from "./run-words.js";
import * as store from "./store.js";
import { textOf } from "./why.js";
import { add, change, word, write } from "./words.js";

const NUMBERS = ["temperature", "top_p", "top_k", "max_tokens", "seed"];

/** What is shown, and what can be done with it: the other parts of the page are handed this. */
const page = { talk: store.all()[0] ?? store.create(), rewardModels: [], keepsFeedback: false, answer, halt, keep, show };
let running = null;
let leaves = false;

// Settings

function settings() {
  const given = NUMBERS.filter((name) => $(name).value !== "").map((name) => [name, Number($(name).value)]);
  return Object.fromEntries(given);
}

function keepSettings() {
  page.talk.system = $("system").value;
  const kept = { ...settings(), model: $("model").value, why: $("why").checked };
  localStorage.setItem("mynah.settings", JSON.stringify(kept));
  keep();
}

function keep() {
  if (!store.save()) say(word("full"), true);
}

// Conversations

function showTalks() {
  const items = store.all().map((it) => {
    const open = button("talk", () => { halt(); page.talk = it; show(); $("side").classList.remove("open"); }, it.title || word("untitled"));
    open.removeAttribute("aria-label");
    open.ariaCurrent = String(it === page.talk);
    const remove = button("remove", () => {
      if (it === page.talk) halt();
      store.remove(it);
      if (it === page.talk) page.talk = store.all()[0] ?? store.create();
      show();
    }, "×");
    return element("li", [open, remove]);
  });
  $("talks").replaceChildren(...items);
}

function show() {
  $("system").value = page.talk.system;
  showTalks();
  $("talk").replaceChildren(...store.path(page.talk).map((node) => message(page, node)));
  // At once: who is still on the way to the end would not be taken for one who follows what comes.
  toEnd();
}

// Asking

function halt() {
  running?.abort();
  running = null;
}

/** Answers the message `parent`, or goes on `from` tokens of another answer: with its model, after what that was asked. */
function answer(parent, from) {
  const [asked, node] = [page.talk, store.add(page.talk, parent, "assistant", textOf(from?.tokens ?? []))];
  node.model = from?.model ?? $("model").value;
  const before = store.path(asked).slice(0, -1);
  return grown(asked, node, async (signal) => {
    for (let left = 0; ;) {
      try {
        return await hear(asked, node, request(asked, node, before.slice(left), from, signal), signal);
      } catch (error) {
        // The page leaves out what is oldest, and shows it; nothing is cut in silence.
        if (error.code !== "context_length_exceeded" || from || before.length - left <= 2) throw error;
        left += 2;
        before.slice(0, left).forEach((it) => { it.leftOut = true; });
        say(word("leftOut", left));
      }
    }
  });
}

/** Goes on with what was being answered when the page was left. */
async function resume() {
  for (const [asked, node] of store.unfinished()) {
    if (running) return;
    page.talk = asked;
    const { id, next } = node.stream;
    await grown(asked, node, (signal) => hear(asked, node, api.resume(id, next, signal), signal));
  }
}

/** Shows an answer while `heard` lets it grow, and how that ends. */
async function grown(asked, node, heard) {
  const of = new AbortController();
  running = of;
  show();
  $("send").hidden = true;
  $("stop").hidden = false;
  say("");
  let isOver = true;
  try {
    await heard(of.signal);
  } catch (error) {
    // A page that is left hears no more; the answer goes on without it.
    if (leaves) return;
    node.stopped = true;
    if (of.signal.aborted) node.about = word("stopped");
    else if (error.status === 404 && node.stream) {
      node.about = word("gone");
      delete node.stream;
    } else say(word("failed", error.message === "lost" ? word("gone") : error.message), true);
    if (error.status === 401) $("key").showModal();
    isOver = of.signal.aborted || (error instanceof api.ApiError && error.status !== 401);
  }
  if (isOver && node.stream) {
    api.forget(node.stream.id);
    delete node.stream;
  }
  if (!node.content && !node.stream) store.removeNode(asked, node);
  if (running === of) running = null;
  $("send").hidden = Boolean(running);
  $("stop").hidden = !running;
  keep();
  if (asked === page.talk) show();
}

/** Asks for an answer: its chunks. */
function request(asked, node, messages, from, signal) {
  node.request = { model: node.model, messages: from?.messages ?? store.said(asked, messages), ...settings() };
  if (from) node.request.continue_tokens = from.tokens.map((it) => it.id);
  const tells = from || $("why").checked;
  node.tokens = tells ? (from?.tokens ?? []).map(noted) : undefined;
  node.begun = node.tokens?.length;
  return api.chat({ ...node.request, ...(tells && { logprobs: true }) }, signal);
}

/** Lets `node` grow by the chunks of an answer. */
async function hear(asked, node, chunks, signal) {
  for await (const chunk of chunks) {
    const isFirst = !node.stream;
    node.stream ??= { id: chunk.id, next: 0, since: Date.now() };
    node.stream.next += 1;
    signal.throwIfAborted();
    node.seed = chunk.seed;
    node.fingerprint = chunk.system_fingerprint;
    const choice = chunk.choices[0];
    if (choice?.delta.content) node.content += choice.delta.content;
    if (choice?.logprobs && node.tokens) node.tokens.push(...choice.logprobs.content.map(noted));
    if (choice?.finish_reason === "length") node.cut = true;
    if (chunk.usage) {
      delete node.stopped;
      const n = chunk.usage.completion_tokens;
      const speed = Math.round((1e3 * n) / Math.max(1, Date.now() - node.stream.since));
      node.about = `${word("tokens", n, speed)} · ${word("seed")} ${node.seed}${node.cut ? ` · ${word("cut")}` : ""}`;
    }
    // From here on it can be gone on with, should the page be left.
    if (isFirst) keep();
    if (asked === page.talk) grow(node);
  }
}

/** What is kept of a token. */
const noted = ({ id, token, logprob, bytes }) => ({ id, token, logprob, bytes });

/** Shows what has come, and keeps the reader's place: who scrolled up stays there. */
function grow(node) {
  const body = $(node.id)?.querySelector(".body");
  if (!body) return;
  const log = $("talk");
  const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  fill(page, node, body);
  if (follows) toEnd();
}

const toEnd = () => $("talk").scrollTo({ top: $("talk").scrollHeight, behavior: "instant" });

/** Shows several answers to what is written, to be ranked: of the model `n`, or one of it and one of another. */
function compareAnswers(n) {
  const said = $("input").value.trim();
  if (!said || running) return;
  $("input").value = "";
  const { value: model } = $("model");
  const others = [...$("model").options].map((option) => option.value).filter((other) => other !== model);
  // The page on which models learn says which two it is about.
  const [chosen, against] = JSON.parse(localStorage.getItem("mynah.against") ?? "[]");
  const other = model === chosen && others.includes(against) ? against : others[Math.floor(Math.random() * others.length)];
  const parent = store.add(page.talk, store.path(page.talk).at(-1)?.id ?? "", "user", said).id;
  show();
  const messages = store.said(page.talk, store.path(page.talk));
  compare(page, parent, messages, n > 1 ? [{ model, n }] : [{ model, n }, { model: other, n }], settings());
}

async function listModels() {
  try {
    const { data, offers } = await api.models();
    page.keepsFeedback = offers.feedback;
    $("more").hidden = !offers.feedback;
    $("toRuns").hidden = !offers.runs;
    $("toLearn").hidden = !offers.learning;
    const loaded = data.filter((it) => it.state === "loaded");
    const models = loaded.filter((it) => it.kind === "chat");
    page.rewardModels = loaded.filter((it) => it.kind === "score").map(({ id }) => id);
    if (!running) show();
    const wanted = $("model").value || JSON.parse(localStorage.getItem("mynah.settings") ?? "{}").model;
    $("model").replaceChildren(...models.map(({ id }) => new Option(id, id, false, id === wanted)));
    $("duel").hidden = models.length < 2;
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
  const last = store.path(page.talk).at(-1);
  answer(store.add(page.talk, last?.id ?? "", "user", said).id);
});
$("input").addEventListener("keydown", (event) => {
  // A line is ended by shift and enter; an input method's own enter is not ours.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") halt(); });
$("four").addEventListener("click", () => compareAnswers(4));
$("duel").addEventListener("click", () => compareAnswers(1));
$("stop").addEventListener("click", halt);
$("new").addEventListener("click", () => { halt(); page.talk = store.create(); show(); $("input").focus(); });
$("menu").addEventListener("click", () => {
  $("menu").ariaExpanded = String($("side").classList.toggle("open"));
});
$("language").addEventListener("click", () => { change(); show(); });
$("settings").addEventListener("change", keepSettings);
$("model").addEventListener("change", keepSettings);
$("why").addEventListener("change", show);
$("key").addEventListener("close", () => { api.setKey($("keyInput").value); $("keyInput").value = ""; listModels(); resume(); });
addEventListener("pagehide", () => { leaves = true; keep(); });
addEventListener("pageshow", ({ persisted }) => { leaves = false; if (persisted && running) location.reload(); });

const kept = JSON.parse(localStorage.getItem("mynah.settings") ?? "{}");
for (const name of NUMBERS) if (kept[name] !== undefined) $(name).value = kept[name];
$("why").checked = Boolean(kept.why);
add(RANK_WORDS);
add(RUN_WORDS);
add(LEARN_WORDS);
write();
show();
listModels();
resume();
$("input").focus();
