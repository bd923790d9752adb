// The copies of a secret that people have: shown before a value is replaced, and renewed with it.
import { fill, h } from "../elements.js";
import { failed } from "../texts.js";
import { failedAtSharing, sharing as words } from "../texts_sharing.js";
import { renewCopies, shares } from "../wire/shares.js";
import { contactNames } from "./contact_names.js";

/**
 * @import { Client } from "../wire/client.js"
 * @import { SecretName } from "../wire/secrets.js"
 * @import { Share } from "../wire/shares.js"
 */

// Only modules that load this one report these errors, so pages without it do not load their texts.
Object.assign(failed.words, failedAtSharing.words);
Object.assign(failed.hints, failedAtSharing.hints);

/** A person in a line, with the team. @param {Share["folder"]} folder @param {import("./contact_names.js").ContactNames} contacts */
export const personOf = ({ did, team }, contacts) => [contacts.label(did), team !== null && [" ", h("span", { class: "chip" }, words.inTeam(team))]];

/**
 * The people whose copies a new value renews.
 * @param {Client} client @param {SecretName} secret
 * @returns {{ element: HTMLElement, renew: (value: string) => Promise<string> }} `renew` stores the copies of a value that is stored, and returns a message; empty: there are none
 */
export function copiesOf(client, secret) {
  const element = h("div", { "aria-live": "polite" }, h("p", { class: "dim small" }, words.copiesLoading));
  const contacts = contactNames(client);
  const has = (/** @type {Share} */ { secrets }) => secrets.some(({ path }) => path === secret.path);
  shares(client).then((all) => {
    const some = all.filter(has);
    fill(element, some.length > 0 && [h("p", {}, words.copiesRenew(some.length)), h("ul", { class: "rights", role: "list" }, some.map(({ folder }) => h("li", { data: { did: folder.did } }, personOf(folder, contacts)))), contacts.problem]);
  }).catch(() => fill(element, h("p", { class: "dim small" }, words.copiesUnknown)));
  return { element, renew: async (value) => {
    const renewed = (await renewCopies(client, [{ secret, value }])).length;
    return renewed ? words.renewed(secret.label, renewed) : "";
  } };
}
