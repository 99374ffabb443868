// The state of a phone, the same for both libraries: its registration and its calls.

import { Call } from "./call.js";
import { changed, until } from "./watch.js";
import { note, onMessage } from "./trace.js";

export const NO_ANSWER = 408; // RFC 3261, section 8.1.3.1: a timeout counts as 408,
export const NO_TRANSPORT = 503; // a lost connection as 503

export const ACCEPT = {
  presence: "application/pidf+xml",
  dialog: "application/dialog-info+xml",
  "message-summary": "application/simple-message-summary",
};

const header = (text, name) => text.match(new RegExp(`^${name}[ \\t]*:[ \\t]*(.*?)\\r?$`, "im"))?.[1];

export class Ledger {
  constructor() {
    this.registered = false;
    this.registration = { count: 0, status: null };
    this.calls = [];
    onMessage((_direction, text) => this.seeMessage(text));
  }

  setRegistered(registered, status) {
    this.registered = registered;
    if (status) this.registration = { count: this.registration.count + 1, status };
    note(`${registered ? "registered" : "not registered"} ${status ?? ""}`.trim());
  }

  /** Call `act`, and return the final status of the REGISTER that it sends. */
  async registrationAfter(act, milliseconds) {
    const before = this.registration.count;
    await act();
    const answered = await until(() => this.registration.count > before, milliseconds);
    return answered ? this.registration.status : NO_ANSWER;
  }

  newCall(direction, peer, session) {
    const call = new Call(this.calls.length, direction, peer, session);
    this.calls.push(call);
    note(`call ${call.id} ${direction} ${peer}`);
    return call;
  }

  callOf(session) {
    return this.calls.find((call) => call.session === session);
  }

  seeMessage(text) {
    const status = text.match(/^SIP\/2\.0 (\d{3})/)?.[1];
    if (!status || !header(text, "CSeq")?.endsWith("INVITE")) return;
    const callId = header(text, "Call-ID") ?? header(text, "i");
    this.calls.filter((call) => call.callId === callId).forEach((call) => call.seeStatus(Number(status)));
    changed();
  }
}
