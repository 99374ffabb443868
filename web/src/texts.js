// Every text of the page, in English and German.

const en = {
  allowNotifications: "Show calls when this page is in the background",
  answer: "Answer",
  askFirst: "Ask first",
  call: "Call",
  callBack: "Call {name}",
  calling: "Calling",
  calls: "Calls",
  callFrom: "Call from {name}",
  callOver: "Call with {name} is over",
  cancel: "Cancel",
  completeTransfer: "Connect the two",
  connectedWith: "Connected with {name}",
  connecting: "Connecting …",
  contacts: "Contacts",
  contactsShown: "{shown} of {all}",
  contactsUnavailable: "The names cannot be loaded. You can call every number.",
  dismiss: "Dismiss",
  erase: "Erase",
  hangUp: "Hang up",
  heldByOther: "on hold by the other side",
  hold: "Hold",
  incoming: "incoming",
  install: "Install this phone as an app",
  keypad: "Keypad",
  language: "Language",
  languageOfBrowser: "as in the browser",
  level: "Level of the microphone",
  levelGood: "The microphone works.",
  levelSilent: "Speak: nothing is heard yet.",
  microphone: "Microphone",
  missed: "missed",
  missedCalls: "{count} missed calls",
  mute: "Mute",
  name: "Name",
  noCall: "No call",
  noRecents: "No calls yet.",
  number: "Number",
  numberToCall: "Number or name",
  onHold: "on hold",
  outgoing: "outgoing",
  password: "Password",
  phone: "Phone",
  recents: "Recents",
  reconnecting: "Connection lost. Connecting again …",
  registered: "Ready",
  reject: "Reject",
  resume: "Resume",
  ringing: "Ringing",
  search: "Search",
  sections: "Sections",
  settings: "Settings",
  signIn: "Sign in",
  signOut: "Sign out",
  signingIn: "Signing in …",
  signedOut: "Signed out",
  soundOff: "The browser keeps this page silent until you click.",
  soundOn: "Turn the sound on",
  speaker: "Speaker",
  staySignedIn: "Stay signed in on this device",
  staySignedInHint: "Otherwise you are signed out when you close this tab.",
  systemDefault: "as in the system",
  testMicrophone: "Test the microphone",
  testSpeaker: "Play a tone",
  tones: "Tones",
  transfer: "Transfer",
  transferFailed: "{name} did not take the call.",
  transferTo: "Transfer to",
  transferNow: "Transfer now",
  transferred: "You are being connected with {name}.",
  transferring: "Transferring to {name} …",
  unmute: "Unmute",
  voicemail: "Voicemail",
  voicemailNew: "Voicemail: {count} new",

  "kind.ivr-test": "Test announcement",
  "kind.echo": "Echo test",
  "kind.voicemail": "Voicemail",

  // what is wrong, and the cause
  "problem.microphone-denied": "The browser may not use the microphone. Allow it in the address bar (the lock or the camera), then try again.",
  "problem.microphone-missing": "No microphone is connected.",
  "problem.microphone-busy": "The microphone cannot be opened. Another program may be using it.",
  "problem.microphone-insecure": "The browser gives no microphone to this page, because it was not loaded over https.",
  "problem.microphone-silent": "Your microphone delivers only silence. It may be muted at the device or in the system.",
  "problem.config": "The page is incomplete: its settings cannot be loaded. Load it again.",
  "problem.no-such-name": "No contact, or more than one, has this name.",
  "problem.offline": "This device is offline.",
  "problem.server-unreachable": "The server {server} cannot be reached. Either it is down, a firewall blocks it, its name has no address, or the browser does not trust its certificate.",
  "problem.server-unreachable.link": "Open {server}: if a warning appears, accept the certificate there",
  "problem.socket-refused": "The server {server} answers, but refuses this page. The administrator can allow its address in `origins`, or too many phones connect from here.",
  "problem.password": "The number or the password is wrong.",
  "problem.too-many-tries": "Too many tries with a wrong password, or too many phones of this number. Wait a few minutes.",
  "problem.forbidden": "The server refuses this number ({status}).",
  "problem.no-answer-to-register": "The server does not answer the registration.",
  "problem.refused": "The server refuses the registration ({status}).",
  "problem.media-path": "No sound: this device and the other side find no path to each other. A firewall blocks UDP, or one of the networks is too strict.",
  "problem.media-lost": "The sound is interrupted: the network path is lost. Trying again …",
  "problem.media-silent": "No sound arrives from the other side, although the path works. Its microphone may be missing.",
  "end.busy": "{name} is busy.",
  "end.declined": "{name} declined.",
  "end.unknown": "The number {number} does not exist.",
  "end.unavailable": "{name} is not available: no phone is signed in.",
  "end.no-answer": "{name} does not answer.",
  "end.connection": "The connection to the server was lost.",
  "end.incompatible": "The two phones have no common audio format.",
  "end.overload": "The server is busy, or you have too many calls.",
  "end.refused": "The call was refused ({status}).",
  "end.failed": "The call failed: {cause}.",
};

/** @typedef {keyof typeof en} TextKey */

/** @type {Record<TextKey, string>} */
const de = {
  allowNotifications: "Anrufe anzeigen, wenn diese Seite im Hintergrund ist",
  answer: "Annehmen",
  askFirst: "Erst fragen",
  call: "Anrufen",
  callBack: "{name} anrufen",
  calling: "Verbinde",
  calls: "Gespräche",
  callFrom: "Anruf von {name}",
  callOver: "Gespräch mit {name} beendet",
  cancel: "Abbrechen",
  completeTransfer: "Beide verbinden",
  connectedWith: "Verbunden mit {name}",
  connecting: "Verbinde …",
  contacts: "Kontakte",
  contactsShown: "{shown} von {all}",
  contactsUnavailable: "Die Namen können nicht geladen werden. Sie können jede Nummer anrufen.",
  dismiss: "Schließen",
  erase: "Löschen",
  hangUp: "Auflegen",
  heldByOther: "von der Gegenseite gehalten",
  hold: "Halten",
  incoming: "ankommend",
  install: "Dieses Telefon als App installieren",
  keypad: "Tastatur",
  language: "Sprache",
  languageOfBrowser: "wie im Browser",
  level: "Pegel des Mikrofons",
  levelGood: "Das Mikrofon funktioniert.",
  levelSilent: "Sprechen Sie: Noch ist nichts zu hören.",
  microphone: "Mikrofon",
  missed: "verpasst",
  missedCalls: "{count} verpasste Anrufe",
  mute: "Stumm",
  name: "Name",
  noCall: "Kein Gespräch",
  noRecents: "Noch keine Anrufe.",
  number: "Nummer",
  numberToCall: "Nummer oder Name",
  onHold: "gehalten",
  outgoing: "abgehend",
  password: "Passwort",
  phone: "Telefon",
  recents: "Anrufe",
  reconnecting: "Verbindung verloren. Verbinde neu …",
  registered: "Bereit",
  reject: "Ablehnen",
  resume: "Fortsetzen",
  ringing: "Es klingelt",
  search: "Suchen",
  sections: "Bereiche",
  settings: "Einstellungen",
  signIn: "Anmelden",
  signOut: "Abmelden",
  signingIn: "Melde an …",
  signedOut: "Abgemeldet",
  soundOff: "Der Browser lässt diese Seite stumm, bis Sie klicken.",
  soundOn: "Ton einschalten",
  speaker: "Lautsprecher",
  staySignedIn: "Auf diesem Gerät angemeldet bleiben",
  staySignedInHint: "Sonst werden Sie abgemeldet, wenn Sie diesen Tab schließen.",
  systemDefault: "wie im System",
  testMicrophone: "Mikrofon prüfen",
  testSpeaker: "Ton abspielen",
  tones: "Töne",
  transfer: "Weitergeben",
  transferFailed: "{name} hat das Gespräch nicht angenommen.",
  transferTo: "Weitergeben an",
  transferNow: "Sofort weitergeben",
  transferred: "Sie werden mit {name} verbunden.",
  transferring: "Gebe weiter an {name} …",
  unmute: "Laut",
  voicemail: "Anrufbeantworter",
  voicemailNew: "Anrufbeantworter: {count} neu",

  "kind.ivr-test": "Testansage",
  "kind.echo": "Echotest",
  "kind.voicemail": "Anrufbeantworter",

  "problem.microphone-denied": "Der Browser darf das Mikrofon nicht benutzen. Erlauben Sie es in der Adresszeile (Schloss oder Kamera), dann versuchen Sie es noch einmal.",
  "problem.microphone-missing": "Es ist kein Mikrofon angeschlossen.",
  "problem.microphone-busy": "Das Mikrofon lässt sich nicht öffnen. Vielleicht benutzt es ein anderes Programm.",
  "problem.microphone-insecure": "Der Browser gibt dieser Seite kein Mikrofon, weil sie nicht über https geladen wurde.",
  "problem.microphone-silent": "Ihr Mikrofon liefert nur Stille. Vielleicht ist es am Gerät oder im System stummgeschaltet.",
  "problem.config": "Die Seite ist unvollständig: Ihre Einstellungen lassen sich nicht laden. Laden Sie sie neu.",
  "problem.no-such-name": "Kein Kontakt oder mehr als einer hat diesen Namen.",
  "problem.offline": "Dieses Gerät ist offline.",
  "problem.server-unreachable": "Der Server {server} ist nicht erreichbar. Entweder läuft er nicht, eine Firewall sperrt ihn, sein Name hat keine Adresse, oder der Browser vertraut seinem Zertifikat nicht.",
  "problem.server-unreachable.link": "{server} öffnen: Wenn eine Warnung erscheint, nehmen Sie dort das Zertifikat an",
  "problem.socket-refused": "Der Server {server} antwortet, weist diese Seite aber ab. Der Verwalter kann ihre Adresse in `origins` erlauben, oder zu viele Telefone verbinden sich von hier.",
  "problem.password": "Die Nummer oder das Passwort ist falsch.",
  "problem.too-many-tries": "Zu viele Versuche mit falschem Passwort, oder zu viele Telefone dieser Nummer. Warten Sie einige Minuten.",
  "problem.forbidden": "Der Server weist diese Nummer ab ({status}).",
  "problem.no-answer-to-register": "Der Server antwortet nicht auf die Anmeldung.",
  "problem.refused": "Der Server weist die Anmeldung ab ({status}).",
  "problem.media-path": "Kein Ton: Dieses Gerät und die Gegenseite finden keinen Weg zueinander. Eine Firewall sperrt UDP, oder eines der Netze ist zu streng.",
  "problem.media-lost": "Der Ton ist unterbrochen: Der Weg durch das Netz ist verloren. Neuer Versuch …",
  "problem.media-silent": "Von der Gegenseite kommt kein Ton, obwohl der Weg frei ist. Vielleicht fehlt dort das Mikrofon.",
  "end.busy": "{name} ist besetzt.",
  "end.declined": "{name} hat abgelehnt.",
  "end.unknown": "Die Nummer {number} gibt es nicht.",
  "end.unavailable": "{name} ist nicht erreichbar: Kein Telefon ist angemeldet.",
  "end.no-answer": "{name} antwortet nicht.",
  "end.connection": "Die Verbindung zum Server ging verloren.",
  "end.incompatible": "Die beiden Telefone haben kein gemeinsames Audioformat.",
  "end.overload": "Der Server ist überlastet, oder Sie haben zu viele Gespräche.",
  "end.refused": "Der Anruf wurde abgewiesen ({status}).",
  "end.failed": "Der Anruf ist gescheitert: {cause}.",
};

export const LANGUAGES = { en, de };
/** @typedef {keyof typeof LANGUAGES} Language */

/** @type {Language} */
let language = "en";

export const currentLanguage = () => language;

/**
 * The first language of the list that the page has, else English.
 *
 * @param {readonly string[]} wanted such as `navigator.languages`
 * @returns {Language}
 */
export function chosenLanguage(wanted) {
  for (const tag of wanted) {
    const short = tag.toLowerCase().split("-")[0];
    if (short === "en" || short === "de") return short;
  }
  return "en";
}

/** @param {Language} chosen */
export function setLanguage(chosen) {
  language = chosen;
}

/**
 * A text in the current language, with its values.
 *
 * @param {TextKey} key
 * @param {Record<string, string | number>} values
 */
export function text(key, values = {}) {
  return LANGUAGES[language][key].replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/** The text of a key that may be unknown, such as the kind of a service. @param {string} key */
export const textOr = (key, fallback = "") =>
  key in en ? text(/** @type {TextKey} */ (key)) : fallback;

/** Write the texts of all elements that name one: data-text, data-label, data-hint. */
export function translate(root = document.documentElement) {
  document.documentElement.lang = language;
  const each = (/** @type {string} */ attribute, /** @type {(e: HTMLElement, t: string) => void} */ write) => {
    for (const element of root.querySelectorAll(`[${attribute}]`)) {
      write(/** @type {HTMLElement} */ (element), textOr(element.getAttribute(attribute) ?? ""));
    }
  };
  each("data-text", (element, value) => (element.textContent = value));
  each("data-label", (element, value) => element.setAttribute("aria-label", value));
  each("data-hint", (element, value) => element.setAttribute("placeholder", value));
}
