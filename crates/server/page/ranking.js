// Answers side by side, ranked by digits, buttons or by dragging: the ranking page and the chat have the same.

import { button, element, say } from "./dom.js";
import { markdown } from "./markdown.js";
import { Order } from "./order.js";
import { word } from "./words.js";

export class Ranking {
  order = new Order();
  answers = [];
  #places;
  /** What is done at once when it is asked for again. */
  #asked = "";

  /** `cards` and `chips` are the elements for the answers and for their order; `changed` hears the order in words. */
  constructor(cards, chips, changed) {
    Object.assign(this, { cards, chips, changed });
  }

  /** Shows answers, each with an id and a text, in an order that was begun. */
  show(answers, groups = []) {
    this.answers = answers;
    this.order.restore(groups);
    this.#asked = "";
    this.#places = new Map();
    this.cards.replaceChildren(...answers.map((answer, at) => this.#card(answer, at)));
    this.#refresh();
  }

  /** Writes the text of an answer that grows. */
  fill(id, text) {
    this.answers.find((answer) => answer.id === id).text = text;
    this.#places.get(id).body.replaceChildren(markdown(text));
  }

  #card({ id, text }, at) {
    const place = element("span", "", { className: "place" });
    const head = this.#draggable(element("h3", [word("answer", at + 1), place], { id: `answer-${at + 1}` }), id);
    const body = element("div", markdown(text), { className: "text" });
    const tools = element("div", [], { className: "tools" });
    const card = element("article", [head, body, tools], { className: "answer" });
    card.setAttribute("aria-labelledby", head.id);
    this.#places.set(id, { card, place, body, tools });
    return card;
  }

  #digit(id) { return this.answers.findIndex((answer) => answer.id === id) + 1; }

  /** Marks each answer with its place, and shows the order as a row of chips that can be dragged. */
  #refresh() {
    const { order } = this;
    for (const [id, { card, place, tools }] of this.#places) {
      const at = order.place(id);
      card.classList.toggle("placed", at > 0);
      place.textContent = at ? word("place", at) : "";
      const choices = at
        ? [button("unplace", () => this.act(() => order.remove(id)))]
        : [button("next", () => this.act(() => order.push(id))), ...(order.isEmpty ? [] : [button("tie", () => this.act(() => order.tie(id)))])];
      for (const choice of choices) choice.ariaLabel = `${word("answer", this.#digit(id))}: ${choice.textContent}`;
      const hadFocus = tools.contains(document.activeElement);
      tools.replaceChildren(...choices);
      // Who goes from button to button stays where they are.
      if (hadFocus) choices[0].focus();
    }
    const chips = order.groups.flatMap((group, at) => [this.#gap(at), ...group.flatMap((id, i) => [...(i ? [element("li", "=")] : []), this.#chip(id)])]);
    this.chips.replaceChildren(...chips, this.#gap(order.groups.length));
  }

  /** Lets an answer be taken by this element and dropped where the order is. */
  #draggable(made, id) {
    made.draggable = true;
    made.addEventListener("dragstart", (event) => event.dataTransfer.setData("text/plain", id));
    return made;
  }

  #chip(id) {
    const made = this.#draggable(element("li", String(this.#digit(id)), { className: "chip" }), id);
    return this.#target(made, (dragged) => { if (dragged !== id) this.order.tieWith(dragged, id); });
  }

  #gap(at) {
    const between = at > 0 && at < this.order.groups.length ? "›" : "";
    return this.#target(element("li", between, { className: "gap", ariaHidden: "true" }), (dragged) => this.order.insert(dragged, at));
  }

  #target(made, drop) {
    made.addEventListener("dragover", (event) => { event.preventDefault(); made.classList.add("over"); });
    made.addEventListener("dragleave", () => made.classList.remove("over"));
    made.addEventListener("drop", (event) => {
      event.preventDefault();
      const id = event.dataTransfer.getData("text/plain");
      if (this.#digit(id)) this.act(() => drop(id));
    });
    return made;
  }

  /** Changes the order, shows it and tells it. */
  act(change) {
    change();
    this.#refresh();
    const { groups } = this.order;
    const told = groups.map((group) => group.map((id) => this.#digit(id)).join(word("and"))).join(word("then"));
    this.#tell(told ? word("ordered", told) : word("first"));
  }

  #tell(order) {
    this.#asked = "";
    this.changed(order);
  }

  /** Hands the rank of every answer to `keep`; where some have no place only when it is asked for twice. */
  enter(keep) {
    if (this.order.isEmpty) return say(word("nothingSaid"));
    if (this.rest.length && this.#asked !== "rest") {
      this.#asked = "rest";
      return say(word("rest", this.rest.length));
    }
    return keep(this.ranks());
  }

  /** Calls `keep` when it is asked for twice. */
  allBad(keep) {
    if (this.#asked === "bad") return keep();
    this.#asked = "bad";
    return say(word("badAgain"));
  }

  /** What a key means here; whether it means something. */
  key(event) {
    const n = event.key >= "1" && event.key <= "9" ? event.key : event.code.match(/^(?:Digit|Numpad)([1-9])$/)?.[1];
    const id = this.answers[n - 1]?.id;
    if (event.key === "=") this.order.tieNext();
    else if (event.key === "Backspace") this.act(() => this.order.pop());
    else if (event.key === "Escape") this.act(() => this.order.restore([]));
    else if (id && this.order.place(id)) this.#tell(`${word("answer", Number(n))}: ${word("placedAlready")}`);
    else if (id) this.act(() => this.order.push(id));
    else return false;
    return true;
  }

  /** The answers that have no place. */
  get rest() { return this.answers.map((answer) => answer.id).filter((id) => !this.order.place(id)); }

  /** The rank of every answer, by id; those without a place are last, as equals. */
  ranks() {
    const ranks = this.order.ranks();
    for (const id of this.rest) ranks[id] = this.order.groups.length + 1;
    return ranks;
  }
}

/** Ranks by answer as groups of equals, best first. */
export function groupsOf(ranks) {
  const all = [...new Set(Object.values(ranks))].sort((a, b) => a - b);
  return all.map((rank) => Object.keys(ranks).filter((id) => ranks[id] === rank));
}

/** Whether a key is meant for what is typed in, or for the button that has the focus. */
export function isElsewhere(event) {
  // The field of a dialog that was closed keeps the focus until the next frame is drawn.
  const field = event.target.closest("textarea, input, select, dialog");
  if (field?.checkVisibility() || event.ctrlKey || event.metaKey || event.altKey) return true;
  return event.isComposing || event.repeat || (event.key === "Enter" && Boolean(event.target.closest("button, summary, a")));
}
