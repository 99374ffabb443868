// What the page keeps in the browser. Each phone of this origin has its own keys, because two of
// them can be side by side in one tab.

/** @typedef {import("./config.js").Account} Account */

const PREFIX = `sipdeploy:${location.pathname}:`;

export class Store {
  /** @param {Storage} area */
  constructor(area) {
    this.area = area;
  }

  /**
   * @param {string} key
   * @returns {any} null if it is absent
   */
  get(key) {
    try {
      return JSON.parse(this.area.getItem(PREFIX + key) ?? "null");
    } catch {
      return null;
    }
  }

  /**
   * @param {string} key
   * @param {unknown} value null removes it
   */
  set(key, value) {
    try {
      if (value === null) this.area.removeItem(PREFIX + key);
      else this.area.setItem(PREFIX + key, JSON.stringify(value));
    } catch {
      // a full or forbidden storage: the phone works without it
    }
  }
}

const session = new Store(sessionStorage);
const device = new Store(localStorage);

/** Choices that tell nothing about a person: devices and language. */
export const preferences = device;

/** The account and the list of calls: until the tab closes, or on this device if asked. */
export const own = {
  /** Where they are now: on this device after "stay signed in". */
  get store() {
    return device.get("account") ? device : session;
  },

  /** @returns {Account | null} */
  get account() {
    return this.store.get("account");
  },

  /**
   * @param {Account} account
   * @param {boolean} stays after the tab is closed
   */
  signIn(account, stays) {
    (stays ? device : session).set("account", account);
  },

  signOut() {
    for (const store of [session, device]) {
      store.set("account", null);
      store.set("history", null);
    }
  },
};
