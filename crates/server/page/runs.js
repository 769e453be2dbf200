// Runs: curves while they go on, what their models wrote after each step, and the way to ask one of these again.

import { alarmOf, showAlarm } from "./alarm.js";
import * as api from "./api.js";
import { showCurves } from "./curves.js";
import { $, element, say } from "./dom.js";
import { columns } from "./rollouts.js";
import { RUN_WORDS } from "./run-words.js";
import { add, change, word, write } from "./words.js";

let runs = [];
let steps = [];

function show() {
  const at = steps[Number($("step").value)];
  $("machine").hidden = !at;
  $("at").textContent = at ? word("atStep", at.step) : word("nothingYet");
  if (!at) return;
  $("step").ariaValueText = word("atStep", at.step);
  $("askIt").disabled = !at.checkpoint;
  say(at.checkpoint ? "" : word("noCheckpoint"));
  // Between steps at which samples were taken the last ones hold.
  const { samples } = steps.slice(0, steps.indexOf(at) + 1).findLast((it) => it.samples.length) ?? at;
  $("samples").hidden = !samples.length;
  $("samples").querySelector("dl").replaceChildren(...samples.flatMap(({ prompt, completion }) => [element("dt", prompt), element("dd", completion)]));
  // Beside what was answered first and last, so that it is seen what became of it.
  const some = steps.filter((it) => it.rollouts.length);
  const sides = [...new Set([some[0], at, some.at(-1)])].filter((it) => it?.rollouts.length);
  $("rollouts").hidden = !sides.length;
  $("rollouts").querySelector(".sides").replaceChildren(columns(sides));
}

/** A mark for each step that is told of; those without a checkpoint are grey. */
function showMarks() {
  $("marks").replaceChildren(...steps.map(({ checkpoint }, at) => {
    const mark = element("span", [], { className: checkpoint ? "there" : "" });
    mark.style.left = `${(100 * at) / Math.max(1, steps.length - 1)}%`;
    return mark;
  }));
}

const chosen = () => runs.find((it) => it.name === $("run").value);
const pathOf = (run) => run.name.split("/").map(encodeURIComponent).join("/");

function tell({ stage, state }) {
  $("about").textContent = word("aboutRun", stage, word(`is${state[0].toUpperCase()}${state.slice(1)}`));
}

let looking = 0;

/** Shows the curves as far as they are written, and again while the run goes on. */
async function look(run) {
  clearTimeout(looking);
  const [told, alarm] = await Promise.all([api.get(`/v1/curves/${pathOf(run)}`), alarmOf(pathOf(run))]);
  if (run !== chosen()) return;
  showCurves($("curves"), told);
  showAlarm($("alarm"), alarm);
  const rate = told.curves.tokens_per_sec?.at(-1)?.[1];
  const left = told.state === "running" && told.seconds_left;
  $("pace").textContent = word("pace", told.step, told.steps, rate && Math.round(rate).toLocaleString(), left ? Math.ceil(left / 60) : 0);
  tell({ ...run, state: told.state });
  if (told.state === "running") looking = setTimeout(() => look(run).catch(() => {}), 2000);
}

async function open() {
  const run = chosen();
  tell(run);
  look(run).catch((error) => say(word("failed", error.message), true));
  try {
    const told = await api.get(`/v1/runs/${pathOf(run)}`);
    if (run !== chosen()) return;
    ({ steps } = told);
  } catch (error) {
    steps = [];
    $("about").textContent = word("failed", error.message);
  }
  $("step").max = Math.max(0, steps.length - 1);
  $("step").value = steps.length - 1;
  showMarks();
  show();
}

async function list() {
  try {
    runs = (await api.get("/v1/runs")).runs;
    $("run").replaceChildren(...runs.map(({ name }) => new Option(name, name)));
    if (runs.length) await open();
    else $("about").textContent = word("noRuns");
  } catch (error) {
    if (error.status === 401) $("key").showModal();
    else $("about").textContent = error.status === 404 ? error.message : word("failed", error.message);
  }
}

$("run").addEventListener("change", open);
$("step").addEventListener("input", show);
$("askIt").addEventListener("click", async () => {
  say(word("loading"));
  try {
    const { model } = await api.post("/v1/runs", { run: $("run").value, step: steps[Number($("step").value)].step });
    // The chat would take another model in place of one that it cannot talk to.
    if ((await api.model(model)).kind !== "chat") return say(word("noTalk"), true);
    const settings = JSON.parse(localStorage.getItem("mynah.settings") ?? "{}");
    localStorage.setItem("mynah.settings", JSON.stringify({ ...settings, model }));
    location.assign("/");
  } catch (error) {
    say(word("failed", error.message), true);
  }
});
$("language").addEventListener("click", () => {
  change();
  if (!runs.length) return list();
  tell(chosen());
  look(chosen()).catch(() => {});
  show();
});
$("key").addEventListener("close", () => { api.setKey($("keyInput").value); $("keyInput").value = ""; list(); });

add(RUN_WORDS);
write();
list();
