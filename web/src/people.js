// The contacts: the users and services of the inventory, with a search.

import { byId, make } from "./dom.js";
import { person } from "./keypad.js";
import { text } from "./texts.js";

/** @typedef {import("./app.js").App} App */

const MOST = 100; // a longer list is slow, and nobody reads it

/** @param {App} app */
export function showContacts(app) {
  const search = byId("contacts-search", HTMLInputElement);
  search.addEventListener("input", () => listContacts(app));
  search.addEventListener("search", () => listContacts(app));
}

/** @param {App} app */
export function listContacts(app) {
  const wanted = byId("contacts-search", HTMLInputElement).value;
  const found = matching(app.people, wanted);
  byId("contacts-list").replaceChildren(...found.slice(0, MOST).map((each) => make("li", {}, person(app, each))));
  const isCut = found.length > MOST || wanted !== "";
  byId("contacts-count").textContent = app.isDirectoryMissing
    ? text("contactsUnavailable")
    : isCut ? text("contactsShown", { shown: Math.min(MOST, found.length), all: app.people.length }) : "";
}

/**
 * The people whose name or number contains every word.
 *
 * @template {{number: string, name: string}} T
 * @param {T[]} people
 * @param {string} wanted
 * @returns {T[]}
 */
export function matching(people, wanted) {
  const plain = (/** @type {string} */ value) => value.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
  const words = plain(wanted).split(/\s+/).filter(Boolean);
  return people.filter(({ number, name }) => {
    const whole = `${number} ${plain(name)}`;
    return words.every((word) => whole.includes(word));
  });
}
