// Conversations, kept in this browser. A conversation is a tree: an edited question or another answer is a sibling, and
// nothing that was said is lost.

import { newId } from "./api.js";

const PLACE = "mynah.conversations";

let talks = [];
try { talks = JSON.parse(localStorage.getItem(PLACE)) ?? []; } catch { /* What cannot be read is begun anew. */ }

/** Keeps all of them: whether there was room. */
export function save() {
  try { localStorage.setItem(PLACE, JSON.stringify(talks)); return true; } catch { return false; }
}

export const all = () => talks;

export function create() {
  const talk = { id: newId(), title: "", system: "", nodes: {}, shown: {} };
  talks.unshift(talk);
  return talk;
}

export function remove(talk) {
  talks = talks.filter((other) => other !== talk);
  save();
}

/** Takes out a message that nothing follows. */
export function removeNode(talk, node) {
  delete talk.nodes[node.id];
  delete talk.shown[node.parent];
}

/** The answers whose streams were not heard to their end, and their conversations: what was asked last comes first. */
export function unfinished() {
  const found = talks.flatMap((talk) => Object.values(talk.nodes).filter((node) => node.stream).map((node) => [talk, node]));
  return found.sort(([, a], [, b]) => b.stream.since - a.stream.since);
}

/** The siblings of a node's children: `parent` is "" for the first message. */
export const children = (talk, parent) => Object.values(talk.nodes).filter((node) => node.parent === parent);

/** The messages that are shown, first to last. */
export function path(talk) {
  const nodes = [];
  for (let parent = ""; ;) {
    const options = children(talk, parent);
    if (!options.length) return nodes;
    const node = options.find((it) => it.id === talk.shown[parent]) ?? options.at(-1);
    nodes.push(node);
    parent = node.id;
  }
}

/** What a model is told of messages. */
export function said(talk, nodes) {
  const messages = nodes.map(({ role, content }) => ({ role, content }));
  return talk.system ? [{ role: "system", content: talk.system }, ...messages] : messages;
}

export function add(talk, parent, role, content) {
  const node = { id: newId(), parent, role, content };
  talk.nodes[node.id] = node;
  talk.shown[parent] = node.id;
  talk.title ||= content.slice(0, 60);
  return node;
}
