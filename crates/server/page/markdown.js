// Markdown as DOM nodes. Whatever a model writes stays text: no HTML is parsed, no image is loaded, and a link shows where it
// leads. Every function reads its text once, so that hostile text takes no longer than other text of its length.

const BIDI = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;
const INLINE = /(`+)|(\*\*|__)|(\*|_)|(\[[^\[\]\n]{1,300}\]\([^()\s]{1,2000}\))|(https?:\/\/[^\s<>"'`)\]]{1,2000})/g;

/** Text, with characters that turn its direction made visible. */
export function text(value) {
  if (!BIDI.test(value)) return document.createTextNode(value);
  const fragment = document.createDocumentFragment();
  for (const part of value.split(/([\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069])/)) {
    if (!BIDI.test(part)) { fragment.append(part); continue; }
    const mark = element("span", `U+${part.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`);
    mark.className = "bidi";
    fragment.append(mark);
  }
  return fragment;
}

/** An element with what is in it, a text or other elements, and with properties. */
export function element(name, content = [], properties = {}) {
  const made = Object.assign(document.createElement(name), properties);
  for (const part of [content].flat()) made.append(typeof part === "string" ? text(part) : part);
  return made;
}

function link(label, url) {
  let safe;
  try { safe = new URL(url); } catch { return text(label); }
  if (!["http:", "https:", "mailto:"].includes(safe.protocol)) return text(`${label} (${url})`);
  const made = element("a", label === url ? url : `${label} (${url})`);
  made.href = safe.href;
  made.rel = "noopener noreferrer";
  made.target = "_blank";
  return made;
}

/** A line's code, emphasis and links. A mark without its partner is text. */
function inline(source) {
  const root = document.createDocumentFragment();
  const open = [{ mark: "", node: root }];
  const top = () => open.at(-1).node;
  let last = 0, found;
  INLINE.lastIndex = 0;
  while ((found = INLINE.exec(source))) {
    const [all, ticks, strong, emphasis, named, bare] = found;
    top().append(text(source.slice(last, found.index)));
    last = INLINE.lastIndex;
    if (ticks) {
      const end = source.indexOf(ticks, last);
      if (end < 0) { top().append(text(all)); continue; }
      top().append(element("code", source.slice(last, end)));
      last = INLINE.lastIndex = end + ticks.length;
    } else if (named) {
      const [, label, url] = /^\[(.*)\]\((.*)\)$/.exec(named);
      top().append(link(label, url));
    } else if (bare) {
      top().append(link(bare, bare));
    } else {
      const mark = strong ?? emphasis;
      const inWord = mark.startsWith("_") && /\w/.test(source[found.index - 1] ?? "") && /\w/.test(source[last] ?? "");
      const isOpen = open.findIndex((it) => it.mark === mark);
      if (inWord) top().append(text(mark));
      else if (isOpen > 0) {
        // What was opened inside and not closed is text.
        while (open.length - 1 > isOpen) unopen(open);
        open.pop();
      } else if (open.length < 8 && /\S/.test(source[last] ?? "")) {
        const node = element(strong ? "strong" : "em");
        top().append(node);
        open.push({ mark, node });
      } else top().append(text(mark));
    }
  }
  top().append(text(source.slice(last)));
  while (open.length > 1) unopen(open);
  return root;
}

function unopen(open) {
  const { mark, node } = open.pop();
  node.replaceWith(mark, ...node.childNodes);
}

/** Blocks: code, headings, lists, quotes, tables, paragraphs. */
export function markdown(source) {
  const root = document.createDocumentFragment();
  const lines = source.split("\n");
  for (let i = 0; i < lines.length;) {
    const line = lines[i];
    const fence = /^ {0,3}(```+|~~~+)/.exec(line)?.[1];
    if (fence) {
      const code = [];
      for (i++; i < lines.length && !lines[i].trimStart().startsWith(fence); i++) code.push(lines[i]);
      i++;
      root.append(element("pre", element("code", code.join("\n")), { tabIndex: 0 }));
      continue;
    }
    if (!line.trim()) { i++; continue; }
    const heading = /^(#{1,6}) +(.*)$/.exec(line);
    if (heading) {
      // The page has its own first levels.
      root.append(element(`h${Math.min(6, heading[1].length + 2)}`, inline(heading[2])));
      i++;
      continue;
    }
    const take = (is, strip) => {
      const taken = [];
      while (i < lines.length && is.test(lines[i])) taken.push(lines[i++].replace(strip, ""));
      return taken;
    };
    const bullet = /^ {0,3}[-*+] +/, number = /^ {0,3}\d{1,9}[.)] +/, quote = /^ {0,3}> ?/, row = /^ *\|.*\| *$/;
    if (bullet.test(line) || number.test(line)) {
      const is = bullet.test(line) ? bullet : number;
      const list = element(is === bullet ? "ul" : "ol");
      if (is === number) list.start = parseInt(line, 10);
      for (const item of take(is, is)) list.append(element("li", inline(item)));
      root.append(list);
    } else if (quote.test(line)) {
      root.append(element("blockquote", inline(take(quote, quote).join("\n"))));
    } else if (row.test(line)) {
      root.append(table(take(row, "")));
    } else {
      const paragraph = [];
      const ends = (at) => !lines[at]?.trim() || [bullet, number, quote, row, /^#{1,6} /, /^ {0,3}(```|~~~)/].some((it) => it.test(lines[at]));
      do paragraph.push(lines[i++]); while (i < lines.length && !ends(i));
      const made = element("p");
      paragraph.forEach((part, at) => { if (at) made.append(element("br")); made.append(inline(part)); });
      root.append(made);
    }
  }
  return root;
}

function table(rows) {
  const made = element("table");
  const cells = (row) => row.trim().slice(1, -1).split("|").map((cell) => cell.trim());
  const hasHead = rows.length > 1 && cells(rows[1]).every((cell) => /^:?-+:?$/.test(cell));
  rows.forEach((row, at) => {
    if (hasHead && at === 1) return;
    const tr = element("tr");
    for (const cell of cells(row)) tr.append(element(hasHead && at === 0 ? "th" : "td", inline(cell)));
    made.append(tr);
  });
  return made;
}
