// The panel of the calls: who, since when, what is wrong, and the buttons for it.

import { announce, byId, icon, make } from "./dom.js";
import { keys } from "./keypad.js";
import { duration } from "./recents.js";
import { text } from "./texts.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./call.js").Call} Call */

/** @type {Map<Call, CallCard>} */
const cards = new Map();

/** Show the cards of all calls. @param {App} app */
export function showCalls(app) {
  const calls = app.line?.calls ?? [];
  for (const [call, card] of cards) {
    if (calls.includes(call)) continue;
    const hadFocus = card.element.contains(document.activeElement);
    card.element.remove();
    cards.delete(call);
    if (hadFocus) byId("calls").focus(); // not lost at the top of the page
  }
  for (const call of calls) {
    const card = cards.get(call) ?? new CallCard(app, call);
    if (!cards.has(call)) byId("call-list").append(card.element);
    cards.set(call, card);
    card.show();
  }
  byId("no-call").hidden = calls.length > 0;
  document.body.classList.toggle("in-call", calls.length > 0);
}

setInterval(() => cards.forEach((card) => card.tick()), 1000);

class CallCard {
  #shape = "";
  #time = make("span", { className: "time" });
  #state = make("p", { className: "state" });
  #problem = make("p", { className: "problem", role: "alert" });
  #actions = make("div", { className: "actions" });
  #more = make("div", { className: "more" });

  /** @param {App} app @param {Call} call */
  constructor(app, call) {
    this.app = app;
    this.call = call;
    const title = make("h3", { tabIndex: -1 }, call.label, ...(call.name ? [make("span", { className: "hint" }, call.number)] : []));
    this.element = make("article", { className: "call-card", "aria-label": call.label }, title, this.#state, this.#problem, this.#actions, this.#more);
    this.title = title;
  }

  show() {
    const { call } = this;
    this.element.dataset["state"] = call.state;
    this.element.classList.toggle("held", call.isHeld);
    this.#state.replaceChildren(this.#stateText(), " ", this.#time);
    this.tick();
    this.#problem.hidden = !call.problem;
    const message = call.problem ? text(call.problem.key, call.problem.values) : "";
    if (this.#problem.textContent !== message) this.#problem.textContent = message;
    // anew only when the buttons change, so that the focus stays
    const shape = JSON.stringify([call.state, call.isHeld, call.isMuted, this.app.line?.isReady, call.transferringTo, document.documentElement.lang]);
    if (shape === this.#shape) return;
    this.#shape = shape;
    const focused = this.element.contains(document.activeElement) ? document.activeElement?.getAttribute("data-action") : null;
    const wasInside = focused !== null && focused !== undefined;
    this.#actions.replaceChildren(...this.#buttons());
    if (call.state !== "active") this.#more.replaceChildren();
    if (wasInside) {
      const same = this.element.querySelector(`[data-action="${focused}"]`);
      (/** @type {HTMLElement | null} */ (same) ?? this.title).focus();
    }
  }

  tick() {
    const { answeredAt } = this.call;
    this.#time.textContent = answeredAt ? duration((Date.now() - answeredAt) / 1000) : "";
  }

  #stateText() {
    const { call } = this;
    if (call.transferringTo) return text("transferring", { name: call.transferringTo });
    if (call.isHeld) return text("onHold");
    if (call.isHeldByOther) return text("heldByOther");
    if (call.state === "calling" || call.state === "answering") return text("calling");
    if (call.state === "ringing") return text("ringing");
    if (call.state === "incoming") return text("callFrom", { name: call.label });
    return "";
  }

  #buttons() {
    const { app, call } = this;
    if (call.state === "incoming") {
      return [
        this.#button("answer", "phone", () => void app.answer(call), "call"),
        this.#button("reject", "end", () => call.reject(), "end"),
      ];
    }
    const end = this.#button("hangUp", "end", () => call.hangUp(), "end");
    if (call.state !== "active") return [end];
    const isReady = app.line?.isReady ?? false;
    const original = call.asksFor;
    return [
      this.#button(call.isMuted ? "unmute" : "mute", call.isMuted ? "microphone" : "mute", () => call.mute(!call.isMuted), call.isMuted ? "on" : "", "mute"),
      this.#button(call.isHeld ? "resume" : "hold", call.isHeld ? "resume" : "hold", () => void app.hold(call, !call.isHeld), call.isHeld ? "on" : "", "hold", isReady),
      this.#button("tones", "keypad", () => this.#toggle(() => this.#tones())),
      ...(original && app.line?.calls.includes(original)
        ? [this.#button("completeTransfer", "transfer", () => void app.completeTransfer(original, call), "primary", "transfer", isReady)]
        : app.isService(call.number)
          ? []
          : [this.#button("transfer", "transfer", () => this.#toggle(() => this.#transfer()), "", "transfer", isReady)]),
      end,
    ];
  }

  /**
   * @param {import("./texts.js").TextKey} label
   * @param {string} picture
   * @param {() => void} act
   * @param {string} [kind]
   * @param {string} [action] what the button is for, whatever its label
   * @param {boolean} [isEnabled]
   */
  #button(label, picture, act, kind = "", action = label, isEnabled = true) {
    const button = make("button", { type: "button", className: kind, onclick: act, disabled: !isEnabled }, icon(picture), make("span", {}, text(label)));
    button.setAttribute("data-action", action);
    return button;
  }

  /** Open a part below the buttons, or close it. @param {() => HTMLElement} build */
  #toggle(build) {
    const part = build();
    const isOpen = this.#more.firstElementChild?.className === part.className;
    this.#more.replaceChildren(...(isOpen ? [] : [part]));
    if (!isOpen) /** @type {HTMLElement | null} */ (part.querySelector("input, button"))?.focus();
  }

  #tones() {
    return make("div", { className: "keys", role: "group", "aria-label": text("tones") }, ...keys((key) => this.call.press(key)));
  }

  #transfer() {
    const { app, call } = this;
    const id = `transfer-${call.session.id}`;
    const input = make("input", { id, inputMode: "tel", autocomplete: "off", required: true });
    input.setAttribute("list", "known-numbers");
    const target = () => app.numberOf(input.value.trim());
    const close = () => this.#more.replaceChildren();
    const form = make(
      "form",
      { className: "transfer" },
      make("label", { htmlFor: id }, text("transferTo")),
      input,
      make(
        "div",
        { className: "actions" },
        make("button", { className: "primary" }, text("transferNow")),
        make("button", { type: "button", onclick: () => { if (input.reportValidity()) { void app.askFirst(call, target()); close(); } } }, text("askFirst")),
        make("button", { type: "button", className: "plain", onclick: close }, text("cancel")),
      ),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void app.transfer(call, target());
      close();
    });
    return form;
  }
}

/** The calls whose answer has been told. @type {WeakSet<Call>} */
const answered = new WeakSet();

/** Tell a screen reader what happens to a call. @param {Call} call */
export function tell(call) {
  if (call.state === "incoming") {
    announce(text("callFrom", { name: call.label }));
  } else if (call.state === "active" && !answered.has(call)) {
    answered.add(call);
    announce(text("connectedWith", { name: call.label }));
  } else if (call.state === "over") {
    announce(text("callOver", { name: call.label }));
  }
}
