// Why something failed, as a code that texts.js explains. Pure.

/**
 * @typedef {object} Problem
 * @property {import("./texts.js").TextKey} key
 * @property {Record<string, string | number>} [values]
 * @property {{href: string, key: import("./texts.js").TextKey}} [link]
 */

/** Why getUserMedia failed. @param {unknown} error @returns {Problem} */
export function microphoneProblem(error) {
  const name = error instanceof Error ? error.name : "";
  if (name === "NotAllowedError" || name === "SecurityError") return { key: "problem.microphone-denied" };
  if (name === "NotFoundError" || name === "OverconstrainedError") return { key: "problem.microphone-missing" };
  if (name === "TypeError") return { key: "problem.microphone-insecure" };
  return { key: "problem.microphone-busy" };
}

/** Why the server refused a registration. @param {number | null} status @returns {Problem} */
export function registrationProblem(status) {
  if (status === null || status === 408) return { key: "problem.no-answer-to-register" };
  if (status === 401 || status === 407) return { key: "problem.password" };
  if (status === 403) return { key: "problem.forbidden", values: { status } };
  if (status === 503) return { key: "problem.too-many-tries" };
  return { key: "problem.refused", values: { status } };
}

/**
 * Why there is no connection: the browser does not tell, so the page asks the server for a file.
 *
 * @param {{isOnline: boolean, answers: boolean, origin: string}} seen
 * @returns {Problem}
 */
export function connectionProblem({ isOnline, answers, origin }) {
  if (!isOnline) return { key: "problem.offline" };
  const values = { server: origin };
  if (answers) return { key: "problem.socket-refused", values };
  const link = { href: `${origin}/healthz`, key: /** @type {const} */ ("problem.server-unreachable.link") };
  return { key: "problem.server-unreachable", values, link };
}

/**
 * Why a call ended, null if somebody hung up or cancelled it.
 *
 * @param {{status: number | null, cause: string, name: string, number: string}} end
 * @returns {Problem | null}
 */
export function endProblem({ status, cause, name, number }) {
  /** @type {Record<string, import("./texts.js").TextKey>} */
  const byCause = {
    "Connection Error": "end.connection",
    "Request Timeout": "end.no-answer",
    "No Answer": "end.no-answer",
    "Dialog Error": "end.connection",
    "Bad Media Description": "end.incompatible",
    "Incompatible SDP": "end.incompatible",
  };
  /** @type {Record<number, import("./texts.js").TextKey>} */
  const byStatus = {
    404: "end.unknown", 408: "end.no-answer", 480: "end.unavailable", 486: "end.busy", 488: "end.incompatible",
    503: "end.overload", 600: "end.busy", 603: "end.declined", 606: "end.incompatible",
  };
  if (["Terminated", "Canceled", "Rejected by user"].includes(cause) || status === 487) return null;
  const values = { name, number, status: status ?? "", cause };
  if (status !== null && status >= 300) return { key: byStatus[status] ?? "end.refused", values };
  return { key: byCause[cause] ?? "end.failed", values };
}

/**
 * @typedef {object} Media what a call measures each second
 * @property {RTCIceConnectionState} ice
 * @property {number} received packets of sound so far
 * @property {number} heard the loudest level of the microphone since the last measurement, 0 to 1
 */

const PATIENCE = 5; // measurements, one a second

/** Judges the media of a call from its measurements. */
export class MediaJudge {
  #received = 0;
  #quiet = 0;
  #silent = 0;
  #unconnected = 0;
  #wasConnected = false;

  /**
   * @param {Media} now
   * @param {{isMuted: boolean, isHeld: boolean}} call held by either side
   * @returns {Problem | null}
   */
  judge(now, { isMuted, isHeld }) {
    const isConnected = now.ice === "connected" || now.ice === "completed";
    this.#wasConnected ||= isConnected;
    this.#unconnected = isConnected ? 0 : this.#unconnected + 1;
    this.#quiet = isHeld || now.received > this.#received ? 0 : this.#quiet + 1;
    this.#silent = isMuted || isHeld || now.heard > 0 ? 0 : this.#silent + 1;
    this.#received = now.received;
    if (!isConnected && this.#wasConnected) return { key: "problem.media-lost" };
    if (now.ice === "failed" || this.#unconnected >= PATIENCE) return { key: "problem.media-path" };
    if (this.#quiet >= PATIENCE) return { key: "problem.media-silent" };
    if (this.#silent >= PATIENCE) return { key: "problem.microphone-silent" };
    return null;
  }
}
