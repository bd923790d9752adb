// The texts about names of DIDs; a separate file, because most visits do not need them.

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
