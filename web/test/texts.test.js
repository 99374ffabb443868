import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import test from "node:test";
import { chosenLanguage, LANGUAGES, setLanguage, text } from "../src/texts.js";

const places = (value) => [...value.matchAll(/\{\w+\}/g)].map(([name]) => name).sort();
const read = (path) => readFileSync(new URL(path, import.meta.url), "utf8");
const page = read("../static/index.html");
const sources = readdirSync(new URL("../src", import.meta.url))
  .filter((name) => name !== "texts.js")
  .map((name) => read(`../src/${name}`))
  .join("\n");

test("both languages have the same texts with the same values", () => {
  assert.deepEqual(Object.keys(LANGUAGES.de), Object.keys(LANGUAGES.en));
  for (const [key, value] of Object.entries(LANGUAGES.en)) assert.deepEqual(places(LANGUAGES.de[key]), places(value), key);
});

test("the page names only texts that exist", () => {
  const named = [...page.matchAll(/data-(?:text|label|hint)="([^"]+)"/g)].map(([, key]) => key);
  assert.ok(named.length > 30);
  for (const key of named) assert.ok(key in LANGUAGES.en, key);
});

test("every text is used", () => {
  const computed = /^kind\./; // by the kinds of services
  for (const key of Object.keys(LANGUAGES.en)) {
    if (!computed.test(key)) assert.ok(`${page}${sources}`.includes(`"${key}"`), key);
  }
});

test("the page has no inline script, style or handler, which the policy forbids", () => {
  assert.ok(!/<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=/.test(page));
  assert.ok(!/\.innerHTML|\.outerHTML|insertAdjacentHTML|document\.write|\.style\b|eval\(/.test(sources));
});

test("the language of the browser is used if the page has it", () => {
  assert.equal(chosenLanguage(["fr-FR", "de-AT", "en"]), "de");
  assert.equal(chosenLanguage(["fr"]), "en");
});

test("values are put into a text as they are", () => {
  setLanguage("de");
  assert.equal(text("callFrom", { name: "{name} $& <b>" }), "Anruf von {name} $& <b>");
  setLanguage("en");
});
