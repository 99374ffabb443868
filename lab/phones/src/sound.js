// The microphone, and the received audio. Tests recognise a tone by its frequency in the decoded
// audio, because packets may also carry silence or another call.

import { pause } from "./watch.js";

const FFT_SIZE = 8192; // 5.9 Hz a bin at 48 kHz, enough to separate 440 from 480 Hz
const LOWEST_HZ = 60;
const HIGHEST_HZ = 4000;
const SILENCE_DB = -160;
const FRAME_MILLISECONDS = 100;
const MOST_FRAMES = 6000;

let context = null;
let microphone = null;

/** The fake microphone, without the filters of the browser, which would remove a steady tone. */
export async function openMicrophone() {
  microphone ??= await navigator.mediaDevices.getUserMedia({
    audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  return microphone.clone(); // because a library stops the tracks of a call at its end
}

/** The spectra of a track: all so far (`frames`), and now (`listen`). */
export class Ear {
  constructor(track, frames = []) {
    context ??= new AudioContext({ sampleRate: 48000 });
    const stream = new MediaStream([track]);
    // Chromium decodes a remote track only if an element plays it.
    this.element = new Audio();
    this.element.srcObject = stream;
    this.element.muted = true;
    this.element.play().catch(() => {});
    this.source = context.createMediaStreamSource(stream);
    this.analyser = new AnalyserNode(context, { fftSize: FFT_SIZE, smoothingTimeConstant: 0 });
    this.source.connect(this.analyser);
    this.frames = frames;
    this.timer = setInterval(() => this.frame(), FRAME_MILLISECONDS);
  }

  frame() {
    this.frames.push(spectrum(this.power()));
    if (this.frames.length > MOST_FRAMES) this.frames.shift();
  }

  power() {
    return powerOf(this.analyser);
  }

  /** The mean spectrum of the next `milliseconds`. */
  async listen(milliseconds) {
    await pause((FFT_SIZE / context.sampleRate) * 1000); // let the window of the FFT move past older audio
    const sum = this.power();
    let count = 1;
    for (const end = performance.now() + milliseconds; performance.now() < end; count += 1) {
      await pause(FRAME_MILLISECONDS);
      this.power().forEach((value, bin) => (sum[bin] += value));
    }
    return spectrum(sum.map((value) => value / count));
  }

  close() {
    clearInterval(this.timer);
    this.source.disconnect();
    this.element.srcObject = null;
  }
}

function powerOf(analyser) {
  const levels = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(levels);
  return levels.map((level) => 10 ** (Math.max(level, SILENCE_DB) / 10));
}

/** The spectrum at an analyser of `FFT_SIZE` now. */
export const spectrumOf = (analyser) => spectrum(powerOf(analyser), analyser.context.sampleRate);

/** The noise floor (median) and the highest peaks of the telephone band, as Hz and dBFS. */
function spectrum(power, rate = context.sampleRate) {
  const width = rate / FFT_SIZE;
  const [first, last] = [Math.ceil(LOWEST_HZ / width), Math.floor(HIGHEST_HZ / width)];
  const db = Array.from(power, (value) => 10 * Math.log10(Math.max(value, 1e-20)));
  const band = db.slice(first, last).sort((a, b) => a - b);
  const floor = band[band.length >> 1];
  const peaks = [];
  for (let bin = first; bin < last; bin += 1) {
    const [left, here, right] = [db[bin - 1], db[bin], db[bin + 1]];
    if (here < floor + 12 || here <= left || here < right) continue;
    const shift = (0.5 * (left - right)) / (left - 2 * here + right); // parabola through three bins
    peaks.push([(bin + shift) * width, here]);
  }
  peaks.sort((a, b) => b[1] - a[1]);
  return { at: Date.now() / 1000, floor, peaks: peaks.slice(0, 8) };
}
