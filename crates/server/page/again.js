// Same again: what an answer came of, and whether it comes again, byte for byte.

import * as api from "./api.js";
import { button, element } from "./dom.js";
import { textOf } from "./why.js";
import { word } from "./words.js";

/** What an answer came of, to be unfolded under it. */
export function origin(node) {
  const { request, seed, fingerprint } = node;
  const settings = ["temperature", "top_k", "top_p", "max_tokens"].filter((name) => request[name] !== undefined);
  const arithmetic = element("dd");
  const rows = [
    [word("model"), request.model], ["system_fingerprint", fingerprint], [word("seed"), String(seed)],
    [word("settings"), settings.map((name) => `${name} ${request[name]}`).join(", ") || word("asModel")],
  ];
  const list = element("dl", rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  list.append(element("dt", word("arithmetic")), arithmetic);
  const result = element("p", [], { role: "status" });
  const again = button("again", async () => {
    again.disabled = true;
    result.textContent = word("asking");
    result.textContent = await ask(node).catch((error) => word("failed", error.message === "lost" ? word("gone") : error.message));
    again.disabled = false;
  });
  const made = element("details", [element("summary", word("origin")), list, again, result], { className: "origin" });
  made.addEventListener("toggle", async () => {
    if (made.open) arithmetic.textContent = await computes(node).catch((error) => error.message);
  });
  return made;
}

/** What computes the answers of a model: what computed this one, where the fingerprints are equal. */
async function computes(node) {
  const { arithmetic, system_fingerprint } = await api.model(node.request.model);
  return system_fingerprint === node.fingerprint ? arithmetic : word("otherOrigin");
}

/** Asks once more, and says whether the bytes are equal. What was stopped is compared as far as it goes. */
async function ask(node) {
  const bytes = (text) => new TextEncoder().encode(text);
  let [said, first] = [textOf(node.tokens?.slice(0, node.begun) ?? []), null];
  const isThere = () => node.stopped && said.length >= node.content.length;
  try {
    for await (const chunk of api.chat({ ...node.request, seed: node.seed }, new AbortController().signal)) {
      first ??= chunk;
      said += chunk.choices[0]?.delta.content ?? "";
      if (isThere()) break;
    }
  } finally {
    if (first) api.forget(first.id);
  }
  if (isThere()) said = said.slice(0, node.content.length);
  const [before, now] = [bytes(node.content), bytes(said)];
  const at = before.findIndex((byte, at) => byte !== now[at]);
  if (at < 0 && before.length === now.length) return word("equal", now.length);
  const unequal = word("unequal", at < 0 ? before.length : at);
  return first?.system_fingerprint === node.fingerprint ? unequal : `${unequal} ${word("otherOrigin")}`;
}

/** The command that gets the same answer again: precision and processor belong to the fingerprint. */
export function curl(node) {
  const body = JSON.stringify({ ...node.request, seed: node.seed }).replaceAll("'", "'\\''");
  return `# ${node.fingerprint}\ncurl ${location.origin}/v1/chat/completions -H 'Content-Type: application/json' -d '${body}'`;
}
