// The interface for Python: `phone.start(account)`, then a method for each action. Results are JSON.

import * as trace from "./trace.js"; // first, to wrap WebSocket before a library uses it
import { Ledger } from "./ledger.js";
import { JsSipPhone } from "./jssip.js";
import { SipJsPhone } from "./sipjs.js";
import { note } from "./trace.js";
import { until } from "./watch.js";

const ledger = new Ledger();
const libraries = { jssip: JsSipPhone, sipjs: SipJsPhone };
let library = null;
const subscriptions = [];

const callOf = (id) => ledger.calls[id];

globalThis.phone = {
  /** Open the socket, and wait until it is open or refused, or until the timeout. */
  start(account, milliseconds) {
    library = new libraries[account.library](account, ledger);
    library.start();
    return until(() => library.connected || trace.wasClosed(), milliseconds);
  },
  register: (milliseconds) => ledger.registrationAfter(() => library.register(), milliseconds),
  unregister: (all, milliseconds) => ledger.registrationAfter(() => library.unregister(all), milliseconds),
  report: () => ({
    connected: library.connected,
    registered: ledger.registered,
    status: ledger.registration.status,
    calls: ledger.calls.map((call) => call.report()),
  }),
  untilRegistered: (wanted, milliseconds) => until(() => ledger.registered === wanted, milliseconds),
  untilState: (id, states, milliseconds) => until(() => states.includes(callOf(id).state), milliseconds),
  untilIncoming: (known, milliseconds) =>
    until(() => ledger.calls.slice(known).some((call) => call.direction === "incoming"), milliseconds),
  untilMessages: (count, milliseconds) => until(() => trace.messages.length > count, milliseconds),
  async call(target) {
    return (await library.call(target)).report();
  },
  answer: async (id) => { await library.answer(callOf(id)); },
  /** Answer without waiting: the call may be cancelled in this moment. */
  pickUp: (id) => { (async () => library.answer(callOf(id)))().catch((problem) => note(`not answered: ${problem.message}`)); },
  reject: async (id, status) => { await library.reject(callOf(id), status); },
  hangUp: async (id) => { await library.hangUp(callOf(id)); },
  hold: (id, on, milliseconds) => library.hold(callOf(id), on, milliseconds),
  update: (id, milliseconds) => library.update(callOf(id), milliseconds),
  transfer: (id, other) => library.transfer(callOf(id), callOf(other)),
  refer: (id, target) => library.refer(callOf(id), target),
  dtmf: (id, digits) => { library.dtmf(callOf(id), digits); },
  async listen(id, milliseconds) {
    await until(() => callOf(id).ear || callOf(id).isOver, milliseconds);
    return callOf(id).isOver || !callOf(id).ear ? null : callOf(id).ear.listen(milliseconds);
  },
  heard: (id) => callOf(id).ear?.frames ?? [],
  mediaPath: (id) => callOf(id).mediaPath(),
  message: (target, body) => library.message(target, body),
  options: (target) => library.options(target),
  subscribe(target, event, expires) {
    return subscriptions.push(library.subscribe(target, event, expires)) - 1;
  },
  unsubscribe: async (index) => { await subscriptions[index].end(); },
  rewrite: trace.rewrite,
  sendRaw: trace.sendRaw,
  trace: (after) => trace.messages.slice(after),
  log: () => trace.events,
};
