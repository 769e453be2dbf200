// What people think of answers, for the feedback store: thumbs, corrections, and answers ranked on the spot.

import * as api from "./api.js";
import { $, button, element, say } from "./dom.js";
import { Ranking, isElsewhere } from "./ranking.js";
import * as store from "./store.js";
import { word } from "./words.js";

const aboutOf = ({ model, seed, fingerprint, request }) => ({ model, seed, fingerprint, settings: { ...request, messages: undefined } });

/** Two buttons for an answer to `messages`; the one that was pressed is taken back by another press. */
export function thumbs(page, node, messages) {
  const made = [["good", true, "👍"], ["bad", false, "👎"]].map(([name, label, sign]) => {
    const thumb = button(name, async () => {
      const wanted = node.thumb === label ? null : label;
      const said = { key: api.newId(), subject: node.id, messages, completion: node.content, label: wanted, about: aboutOf(node) };
      try {
        await api.post("/v1/feedback/thumbs", said);
      } catch (error) {
        return say(word("failed", error.message), true);
      }
      node.thumb = wanted;
      page.keep();
      mark();
    }, sign);
    return [thumb, label];
  });
  const mark = () => { for (const [thumb, label] of made) thumb.ariaPressed = String(node.thumb === label); };
  mark();
  return made.map(([thumb]) => thumb);
}

/** An answer as it should have been is better than the one that was given. */
export async function corrected(node, messages, better) {
  if (better.trim() === node.content.trim()) return;
  const completions = [[better, null], [node.content, node.model ?? null]];
  await api.post("/v1/feedback/rankings", { key: api.newId(), messages, completions, ranks: [1, 2], comment: "corrected" })
    .catch((error) => say(word("failed", error.message), true));
}

// Answers side by side

let shown = null;

/** Asks `asks`, each of a model for so many answers, shows all answers without names, and keeps how they are ranked. */
export async function compare(page, parent, messages, asks, settings) {
  const of = new AbortController();
  const answers = asks.flatMap(({ model, n }, ask) => Array.from({ length: n }, (_, index) => ({ id: `${ask}.${index}`, text: "", model, index })));
  // In an order that tells nothing of who answered.
  for (let i = answers.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [answers[i], answers[j]] = [answers[j], answers[i]];
  }
  shown = { page, parent, messages, answers, of, since: Date.now(), isWhole: false };
  // Until it is over this conversation stays the one that is shown.
  $("ask").hidden = $("side").inert = true;
  $("compare").ariaBusy = "true";
  $("compare").hidden = false;
  ranking.show(answers);
  $("compare").focus();
  say(word("first"));
  try {
    await Promise.all(asks.map(async ({ model, n }, ask) => {
      const request = { model, messages, ...settings, ...(n > 1 && { n }) };
      for await (const chunk of api.chat(request, of.signal)) {
        of.signal.throwIfAborted();
        for (const { index, delta } of chunk.choices) {
          const answer = answers.find((it) => it.id === `${ask}.${index}`);
          if (delta.content) ranking.fill(answer.id, answer.text + delta.content);
          Object.assign(answer, { seed: chunk.seed, fingerprint: chunk.system_fingerprint, ...(index === 0 && { request: { ...request, n: undefined } }) });
        }
      }
    }));
    shown.isWhole = true;
    $("compare").ariaBusy = "false";
  } catch (error) {
    if (of.signal.aborted) return;
    giveUp();
    say(word("failed", error.message), true);
  }
}

const ranking = new Ranking($("cards"), $("chips"), say);

function close() {
  shown?.of.abort();
  shown = null;
  $("compare").hidden = true;
  $("ask").hidden = $("side").inert = false;
  $("input").focus();
}

/** Without answers the question goes back to where it was written. */
function giveUp() {
  const { page, parent } = shown;
  const node = page.talk.nodes[parent];
  if (node && !store.children(page.talk, parent).length) {
    $("input").value = node.content;
    store.removeNode(page.talk, node);
  }
  close();
  page.show();
  say("");
}

async function keep(ranks) {
  const { page, parent, messages, answers, since, isWhole } = shown;
  if (!isWhole) return say(word("notWhole"));
  const completions = answers.map(({ text, model }) => [text, model]);
  const said = { messages, completions, ranks: ranks && answers.map(({ id }) => ranks[id]) };
  try {
    await api.post("/v1/feedback/rankings", { ...said, key: api.keyOf(said), seconds: (Date.now() - since) / 1000 });
  } catch (error) {
    return say(word("notStored", error.message), true);
  }
  // All of them are versions of the answer; the one that is liked best is shown.
  const place = ({ id }) => (ranks ? ranks[id] : 0);
  for (const { text, model, seed, fingerprint, request } of answers.toSorted((a, b) => place(b) - place(a))) {
    Object.assign(store.add(page.talk, parent, "assistant", text), { model, seed, fingerprint: request && fingerprint, request });
  }
  const names = answers.map(({ model }, at) => `${word("answer", at + 1)}: ${model}`);
  close();
  page.keep();
  page.show();
  say(new Set(answers.map((it) => it.model)).size > 1 ? `${word("stored")} ${names.join(" · ")}` : word("stored"));
}

const enter = () => ranking.enter(keep);
const allBad = () => ranking.allBad(() => keep(null));

document.addEventListener("keydown", (event) => {
  if (!shown || isElsewhere(event)) return;
  if (event.key === "Enter") enter();
  else if (event.key.toLowerCase() === "b") allBad();
  else if (!ranking.key(event)) return;
  event.preventDefault();
});
$("compareKeep").addEventListener("click", enter);
$("compareBad").addEventListener("click", allBad);
$("compareCancel").addEventListener("click", giveUp);
$("compare").addEventListener("click", (event) => { if (event.detail > 0 && event.target.closest("button")) $("compare").focus(); });
