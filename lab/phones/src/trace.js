// Records every SIP message on the WebSocket. A wrapper of the browser's WebSocket leaves the
// libraries unmodified, and lets a test send messages that they would not send.

import { changed } from "./watch.js";

export const messages = [];
export const events = [];
const listeners = [];
const rewrites = [];
let socket = null;
let closures = 0;

const now = () => Date.now() / 1000;

/** Add a line to the log of the phone. */
export function note(text) {
  events.push({ at: now(), text });
  changed();
}

/** Call `listener(direction, text)` for each message, before the library sees it. */
export function onMessage(listener) {
  listeners.push(listener);
}

function record(direction, text) {
  if (!text.trim()) return; // RFC 5626 keep-alives
  messages.push({ at: now(), direction, text });
  for (const listener of listeners) listener(direction, text);
  changed();
}

/** In all messages sent from now on, replace every match of `pattern` by `replacement`. */
export function rewrite(pattern, replacement) {
  rewrites.push([new RegExp(pattern, "gm"), replacement]);
}

/** Send `text` unchanged over the open socket. */
export function sendRaw(text) {
  record("sent", text);
  TracedWebSocket.raw(socket, text);
}

const decode = (data) => (typeof data === "string" ? data : new TextDecoder().decode(data));

class TracedWebSocket extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols);
    note(`socket connecting to ${url}`);
    this.addEventListener("open", () => {
      socket = this;
      note("socket open");
    });
    this.addEventListener("close", (event) => {
      if (socket === this) socket = null;
      closures += 1;
      note(`socket closed, code ${event.code}, ${event.wasClean ? "clean" : "not clean"}`);
    });
    this.addEventListener("message", (event) => record("received", decode(event.data)));
  }

  static raw(open, text) {
    super.prototype.send.call(open, text);
  }

  send(data) {
    const text = rewrites.reduce((sofar, [from, to]) => sofar.replace(from, to), decode(data));
    record("sent", text);
    super.send(text);
  }
}

export const isConnected = () => socket !== null;
export const wasClosed = () => closures > 0;
globalThis.WebSocket = TracedWebSocket;
