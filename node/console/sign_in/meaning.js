/** The rights that a text to sign grants, parsed from the text itself so that the two cannot differ. */

import { rightOf } from "../wire/grants.js";
import { fromBase64url, text as decoded } from "../wire/bytes.js";
import { commandLine as words } from "./texts.js";

/** @typedef {{ title: string, facts: [string, string][], rights: import("../wire/grants.js").Right[] }} Meaning */

// Texts as `sealspace` makes them; anything else is shown as it is.
const TEXT = new RegExp("^[^\\n]* wants you to sign in with your Ethereum account:\\n0x[0-9a-fA-F]{40}\\n\\n(?:[^\\n]+\\n)?\\n" +
  "URI: ([^\\n]*)\\nVersion: 1\\nChain ID: [0-9]+\\nNonce: [^\\n]*\\nIssued At: [^\\n]*" +
  "(?:\\nExpiration Time: ([^\\n]*))?((?:\\nResources:(?:\\n- [^\\n]*)+)?)$");
const RECAP = "urn:recap:";
const REVOKED = "ucan:";
const MACHINE = "urn:sealspace:machine:v1:";
/** That the recipient may use values that do not state their place (CN15), as `sealspace` writes it. */
const VALUES = "urn:sealspace:values:v1:";
const UNBOUND = '{"unbound":true}';
/** The owner's names for approved code (CN19). */
const APP = "urn:sealspace:app:v1:";
const HOST = "tinycloud.space/host";

const UNSEEN = /["\p{C}\p{Zl}\p{Zp}\u115f\u1160\u2800\u3164\uffa0]/gu;
const MOST_NAME_CHARS = 60;

/** @type {Meaning} */
const plain = { title: words.plainText, facts: [], rights: [] };

/** A name in quotation marks; characters that could end them or change what is read are replaced. @param {unknown} name */
const shownName = (name) => (name ? `"${String(name).replace(UNSEEN, "\ufffd").slice(0, MOST_NAME_CHARS)}"` : "");

/** @param {string} resource @param {string} urn @returns {string} the statement in a resource of a text */
const statementIn = (resource, urn) => decoded(fromBase64url(resource.slice(urn.length)) ?? new Uint8Array());

/** @param {string} text @returns {Meaning} */
export function meaningOf(text) {
  const stated = /^sealspace statement ([a-z0-9./-]+)\n/.exec(text);
  if (stated) return { title: words.statement, facts: [[words.kind, stated[1]]], rights: [] };
  const read = TEXT.exec(text);
  if (!read) return plain;
  const [, uri, ends, resources] = read;
  const terms = resources.split("\n- ").slice(1);
  const recap = terms.at(-1)?.startsWith(RECAP) ? terms.pop() ?? "" : "";
  /** @type {{[resource: string]: object}} */
  let granted = {};
  const token = terms.findIndex((one) => one.startsWith(MACHINE));
  /** @type {string | undefined} */
  let name;
  let called = "";
  let isUnbound = false;
  try {
    if (token >= 0) {
      const stated = JSON.parse(statementIn(terms.splice(token, 1)[0], MACHINE));
      name = String(stated.name);
      isUnbound = stated.unbound !== undefined;
    }
    const values = terms.findIndex((one) => one.startsWith(VALUES) && statementIn(one, VALUES) === UNBOUND);
    if (values >= 0) {
      terms.splice(values, 1);
      isUnbound = true;
    }
    const app = terms.findIndex((one) => one.startsWith(APP));
    if (app >= 0) called = shownName(JSON.parse(statementIn(terms.splice(app, 1)[0], APP)).name);
    if (recap) granted = JSON.parse(decoded(fromBase64url(recap.slice(RECAP.length)) ?? new Uint8Array())).att;
  } catch {
    return plain;
  }
  /** @type {[string, string][]} */
  const until = [[words.until, ends?.replace(/\.[0-9]+(?=Z$)/, "") ?? words.noEnd]];
  if (terms.length) until.push([words.terms, words.termsMean]);
  if (called) until.push([words.called, called]);
  if (isUnbound) until.push([words.unbound, words.unboundMeans]);
  if (uri.startsWith(REVOKED)) return { title: words.revocation, facts: [[words.grant, uri.slice(REVOKED.length)]], rights: [] };
  const abilities = Object.values(granted).flatMap((held) => Object.keys(held));
  if (abilities.length && abilities.every((one) => one === HOST)) {
    const names = Object.keys(granted).map((one) => one.slice(one.lastIndexOf(":") + 1).split("/")[0]);
    return { title: words.hosting, facts: [[words.nodeKey, uri], [words.spaces, names.join(", ")], ...until], rights: [] };
  }
  // Of a network each ability is a line of its own.
  const rights = Object.entries(granted).flatMap(([resource, held]) => resource.startsWith("tinycloud:")
    ? [rightOf(resource, Object.keys(held))] : Object.keys(held).map((one) => rightOf(resource, [one])));
  const [did, fragment] = uri.split("#");
  if (name !== undefined && !fragment) return { title: words.machine, facts: [[words.name, name], [words.to, did], ...until], rights };
  return fragment // J4: the DID URL of the key itself
    ? { title: words.session, facts: [[words.sessionKey, did], ...until], rights }
    : { title: words.grantOf, facts: [[words.to, did], ...until], rights };
}
