// The list of past calls, newest first.

import { own } from "./store.js";

/**
 * @typedef {object} Entry
 * @property {string} number
 * @property {string} name
 * @property {"incoming" | "outgoing"} direction
 * @property {number} at milliseconds since 1970
 * @property {number} seconds 0 without an answer
 * @property {boolean} missed
 * @property {boolean} seen
 */

const KEPT = 100;

/** @returns {Entry[]} */
export const entries = () => own.store.get("history") ?? [];

/** @param {Entry} entry */
export function remember(entry) {
  own.store.set("history", [entry, ...entries()].slice(0, KEPT));
}

/** The missed calls that the user has not looked at. */
export const unseen = () => entries().filter((entry) => entry.missed && !entry.seen).length;

export function markSeen() {
  if (unseen()) own.store.set("history", entries().map((entry) => ({ ...entry, seen: true })));
}
