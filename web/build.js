// Builds the page into dist/: two scripts by esbuild, and the files of static/ as they are.

import { createHash } from "node:crypto";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { build } from "esbuild";

const SHELL = ["style.css", "phone.js", "icon.svg", "icon-192.png", "icon-512.png", "manifest.webmanifest"];
const options = { bundle: true, minify: true, target: "es2022", format: "esm", logLevel: "warning", legalComments: "none" };

await rm("dist", { recursive: true, force: true });
await mkdir("dist");
await cp("static", "dist", { recursive: true });
const { metafile } = await build({ ...options, metafile: true, entryPoints: ["src/main.js"], outfile: "dist/phone.js", define: { global: "globalThis" } });
await writeFile("dist/licenses.txt", await licenses(Object.keys(metafile.inputs)));
const version = await digest();
await build({
  ...options,
  format: "iife",
  entryPoints: ["src/worker.js"],
  outfile: "dist/worker.js",
  define: { VERSION: JSON.stringify(version), FILES: JSON.stringify(SHELL) },
});

/** A digest of all files, so that a new version of one gets a new cache. */
async function digest() {
  const hash = createHash("sha256");
  for (const name of (await readdir("dist")).sort()) hash.update(name).update(await readFile(`dist/${name}`));
  return hash.digest("hex").slice(0, 16);
}

/** The licences of the libraries in the script. @param {string[]} inputs */
async function licenses(inputs) {
  const packages = new Set(inputs.map((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]).filter(Boolean));
  const texts = [...packages].sort().map(async (name) => {
    const files = await readdir(`node_modules/${name}`);
    const file = files.find((each) => /^licen[cs]e/i.test(each));
    const { license } = JSON.parse(await readFile(`node_modules/${name}/package.json`, "utf8"));
    return `${name}: ${license}\n\n${file ? await readFile(`node_modules/${name}/${file}`, "utf8") : ""}`;
  });
  return (await Promise.all(texts)).join("\n----\n\n");
}
