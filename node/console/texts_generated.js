// The texts about secrets that a runner generates, and about failures of a runner.

export const generated = {
  title: "Generate in the runner",
  text: "The runner generates the value and encrypts it. It is never shown, not even to you: only programs on the runner get it, if you grant it to them. To open it in person you have to change your network protected, which leaves a receipt.",
  unproved: "The console does not verify which code the runner is; that it keeps to this is the operator's word. To have it verified:",
  /** @param {string} url */
  command: (url) => `sealspace runner generate ${url} PROTECTED_NAME`,
  generate: "Generate",
  why: "Up to three messages: this browser may call the runner for a day, and set up your network protected for an hour; the runner may write this one secret for ten minutes.",
  name: "Name",
  nameHint: "Begins with PROTECTED_, such as PROTECTED_SIGNING_KEY.",
  nameBad: "PROTECTED_, then capital letters, digits and underscores.",
  scope: "Scope",
  scopeHint: "Optional, as of any secret.",
  scopeBad: "Use small letters, digits and single dashes; default and global are taken.",
  type: "Kind",
  /** @type {Record<string, string>} */
  types: { hex32: "32 bytes, hexadecimal", hex16: "16 bytes, hexadecimal", hex64: "64 bytes, hexadecimal", ed25519: "Ed25519 key", ed25519_seed: "Ed25519 seed, hexadecimal", password: "Password, 32 letters and digits" },
  isThere: "A secret with this name exists in this scope. It was not changed.",
  /** @param {string} name */
  made: (name) => `${name} is made`,
};

/** As `failed` of texts.js: what happened, and what to do, by the code of the failure. */
export const failedAtRunner = {
  words: {
    "runner-unreachable": "The runner does not answer.",
    "runner-unusable": "The runner's answer could not be understood.",
    "runner-refused": "The runner refuses.",
    "runner-changed": "Another runner answered than last time.",
    "version-unusable": "The active version cannot be used.",
  },
  hints: {
    "runner-unreachable": "Everything else works without it. Try again later, or ask your node's operator whether it runs.",
    "runner-unusable": "Ask your node's operator what runs there.",
    "runner-changed": "The page Programs shows both.",
    "version-unusable": "Ask its developer to publish it again.",
  },
};
