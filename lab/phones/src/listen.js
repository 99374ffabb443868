// Measures, in a page that is not of the lab, what arrives in its calls and what it plays itself.
// The browser runs this before the scripts of the page.

import { Ear, spectrumOf } from "./sound.js";

const calls = []; // { connection, ear }, one for each RTCPeerConnection
const speakers = new Map(); // AudioContext -> AnalyserNode

globalThis.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...configuration) {
    super(...configuration);
    const call = { connection: this, ear: null };
    calls.push(call);
    this.addEventListener("track", ({ track }) => {
      call.ear?.close();
      call.ear = new Ear(track, call.ear?.frames);
    });
  }
};

const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function connectAndListen(target, ...rest) {
  if (target instanceof AudioDestinationNode) {
    if (!speakers.has(this.context)) {
      speakers.set(this.context, new AnalyserNode(this.context, { fftSize: 8192, smoothingTimeConstant: 0 }));
    }
    connect.call(this, speakers.get(this.context));
  }
  return connect.call(this, target, ...rest);
};

const last = () => calls.filter(({ connection }) => connection.connectionState !== "closed").at(-1);

globalThis.lab = {
  /** The mean spectrum that arrives in the newest call; null without one. */
  listen: async (milliseconds, call = last()) => call?.ear?.listen(milliseconds) ?? null,
  listenTo: async (index, milliseconds) => globalThis.lab.listen(milliseconds, calls[index]),
  /** All spectra of the newest call so far. */
  heard: () => last()?.ear?.frames ?? [],
  /** The spectrum that the page plays now by itself, of its loudest context. */
  plays: () => [...speakers.values()].map(spectrumOf).sort((a, b) => (b.peaks[0]?.[1] ?? -999) - (a.peaks[0]?.[1] ?? -999))[0] ?? null,
  /** The local descriptions of all connections. */
  descriptions: () => calls.map(({ connection }) => connection.localDescription?.sdp ?? ""),
  connections: () => calls.map(({ connection }) => connection.connectionState),
};
