// A call, with the same interface for both libraries. Its states: calling -> ringing -> answered ->
// ended, or failed if it ends before the answer.

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

  /** Record the status of the INVITE that set up the call, not of a re-INVITE. */
  seeStatus(status) {
    if (this.state === "calling" || this.state === "ringing" || this.status === null) {
      this.status = status;
    } else if (this.state === "failed" && this.status < 200) {
      this.status = status; // 487 may arrive after the library has ended the call
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

  /** Called again after each hold, with a new track; the spectra so far are kept. */
  hear(track) {
    this.ear?.close();
    this.ear = new Ear(track, this.ear?.frames);
  }

  /** The addresses of the media that ICE has selected; null before that. */
  async mediaPath() {
    const stats = [...(await this.connection.getStats()).values()];
    const find = (id) => stats.find((entry) => entry.id === id);
    const transport = stats.find((entry) => entry.type === "transport");
    const pair = transport && find(transport.selectedCandidatePairId);
    if (!pair) return null;
    const text = ({ address, port }) => `${address}:${port}`;
    const [local, remote] = [find(pair.localCandidateId), find(pair.remoteCandidateId)];
    const kind = ({ candidateType, relayProtocol }) =>
      relayProtocol ? `${candidateType}/${relayProtocol}` : candidateType;
    return { local: text(local), remote: text(remote), kinds: [kind(local), kind(remote)] };
  }

  report() {
    const { id, direction, peer, callId, state, status, cause } = this;
    return { id, direction, peer, callId, state, status, cause };
  }
}
