// One call as a test sees it, the same for both libraries:
// calling -> ringing -> answered -> ended, or failed before it was answered.

import { note } from "./trace.js";
import { Ear } from "./sound.js";

const FINAL = new Set(["ended", "failed"]);

export class Call {
  constructor(id, direction, peer, session) {
    Object.assign(this, { id, direction, peer, session });
    this.callId = "";
    this.state = direction === "incoming" ? "ringing" : "calling";
    this.status = null;
    this.cause = "";
    this.ear = null;
    this.connection = null;
  }

  get isOver() {
    return FINAL.has(this.state);
  }

  move(state, cause = "") {
    if (this.isOver) return;
    this.state = state;
    this.cause = cause;
    if (this.isOver) this.ear?.close();
    note(`call ${this.id} ${state} ${cause}`.trim());
  }

  /** The status of the INVITE that set up the call; one of a re-INVITE is not it. */
  seeStatus(status) {
    if (this.state === "calling" || this.state === "ringing" || this.status === null) {
      this.status = status;
    } else if (this.state === "failed" && this.status < 200) {
      this.status = status; // 487 arrives after a library has given up the call
    }
  }

  watch(connection) {
    if (!connection || this.connection === connection) return;
    this.connection = connection;
    connection.addEventListener("track", ({ track }) => {
      if (track.kind === "audio") this.hear(track);
    });
    connection.addEventListener("connectionstatechange", () => {
      note(`call ${this.id} media ${connection.connectionState}`);
    });
  }

  /** Also after each hold, when the track comes anew; what was heard before is kept. */
  hear(track) {
    this.ear?.close();
    this.ear = new Ear(track, this.ear?.frames);
  }

  /** The addresses between which media flows, as ICE chose them; null before it has. */
  async mediaPath() {
    const stats = [...(await this.connection.getStats()).values()];
    const find = (id) => stats.find((entry) => entry.id === id);
    const transport = stats.find((entry) => entry.type === "transport");
    const pair = transport && find(transport.selectedCandidatePairId);
    if (!pair) return null;
    const text = ({ address, port }) => `${address}:${port}`;
    return { local: text(find(pair.localCandidateId)), remote: text(find(pair.remoteCandidateId)) };
  }

  report() {
    const { id, direction, peer, callId, state, status, cause } = this;
    return { id, direction, peer, callId, state, status, cause };
  }
}
