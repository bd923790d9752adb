// The texts about names of DIDs; a separate file, because most visits do not need them.

import { failed } from "./texts.js";

/** @type {Record<string, string>} */
const REASONS = {
  "not-authorised": "this sign-in may not read them; sign in again with your wallet",
  "node-unreachable": "the node does not answer; load the page again",
  "decrypt-refused": "the node refused to release their key; load the page again",
};

/** @param {any} error @returns {string} the line that stands for the names of contacts */
export const unreadable = (error) => error?.code === "contacts-invalid"
  ? `No names of contacts are shown: ${error.message}. Next: ask the node's operator who changed it; sealspace contact list checks it too.`
  : `No names of contacts are shown: ${REASONS[error?.code] ?? `they could not be read (${String(error?.message ?? error)}); load the page again`}.`;

/** The panel of contacts on the page of people. */
export const contactsPanel = {
  title: "Contacts",
  lead: "Your names for DIDs. Only you see and change them; the command line shows the same list.",
  none: "No contacts yet.",
  add: "Add a contact",
  name: "Name",
  nameHint: "1 to 32 small letters, digits, - and _, a letter first.",
  nameBad: "Use 1 to 32 small letters, digits, - and _, a letter first; no word such as me or team, and nothing that looks like a DID.",
  did: "DID",
  didHint: "The person sees it under People and teams. Compare it through another channel.",
  didBad: "Type the DID of a wallet or a key, such as did:pkh:eip155:1:0x….",
  save: "Save",
  saved: "Saved",
  rename: "Rename",
  /** @param {string} name */
  renameTitle: (name) => `Rename ${name}`,
  remove: "Remove",
  /** @param {string} name */
  removeTitle: (name) => `Remove ${name}`,
  removeText: "Only the name is removed. Grants and shares stay as they are.",
  removed: "Removed",
};

Object.assign(failed.words, { "contacts-invalid": "The list of contacts cannot be trusted, so no name is shown." });
Object.assign(failed.hints, { "contacts-invalid": "Ask the node's operator who changed it." });
