// A phone driven by JsSIP.

import JsSIP from "jssip";
import { ACCEPT, NO_ANSWER, NO_TRANSPORT } from "./ledger.js";
import { openMicrophone } from "./sound.js";
import { isConnected, note } from "./trace.js";
import { changed, until } from "./watch.js";

// JsSIP waits for every candidate, and a relay that the network blocks gives none for ten seconds.
const AFTER_RELAY_MS = 300;
const AFTER_FIRST_MS = 3000;

const statusOf = ({ response, cause }) =>
  response?.status_code ?? (cause === JsSIP.C.causes.CONNECTION_ERROR ? NO_TRANSPORT : NO_ANSWER);

export class JsSipPhone {
  constructor(account, ledger) {
    this.ledger = ledger;
    this.headers = account.headers;
    this.servers = { iceServers: account.ice };
    this.ua = new JsSIP.UA(configuration(account));
    this.ua.on("connected", changed);
    this.ua.on("registered", ({ response }) => ledger.setRegistered(true, response.status_code));
    this.ua.on("unregistered", (event) =>
      ledger.setRegistered(false, event.response || event.cause ? statusOf(event) : null));
    this.ua.on("registrationFailed", (event) => ledger.setRegistered(false, statusOf(event)));
    // Without a listener JsSIP answers 405. Tests read the messages from the trace.
    this.ua.on("newMessage", changed);
    this.ua.on("newOptions", changed);
    this.ua.on("sipEvent", changed);
    this.ua.on("newRTCSession", ({ session, request, originator }) =>
      this.adopt(session, request, originator));
    this.ua.registrator().setExtraHeaders(account.headers);
  }

  start() {
    this.ua.start();
  }

  register() {
    this.ua.register();
  }

  unregister(all) {
    this.ua.unregister({ all });
  }

  /** Record a session: an outgoing or incoming call, or one that a REFER requested. */
  adopt(session, request, originator) {
    const incoming = originator === "remote";
    const peer = (incoming ? request.from : request.to).uri.user;
    const call = this.ledger.newCall(incoming ? "incoming" : "outgoing", peer, session);
    call.callId = request.call_id;
    call.watch(session.connection);
    session.on("peerconnection", ({ peerconnection }) => call.watch(peerconnection));
    session.on("icecandidate", ({ candidate, ready }) =>
      setTimeout(ready, candidate.type === "relay" ? AFTER_RELAY_MS : AFTER_FIRST_MS));
    if (!incoming) session.on("progress", () => call.move("ringing"));
    session.on("accepted", () => call.move("answered"));
    session.on("ended", ({ originator: by, cause }) => call.move("ended", `${by}: ${cause}`));
    session.on("failed", ({ originator: by, cause }) => call.move("failed", `${by}: ${cause}`));
    session.on("refer", async ({ accept }) => accept(null, await this.media()));
  }

  async media(headers = []) {
    return { mediaStream: await openMicrophone(), pcConfig: this.servers, extraHeaders: headers };
  }

  async call(target) {
    const session = this.ua.call(target, await this.media(this.headers));
    return this.ledger.callOf(session);
  }

  async answer(call) {
    call.session.answer(await this.media());
  }

  reject(call, status) {
    call.session.terminate({ status_code: status });
  }

  hangUp(call) {
    call.session.terminate();
  }

  async hold(call, on, milliseconds) {
    return this.renegotiation(call, (done) => call.session[on ? "hold" : "unhold"]({}, done), milliseconds);
  }

  async update(call, milliseconds) {
    return this.renegotiation(call, (done) => call.session.renegotiate({ useUpdate: true }, done), milliseconds);
  }

  async renegotiation(call, act, milliseconds) {
    let done = false;
    if (!act(() => { done = true; note(`call ${call.id} renegotiated`); })) return false;
    await until(() => done || call.isOver, milliseconds);
    return done;
  }

  refer(call, target) {
    return finalStatus((eventHandlers) => call.session.refer(this.ua.normalizeTarget(target), {
      eventHandlers: { ...eventHandlers, requestSucceeded: eventHandlers.succeeded, requestFailed: eventHandlers.failed },
    }));
  }

  dtmf(call, digits) {
    call.session.sendDTMF(digits, { transportType: "RFC2833" });
  }

  message(target, body) {
    return finalStatus((eventHandlers) =>
      this.ua.sendMessage(target, body, { eventHandlers, extraHeaders: this.headers }));
  }

  options(target) {
    return finalStatus((eventHandlers) =>
      this.ua.sendOptions(target, null, { eventHandlers, extraHeaders: this.headers }));
  }

  subscribe(target, event, expires) {
    const uri = this.ua.normalizeTarget(target).toString();
    const subscriber = this.ua.subscribe(uri, event, ACCEPT[event], { expires, extraHeaders: this.headers });
    subscriber.on("terminated", (code, reason) => note(`subscription ${event} over: ${code} ${reason ?? ""}`));
    subscriber.on("notify", (_final, request) => note(`notified of ${request.event.event}`));
    subscriber.subscribe();
    return { end: () => subscriber.terminate() };
  }

  get connected() {
    return isConnected() && this.ua.isConnected();
  }
}

function finalStatus(send) {
  return new Promise((resolve) => {
    const done = (event) => resolve(statusOf(event));
    send({ succeeded: done, failed: done });
  });
}

function configuration(account) {
  const socket = new JsSIP.WebSocketInterface(account.wss);
  const all = {
    sockets: [socket],
    uri: `sip:${account.from_user ?? account.number}@${account.domain}`,
    authorization_user: account.authorization_user ?? account.number,
    password: account.password,
    realm: account.realm,
    instance_id: account.instance,
    contact_uri: account.contact,
    user_agent: account.user_agent,
    register: false, // register() does it, and returns the status
    register_expires: account.expires,
    no_answer_timeout: 180,
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value != null));
}
