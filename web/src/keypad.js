// The dial pad: a number or a name, the keys, the name of the number, voicemail.

import { byId, icon, make } from "./dom.js";
import { key as sound, KEYS } from "./sounds.js";
import { text } from "./texts.js";

/** @typedef {import("./app.js").App} App */

const LETTERS = ["", "ABC", "DEF", "GHI", "JKL", "MNO", "PQRS", "TUV", "WXYZ", "", "+", ""];

/**
 * The twelve keys.
 *
 * @param {(key: string) => void} press
 */
export function keys(press) {
  return KEYS.map((key, place) =>
    make(
      "button",
      { type: "button", onclick: () => { sound(key); press(key); }, "aria-label": key },
      make("span", {}, key),
      make("small", { "aria-hidden": "true" }, LETTERS[place] ?? ""),
    ));
}

/** @param {App} app */
export function showKeypad(app) {
  const number = byId("dial-number", HTMLInputElement);
  const describe = () => (byId("dial-name").textContent = app.nameOf(number.value.trim()));
  byId("dial-keys").append(...keys((key) => {
    number.value += key;
    describe();
  }));
  number.addEventListener("input", describe);
  byId("dial-erase").addEventListener("click", () => {
    number.value = number.value.slice(0, -1);
    describe();
    number.focus();
  });
  byId("dial").addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = number.value.trim();
    if (!wanted) number.value = app.lastDialled; // as telephones do: call shows it, call again dials it
    else void app.call(app.numberOf(wanted));
    if (wanted) number.value = "";
    describe();
  });
  byId("voicemail").addEventListener("click", () => void app.call(app.voicemail));
}

/** The voicemail button and its light. @param {App} app */
export function showVoicemail(app) {
  const count = app.line?.messages ?? 0;
  const button = byId("voicemail");
  button.hidden = !app.voicemail || app.line?.messages == null;
  button.classList.toggle("lit", count > 0);
  byId("voicemail-text").textContent = count ? text("voicemailNew", { count }) : text("voicemail");
}

/** The numbers that the input completes. @param {App} app */
export function suggestNumbers(app) {
  byId("known-numbers").replaceChildren(
    ...app.people.slice(0, 500).map(({ number, name }) => make("option", { value: number }, name)),
  );
}

/**
 * A button that calls somebody, in a list.
 *
 * @param {App} app
 * @param {{number: string, name: string}} person
 * @param {string} [detail]
 */
export function person(app, { number, name }, detail = number) {
  return make(
    "button",
    { type: "button", className: "person", "aria-label": text("callBack", { name: name ? `${name} (${number})` : number }), onclick: () => void app.call(number) },
    make("span", { className: "name" }, name || number),
    make("span", { className: "hint" }, detail),
    icon("phone"),
  );
}
