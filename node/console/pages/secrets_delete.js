// Delete several secrets, one after the other.
import { h } from "../elements.js";
import { openDialog } from "../parts/dialog.js";
import { form, textField } from "../parts/form.js";
import { progressBar, say } from "../parts/values.js";
import { virtualTable } from "../parts/virtual_table.js";
import { secrets as words, typeWord } from "../texts.js";
import * as wire from "../wire/secrets.js";
import { unshare } from "../wire/sharing.js";

/** @typedef {import("../wire/secrets.js").SecretName} Row */

/**
 * Ask once, then delete. After a failure the list says what is gone and what is still there; the next try deletes the rest.
 * @param {import("../wire/client.js").Client} client @param {Row[]} chosen @param {() => void} reload
 */
export function deleteMany(client, chosen, reload) {
  /** @type {Set<Row>} */
  const gone = new Set();
  /** @type {Row | null} */
  let failed = null;
  const word = String(chosen.length);
  const typed = textField({ name: "word", label: typeWord(word), mono: true, check: (said) => (said.trim() === word ? "" : typeWord(word)) });
  const { element: bar, moved } = progressBar(words.removing);
  const said = h("p", { class: "dim small", "aria-live": "polite" });
  const table = virtualTable({ label: words.removeManyTitle(chosen.length), widths: "minmax(0, 1fr) 8rem", narrowWidths: "minmax(0, 1fr) auto", rowHeightPx: 34, key: (/** @type {{ row: Row }} */ { row }) => row.path, columns: [
    { title: words.name, cell: ({ row }) => h("span", { class: "mono", title: row.label }, row.label) },
    { title: words.many.becomes, cell: ({ row }) => {
      const [kind, text] = gone.has(row) ? ["good", words.isGone] : row === failed ? ["bad", words.isFailed] : ["", words.isThere];
      return h("span", { class: `chip ${kind}` }, text);
    } },
  ] });
  const draw = () => {
    table.show(chosen.map((row) => ({ row }))); // new objects, so that each row is drawn anew
    moved(gone.size, chosen.length);
    said.textContent = gone.size || failed ? words.removedSoFar(gone.size, chosen.length) : "";
  };
  return openDialog(words.removeManyTitle(chosen.length), (close) => {
    const made = form({ intro: h("p", {}, words.removeManyText), fields: [typed], action: words.removeMany(chosen.length), isDanger: true, cancel: close, submit: async () => {
      failed = null;
      bar.hidden = false;
      await unshare(client, { secrets: chosen.filter((row) => !gone.has(row)), did: null, team: null }); // SH6: their copies first
      for (const row of chosen) {
        if (gone.has(row) || !made.element.isConnected) continue;
        try {
          await wire.removeListed(client, row);
        } catch (error) {
          if (/** @type {any} */ (error).code !== "not-found") {
            failed = row;
            draw();
            throw error;
          }
        }
        gone.add(row);
        draw();
      }
      close();
      say(words.removedMany(gone.size));
    } });
    bar.hidden = true;
    made.element.querySelector(".actions")?.before(h("div", { class: "stack tight" }, h("section", { class: "panel flush" }, table.element), bar, said));
    draw();
    return made.element;
  }).finally(reload);
}
