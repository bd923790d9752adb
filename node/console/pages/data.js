import { fill, h, icon, pageHead } from "../elements.js";
import { confirmByWord, openDialog } from "../parts/dialog.js";
import { form, textField } from "../parts/form.js";
import { banner, emptyState, failure, loading } from "../parts/states.js";
import { askForRights, isHeld } from "../parts/space_rights.js";
import { download, facts, progressBar, say } from "../parts/values.js";
import { virtualTable } from "../parts/virtual_table.js";
import { data as words } from "../texts_data.js";
import * as kv from "../wire/kv.js";
import * as spaces from "../wire/spaces.js";

export const title = words.title;
export const needsSession = true;

const MOST_KEYS = 10_000; // listed in one folder; beyond, open a subfolder
const MOST_SHOWN_BYTES = 256 * 1024;
const MEGABYTE = 1024 * 1024;
const SECRETS = "secrets"; // its values are sealed; the page of secrets opens them

/**
 * @import { Client } from "../wire/client.js"
 * @typedef {{ id: string, space: import("../wire/spaces.js").Space }} Place
 * @typedef {{ key: string, name: string, isFolder: boolean }} Row
 */

/** @param {number} bytes */
const size = (bytes) =>
  bytes < 1024 ? words.bytes(bytes) : bytes < MEGABYTE ? words.kilobytes(bytes / 1024)
    : bytes < 1024 * MEGABYTE ? words.megabytes(bytes / MEGABYTE) : words.gigabytes(bytes / MEGABYTE / 1024);

/** @param {import("../app.js").Context} context */
export async function render(context) {
  const { client, parameters, signal, go } = context;
  const all = (await spaces.list(client)).filter((one) => one.name !== SECRETS);
  const own = client.session.space.slice(client.session.space.lastIndexOf(":") + 1);
  const name = parameters.get("space") ?? own;
  const path = parameters.get("path") ?? "";
  /** @param {string} where @param {string} space */
  const visit = (where, space = name) => go(`data?${new URLSearchParams({ space, path: where })}`);

  const body = h("div", { class: "stack" });
  const use = h("p", { class: "dim small" });
  const databases = h("div", {});
  const chosen = h("select", { "aria-label": words.space, on: { change: () => visit("", chosen.value) } },
    all.map((one) => h("option", { value: one.name, selected: one.name === name }, one.name)));

  const reload = async () => {
    showUse();
    await loading(body, () => keysOf(client, name, path), content, { signal });
  };
  async function showUse() {
    const found = await spaces.get(client, name).catch(() => null);
    if (found === null || found.usageBytes === null || signal.aborted) return;
    const { usageBytes, limitBytes } = found;
    if (path === "" && found.databases.length) {
      fill(databases, h("section", { class: "panel stack" }, h("h2", {}, words.databases), facts(found.databases.map(([one, bytes]) => [one, size(bytes)])),
        h("p", { class: "dim small" }, words.databasesText)));
    }
    const said = limitBytes === null ? words.used(size(usageBytes)) : words.usedOf(size(usageBytes), size(limitBytes));
    fill(use, said, limitBytes !== null && h("meter", { min: 0, max: limitBytes, high: limitBytes * 0.9, value: usageBytes, "aria-label": said }));
  }

  /** @type {Row[]} */
  let rows = [];
  const find = h("input", { type: "search", placeholder: words.find, "aria-label": words.find, on: { input: () => draw() } });
  const count = h("p", { class: "dim small" });
  const table = virtualTable({ label: words.title, widths: "minmax(0, 1fr) 7rem", narrowWidths: "minmax(0, 1fr) auto", key: (row) => row.key, columns: [
    { title: words.name, cell: (row) => h("span", { class: "mono", title: row.name }, row.name) },
    { title: words.open, quiet: true, cell: (row) => row.isFolder
      ? h("button", { "aria-label": words.openFolderOf(row.name), on: { click: () => visit(row.key) } }, words.openFolder)
      : h("button", { "aria-label": words.openOf(row.name), on: { click: () => openValue(client, name, row.key, reload) } }, words.open) },
  ] });
  const listed = h("div", { class: "stack" }, h("div", { class: "searching" }, icon("search"), find), h("section", { class: "panel flush" }, table.element), count);
  const draw = () => table.show(rows.filter((row) => row.name.toLowerCase().includes(find.value.trim().toLowerCase())));

  /** @param {{ keys: string[], isAll: boolean }} found */
  function content({ keys, isAll }) {
    const known = new Map(rows.map((one) => [one.key, one]));
    rows = rowsOf(keys, path).map((one) => known.get(one.key) ?? one);
    if (!rows.length) return h("section", { class: "panel" }, emptyState({ icon: "data", title: words.emptyTitle, text: words.empty }));
    draw();
    count.textContent = isAll ? words.count(rows.length) : words.tooMany(MOST_KEYS);
    return listed;
  }

  const create = () => edit(client, name, { key: path, body: "", etag: null }, reload);
  const upload = h("input", { type: "file", multiple: true, hidden: true, "aria-label": words.upload, on: { change: async () => {
    const files = [...upload.files];
    upload.value = "";
    if (files.length) await send(client, name, path, files, reload);
  } } });

  const space = all.find((one) => one.name === name);
  if (!space) fill(body, banner({ kind: "warn", title: words.noSpace(name), text: words.noSpaceText }));
  else if (isHeld(client, space)) reload();
  else fill(body, askForRights(client, [space], reload));
  return h("div", { class: "page" },
    pageHead(words, h("div", { class: "row" },
      h("button", { on: { click: create } }, words.create), h("button", { class: "primary", on: { click: () => upload.click() } }, icon("upload"), words.upload), upload)),
    h("div", { class: "row spread" }, h("div", { class: "row" }, h("div", {}, chosen), crumbs(path, visit)), use), body, databases);
}

/** @param {Client} client @param {string} space @param {string} prefix */
async function keysOf(client, space, prefix) {
  /** @type {string[]} */
  const keys = [];
  for (let cursor = null; ; ) {
    const page = await kv.listPage(client, space, prefix, { cursor });
    keys.push(...page.keys);
    if (page.cursor === null || keys.length >= MOST_KEYS) return { keys, isAll: page.cursor === null };
    cursor = page.cursor;
  }
}

/** The rows of a folder, subfolders first. A subfolder is the part of a key before a `/`. @param {string[]} keys @param {string} prefix @returns {Row[]} */
function rowsOf(keys, prefix) {
  const folders = new Set();
  /** @type {Row[]} */
  const values = [];
  for (const key of keys) {
    const rest = key.slice(prefix.length);
    const slash = rest.indexOf("/");
    if (slash >= 0) folders.add(rest.slice(0, slash + 1));
    else values.push({ key, name: kv.nameOf(rest) || words.unnamed, isFolder: false });
  }
  return [...[...folders].map((folder) => ({ key: prefix + folder, name: kv.nameOf(folder), isFolder: true })), ...values];
}

/** @param {string} path @param {(path: string) => void} visit */
function crumbs(path, visit) {
  const parts = path.split("/").slice(0, -1);
  const at = (/** @type {number} */ depth) => parts.slice(0, depth).map((part) => `${part}/`).join("");
  return h("nav", { class: "row crumbs", "aria-label": words.where }, ["", ...parts].map((part, depth) =>
    depth === parts.length ? h("strong", { "aria-current": "location" }, depth ? kv.nameOf(part) : words.top)
      : [h("button", { class: "plain", on: { click: () => visit(at(depth)) } }, depth ? kv.nameOf(part) : words.top), "/"]));
}

/** @param {Client} client @param {string} space @param {string} key @param {() => void} reload */
function openValue(client, space, key, reload) {
  const name = kv.nameOf(key);
  return openDialog(name, (close) => {
    const body = h("div", { class: "stack" });
    loading(body, () => kv.get(client, space, key), (value) => {
      const text = value.body.length <= MOST_SHOWN_BYTES ? textOf(value.body) : null;
      const change = () => { close(); edit(client, space, { key, body: text ?? "", etag: value.etag, contentType: value.contentType }, reload); };
      const remove = async () => {
        close();
        const word = name.split("/").at(-1) || name;
        const run = () => kv.remove(client, space, key, { ifMatch: value.etag });
        if (!await confirmByWord({ title: words.removeTitle(name), text: words.removeText, word, action: words.remove, run })) return;
        say(words.removed(name));
        reload();
      };
      return [name !== kv.plainNameOf(key) && h("p", { class: "why" }, words.oddName), text === null ? h("p", { class: "dim" }, value.body.length > MOST_SHOWN_BYTES ? words.long : words.notText) : h("pre", { class: "value", tabIndex: 0 }, text),
        facts([[words.size, size(value.body.length)], [words.type, value.contentType ?? words.noType], [words.version, h("code", {}, value.etag)]]),
        h("div", { class: "actions" }, h("button", { class: "danger", on: { click: remove } }, words.remove),
          h("button", { on: { click: () => download(value.body, name.split("/").at(-1) || "value") } }, words.download),
          text !== null && h("button", { class: "primary", on: { click: change } }, words.edit))];
    }, { lines: 4 });
    return body;
  });
}

/** @param {Uint8Array} bytes @returns {string | null} null unless it is text that an input field keeps unchanged */
function textOf(bytes) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return /[\0\r]/.test(text) ? null : text; // an input field would change these to other line endings
  } catch {
    return null;
  }
}

/**
 * Edit a text, or write a new one. If another party has changed it meanwhile, show both versions and ask which to keep.
 * @param {Client} client @param {string} space @param {{ key: string, body: string, etag: string | null, contentType?: string | null }} given
 * @param {() => void} reload
 */
function edit(client, space, given, reload) {
  const isNew = given.etag === null;
  let { etag } = given;
  const key = textField({ name: "key", label: words.key, hint: words.keyHint, mono: true, value: isNew && kv.keyOf(kv.nameOf(given.key)) === given.key ? kv.nameOf(given.key) : "",
    check: (said) => (said && !said.endsWith("/") && !/(^|\/)\.{1,2}(\/|$)/.test(said) ? "" : words.keyBad) });
  const body = textField({ name: "body", label: words.body, rows: 12, mono: true, value: given.body });
  const other = h("div", { role: "alert" });
  /** @type {ReturnType<typeof form>} */
  let made;
  return openDialog(isNew ? words.createTitle : words.editTitle(kv.nameOf(given.key)), (close) => {
    made = form({ fields: isNew ? [key, body] : [body], action: words.save, cancel: close, resends: true, submit: async (said) => {
      const target = isNew ? kv.keyOf(said.key) : given.key;
      fill(other);
      try {
        const conditions = etag === null ? { ifAbsent: true } : { ifMatch: etag };
        await kv.put(client, space, target, said.body, { type: given.contentType ?? undefined, ...conditions });
      } catch (error) {
        if (/** @type {any} */ (error).code !== "conflict") throw error;
        await showOther(target);
        return;
      }
      close();
      say(words.saved(kv.nameOf(target)));
      reload();
    } });
    made.element.querySelector(".actions")?.before(other);
    return made.element;
  }, { mayClose: () => made.mayClose() });

  /** @param {string} target */
  async function showOther(target) {
    const now = await kv.get(client, space, target).catch((error) => {
      if (error.code !== "not-found") throw error;
      return null;
    });
    etag = now?.etag ?? null;
    const text = now && textOf(now.body);
    const theirs = () => { body.input.value = text ?? ""; fill(other); body.input.focus(); };
    fill(other, h("div", { class: "banner warn" }, icon("warning"), h("div", {}, h("strong", {}, now ? words.conflict : words.gone),
      h("p", {}, now ? words.conflictText : words.goneText), now && h("pre", { class: "value", tabIndex: 0 }, text ?? words.notText),
      typeof text === "string" && h("button", { type: "button", on: { click: theirs } }, words.theirs))));
  }
}

/** Upload files one after the other, and show the progress of each. @param {Client} client @param {string} space @param {string} path @param {File[]} files @param {() => void} reload */
function send(client, space, path, files, reload) {
  const leaving = new AbortController();
  return openDialog(words.uploading(files.length), (close) => {
    const lines = files.map((file) => ({ file, line: h("li", { class: "stack tight" }) }));
    const done = h("button", { type: "button", class: "primary", disabled: true, on: { click: close } }, words.close);
    /** @param {{ file: File, line: HTMLElement }} one @param {boolean} [isSure] */
    const put = async ({ file, line }, isSure) => {
      const { element, moved } = progressBar(file.name);
      fill(line, h("div", { class: "row spread" }, h("span", { class: "mono" }, file.name), h("span", { class: "dim small" }, size(file.size))), element);
      const again = (/** @type {boolean} */ sure) => h("button", { type: "button", on: { click: () => put({ file, line }, sure) } }, sure ? words.replace : words.again);
      try {
        if (file.size > kv.MAX_VALUE_BYTES) throw Object.assign(new Error(), { code: "too-large", hint: words.most(size(kv.MAX_VALUE_BYTES)) });
        // Read the file first: if it changed during the upload, the node would store a mix of both versions.
        const bytes = new Uint8Array(await file.arrayBuffer());
        await kv.put(client, space, path + kv.keyOf(file.name), bytes, { type: file.type || "application/octet-stream", ifAbsent: !isSure,
          onProgress: moved, signal: leaving.signal });
        element.replaceWith(h("span", { class: "chip good" }, words.uploaded));
        say(words.uploadedOne(file.name));
      } catch (error) {
        if (leaving.signal.aborted) return;
        const isThere = /** @type {any} */ (error).code === "conflict";
        element.replaceWith(isThere ? h("div", { class: "row spread" }, h("span", {}, words.isThere), again(true)) : h("div", { class: "stack tight" }, failure(error), again(false)));
      }
    };
    (async () => {
      for (const one of lines) if (!leaving.signal.aborted) await put(one);
      done.disabled = false;
      if (!leaving.signal.aborted) done.focus();
    })();
    return h("div", { class: "stack" }, h("ul", { class: "uploads", role: "list" }, lines.map(({ line }) => line)), h("div", { class: "actions" }, done));
  }).finally(() => { leaving.abort(); reload(); });
}

