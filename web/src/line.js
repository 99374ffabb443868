// The line to the server: connection, registration, calls, voicemail light.

import JsSIP from "jssip";
import { Call } from "./call.js";
import { iceServers } from "./config.js";
import { releaseMicrophone, takeMicrophone } from "./devices.js";
import { connectionProblem, registrationProblem } from "./problems.js";

/** @typedef {import("./config.js").Config} Config */
/** @typedef {import("./config.js").Account} Account */
/** @typedef {import("./problems.js").Problem} Problem */
/** @typedef {import("jssip/lib/RTCSession").RTCSession} Session */

const ANSWER_WAIT = 5000; // ms that the server has to answer a sign of life
const PROBE_WAIT = 5000;
const RETRY = 15_000;

/**
 * Events: `change` (state, problem or voicemail), `registered` (each time), `call` (a new call, in
 * `detail`), `transferred` (the other side hands this call over; the name is in `detail`).
 */
export class Line extends EventTarget {
  /** @type {"connecting" | "registered" | "refused" | "stopped"} */
  state = "connecting";
  wasRegistered = false;
  /** @type {Problem | null} */
  problem = null;
  /** @type {number | null} new messages in the mailbox; null for a user without one */
  messages = null;
  /** @type {Call[]} those that are not over */
  calls = [];
  /** @type {RTCConfiguration} of each call */
  pcConfig = { iceServers: [] };
  /** @type {Set<Session>} that take the place of another, and are answered at once */
  #successors = new Set();
  #isChecking = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;
  /** @type {object | null} the subscription to the own mailbox */
  #mailbox = null;

  /**
   * @param {Config} config
   * @param {Account} account
   * @param {(number: string) => string} nameOf the name of a number in the inventory, or ""
   */
  constructor(config, account, nameOf) {
    super();
    this.config = config;
    this.account = account;
    this.nameOf = nameOf;
    this.socket = new JsSIP.WebSocketInterface(config.websocket);
    this.ua = new JsSIP.UA({
      sockets: [this.socket],
      uri: `sip:${account.number}@${config.domain}`,
      ha1: account.ha1,
      realm: config.domain,
      session_timers: false, // with them, a call ends after a while without connection
      no_answer_timeout: 180,
      connection_recovery_max_interval: 8,
    });
    this.ua.on("disconnected", ({ error }) => void this.#disconnected(error ?? false));
    this.ua.on("registered", () => this.#registered());
    this.ua.on("registrationFailed", ({ response }) => this.#refused(response));
    this.ua.on("newRTCSession", (/** @type {import("jssip/lib/UA").RTCSessionEvent} */ { session, originator, request }) => {
      const isIncoming = String(originator) === "remote";
      const peer = isIncoming ? request.from : request.to;
      this.#adopt(session, isIncoming ? "incoming" : "outgoing", peer);
    });
    window.addEventListener("online", this.#wake);
    window.addEventListener("offline", this.#wake);
    document.addEventListener("visibilitychange", this.#wake);
  }

  async start() {
    this.pcConfig = { iceServers: await iceServers(this.config, this.account) };
    if (this.state === "connecting") this.ua.start();
  }

  /** End all calls, unregister, and disconnect. */
  stop() {
    this.state = "stopped";
    clearTimeout(this.#retry);
    window.removeEventListener("online", this.#wake);
    window.removeEventListener("offline", this.#wake);
    document.removeEventListener("visibilitychange", this.#wake);
    this.ua.stop();
  }

  /** Whether requests reach the server now. */
  get isReady() {
    return this.state === "registered";
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  #registered() {
    this.state = "registered";
    this.wasRegistered = true;
    this.problem = null;
    this.#watchMailbox();
    this.dispatchEvent(new Event("registered"));
    this.#changed();
    for (const call of this.calls) call.repair();
  }

  /** @param {import("jssip/lib/SIPMessage").IncomingResponse | undefined} response */
  #refused(response) {
    // without a response the connection is gone, and `disconnected` tells why; or it timed out
    if (this.state === "stopped" || (!response && !this.ua.isConnected())) return;
    this.problem = registrationProblem(response?.status_code ?? null);
    const isFinal = this.problem.key === "problem.password" || this.problem.key === "problem.forbidden";
    clearTimeout(this.#retry);
    if (isFinal) this.stop();
    else this.#retry = setTimeout(() => this.ua.register(), RETRY);
    this.state = isFinal ? "refused" : "connecting";
    this.#changed();
  }

  /** @param {boolean} hasFailed */
  async #disconnected(hasFailed) {
    if (this.state === "stopped" || this.state === "refused") return;
    this.state = "connecting";
    this.#mailbox = null;
    this.#changed();
    if (!hasFailed && navigator.onLine) return;
    const origin = this.config.websocket.replace(/^wss:/, "https:").replace(/\/ws$/, "");
    const answers = await isAnswering(`${origin}/healthz`);
    if (this.state !== "connecting" || this.ua.isConnected()) return;
    this.problem = connectionProblem({ isOnline: navigator.onLine, answers, origin });
    this.#changed();
  }

  #wake = () => {
    if (!navigator.onLine) this.#changed();
    else if (document.visibilityState === "visible") this.check();
  };

  /** Drop the connection if the server does not answer, so that a new one is made. */
  check() {
    if (this.#isChecking || !this.ua.isConnected()) return;
    this.#isChecking = true;
    const timer = setTimeout(() => {
      this.#isChecking = false;
      if (!this.ua.isConnected()) return;
      this.socket.disconnect();
      this.socket.ondisconnect(true);
    }, ANSWER_WAIT);
    const alive = () => {
      clearTimeout(timer);
      this.#isChecking = false;
    };
    const eventHandlers = { succeeded: alive, failed: ({ response = null } = {}) => response && alive() };
    const ua = /** @type {any} */ (this.ua);
    ua.sendOptions(`sip:${this.config.domain}`, null, { eventHandlers });
  }

  /**
   * Call a number. Rejects with the error of getUserMedia.
   *
   * @param {string} number
   * @returns {Promise<Call>}
   */
  async call(number) {
    const mediaStream = await takeMicrophone();
    this.ua.call(this.uri(number), { mediaStream, pcConfig: this.pcConfig });
    return this.#newest(mediaStream);
  }

  /** @param {string} number */
  uri(number) {
    return `sip:${encodeURIComponent(number)}@${this.config.domain}`;
  }

  /** The call that was just made, with its microphone. @param {MediaStream} microphone */
  #newest(microphone) {
    const call = /** @type {Call} */ (this.calls.at(-1));
    call.microphone = microphone;
    return call;
  }

  /**
   * @param {Session} session
   * @param {"incoming" | "outgoing"} direction
   * @param {import("jssip/lib/NameAddrHeader").NameAddrHeader} peer
   */
  #adopt(session, direction, peer) {
    const number = peer.uri.user ?? "";
    const shown = direction === "incoming" && peer.display_name !== number ? peer.display_name : "";
    const name = this.nameOf(number) || shown || "";
    const call = new Call(session, { number, name, direction }, this);
    this.calls.push(call);
    call.addEventListener("change", () => {
      if (call.state === "over") this.calls = this.calls.filter((each) => each !== call);
    });
    session.on("refer", ({ request, accept }) => void this.#transferred(request, accept));
    session.on("replaces", ({ accept }) => accept((/** @type {Session} */ next) => this.#successors.add(next)));
    this.dispatchEvent(new CustomEvent("call", { detail: call }));
    if (this.#successors.delete(session)) void Promise.resolve().then(() => call.answer());
  }

  /**
   * The other side hands this side over: call the number that it names.
   *
   * @param {any} request
   * @param {Function} accept
   */
  async #transferred(request, accept) {
    const number = request.refer_to.uri.user;
    this.dispatchEvent(new CustomEvent("transferred", { detail: this.nameOf(number) || number }));
    const mediaStream = await takeMicrophone();
    const before = this.calls.length;
    accept(null, { mediaStream, pcConfig: this.pcConfig });
    if (this.calls.length > before) this.#newest(mediaStream);
    else releaseMicrophone(mediaStream); // the call is over
  }

  /** Subscribe to the own mailbox; the server refuses a user that has none. */
  #watchMailbox() {
    if (this.#mailbox) return;
    const mailbox = /** @type {any} */ (this.ua).subscribe(this.uri(this.account.number), "message-summary", "application/simple-message-summary", { expires: 600 });
    this.#mailbox = mailbox;
    mailbox.on("notify", (/** @type {unknown} */ _final, /** @type {unknown} */ _request, /** @type {string} */ body) => {
      this.messages = Number(/^Voice-Message:\s*(\d+)/im.exec(body ?? "")?.[1] ?? 0);
      this.#changed();
    });
    mailbox.on("terminated", () => {
      if (this.#mailbox === mailbox) this.#mailbox = null;
    });
    mailbox.subscribe();
  }
}

/** Whether a server answers at all; the page cannot read what. @param {string} url */
async function isAnswering(url) {
  try {
    const signal = AbortSignal.timeout(PROBE_WAIT);
    await fetch(url, { mode: "no-cors", cache: "no-store", credentials: "omit", signal });
    return true;
  } catch {
    return false;
  }
}
