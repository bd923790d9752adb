// Runs scripts that come as lines of JSON on standard input, with what the console's modules need of a browser.
// Arguments: the folder with `wire`, the node's origin, a script that announces a wallet.
import { createInterface } from "node:readline";

const [folder, origin, announced] = process.argv.slice(2);
const write = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const hex = (bytes) => Buffer.from(bytes).toString("hex");

const events = new EventTarget();
for (const name of ["addEventListener", "removeEventListener", "dispatchEvent"]) globalThis[name] = events[name].bind(events);
globalThis.window = globalThis;
globalThis.location = new URL(origin);
globalThis.__import = (path) => import(path.replace("/console", `file://${folder}`));

const fetched = globalThis.fetch;
globalThis.fetch = async (path, more = {}) => {
  const body = more.body === undefined ? null : hex(await new Response(more.body).arrayBuffer());
  write({ sent: [more.method ?? "GET", path, Object.fromEntries(new Headers(more.headers)), body] });
  return fetched(new URL(path, origin), more);
};

// The one store that a session is kept in: requests are answered in later turns, then the transaction completes.
const kept = new Map();
const requested = (result) => {
  const request = new EventTarget();
  queueMicrotask(() => {
    request.result = result();
    request.dispatchEvent(new Event("success"));
    request.onsuccess?.();
  });
  return request;
};
const store = {
  get: (key) => requested(() => kept.get(key)),
  put: (value, key) => requested(() => void kept.set(key, { ...value })),
  delete: (key) => requested(() => void kept.delete(key)),
};
const database = {
  close() {},
  transaction() {
    const transaction = { objectStore: () => store };
    setTimeout(() => transaction.oncomplete?.());
    return transaction;
  },
};
globalThis.indexedDB = { open: () => requested(() => database) };

const wanted = new Map();
globalThis.__walletRequest = (method, params) =>
  new Promise((resolve) => {
    wanted.set(wanted.size, resolve);
    write({ id: wanted.size - 1, method, params });
  });
if (announced) (0, eval)(announced);

createInterface({ input: process.stdin }).on("line", async (line) => {
  const said = JSON.parse(line);
  if ("answer" in said) return wanted.get(said.id)(said.answer);
  try {
    write({ value: await (0, eval)(`(${said.script})`)(said.argument) });
  } catch (error) {
    write({ error: error.stack ?? String(error) });
  }
});
