// The microphone and the speaker: which ones, and how loud the microphone is.

import { audio, useSpeaker } from "./sounds.js";
import { preferences } from "./store.js";

/** @typedef {import("./problems.js").Problem} Problem */

/** Whether this browser can play on a chosen device. */
export const canChooseSpeaker = "setSinkId" in HTMLMediaElement.prototype;

/** @type {MediaStream | null} */
let open = null;
/** @type {Level | null} */
let meter = null;
/** @type {Set<MediaStream>} */
const taken = new Set();

/**
 * Take the chosen microphone for a call or a test: an own clone, because JsSIP mutes its tracks.
 *
 * @returns {Promise<MediaStream>} rejects with the error of getUserMedia
 */
export async function takeMicrophone() {
  open ??= await openChosen();
  meter ??= new Level(open);
  const stream = open.clone();
  taken.add(stream);
  return stream;
}

/** Give it back; after the last the microphone is closed. @param {MediaStream | null} stream */
export function releaseMicrophone(stream) {
  if (!stream || !taken.delete(stream)) return;
  stop(stream);
  if (taken.size === 0) close();
}

const stop = (/** @type {MediaStream} */ stream) => stream.getTracks().forEach((track) => track.stop());

/** The loudest level since this was last asked, 0 to 1. */
export const microphoneLevel = () => meter?.take() ?? 0;

/**
 * Change the microphone. Calls in progress must take it anew.
 *
 * @param {string} id "" for that of the system
 */
export function chooseMicrophone(id) {
  preferences.set("microphone", id || null);
  close();
}

async function openChosen() {
  // a browser has no mediaDevices on an insecure page, and throws TypeError here
  const id = preferences.get("microphone");
  if (!id) return navigator.mediaDevices.getUserMedia({ audio: true });
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: { deviceId: { exact: id } } });
  } catch (error) {
    // unplugged since it was chosen
    if (!(error instanceof DOMException) || error.name === "NotAllowedError") throw error;
    return navigator.mediaDevices.getUserMedia({ audio: true });
  }
}

function close() {
  if (open) stop(open);
  meter?.close();
  open = meter = null;
}

/** @param {"audioinput" | "audiooutput"} kind */
export async function devices(kind) {
  const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  // without a permission they have neither names nor ids
  return all.filter((device) => device.kind === kind && device.deviceId && device.deviceId !== "default");
}

/** @param {string} id "" for that of the system */
export function chooseSpeaker(id) {
  preferences.set("speaker", id || null);
  useSpeaker(id);
  for (const element of document.querySelectorAll("audio")) playOnSpeaker(element);
}

/** @param {HTMLAudioElement} element */
export function playOnSpeaker(element) {
  if (canChooseSpeaker) element.setSinkId(preferences.get("speaker") ?? "").catch(() => {});
}

/** The level of a stream. */
class Level {
  #samples = new Float32Array(2048);
  #loudest = 0;

  /** @param {MediaStream} stream */
  constructor(stream) {
    this.source = audio().createMediaStreamSource(stream);
    this.analyser = new AnalyserNode(audio(), { fftSize: 2048 });
    this.source.connect(this.analyser);
    this.timer = setInterval(() => this.#measure(), 50);
  }

  #measure() {
    // a suspended context measures nothing, which is not silence
    if (audio().state !== "running") this.#loudest = Math.max(this.#loudest, 0.01);
    this.analyser.getFloatTimeDomainData(this.#samples);
    for (const sample of this.#samples) this.#loudest = Math.max(this.#loudest, Math.abs(sample));
  }

  take() {
    const loudest = this.#loudest;
    this.#loudest = 0;
    return loudest;
  }

  close() {
    clearInterval(this.timer);
    this.source.disconnect();
  }
}
