// The start of the page.

import JsSIP from "jssip";
import { App } from "./app.js";
import { loadAccount, loadConfig } from "./config.js";
import { byId } from "./dom.js";
import { showKeypad } from "./keypad.js";
import { notice } from "./notices.js";
import { showContacts } from "./people.js";
import { listRecents } from "./recents.js";
import { applyLanguage, listDevices, showSettings, stopTest } from "./settings.js";
import { audio } from "./sounds.js";
import { own } from "./store.js";

const VIEWS = ["keypad", "contacts", "recents", "settings"];

applyLanguage();
void start();

async function start() {
  // the fragment names the number (a QR code); it leaves the address at once
  const number = /^#(\d+)$/.exec(location.hash)?.[1] ?? "";
  if (location.hash) history.replaceState(null, "", location.pathname);
  let config;
  try {
    config = await loadConfig();
  } catch {
    notice("start", { key: navigator.onLine ? "problem.config" : "problem.offline" });
    window.addEventListener("online", () => location.reload());
    return;
  }
  const app = new App(config);
  showViews(app);
  showSignIn(app, number);
  showKeypad(app);
  showContacts(app);
  showSettings(app);
  if (config.is_local) app.signIn(await loadAccount(), { isNew: false });
  else if (own.account) app.signIn(own.account, { isNew: false });
  else app.show();
  if (!config.is_local) void installWorker();
}

/** @param {App} app @param {string} number */
function showSignIn(app, number) {
  const [user, password] = [byId("sign-in-number", HTMLInputElement), byId("sign-in-password", HTMLInputElement)];
  user.value = number;
  byId("sign-in").addEventListener("submit", (event) => {
    event.preventDefault();
    void audio().resume(); // while the browser sees that the user acts
    const ha1 = JsSIP.Utils.calculateMD5(`${user.value.trim()}:${app.config.domain}:${password.value}`);
    const stays = byId("sign-in-stays", HTMLInputElement).checked;
    app.signIn({ number: user.value.trim(), ha1 }, { isNew: true, stays });
  });
  byId("sign-out").addEventListener("click", () => app.signOut());
  // any click allows sound, not only the one on the notice
  document.addEventListener("pointerdown", () => void audio().resume(), { once: true });
}

/** @param {App} app */
function showViews(app) {
  const buttons = [...document.querySelectorAll("#tabs button")].map((each) => /** @type {HTMLElement} */ (each));
  const open = (/** @type {string} */ view, hasFocus = true) => {
    for (const each of VIEWS) byId(each).hidden = each !== view;
    for (const each of buttons) {
      if (each.dataset["view"] === view) each.setAttribute("aria-current", "page");
      else each.removeAttribute("aria-current");
    }
    if (view === "settings") void listDevices();
    else stopTest();
    listRecents(app);
    if (hasFocus) byId(`${view}-title`).focus();
  };
  for (const each of buttons) each.addEventListener("click", () => open(each.dataset["view"] ?? ""));
  open("keypad", false);
}

/** The worker keeps the files of the page, so that an installed phone starts without a network. */
async function installWorker() {
  if (!("serviceWorker" in navigator)) return;
  const types = /** @type {any} */ (globalThis).trustedTypes;
  const policy = types?.createPolicy("phone", { createScriptURL: (/** @type {string} */ url) => (url === "worker.js" ? url : "") });
  await navigator.serviceWorker.register(policy?.createScriptURL("worker.js") ?? "worker.js").catch(() => {});
}
