// What the server says to everybody (config.json) and to signed-in users (contacts.json).

/**
 * @typedef {object} Config
 * @property {string} domain the SIP domain, also the realm
 * @property {string} websocket wss://DOMAIN:PORT/ws
 * @property {string[]} relay the URLs of the relay (TURN); empty without one
 * @property {boolean} is_local served by `sipdeploy phone --open`, which signs in by itself
 *
 * @typedef {object} Contact
 * @property {string} number
 * @property {string} name
 *
 * @typedef {object} Directory
 * @property {Contact[]} users
 * @property {{number: string, kind: string}[]} services
 *
 * @typedef {object} Account
 * @property {string} number
 * @property {string} ha1 MD5 of number:domain:password, which is enough to sign in at this server
 */

/** @returns {Promise<Config>} */
export const loadConfig = () => json("config.json");

/** The account that `sipdeploy phone --open` was asked for. @returns {Promise<Account>} */
export const loadAccount = () => json("account.json");

/**
 * The names of all users. The server checks a key that is derived from the HA1, so neither the
 * password nor the HA1 leaves the page.
 *
 * @param {Account} account
 * @returns {Promise<Directory>}
 */
export async function loadDirectory(account) {
  const key = await derivedKey(account.ha1, "contacts");
  return json("contacts.json", { Authorization: `Basic ${btoa(`${account.number}:${key}`)}` });
}

/**
 * HMAC-SHA256 of a purpose, keyed by the HA1, in hex: a credential for one purpose alone.
 *
 * @param {string} ha1
 * @param {string} purpose
 */
export async function derivedKey(ha1, purpose) {
  const bytes = (/** @type {string} */ text) => new TextEncoder().encode(text);
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", bytes(ha1), algorithm, false, ["sign"]);
  const mac = new Uint8Array(await crypto.subtle.sign("HMAC", key, bytes(purpose)));
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * The relay for calls from networks that let no direct media out. Its password is the first half of
 * a key that is derived from the HA1, so no page has a secret that users share.
 *
 * @param {Config} config
 * @param {Account} account
 * @returns {Promise<RTCIceServer[]>}
 */
export async function iceServers({ relay }, { number, ha1 }) {
  if (relay.length === 0) return [];
  return [{ urls: relay, username: number, credential: (await derivedKey(ha1, "turn")).slice(0, 32) }];
}

const GATHERING = 1000; // ms from the first candidate until the offer is sent without the rest
const RELAY_GATHERING = 3000; // the same where a relay may follow, perhaps over TLS
const AFTER_RELAY = 300;

/**
 * Milliseconds after a candidate until the offer is sent. A URL of the relay that the network blocks
 * takes ten seconds, and another one may have answered long before.
 *
 * @param {RTCIceCandidate} candidate
 * @param {RTCConfiguration} config
 */
export function gatheringTime(candidate, { iceServers = [] }) {
  if (iceServers.length === 0) return GATHERING;
  return candidate.type === "relay" ? AFTER_RELAY : RELAY_GATHERING;
}

/**
 * @param {string} path
 * @param {Record<string, string>} headers
 */
async function json(path, headers = {}) {
  // without `credentials` the browser never asks for a password of its own
  const answer = await fetch(path, { headers, cache: "no-store", credentials: "omit" });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}
