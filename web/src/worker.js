// The service worker: it keeps the files of the page and nothing else, so that an installed phone
// starts at once. Names, settings and the account never get into its cache.

const worker = /** @type {any} */ (globalThis);
const paths = new Set(FILES.map((file) => new URL(file, worker.location.href).pathname));
const start = new URL("./", worker.location.href).pathname;

worker.addEventListener("install", (/** @type {any} */ event) => {
  const fill = async () => {
    const cache = await caches.open(VERSION);
    await cache.addAll(["./", ...FILES].map((file) => new Request(file, { cache: "reload" })));
    await worker.skipWaiting();
  };
  event.waitUntil(fill());
});

worker.addEventListener("activate", (/** @type {any} */ event) => {
  const clean = async () => {
    for (const name of await caches.keys()) if (name !== VERSION) await caches.delete(name);
    await worker.clients.claim();
  };
  event.waitUntil(clean());
});

worker.addEventListener("fetch", (/** @type {any} */ event) => {
  const { pathname } = new URL(event.request.url);
  const isOurs = event.request.url.startsWith(worker.location.origin);
  if (event.request.method !== "GET" || !isOurs || !(paths.has(pathname) || pathname === start)) return;
  // the network first: a new version shows at the next load, and without a network the old one works
  event.respondWith(fetch(event.request).catch(async () => (await caches.match(event.request, { ignoreSearch: true })) ?? Response.error()));
});
