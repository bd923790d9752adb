// The names that the owner gave to DIDs, beside the DIDs (SH13). The list is read once a page, when the first DID is shown.
import { fill, h } from "../elements.js";
import { copyField, shortened } from "./values.js";

/**
 * @typedef {object} ContactNames
 * @property {HTMLElement} problem a line that says why there are no names; hidden: the list was read, or was not needed
 * @property {(did: string, short?: string) => HTMLElement} label a DID in short, and `name (did)` once the list was read
 * @property {(did: string, label: string) => import("../elements.js").Child} whole the same with the whole DID, to copy
 * @property {(did: string) => string} nameOf empty: it is no contact, or the list was not read yet
 * @property {(said: string) => string} didOf the DID of a contact's name; another text without the blanks around it
 * @property {() => Promise<string[]>} ready the names; none if the list could not be read
 */

/** @param {import("../wire/client.js").Client} client @returns {ContactNames} */
export function contactNames(client) {
  const problem = h("p", { class: "dim small", role: "status", hidden: true });
  /** @type {Map<string, string>} */
  const names = new Map();
  /** @type {Promise<string[]> | null} */
  let reading = null;
  const load = async () => {
    try {
      const { read } = await import("../wire/contacts.js");
      for (const { name, did } of (await read(client.own)).contacts) names.set(did, name);
    } catch (error) {
      const { unreadable } = await import("../texts_contacts.js");
      fill(problem, unreadable(error));
      problem.hidden = false;
    }
    return [...names.values()];
  };
  const ready = () => (reading ??= load());
  const label = (/** @type {string} */ did, short = shortened(did, 18, 6)) => {
    const element = h("span", { class: "mono", title: did }, short);
    ready().then(() => names.has(did) && fill(element, h("strong", {}, names.get(did)), ` (${short})`));
    return element;
  };
  const whole = (/** @type {string} */ did, /** @type {string} */ what) => {
    const name = h("span", {});
    ready().then(() => names.has(did) && fill(name, h("strong", { class: "mono" }, names.get(did)), " "));
    return [name, copyField(did, what)];
  };
  return { problem, label, whole, nameOf: (did) => names.get(did) ?? "", ready,
    didOf: (said) => [...names].find(([, name]) => name === said.trim())?.[0] ?? said.trim() };
}
