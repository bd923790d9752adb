// Secrets that a runner generates.
import { h } from "../elements.js";
import { generated as words } from "../texts_generated.js";
import { generateAt, isGeneratedName, TYPES } from "../wire/generated_secrets.js";
import { isScope, PROTECTED } from "../wire/secrets.js";
import { openDialog } from "./dialog.js";
import { form, textField } from "./form.js";
import { runnerUrl } from "./known_node.js";
import { known } from "./known_runner.js";
import { say } from "./values.js";
import { signedByOwner } from "./wallet_choices.js";

/**
 * Ask the runner to generate a secret. The value never reaches this page.
 * @param {import("../wire/client.js").Client} client @param {{ name: string, scope: string }} typed input so far @param {() => void} reload
 */
export function generateInRunner(client, typed, reload) {
  const begun = typed.name.trim() && !typed.name.trim().startsWith(PROTECTED) ? PROTECTED + typed.name.trim() : typed.name.trim() || PROTECTED;
  const name = textField({ name: "name", label: words.name, hint: words.nameHint, mono: true, value: begun, check: (said) => (isGeneratedName(said.trim()) ? "" : words.nameBad) });
  const scope = textField({ name: "scope", label: words.scope, hint: words.scopeHint, mono: true, value: typed.scope, check: (said) => (isScope(said.trim()) ? "" : words.scopeBad) });
  const type = h("select", { id: "generated-type" }, TYPES.map((one) => h("option", { value: one }, words.types[one])));
  const kind = { name: "type", input: type, element: h("div", { class: "field" }, h("label", { for: "generated-type" }, words.type), type), judge: () => "", refuse: () => {} };
  const intro = h("div", { class: "stack tight" }, h("p", {}, words.text), h("p", { class: "dim small" }, words.unproved, " ", h("code", {}, words.command(runnerUrl))));
  return openDialog(words.title, (close) => form({ intro, fields: [name, scope, kind], action: words.generate, cancel: close, submit: async (said) => {
    const found = await known();
    const wanted = { scope: said.scope.trim() || null, name: said.name, type: said.type };
    let isMade = false;
    if (!(await signedByOwner(client.session, words.why, async (owner) => { isMade = await generateAt(client, owner, found, wanted); }))) return;
    if (!isMade) return name.refuse(words.isThere);
    close();
    say(words.made(said.name.trim()));
    reload();
  } }).element);
}
