// Add many secrets at once, from a file of names and values.
import { fill, h } from "../elements.js";
import { openDialog } from "../parts/dialog.js";
import { checkField, form, textField } from "../parts/form.js";
import { say } from "../parts/values.js";
import { virtualTable } from "../parts/virtual_table.js";
import { secrets as texts } from "../texts.js";
import { MAX_FILE_CHARS, parseEnv } from "../wire/env_text.js";
import { isJson, parseValues } from "../wire/json_values.js";
import * as wire from "../wire/secrets.js";
import { putMany } from "../wire/shares.js";

const words = texts.many;

/**
 * @typedef {import("../wire/secrets.js").SecretName & { value: string | import("../wire/bytes.js").Bytes, isThere: boolean, isSaved: boolean }} Entry
 * @param {import("../wire/client.js").Client} client @param {import("../wire/secrets.js").SecretName[]} all @param {() => void} reload
 */
export function addMany(client, all, reload) {
  let known = new Set(all.map(({ path }) => path));
  /** @type {Map<string, string | import("../wire/bytes.js").Bytes>} values that an earlier try has stored, by path */
  const saved = new Map();
  /** @type {{ line: number, text: string }[]} */
  let faults = [];
  /** @type {string[]} names of secrets that the file has as numbers, true, false or null */
  let converted = [];

  const picked = h("input", { type: "file", hidden: true, "aria-label": words.choose, on: { change: () => { take(picked.files[0]); picked.value = ""; } } });
  const file = textField({ name: "file", label: words.file, hint: words.fileHint, rows: 7, mono: true, secret: true,
    beside: [h("button", { type: "button", on: { click: () => picked.click() } }, words.choose), picked],
    check: (said) => { const entries = read(said); return faults.length ? words.faulty : entries.length ? "" : words.nothing; } });
  const scope = textField({ name: "scope", label: texts.scope, hint: words.scopeHint, mono: true, suggestions: [...new Set(all.flatMap((one) => one.scope ?? []))],
    check: (said) => (wire.isScope(said.trim()) ? "" : texts.scopeBad) });
  const replace = checkField({ name: "replace", label: words.replace, hint: words.replaceHint });
  const wrong = h("ul", { class: "wrong", "aria-live": "polite" });
  const table = virtualTable({ label: words.preview, widths: "minmax(0, 1fr) 8rem", narrowWidths: "minmax(0, 1fr) auto", rowHeightPx: 34, key: (/** @type {Entry} */ row) => row.path, columns: [
    { title: texts.name, cell: (row) => h("span", { class: "mono", title: row.label }, row.label) },
    { title: words.becomes, cell: (row) => {
      const [kind, text] = row.isSaved ? ["good", words.isSaved] : !row.isThere ? ["", words.isNew] : replace.input.checked ? ["warn", words.isReplaced] : ["", words.isKept];
      return h("span", { class: `chip ${kind}` }, text);
    } },
  ] });
  const count = h("p", { class: "dim small", "aria-live": "polite" });
  const asText = h("p", { class: "dim small", "aria-live": "polite" });
  const list = h("section", { class: "panel flush" }, table.element);
  const preview = h("div", { class: "stack tight" }, wrong, list, count, asText);

  /** @param {string} said @returns {Entry[]} empty if a line or the scope is invalid */
  function read(said) {
    [faults, converted] = [[], []];
    const where = scope.input.value.trim();
    if (!wire.isScope(where)) return [];
    try {
      const json = isJson(said) ? parseValues(said) : null;
      converted = json?.converted ?? [];
      return [...(json?.values ?? parseEnv(said))].map(([name, value]) => {
        const named = wire.secretName(where || null, name);
        return { ...named, value, isThere: known.has(named.path), isSaved: String(saved.get(named.path)) === String(value) };
      });
    } catch (error) {
      const { details, message } = /** @type {any} */ (error);
      faults = details?.faults ?? [{ line: 0, text: message }];
      return [];
    }
  }
  function draw() {
    const entries = read(file.input.value);
    const there = entries.filter((one) => one.isThere && !one.isSaved).length;
    fill(wrong, faults.map(({ line, text }) => h("li", {}, line ? words.line(line, text) : text)));
    list.hidden = entries.length === 0;
    replace.element.hidden = there === 0;
    table.show(entries);
    asText.textContent = converted.length ? words.asText(converted.slice(0, 8).join(", "), converted.length - 8) : "";
    count.textContent = entries.length ? words.count(entries.filter((one) => !one.isThere).length, there) : "";
  }
  /** @param {File | undefined} given */
  async function take(given) {
    if (!given) return;
    try {
      if (given.size > MAX_FILE_CHARS) throw new RangeError();
      const text = new TextDecoder("utf-8", { fatal: true }).decode(await given.arrayBuffer()).replaceAll("\r\n", "\n");
      if (/[\0\r]/.test(text)) throw new TypeError(); // the input field would change these characters
      file.input.value = text;
      file.refuse("");
      draw();
      say(words.isRead(given.name));
    } catch (error) {
      file.refuse(error instanceof RangeError ? words.tooLong : words.notText);
    }
  }
  for (const { input } of [file, scope]) input.addEventListener("input", draw);
  replace.input.addEventListener("change", draw);

  /** @type {ReturnType<typeof form>} */
  let made;
  return openDialog(words.title, (close) => {
    made = form({ fields: [file, scope, replace], action: texts.save, cancel: close, resends: true, submit: async () => {
      const before = read(file.input.value);
      known = new Set((await wire.list(client)).map(({ path }) => path));
      const entries = read(file.input.value);
      const isAnother = entries.some((one, at) => one.isThere && !before[at]?.isThere && !one.isSaved);
      draw();
      if (isAnother) return file.refuse(words.isAnother);
      const chosen = entries.filter((one) => !one.isSaved && (!one.isThere || replace.input.checked));
      if (!chosen.length && entries.some((one) => !one.isSaved)) return file.refuse(words.nothingNew);
      try {
        await putMany(client, chosen);
      } catch (error) {
        const { code, details } = /** @type {any} */ (error);
        if (code === "batch-incomplete") for (const one of chosen) if (details.done.includes(one.path)) saved.set(one.path, one.value);
        draw();
        throw error;
      }
      close();
      say(words.saved(chosen.length));
    } });
    made.element.querySelector(".actions")?.before(preview);
    draw();
    return h("div", { on: { dragover: (/** @type {Event} */ event) => event.preventDefault(), drop: (/** @type {DragEvent} */ event) => {
      event.preventDefault();
      take(event.dataTransfer?.files[0]);
    } } }, made.element);
  }, { mayClose: () => made.mayClose() }).finally(reload);
}
