import assert from "node:assert/strict";
import test from "node:test";

// what a browser has and Node.js has not
const storage = () => {
  const items = new Map();
  return { getItem: (key) => items.get(key) ?? null, setItem: (key, value) => items.set(key, value), removeItem: (key) => items.delete(key), items };
};
Object.assign(globalThis, { location: { pathname: "/" }, sessionStorage: storage(), localStorage: storage() });

const { derivedKey, gatheringTime, iceServers } = await import("../src/config.js");
const { entries, markSeen, remember, unseen } = await import("../src/history.js");
const { matching } = await import("../src/people.js");
const { duration } = await import("../src/recents.js");
const { own } = await import("../src/store.js");

test("a derived key is the one that the server computes", async () => {
  // tests/unit/test_phone.py has the same
  const wanted = "fd9ddc22";
  assert.equal((await derivedKey("0123456789abcdef0123456789abcdef", "contacts")).slice(0, 8), wanted);
});

test("the password of the relay is the one that the server stores", async () => {
  // tests/unit/test_relay.py has the same
  const account = { number: "1001", ha1: "f".repeat(32) };
  const relay = ["turns:sip.example.com:443?transport=tcp"];
  const config = { domain: "sip.example.com", websocket: "", relay, is_local: false };
  assert.deepEqual(await iceServers(config, account), [{ urls: relay, username: "1001", credential: "8414a726657d1f555fa81d7b3fe4d9ec" }]);
  assert.deepEqual(await iceServers({ ...config, relay: [] }, account), []);
});

test("an offer waits for the relay only where there is one", () => {
  const relay = { iceServers: [{ urls: "turn:x" }] };
  const candidate = (/** @type {string} */ type) => /** @type {any} */ ({ type });
  assert.equal(gatheringTime(candidate("host"), { iceServers: [] }), 1000);
  assert.equal(gatheringTime(candidate("host"), relay), 3000);
  assert.equal(gatheringTime(candidate("relay"), relay), 300);
});

test("the account stays in the session unless it is asked for", () => {
  const account = { number: "1001", ha1: "5ecre7" };
  own.signIn(account, false);
  assert.deepEqual(own.account, account);
  assert.ok(!JSON.stringify([...localStorage.items]).includes("5ecre7"));
  own.signOut();
  assert.equal(own.account, null);
  own.signIn(account, true);
  assert.ok(!JSON.stringify([...sessionStorage.items]).includes("5ecre7"));
  own.signOut();
  assert.equal(localStorage.items.size + sessionStorage.items.size, 0);
});

test("missed calls count until the user has seen them", () => {
  const entry = { number: "1002", name: "Bob", direction: "incoming", at: 1, seconds: 0, missed: true, seen: false };
  for (let at = 0; at < 130; at += 1) remember({ ...entry, at });
  assert.equal(entries().length, 100);
  assert.equal(entries()[0].at, 129);
  assert.equal(unseen(), 100);
  markSeen();
  assert.equal(unseen(), 0);
});

test("contacts are found by words, without accents", () => {
  const people = [{ number: "1001", name: "Älice Müller" }, { number: "1002", name: "Bob" }];
  const found = (wanted) => matching(people, wanted).map(({ number }) => number);
  assert.deepEqual(found("muller al"), ["1001"]);
  assert.deepEqual(found("100"), ["1001", "1002"]);
  assert.deepEqual(found("bob x"), []);
});

test("durations are read as a clock", () => {
  assert.deepEqual([7, 187, 3723].map(duration), ["0:07", "3:07", "1:02:03"]);
});
