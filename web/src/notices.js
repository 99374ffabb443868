// The notices above the page: what is wrong now, and what the user can do about it.

import { byId, make } from "./dom.js";
import { text } from "./texts.js";

/** @typedef {import("./problems.js").Problem} Problem */

/** @type {Map<string, HTMLElement>} */
const shown = new Map();

/**
 * Show a notice, or change it; null removes it.
 *
 * @param {string} place what the notice is about
 * @param {Problem | null} problem
 * @param {{label: string, act: () => void}} [action]
 */
export function notice(place, problem, action) {
  const old = shown.get(place);
  if (!problem) {
    old?.remove();
    shown.delete(place);
    return;
  }
  const message = text(problem.key, problem.values);
  if (old?.dataset["message"] === message) return;
  const close = () => notice(place, null);
  const buttons = [
    ...(problem.link ? [make("a", { href: problem.link.href, target: "_blank", rel: "noopener" }, text(problem.link.key, problem.values))] : []),
    ...(action ? [make("button", { type: "button", onclick: () => { close(); action.act(); } }, action.label)] : []),
    make("button", { type: "button", className: "plain", onclick: close }, text("dismiss")),
  ];
  const element = make("div", { className: "notice", role: "alert" }, make("p", {}, message), make("div", { className: "actions" }, ...buttons));
  element.dataset["message"] = message;
  if (old) old.replaceWith(element);
  else byId("notices").append(element);
  shown.set(place, element);
}
