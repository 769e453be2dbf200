// The ranking page: an item at a time.

import * as api from "./api.js";
import { $, element, say } from "./dom.js";
import { markdown, text } from "./markdown.js";
import { beginOwner, showOwner } from "./owner.js";
import { LEARN_WORDS } from "./learn-words.js";
import { RANK_WORDS } from "./rank-words.js";
import { Ranking, groupsOf, isElsewhere } from "./ranking.js";
import { add, change, word, write } from "./words.js";

/** After so many milliseconds without a movement nobody is taken to be there. */
const IDLE = 60_000;
/** What is there with an item alone. */
const OF_ITEM = ["item", "order", "submit", "undoDigit", "allBad", "skip"];

const ranking = new Ranking($("answers"), $("order"), (order) => { say(order); keepSoon(); });
let item = null;
let seconds = 0;
let guidelines = null;
let isOwner = false;
let nothing = () => "";
let progress = { done: 0, left: 0 };
let lastSeen = Date.now();
let draftTimer = 0;
let isBusy = false;
const times = [];

// What is shown

function showItem(found, status = "") {
  item = found;
  $("say").hidden = false;
  for (const name of OF_ITEM) $(name).hidden = !item;
  showNothing(item ? "" : "nothingLeft");
  if (!item) return say(status);
  $("comment").value = (item.draft ?? item.rated)?.comment ?? "";
  seconds = item.draft?.seconds ?? 0;
  showProgress(item.progress);
  $("conversation").replaceChildren(...item.messages.map(turn));
  ranking.show(item.answers, item.draft?.groups ?? groupsOf(item.rated?.ranks ?? {}));
  if (item.again) status = word("askedAgain");
  if (item.rated?.all_bad) status = word("wasBad");
  if (item.rated?.skipped) status = word("wasSkipped");
  say(status || word("first"));
  window.scrollTo(0, 0);
}

/** Why there is nothing to rank. */
function showNothing(name, ...values) {
  nothing = () => (name ? word(name, ...values) : "");
  $("nothing").hidden = !name;
  $("nothing").textContent = nothing();
}

function showProgress(now = progress) {
  progress = now;
  const { done, left } = progress;
  // The middle one of the times that items took tells what is to come.
  const each = times.toSorted((a, b) => a - b)[times.length >> 1];
  $("progress").textContent = word("done", done, left, each && Math.ceil((each * left) / 60));
  $("bar").value = done / Math.max(1, done + left);
}

function turn({ role, content }) {
  const made = element("div", role === "user" ? text(content) : markdown(content), { className: `turn ${role}` });
  const who = { user: word("asks"), system: word("system") }[role];
  if (who) made.prepend(element("p", who, { className: "who" }));
  return made;
}

function showGuidelines() {
  if (guidelines) $("guidelinesText").replaceChildren(markdown(guidelines[document.documentElement.lang === "en" ? "en" : "zh"]));
}

// What is kept

const draft = () => ({ groups: ranking.order.groups, comment: $("comment").value, seconds });

/** Whether others have the item by now, as after ten minutes in which nothing was heard of this page. */
const isTaken = ({ status }) => status === 404 || status === 409;

function keepSoon() {
  clearTimeout(draftTimer);
  draftTimer = setTimeout(keepDraft, 400);
}

async function keepDraft() {
  clearTimeout(draftTimer);
  draftTimer = 0;
  if (!item || item.rated) return;
  try {
    await api.post("/v1/rank/draft", { assignment: item.assignment, draft: draft() }, { keepalive: true });
  } catch (error) {
    if (isTaken(error)) next(word("taken"));
  }
}

async function submit(verdict) {
  if (!item || isBusy) return;
  isBusy = true;
  clearTimeout(draftTimer);
  // Said twice in a row, "Stored." would be announced once.
  say("");
  const said = { assignment: item.assignment, comment: $("comment").value, ...verdict };
  try {
    await api.post("/v1/rank/submit", { ...said, key: api.keyOf(said), seconds, guidelines: guidelines.digest });
    if (!item.rated) times.push(seconds);
    await next(word("stored"));
  } catch (error) {
    if (isTaken(error)) await next(word("taken"));
    else say(word("notStored", error.message), true);
  }
  isBusy = false;
}

async function next(status = "") {
  try {
    showItem((await api.post("/v1/rank/next", {})).item, status);
    if (!item) showProgress((await api.get("/v1/rank/me")).progress);
  } catch (error) {
    say(word("failed", error.message), true);
  }
}

async function before() {
  if (isBusy) return;
  isBusy = true;
  await keepDraft();
  try {
    const found = (await api.post("/v1/rank/previous", item ? { before: item.assignment } : {})).item;
    if (found) showItem(found, word("correcting"));
    else say(word("noneBefore"));
  } catch (error) {
    say(word("failed", error.message), true);
  }
  isBusy = false;
}

// What people do

const enter = () => ranking.enter((ranks) => submit({ ranks }));
const allBad = () => ranking.allBad(() => submit({ all_bad: true }));

function skip() {
  $("reason").value = "";
  say("");
  $("why").showModal();
}

function help() {
  $("helpText").replaceChildren(...word("helpText").split("\n").map((line) => element("p", line)));
  $("help").showModal();
}

const KEYS = { Enter: enter, b: allBad, s: skip, "?": help };

document.addEventListener("keydown", (event) => {
  if (isElsewhere(event)) return;
  const does = KEYS[event.key.length > 1 ? event.key : event.key.toLowerCase()];
  if (event.key.toLowerCase() === "u") before();
  else if (item && does) does();
  else if (!item || !ranking.key(event)) return;
  event.preventDefault();
});
// A button that was pressed by a pointer does not take the next Enter, and no dialog that it opens gives it the focus back.
document.addEventListener("click", (event) => { if (event.detail > 0) event.target.closest("button")?.blur(); }, { capture: true });
for (const name of ["pointermove", "keydown", "scroll", "touchstart"]) {
  document.addEventListener(name, () => { lastSeen = Date.now(); }, { passive: true });
}
setInterval(() => {
  if (item && !document.hidden && Date.now() - lastSeen < IDLE) seconds += 1;
}, 1000);
addEventListener("pagehide", keepDraft);

$("submit").addEventListener("click", enter);
$("undoDigit").addEventListener("click", () => ranking.act(() => ranking.order.pop()));
$("allBad").addEventListener("click", allBad);
$("skip").addEventListener("click", skip);
$("back").addEventListener("click", before);
$("keys").addEventListener("click", help);
$("comment").addEventListener("input", keepSoon);
// Not when it has closed: that is told later, when it may be open again.
$("why").addEventListener("submit", ({ submitter }) => {
  const reason = $("reason").value.trim();
  if (submitter.value === "skip" && reason) submit({ skipped: reason });
});
$("language").addEventListener("click", () => {
  change();
  showGuidelines();
  if (isOwner) showOwner();
  showProgress();
  $("nothing").textContent = nothing();
  if (item) showItem({ ...item, draft: draft() });
});

async function begin() {
  add(RANK_WORDS);
  add(LEARN_WORDS);
  write();
  if (matchMedia("(max-width: 60rem)").matches) $("guidelines").open = false;
  api.setKey(decodeURIComponent(location.hash.slice(1)));
  try {
    const me = await api.get("/v1/rank/me");
    guidelines = me.guidelines;
    showGuidelines();
    showProgress(me.progress);
    isOwner = me.role === "owner";
    if (isOwner) beginOwner(me.learning);
    await next();
  } catch (error) {
    if (error.status === 401) showNothing("needsLink");
    else showNothing("failed", error.message);
  }
}

begin();
