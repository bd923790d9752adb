/** Capabilities in a sign-in text: the ReCap resource, and the sentence with the same content. */

import { base64url, utf8 } from "./bytes.js";
import { byCodePoint } from "./canonical_json.js";

/**
 * @typedef {{ resource: string, ability: string }} Capability
 * @typedef {{[resource: string]: {[ability: string]: {}[]}}} Attenuations
 */

const INTRODUCTION = "I further authorize the stated URI to perform the following actions on my behalf:";

/** @param {Capability[]} capabilities @returns {Attenuations} resource to ability to the empty caveat */
export function attenuations(capabilities) {
  /** @type {Attenuations} */
  const stated = {};
  for (const { resource, ability } of capabilities) (stated[resource] ??= {})[ability] = [{}];
  return stated;
}

/** @param {Capability[]} capabilities @returns {Capability[]} without duplicates, in order of appearance */
export function distinctCapabilities(capabilities) {
  return [...new Map(capabilities.map((one) => [`${one.resource} ${one.ability}`, one])).values()];
}

/** @param {Attenuations} att @param {string[]} [parents] ids in base58 @returns {string} the resource */
export function encodeRecap(att, parents = []) {
  /** @param {{}} members in the order of UTF-16 (RFC 8785) */
  const sorted = (members) => Object.entries(members).sort(([one], [other]) => (one < other ? -1 : 1));
  const stated = Object.fromEntries(sorted(att).map(([resource, held]) => [resource, Object.fromEntries(sorted(held))]));
  return "urn:recap:" + base64url(utf8(JSON.stringify({ att: stated, prf: parents })));
}

/** @param {Attenuations} att @returns {string} the sentence at the end of the statement */
export function recapSentence(att) {
  let [sentence, number] = [INTRODUCTION, 0];
  for (const resource of Object.keys(att).sort(byCodePoint)) {
    /** @type {{[namespace: string]: string[]}} */
    const named = Object.create(null); // a namespace may be called `constructor`
    for (const ability of Object.keys(att[resource]).sort(byCodePoint)) {
      const slash = ability.indexOf("/");
      (named[ability.slice(0, slash)] ??= []).push(`'${ability.slice(slash + 1)}'`);
    }
    for (const namespace of Object.keys(named).sort(byCodePoint)) {
      sentence += ` (${++number}) '${namespace}': ${named[namespace].join(", ")} for '${resource}'.`;
    }
  }
  return sentence;
}
