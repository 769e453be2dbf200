// An order of answers in which some are equals: groups of ids, best first.

export class Order {
  groups = [];
  #tiesNext = false;

  get isEmpty() { return this.groups.length === 0; }

  restore(groups) {
    this.groups = groups.map((group) => [...group]);
    this.#tiesNext = false;
  }

  /** The place of an answer from 1; 0 where it has none. */
  place(id) { return this.groups.findIndex((group) => group.includes(id)) + 1; }

  /** The rank of each answer that has a place. */
  ranks() { return Object.fromEntries(this.groups.flatMap((group, at) => group.map((id) => [id, at + 1]))); }

  /** What is pushed next is as good as the last. */
  tieNext() { this.#tiesNext = true; }

  push(id) {
    if (this.#tiesNext) this.tie(id);
    else { this.remove(id); this.groups.push([id]); }
    this.#tiesNext = false;
  }

  /** As good as the last. */
  tie(id) {
    this.remove(id);
    if (this.isEmpty) this.groups.push([id]);
    else this.groups.at(-1).push(id);
  }

  pop() {
    const last = this.groups.at(-1)?.at(-1);
    if (last) this.remove(last);
    this.#tiesNext = false;
  }

  remove(id) { this.groups = this.groups.map((group) => group.filter((other) => other !== id)).filter((group) => group.length); }

  /** Puts an answer between groups: before the one that stands at `at`. */
  insert(id, at) {
    const later = this.groups.slice(at).flat().find((other) => other !== id);
    this.remove(id);
    const to = this.groups.findIndex((group) => group.includes(later));
    this.groups.splice(to < 0 ? this.groups.length : to, 0, [id]);
  }

  tieWith(id, other) {
    this.remove(id);
    this.groups.find((group) => group.includes(other)).push(id);
  }
}
