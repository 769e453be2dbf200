// Learning: a reward model and a model by it, from what people said; how it goes; the new model beside the old.

import { alarmOf, showAlarm } from "./alarm.js";
import * as api from "./api.js";
import { showCurves } from "./curves.js";
import { $, button, element, say } from "./dom.js";
import { showDoubts } from "./doubts.js";
import { LEARN_WORDS } from "./learn-words.js";
import { votes } from "./owner.js";
import { RANK_WORDS } from "./rank-words.js";
import { RUN_WORDS } from "./run-words.js";
import { add, change, word, write } from "./words.js";

/** Milliseconds between two looks while something is learned. */
const LOOK = 1000;

let told = null;
let models = [];
/** What blind votes say of each two models. */
let report = [];
let looking = 0;
let isLost = false;
/** The parts of the page for a generation, by its name: they stay while what is in them changes. */
const shown = new Map();

const stateOf = (state) => word(`is${state[0].toUpperCase()}${state.slice(1)}`);
const pathOf = (run) => run.split("/").map(encodeURIComponent).join("/");

/** Does what a button says, and tells what comes of it. */
async function act(path, body, done = "") {
  try {
    await api.post(path, body);
    say(done && word(done));
  } catch (error) {
    say(word("failed", error.message), true);
  }
  await look();
}

/** The stage whose curves are shown: the one that goes on, else the last that began. */
const stageOf = ({ stages }) => stages.find(({ state }) => state === "running") ?? stages.findLast(({ state }) => state !== "waiting");

function place({ name }) {
  if (!shown.has(name)) {
    const parts = Object.fromEntries(["about", "votes", "alarm", "doubts", "curves"].map((part) => [part, element("div", [], { className: part })]));
    const made = element("article", Object.values(parts), { className: "generation" });
    parts.alarm.hidden = true;
    $("generations").prepend(made);
    shown.set(name, parts);
  }
  return shown.get(name);
}

/** The chat begins with these two, and which is which is told after a vote. */
function compareBlind({ name, parent }) {
  const settings = JSON.parse(localStorage.getItem("mynah.settings") ?? "{}");
  localStorage.setItem("mynah.settings", JSON.stringify({ ...settings, model: name }));
  localStorage.setItem("mynah.against", JSON.stringify([name, parent]));
  location.assign("/");
}

function about(generation) {
  const { name, parent, by, rankings, state, why, stages } = generation;
  const lines = [
    element("h2", word("generation", name, parent, by, rankings)),
    element("ul", stages.map((it) => element("li", word("stageIs", it.stage, stateOf(it.state)))), { className: "stages" }),
  ];
  if (why) lines.push(element("p", word("endedWith")), element("pre", why));
  if (state === "stopped") lines.push(element("p", word("toGoOn")));
  if (state === "finished") lines.push(element("p", word("beside", name)));
  const buttons = [];
  if (state === "running") buttons.push(button("stop", () => act("/v1/learn/stop", {}, "stopping")));
  if (state === "stopped" || state === "failed") buttons.push(button("goOn", () => act("/v1/learn/resume", { name })));
  if (state === "finished" && models.includes(name) && models.includes(parent)) buttons.push(button("compareBlind", () => compareBlind(generation)));
  return [...lines, element("div", buttons, { className: "buttons" })];
}

/** Writes what is new in it; what is the same stays, and with it the focus. */
function put(part, content) {
  const now = JSON.stringify(content.map((it) => it.textContent));
  if (part.dataset.now === now) return;
  part.dataset.now = now;
  part.replaceChildren(...content);
}

/** What blind votes say of the new model and the old one. */
function showVotes(part, { name, parent }) {
  const found = report.find(({ model, other }) => [model, other].includes(name) && [model, other].includes(parent));
  put(part, found ? [element("p", votes(found))] : []);
}

async function showGeneration(generation) {
  const parts = place(generation);
  put(parts.about, about(generation));
  if (generation.state === "finished") {
    showVotes(parts.votes, generation);
    const { lang } = document.documentElement;
    if (parts.doubts.dataset.lang !== lang && await showDoubts(parts.doubts, generation.name).catch(() => false)) parts.doubts.dataset.lang = lang;
  }
  const stage = stageOf(generation);
  // What is over changes no more.
  const key = `${stage?.run} ${generation.state} ${document.documentElement.lang}`;
  if (!stage?.run || (generation.state !== "running" && parts.curves.dataset.key === key)) return;
  const curves = await api.get(`/v1/curves/${pathOf(stage.run)}`).catch(() => null);
  if (!curves) return;
  parts.curves.dataset.key = key;
  showCurves(parts.curves, curves);
  if (stage.stage === "ppo") showAlarm(parts.alarm, await alarmOf(pathOf(stage.run)));
}

function showAll() {
  $("about").textContent = word("thereIs", told.rankings, told.prompts);
  $("learn").disabled = told.generations.some(({ state }) => state === "running");
  return Promise.all(told.generations.map(showGeneration));
}

/** The models that one can begin from; a new one is chosen as soon as it is there. */
async function listModels() {
  const { data } = await api.models();
  const found = data.filter(({ state, kind }) => state === "loaded" && kind !== "score").map(({ id }) => id);
  if (JSON.stringify(found) === JSON.stringify(models)) return;
  models = found;
  const newest = told.generations.findLast(({ name }) => models.includes(name))?.name;
  const before = $("model").value;
  $("model").replaceChildren(...models.map((id) => new Option(id, id, false, id === (newest ?? before))));
}

async function look() {
  clearTimeout(looking);
  try {
    told = await api.get("/v1/learn");
    if (isLost) say("");
    isLost = false;
    await listModels();
    report = (await api.get("/v1/rank/report")).votes;
    await showAll();
    const isOn = told.generations.some(({ state, name }) => state === "running" || (state === "finished" && !models.includes(name)));
    looking = setTimeout(look, isOn ? LOOK : 10 * LOOK);
  } catch (error) {
    if (error.status === 401) return $("key").showModal();
    if (error.status === 404) {
      $("begin").hidden = true;
      $("about").textContent = word("notHere");
      return;
    }
    // A server that is started again is there again soon.
    isLost = true;
    say(word("failed", error.message), true);
    looking = setTimeout(look, LOOK);
  }
}

$("begin").addEventListener("submit", (event) => {
  event.preventDefault();
  const steps = Number($("steps").value) || undefined;
  act("/v1/learn", { model: $("model").value, by: $("by").value, steps });
});
$("language").addEventListener("click", () => { change(); if (told) showAll(); });
$("key").addEventListener("close", () => { api.setKey($("keyInput").value); $("keyInput").value = ""; look(); });

add(RANK_WORDS);
add(RUN_WORDS);
add(LEARN_WORDS);
write();
api.setKey(decodeURIComponent(location.hash.slice(1)));
look();
