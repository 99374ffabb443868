// The settings: microphone with its level, speaker, language, notifications, installation.

import { canChooseSpeaker, chooseMicrophone, chooseSpeaker, devices, microphoneLevel, releaseMicrophone, takeMicrophone } from "./devices.js";
import { byId, make } from "./dom.js";
import { notice } from "./notices.js";
import { microphoneProblem } from "./problems.js";
import { test as playTone } from "./sounds.js";
import { preferences } from "./store.js";
import { chosenLanguage, setLanguage, text, translate } from "./texts.js";

/** @typedef {import("./app.js").App} App */

const GOOD_LEVEL = 0.02;

/** @type {MediaStream | null} the microphone while it is tested */
let tested = null;
let timer = 0;
let loudest = 0;

/** Use the chosen language, or the one of the browser. */
export function applyLanguage() {
  const wanted = preferences.get("language");
  setLanguage(chosenLanguage(wanted ? [wanted] : navigator.languages));
  translate();
}

/** @param {App} app */
export function showSettings(app) {
  byId("microphone").addEventListener("change", () => void changeMicrophone(app));
  byId("microphone-test").addEventListener("click", () => void (tested ? stopTest() : startTest()));
  byId("speaker").addEventListener("change", () => chooseSpeaker(chosen("speaker")));
  byId("speaker-test").addEventListener("click", () => playTone());
  byId("speaker-choice").hidden = !canChooseSpeaker;
  const language = byId("language", HTMLSelectElement);
  language.value = preferences.get("language") ?? "";
  language.addEventListener("change", () => {
    preferences.set("language", language.value || null);
    applyLanguage();
    void listDevices();
    app.show();
  });
  offerNotifications();
  offerInstallation();
  navigator.mediaDevices?.addEventListener("devicechange", () => void listDevices());
}

const chosen = (/** @type {string} */ id) => byId(id, HTMLSelectElement).value;

/** List the devices anew: they have names only after the permission. */
export async function listDevices() {
  await list("microphone", "audioinput");
  await list("speaker", "audiooutput");
}

/** @param {"microphone" | "speaker"} id @param {"audioinput" | "audiooutput"} kind */
async function list(id, kind) {
  const select = byId(id, HTMLSelectElement);
  const found = await devices(kind);
  const options = found.map(({ deviceId, label }) => make("option", { value: deviceId }, label));
  select.replaceChildren(make("option", { value: "" }, text("systemDefault")), ...options);
  select.value = preferences.get(id) ?? "";
  if (!select.value) select.value = "";
}

/** @param {App} app */
async function changeMicrophone(app) {
  const wasTested = tested !== null;
  stopTest();
  chooseMicrophone(chosen("microphone"));
  for (const call of app.line?.calls ?? []) await call.changeMicrophone().catch(() => {});
  if (wasTested) await startTest();
}

async function startTest() {
  try {
    tested = await takeMicrophone();
  } catch (error) {
    notice("microphone", microphoneProblem(error));
    return;
  }
  notice("microphone", null);
  loudest = 0;
  byId("microphone-test").setAttribute("aria-pressed", "true");
  timer = window.setInterval(showLevel, 100);
  await listDevices();
}

/** End the test, also when the user leaves the settings. */
export function stopTest() {
  clearInterval(timer);
  releaseMicrophone(tested);
  tested = null;
  byId("microphone-test").setAttribute("aria-pressed", "false");
  byId("level", HTMLMeterElement).value = 0;
  byId("level-text").textContent = "";
}

function showLevel() {
  const level = microphoneLevel();
  loudest = Math.max(loudest, level);
  byId("level", HTMLMeterElement).value = level;
  byId("level-text").textContent = text(loudest > GOOD_LEVEL ? "levelGood" : "levelSilent");
}

function offerNotifications() {
  const button = byId("notify");
  if (!("Notification" in window)) return;
  button.hidden = Notification.permission !== "default";
  button.addEventListener("click", () => void Notification.requestPermission().then(() => (button.hidden = true)));
}

/** A browser that can install the page says so with an event, once. */
function offerInstallation() {
  const button = byId("install");
  window.addEventListener("beforeinstallprompt", (event) => {
    event.preventDefault();
    button.hidden = false;
    button.onclick = () => {
      button.hidden = true;
      void /** @type {any} */ (event).prompt();
    };
  });
}
