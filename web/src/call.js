// One call: its state, its actions, its media.

import { gatheringTime } from "./config.js";
import { microphoneLevel, playOnSpeaker, releaseMicrophone, takeMicrophone } from "./devices.js";
import { byId } from "./dom.js";
import { endProblem, MediaJudge, microphoneProblem } from "./problems.js";

/** @typedef {import("jssip/lib/RTCSession").RTCSession} Session */
/** @typedef {import("./problems.js").Problem} Problem */
/** @typedef {"calling" | "ringing" | "incoming" | "answering" | "active" | "over"} State */

const ICE_PATIENCE = 3000; // ms without a path before it is looked for again
const CALLEE_PATIENCE = 2500; // ms longer, so that not both sides send a re-INVITE at once

export class Call extends EventTarget {
  /** @type {State} */
  state;
  isHeld = false;
  isHeldByOther = false;
  isMuted = false;
  /** milliseconds since 1970; 0 before the answer */
  answeredAt = 0;
  createdAt = Date.now();
  /** @type {Problem | null} what is wrong now, or why the call ended */
  problem = null;
  /** the number that this call is being transferred to */
  transferringTo = "";
  /** @type {Call | null} the call for which the user asks first, before transferring it */
  asksFor = null;
  wasRejected = false;
  wasTakenElsewhere = false;

  /** @type {MediaStream | null} which the call gives back at its end */
  microphone = null;

  #judge = new MediaJudge();
  /** @type {HTMLAudioElement} */
  #sound = document.createElement("audio");
  #timer = 0;
  #lostAt = 0;
  #isRestarting = false;

  /**
   * @param {Session} session
   * @param {{number: string, name: string, direction: "incoming" | "outgoing"}} peer
   * @param {{isReady: boolean, check: () => void, pcConfig: RTCConfiguration}} line
   */
  constructor(session, peer, line) {
    super();
    this.session = session;
    this.line = line;
    this.number = peer.number;
    this.name = peer.name;
    this.direction = peer.direction;
    this.state = this.direction === "incoming" ? "incoming" : "calling";
    this.#sound.autoplay = true;
    playOnSpeaker(this.#sound);
    byId("calls").append(this.#sound);
    this.#listen();
  }

  #listen() {
    const { session } = this;
    if (session.connection) this.#hear(session.connection);
    session.on("peerconnection", ({ peerconnection }) => this.#hear(peerconnection));
    session.on("progress", () => this.direction === "outgoing" && this.#move("ringing"));
    session.on("accepted", () => this.#begin());
    session.on("hold", ({ originator }) => this.#held(originator, true));
    session.on("unhold", ({ originator }) => this.#held(originator, false));
    session.on("ended", (event) => this.#end(event));
    session.on("failed", (event) => this.#end(event));
    // the first call of `ready` counts
    session.on("icecandidate", ({ candidate, ready }) => setTimeout(ready, gatheringTime(candidate, this.line.pcConfig)));
  }

  /** @param {State} state */
  #move(state) {
    this.state = state;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  /** @param {RTCPeerConnection} connection */
  #hear(connection) {
    connection.addEventListener("track", ({ track, streams }) => {
      this.#sound.srcObject = streams[0] ?? new MediaStream([track]);
    });
  }

  #begin() {
    this.answeredAt = Date.now();
    this.#timer = window.setInterval(() => void this.#measure(), 1000);
    this.#move("active");
  }

  /** @param {string} originator @param {boolean} isHeld */
  #held(originator, isHeld) {
    if (originator === "local") this.isHeld = isHeld;
    else this.isHeldByOther = isHeld;
    this.#changed();
  }

  /** @param {import("jssip/lib/RTCSession").EndEvent} event */
  #end({ originator, message, cause }) {
    clearInterval(this.#timer);
    this.#sound.srcObject = null;
    this.#sound.remove();
    releaseMicrophone(this.microphone);
    const status = originator === "remote" && message && "status_code" in message ? Number(message.status_code) : null;
    // another phone of this user has answered: Kamailio's CANCEL says so
    const reason = originator === "remote" && message && "getHeader" in message ? message.getHeader("Reason") : "";
    this.wasTakenElsewhere = /cause=200\b/.test(String(reason ?? ""));
    const { number } = this;
    const isWanted = this.answeredAt > 0 && cause === "Terminated";
    const own = this.direction === "outgoing" || this.answeredAt > 0;
    if (own && !isWanted && !this.wasRejected) this.problem ??= endProblem({ status, cause, name: this.label, number });
    else if (isWanted) this.problem = null;
    this.#move("over");
  }

  /** The name, or the number of a caller without one. */
  get label() {
    return this.name || this.number;
  }

  async answer() {
    if (this.state !== "incoming") return;
    this.#move("answering");
    try {
      this.microphone = await takeMicrophone();
      if (this.session.isEnded()) releaseMicrophone(this.microphone);
      else this.session.answer({ mediaStream: this.microphone, pcConfig: this.line.pcConfig });
    } catch (error) {
      this.problem = microphoneProblem(error);
      if (!this.session.isEnded()) this.#move("incoming");
    }
  }

  reject() {
    this.wasRejected = true;
    this.session.terminate({ status_code: 486 });
  }

  hangUp() {
    this.wasRejected = this.state === "incoming";
    if (!this.session.isEnded()) this.session.terminate();
  }

  /** @param {boolean} wanted @returns {Promise<void>} resolves when the other side knows it */
  hold(wanted) {
    return new Promise((resolve) => {
      if (this.isHeld === wanted || this.state !== "active" || !this.line.isReady) return resolve();
      const isSent = wanted ? this.session.hold({}, resolve) : this.session.unhold({}, resolve);
      if (!isSent) resolve();
      return undefined;
    });
  }

  /** @param {boolean} wanted */
  mute(wanted) {
    if (wanted) this.session.mute({ audio: true });
    else this.session.unmute({ audio: true });
    this.isMuted = wanted;
    this.#changed();
  }

  /** @param {string} key */
  press(key) {
    const transportType = /** @type {any} */ ("RFC2833");
    this.session.sendDTMF(key, { transportType, duration: 160 });
  }

  /** Speak into the microphone that the user has chosen meanwhile. */
  async changeMicrophone() {
    const sender = this.session.connection?.getSenders().find((each) => each.track?.kind === "audio");
    if (!sender?.track) return;
    const next = await takeMicrophone();
    const track = /** @type {MediaStreamTrack} */ (next.getAudioTracks()[0]);
    track.enabled = sender.track.enabled;
    await sender.replaceTrack(track);
    releaseMicrophone(this.microphone);
    this.microphone = next;
  }

  /**
   * Hand the other side over to a number, or to the other side of a call.
   *
   * @param {string} uri
   * @param {string} label
   * @param {Call} [other]
   * @returns {Promise<boolean>} whether they are connected
   */
  transfer(uri, label, other) {
    this.transferringTo = label;
    this.#changed();
    return new Promise((resolve) => {
      const done = (/** @type {boolean} */ isConnected) => {
        this.transferringTo = "";
        if (isConnected) {
          this.hangUp();
          other?.hangUp();
        } else {
          this.problem = { key: "transferFailed", values: { name: label } };
        }
        this.#changed();
        resolve(isConnected);
      };
      const eventHandlers = {
        accepted: () => done(true),
        failed: () => done(false),
        requestFailed: () => done(false),
      };
      this.session.on("ended", () => resolve(false));
      this.session.refer(uri, { eventHandlers, ...(other ? { replaces: other.session } : {}) });
    });
  }

  async #measure() {
    const { connection } = this.session;
    if (!connection || this.state !== "active") return;
    let received = 0;
    for (const entry of (await connection.getStats()).values()) {
      if (entry.type === "inbound-rtp" && entry.kind === "audio") received += entry.packetsReceived;
    }
    const ice = connection.iceConnectionState;
    const isHeld = this.isHeld || this.isHeldByOther;
    const before = this.problem?.key;
    const now = this.#judge.judge({ ice, received, heard: microphoneLevel() }, { isMuted: this.isMuted, isHeld });
    if (now || before !== "transferFailed") this.problem = now;
    if (this.problem?.key !== before) this.#changed();
    this.repair();
  }

  /** Look for a new path of the media, if there is none for some seconds. */
  repair() {
    const { connection } = this.session;
    if (!connection || this.state !== "active") return;
    const ice = connection.iceConnectionState;
    if (ice === "connected" || ice === "completed" || ice === "new" || ice === "checking") {
      this.#lostAt = 0;
      return;
    }
    this.#lostAt ||= Date.now();
    const patience = ICE_PATIENCE + (this.direction === "incoming" ? CALLEE_PATIENCE : 0);
    if (Date.now() - this.#lostAt < patience) return;
    this.#lostAt = Date.now();
    if (this.line.isReady) this.#restart();
    this.line.check(); // a dead connection to the server looks alive for minutes
  }

  /**
   * Send a re-INVITE with an ICE restart. Not by `session.renegotiate`, which ends the call if the
   * other side has not reconnected yet and cannot be reached.
   */
  #restart() {
    if (this.#isRestarting || !this.session.isReadyToReOffer()) return;
    this.#isRestarting = true;
    const over = async (/** @type {boolean} */ hasFailed) => {
      this.#isRestarting = false;
      const { connection } = this.session;
      if (hasFailed && connection?.signalingState === "have-local-offer") {
        await connection.setLocalDescription({ type: "rollback" }).catch(() => {});
      }
    };
    const session = /** @type {any} */ (this.session);
    session._sendReinvite({
      rtcOfferConstraints: { iceRestart: true },
      eventHandlers: { succeeded: () => over(false), failed: () => over(true) },
    });
  }
}
