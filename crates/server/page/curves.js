// Curves of a run as small pictures: what is held out first, then the loss, then the rest.

import { element, rounded } from "./dom.js";
import { word } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [400, 120];
/** Curves that say nothing. */
const LEFT_OUT = ["tokens", "mfu", "step_secs"];

const importance = (name) => (/^(val_|eval\/)/.test(name) ? 0 : /loss|reward|kl/.test(name) ? 1 : 2);

function drawn(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function figure(name, points, resumed) {
  const values = points.map((point) => point[1]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const [first, last] = [points[0][0], points.at(-1)[0]];
  const x = (step) => ((step - first) / Math.max(1, last - first)) * WIDTH;
  const y = (value) => HEIGHT - ((value - low) / (high - low || 1)) * HEIGHT;
  const picture = drawn("svg", { viewBox: `0 -2 ${WIDTH} ${HEIGHT + 4}`, preserveAspectRatio: "none", role: "img" });
  picture.ariaLabel = word("curveOf", name, rounded(values[0]), rounded(values.at(-1)), rounded(low), rounded(high));
  picture.append(drawn("path", { d: points.map(([step, value], at) => `${at ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("") }));
  for (const step of resumed.filter((step) => step > first && step <= last)) {
    const mark = drawn("line", { x1: x(step), x2: x(step), y1: 0, y2: HEIGHT });
    const title = drawn("title", {});
    title.textContent = `${word("atStep", step)}: ${word("resumed")}`;
    mark.append(title);
    picture.append(mark);
  }
  const ends = element("div", [element("span", String(first)), element("span", `${rounded(low)} … ${rounded(high)}`), element("span", String(last))], { className: "ends" });
  const caption = element("figcaption", [element("span", name), element("b", rounded(values.at(-1)))]);
  return element("figure", [caption, picture, ends]);
}

/** Shows all curves in `place`, with a mark where the run went on after an interruption. */
export function showCurves(place, { curves, events }) {
  const resumed = events.filter((it) => it.event === "resumed").map((it) => it.step);
  const names = Object.keys(curves).filter((name) => !LEFT_OUT.includes(name) && curves[name].length > 1);
  names.sort((a, b) => importance(a) - importance(b));
  place.replaceChildren(...names.map((name) => figure(name, curves[name], resumed)));
}
