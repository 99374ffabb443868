// The sounds of the phone itself: ringing, the ring-back tone, keys. Made, so that no file is loaded.

import { preferences } from "./store.js";

/** @type {AudioContext | null} */
let context = null;
/** @type {(() => void) | null} */
let stopPattern = null;

/** The audio context of the page. It is suspended until the user clicks somewhere. */
export function audio() {
  if (!context) {
    context = new AudioContext();
    context.addEventListener("statechange", () => changed.forEach((listener) => listener()));
    useSpeaker(preferences.get("speaker") ?? "");
  }
  return context;
}

/** @type {(() => void)[]} */
const changed = [];

/** Call a listener when the browser allows or forbids sound. @param {() => void} listener */
export function onSoundChange(listener) {
  changed.push(listener);
}

export const isSilenced = () => audio().state === "suspended";

/** Play the sounds on a device. @param {string} id "" for that of the system */
export function useSpeaker(id) {
  const sink = /** @type {AudioContext & {setSinkId?: (id: string) => Promise<void>}} */ (context);
  sink?.setSinkId?.(id).catch(() => {}); // the device is gone: that of the system plays
}

/**
 * @param {number[]} frequencies
 * @param {number} seconds
 * @param {number} volume
 */
function tone(frequencies, seconds, volume) {
  const speaker = audio();
  const gain = new GainNode(speaker, { gain: 0 });
  if (isSilenced()) return gain; // else all tones would come at once when the user clicks
  const end = speaker.currentTime + seconds;
  gain.gain.setTargetAtTime(volume, speaker.currentTime, 0.01);
  gain.gain.setTargetAtTime(0, end, 0.01);
  gain.connect(speaker.destination);
  for (const frequency of frequencies) {
    const oscillator = new OscillatorNode(speaker, { frequency });
    oscillator.connect(gain);
    oscillator.start();
    oscillator.stop(end + 0.1);
  }
  return gain;
}

/**
 * Repeat something until `stop`.
 *
 * @param {() => GainNode} play
 * @param {number} seconds
 */
function repeat(play, seconds) {
  stop();
  let last = play();
  const timer = setInterval(() => (last = play()), seconds * 1000);
  stopPattern = () => {
    clearInterval(timer);
    last.disconnect();
  };
}

/** Ring for an incoming call. */
export function ring() {
  navigator.vibrate?.([400, 200, 400]);
  repeat(() => {
    tone([523, 659], 0.4, 0.25);
    return tone([659, 784], 0.8, 0.25);
  }, 2.5);
}

/** Knock, for a further call during a call. */
export const knock = () => repeat(() => tone([440], 0.2, 0.1), 4);

/** The tone that the caller hears while the other side rings. */
export const ringBack = () => repeat(() => tone([425], 1, 0.08), 5);

/** The tone of a call that failed. */
export function fail() {
  for (const delay of [0, 500, 1000]) setTimeout(() => tone([425], 0.25, 0.08), delay);
}

export function stop() {
  stopPattern?.();
  stopPattern = null;
}

export const test = () => tone([440], 1, 0.2);

const ROWS = [697, 770, 852, 941];
const COLUMNS = [1209, 1336, 1477];
export const KEYS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "0", "#"];

/** The sound of a key. @param {string} key */
export function key(key) {
  const place = KEYS.indexOf(key);
  tone([ROWS[Math.floor(place / 3)] ?? 0, COLUMNS[place % 3] ?? 0], 0.1, 0.08);
}
