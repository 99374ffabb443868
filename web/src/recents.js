// The list of past calls, and the number of missed ones.

import { byId, icon, make } from "./dom.js";
import { entries, markSeen, unseen } from "./history.js";
import { person } from "./keypad.js";
import { currentLanguage, text } from "./texts.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./history.js").Entry} Entry */

/** @param {App} app */
export function listRecents(app) {
  const all = entries();
  byId("recents-none").hidden = all.length > 0;
  byId("recents-list").replaceChildren(...all.map((entry) => row(app, entry)));
  if (!byId("recents").hidden) markSeen();
  countMissed();
}

export function countMissed() {
  const count = unseen();
  const badge = byId("missed");
  badge.hidden = count === 0;
  badge.replaceChildren(
    make("span", { "aria-hidden": "true" }, String(count)),
    make("span", { className: "heard-only" }, text("missedCalls", { count })),
  );
}

/** @param {App} app @param {Entry} entry */
function row(app, entry) {
  const kind = entry.missed ? "missed" : entry.direction;
  const { number, at, seconds } = entry;
  const parts = [text(kind), moment(new Date(at)), ...(seconds ? [duration(seconds)] : [])];
  const name = app.nameOf(number) || entry.name;
  const button = person(app, { number, name }, parts.join(", "));
  button.prepend(icon(kind));
  return make("li", { className: kind }, button);
}

/** The time of today, else also the date, as people in the user's country write it. @param {Date} at */
function moment(at) {
  const locale = navigator.languages.find((each) => each.startsWith(currentLanguage())) ?? currentLanguage();
  const isToday = at.toDateString() === new Date().toDateString();
  return at.toLocaleString(locale, { ...(isToday ? {} : { dateStyle: "medium" }), timeStyle: "short" });
}

/** 3:07, or 1:02:03. @param {number} seconds */
export function duration(seconds) {
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
