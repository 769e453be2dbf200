// What every part of the page needs: its elements by name, buttons, the line that says how it goes.

import { element, text } from "./markdown.js";
import { word } from "./words.js";

export { element, text };

export const $ = (id) => document.getElementById(id);

/** A button of this name, or one that shows `label` and has the name for whoever does not see it. */
export function button(name, act, label) {
  const made = element("button", label ?? word(name), { type: "button" });
  if (label) made.ariaLabel = word(name);
  made.addEventListener("click", act);
  return made;
}

export function say(status, isBad = false) {
  $("status").textContent = status;
  $("status").classList.toggle("bad", isBad);
}

/** A token as it can be read: its text, or its bytes where they are no whole characters. */
export function legible({ token, bytes }) {
  if (!token.includes("\ufffd")) return JSON.stringify(token).slice(1, -1);
  return bytes.map((byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ");
}

/** A number as people read it. */
export const rounded = (value) => String(Number(value.toPrecision(4)));

export const percent = (p) => (p > 0 && p < 0.001 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`);
