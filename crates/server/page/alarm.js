// Whether PPO cheats, in words, with three answers side by side.

import * as api from "./api.js";
import { element, percent, rounded } from "./dom.js";
import { columns } from "./rollouts.js";
import { word } from "./words.js";

const WORDS = {
  length: ({ from, to, goes_with_length }) => word("alarmLength", rounded(from), rounded(to), goes_with_length.toFixed(2)),
  repetition: ({ from, to }) => word("alarmRepetition", percent(from), percent(to)),
  kl: ({ from, to }) => word("alarmKl", rounded(from), rounded(to)),
  win_rate: ({ value, low, high, votes }) => word("alarmWinRate", percent(value), percent(low), percent(high), votes),
};

/** What the alarm says of the run at this path; null where it cannot be asked. */
export const alarmOf = (path) => api.get(`/v1/alarm/${path}`).catch(() => null);

/** Shows in `place` what the alarm says, or nothing where all is well. */
export function showAlarm(place, alarm) {
  place.hidden = !alarm?.reasons.length;
  if (place.hidden) return;
  const { reasons, signs, rollouts } = alarm;
  const { from, to } = signs.reward;
  place.replaceChildren(
    element("h2", word("alarmTitle")),
    element("p", word("alarmReward", rounded(from), rounded(to))),
    element("ul", reasons.map((it) => element("li", WORDS[it.kind](it)))),
    columns(rollouts.map((it) => ({ step: it.step, rollouts: [{ ...it, step: undefined }] }))),
  );
}
