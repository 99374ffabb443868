import assert from "node:assert/strict";
import test from "node:test";
import { connectionProblem, endProblem, MediaJudge, microphoneProblem, registrationProblem } from "../src/problems.js";

const named = (name) => Object.assign(new Error("x"), { name });

test("each failure of the microphone has its cause", () => {
  const keys = ["NotAllowedError", "NotFoundError", "NotReadableError"].map((name) => microphoneProblem(named(name)).key);
  assert.deepEqual(keys, ["problem.microphone-denied", "problem.microphone-missing", "problem.microphone-busy"]);
  // an insecure page has no navigator.mediaDevices
  assert.equal(microphoneProblem(new TypeError("undefined")).key, "problem.microphone-insecure");
});

test("a refused registration says why", () => {
  const keys = [401, 403, 503, null, 500].map((status) => registrationProblem(status).key);
  const wanted = ["password", "forbidden", "too-many-tries", "no-answer-to-register", "refused"];
  assert.deepEqual(keys, wanted.map((key) => `problem.${key}`));
});

test("a server that answers but not on the WebSocket refuses the page", () => {
  const origin = "https://sip.example.com:8443";
  assert.equal(connectionProblem({ isOnline: false, answers: false, origin }).key, "problem.offline");
  assert.equal(connectionProblem({ isOnline: true, answers: true, origin }).key, "problem.socket-refused");
  const unreachable = connectionProblem({ isOnline: true, answers: false, origin });
  assert.equal(unreachable.link.href, `${origin}/healthz`); // where a self-signed certificate is accepted
});

test("the end of a call is a problem unless somebody hung up", () => {
  const end = (status, cause) => endProblem({ status, cause, name: "Bob", number: "1002" })?.key ?? null;
  assert.equal(end(null, "Terminated"), null);
  assert.equal(end(null, "Canceled"), null);
  assert.equal(end(487, "Canceled"), null);
  assert.equal(end(486, "Busy"), "end.busy");
  assert.equal(end(404, "Not Found"), "end.unknown");
  assert.equal(end(480, "Unavailable"), "end.unavailable");
  assert.equal(end(500, "SIP Failure Code"), "end.refused");
  assert.equal(end(null, "Connection Error"), "end.connection");
  assert.equal(end(null, "WebRTC Error"), "end.failed");
});

const call = { isMuted: false, isHeld: false };

/** What a judge says after some measurements. */
function judged(measurements, state = call) {
  const judge = new MediaJudge();
  return measurements.map((each) => judge.judge(each, state)?.key ?? null);
}

const good = (received) => ({ ice: "connected", received, heard: 0.1 });

test("a good call has no problem", () => {
  assert.deepEqual(judged([1, 50, 100, 150, 200, 250, 300].map(good)), Array(7).fill(null));
});

test("media that never comes is reported after five seconds, with its cause", () => {
  const none = Array(6).fill({ ice: "checking", received: 0, heard: 0.1 });
  assert.deepEqual(judged(none).slice(3), [null, "problem.media-path", "problem.media-path"]);
  assert.equal(judged([{ ice: "failed", received: 0, heard: 0.1 }])[0], "problem.media-path");
  assert.equal(judged(Array(6).fill(good(0))).at(-1), "problem.media-silent");
});

test("a lost path is told at once", () => {
  assert.deepEqual(judged([good(50), { ice: "disconnected", received: 50, heard: 0.1 }]), [null, "problem.media-lost"]);
});

test("exact silence of the microphone is a fault, unless it is muted", () => {
  const silent = [1, 2, 3, 4, 5, 6].map((received) => ({ ice: "connected", received, heard: 0 }));
  assert.equal(judged(silent).at(-1), "problem.microphone-silent");
  assert.equal(judged(silent, { isMuted: true, isHeld: false }).at(-1), null);
});

test("a call on hold may be silent", () => {
  assert.deepEqual(judged(Array(8).fill(good(7)), { isMuted: false, isHeld: true }), Array(8).fill(null));
});
