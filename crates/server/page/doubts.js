// The rankings that the reward model would order the other way, to be asked for again or kept.

import * as api from "./api.js";
import { button, element, say, text } from "./dom.js";
import { word } from "./words.js";

function item({ assignment, rater, messages, answers }) {
  const made = element("li", messages.map(({ content }) => element("p", text(content), { className: "asked" })), { className: "doubt" });
  const rows = answers.map((it) => element("li", [element("b", word("rankAndReward", it.rank, it.reward.toFixed(2))), " ", text(it.text)]));
  made.append(element("ul", rows));
  const settle = async (kept) => {
    try {
      await api.post("/v1/doubts", { assignment, kept });
    } catch (error) {
      return say(word("failed", error.message), true);
    }
    made.replaceChildren(element("p", kept ? word("kept") : word("askedOf", rater ?? "")));
  };
  made.append(element("p", [button("askAgain", () => settle(false)), button("keepIt", () => settle(true))], { className: "buttons" }));
  return made;
}

/** Shows in `place` what the reward model of a generation doubts: whether it has looked. */
export async function showDoubts(place, name) {
  const { doubts } = await api.get(`/v1/doubts/${encodeURIComponent(name)}`);
  if (!doubts) return false;
  const { rankings, contrary, of } = doubts;
  const list = element("details", [element("summary", word("doubtsTitle", contrary, of))]);
  if (rankings.length) list.append(element("p", word("doubtsAbout", rankings.length)), element("ol", rankings.map(item)));
  place.replaceChildren(list);
  return true;
}
