// The phone as a whole: who is signed in, the line, the directory, and what the buttons do.

import { loadDirectory } from "./config.js";
import { byId } from "./dom.js";
import { entries, remember } from "./history.js";
import { showVoicemail, suggestNumbers } from "./keypad.js";
import { Line } from "./line.js";
import { notice } from "./notices.js";
import { showCalls, tell } from "./panel.js";
import { listContacts, matching } from "./people.js";
import { microphoneProblem } from "./problems.js";
import { listRecents } from "./recents.js";
import { fail, isSilenced, knock, onSoundChange, ring, ringBack, stop as stopSound, audio } from "./sounds.js";
import { own } from "./store.js";
import { text, textOr } from "./texts.js";

/** @typedef {import("./call.js").Call} Call */
/** @typedef {import("./config.js").Account} Account */
/** @typedef {import("./config.js").Config} Config */
/** @typedef {import("./config.js").Directory} Directory */

export class App {
  /** @type {Line | null} */
  line = null;
  isDirectoryMissing = false;
  /** @type {Directory} */
  #directory = { users: [], services: [] };
  /** @type {Map<string, string>} */
  #names = new Map();

  /** @param {Config} config */
  constructor(config) {
    this.config = config;
    onSoundChange(() => this.#showSound());
    window.addEventListener("beforeunload", (event) => {
      if (this.line?.calls.some((call) => call.state === "active")) event.preventDefault();
    });
    window.addEventListener("pagehide", () => this.line?.stop());
    window.addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
  }

  /**
   * Connect and register; the form stays until the server has accepted the account.
   *
   * @param {Account} account
   * @param {{isNew: boolean, stays?: boolean}} how
   */
  signIn(account, { isNew, stays = false }) {
    this.line?.stop();
    const line = new Line(this.config, account, (number) => this.nameOf(number));
    this.line = line;
    line.addEventListener("change", () => this.show());
    line.addEventListener("call", (event) => this.#follow(/** @type {CustomEvent<Call>} */ (event).detail));
    line.addEventListener("transferred", (event) => {
      notice("transfer", { key: "transferred", values: { name: /** @type {CustomEvent<string>} */ (event).detail } });
    });
    line.addEventListener("registered", () => void this.#loadDirectory(account));
    line.addEventListener("registered", () => {
      if (isNew) own.signIn(account, stays);
      byId("sign-in-password", HTMLInputElement).value = "";
    }, { once: true });
    byId("sign-in").hidden = !isNew;
    byId("phone").hidden = isNew;
    void line.start();
    this.show();
  }

  signOut() {
    this.line?.stop();
    this.line = null;
    own.signOut();
    this.#directory = { users: [], services: [] };
    this.#names.clear();
    listRecents(this);
    this.show();
    byId("sign-in-number").focus();
  }

  /** Show everything anew. */
  show() {
    const { line } = this;
    const wasPhone = !byId("phone").hidden;
    if (line?.state === "refused" && line.problem?.key === "problem.password") own.signOut();
    const isIn = line !== null && line.state !== "refused" && (line.wasRegistered || wasPhone);
    byId("sign-in").hidden = isIn;
    byId("phone").hidden = !isIn;
    byId("sign-out").hidden = !isIn || this.config.is_local;
    if (isIn && !wasPhone) byId("dial-number").focus();
    this.#showStatus();
    showCalls(this);
    showVoicemail(this);
    listRecents(this);
    listContacts(this);
    this.#showSound();
    this.#ring();
  }

  #showStatus() {
    const { line } = this;
    const account = line?.account.number ?? "";
    const name = this.nameOf(account) || account;
    const isIn = !byId("phone").hidden;
    byId("title").textContent = isIn && account ? (name === account ? account : `${name} (${account})`) : text("phone");
    const problem = line?.problem ?? null;
    const state = line ? (navigator.onLine ? line.state : "connecting") : "stopped";
    byId("status").dataset["state"] = state;
    const waiting = line?.wasRegistered ? "reconnecting" : isIn ? "connecting" : "signingIn";
    byId("status-text").textContent = text(state === "registered" ? "registered" : state === "connecting" ? waiting : "signedOut");
    const inForm = byId("sign-in-problem");
    inForm.hidden = isIn || !problem;
    inForm.textContent = problem && !isIn ? text(problem.key, problem.values) : "";
    notice("connection", isIn || problem?.link ? problem : null);
    const incoming = line?.calls.find((call) => call.state === "incoming");
    document.title = incoming ? text("callFrom", { name: incoming.label }) : `${text("phone")} ${account}`.trim();
  }

  #showSound() {
    const isNeeded = isSilenced() && this.line?.state === "registered";
    const action = { label: text("soundOn"), act: () => void audio().resume() };
    notice("sound", isNeeded ? { key: "soundOff" } : null, action);
  }

  /** The sound that fits the calls. */
  #ring() {
    const states = this.line?.calls.map((call) => call.state) ?? [];
    const isTalking = states.includes("active");
    const wanted = states.includes("incoming") ? (isTalking ? knock : ring) : states.includes("ringing") && !isTalking ? ringBack : null;
    if (wanted === this.#ringing) return;
    this.#ringing = wanted;
    if (wanted) wanted();
    else stopSound();
  }

  /** @type {(() => void) | null} */
  #ringing = null;

  /** @param {Account} account */
  async #loadDirectory(account) {
    try {
      this.#directory = await loadDirectory(account);
      this.isDirectoryMissing = false;
    } catch {
      this.isDirectoryMissing = this.#directory.users.length === 0;
    }
    this.#names = new Map(this.#directory.users.map(({ number, name }) => [number, name]));
    for (const { number, kind } of this.#directory.services) this.#names.set(number, textOr(`kind.${kind}`, kind));
    suggestNumbers(this);
    this.show();
  }

  /** Everybody whom this user can call. */
  get people() {
    const self = this.line?.account.number;
    const services = this.#directory.services.map(({ number }) => ({ number, name: this.nameOf(number) }));
    return [...this.#directory.users.filter(({ number }) => number !== self), ...services];
  }

  /** The number of the service that plays messages, or "". */
  get voicemail() {
    return this.#directory.services.find(({ kind }) => kind === "voicemail")?.number ?? "";
  }

  /** @param {string} number */
  isService(number) {
    return this.#directory.services.some((service) => service.number === number);
  }

  /** @param {string} number */
  nameOf(number) {
    return this.#names.get(number) ?? "";
  }

  /** The number that the user means: a number with spaces, or the only name that matches. @param {string} wanted */
  numberOf(wanted) {
    const plain = wanted.replace(/[\s()/.-]/g, "");
    if (/^[0-9*#+]+$/.test(plain)) return plain;
    const found = matching(this.people, wanted);
    return found.length === 1 ? /** @type {{number: string}} */ (found[0]).number : "";
  }

  get lastDialled() {
    return entries().find((entry) => entry.direction === "outgoing")?.number ?? "";
  }

  /** @param {string} number @returns {Promise<Call | null>} */
  async call(number) {
    notice("call", number ? null : { key: "problem.no-such-name" });
    if (!this.line || !number) return null;
    try {
      await this.#holdOthers(null);
      const call = await this.line.call(number);
      notice("microphone", null);
      this.show();
      return call;
    } catch (error) {
      notice("microphone", microphoneProblem(error));
      return null;
    }
  }

  /** @param {Call} call */
  async answer(call) {
    await this.#holdOthers(call);
    await call.answer();
    notice("microphone", call.state === "incoming" ? call.problem : null);
  }

  /** @param {Call} call @param {boolean} wanted */
  async hold(call, wanted) {
    if (!wanted) await this.#holdOthers(call);
    await call.hold(wanted);
  }

  /** Only one call is heard at a time. @param {Call | null} except */
  async #holdOthers(except) {
    const others = this.line?.calls.filter((call) => call !== except && call.state === "active") ?? [];
    await Promise.all(others.map((call) => call.hold(true)));
  }

  /** Hand a call over without asking. @param {Call} call @param {string} number */
  async transfer(call, number) {
    notice("call", number ? null : { key: "problem.no-such-name" });
    if (!this.line || !number) return;
    const isConnected = await call.transfer(this.line.uri(number), this.nameOf(number) || number);
    if (!isConnected && call.state === "active") await call.hold(false);
  }

  /** Hold a call and ask the one who will get it. @param {Call} call @param {string} number */
  async askFirst(call, number) {
    const second = await this.call(number);
    if (second) second.asksFor = call;
    this.show();
  }

  /** @param {Call} call @param {Call} second the call with the one who was asked */
  async completeTransfer(call, second) {
    if (!this.line) return;
    await call.transfer(this.line.uri(second.number), second.label, second);
  }

  /** @param {Call} call */
  #follow(call) {
    call.addEventListener("change", () => {
      tell(call);
      if (call.state === "over") this.#over(call);
      this.show();
    });
    tell(call);
    if (call.state === "incoming") this.#notify(call);
    this.show();
  }

  /** @param {Call} call */
  #over(call) {
    const { number, name, direction, answeredAt, problem } = call;
    const missed = direction === "incoming" && !answeredAt && !call.wasRejected && !call.wasTakenElsewhere;
    const seconds = answeredAt ? Math.round((Date.now() - answeredAt) / 1000) : 0;
    remember({ number, name, direction, at: call.createdAt, seconds, missed, seen: false });
    if (problem && problem.key !== "transferFailed") {
      notice("call", problem);
      fail();
    }
  }

  /** Show an incoming call outside the page, if the user has allowed it. @param {Call} call */
  #notify(call) {
    if (document.visibilityState === "visible" || !("Notification" in window) || Notification.permission !== "granted") return;
    try {
      const shown = new Notification(text("callFrom", { name: call.label }), { tag: "call", requireInteraction: true });
      shown.onclick = () => window.focus();
      call.addEventListener("change", () => shown.close(), { once: true });
    } catch {
      // Android allows notifications only from a service worker; it rings all the same
    }
  }
}
