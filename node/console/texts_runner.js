// @ts-check
// All texts about runners; a separate file, because most pages do not need them.

export const runner = {
  title: "Runner",
  lead: "Your node's operator chose this runner. It runs programs for holders of an API key, on behalf and at the cost of the owner who made the key.",
  did: "DID",
  address: "Address",
  account: { balance: "Balance", reserved: "Reserved for calls under way", charged: "Spent" },
  /** @param {number} n */
  micro: (n) => `${n.toLocaleString("en")} micro-units`,
  noCalls: "A runner lists no calls. The caller keeps the receipt of each answer:",
  /** @param {string} url */
  call: (url) => `sealspace runner call ${url} DID/NAME --receipt FILE`,
  allowTitle: "This session may not call the runner yet",
  allowWhy: "Your wallet can let it, for a day: that is the longest that a runner takes.",
  allowText: "Lets this browser call the runner in your name for a day: see your account, list and revoke your API keys. A runner does not learn of a revocation before that.",
  allow: "Allow it",
  changedTitle: "This is another runner than last time",
  changed: "The runner answered with another identity. Unless it was reinstalled, another party may be answering. The console sends it no requests and signs nothing for it.",
  changedNext: "Ask the operator through another channel which of the two is right.",
  accept: "Continue with the new runner",
  acceptText: "API keys, accounts and grants belong to the former one; it keeps them.",
  keys: "API keys",
  noKeys: "You have no API key here.",
  create: "New API key",
  createTitle: "New API key",
  createText: "Any holder of the key can call programs on your behalf and at your cost, within these limits.",
  createWhy: "Signs what the API key may do. It moves no money.",
  projects: "Programs",
  projectsHint: "One a line: the name of a program of yours, or DID/NAME of another developer's. * for any.",
  projectsBad: "Names of programs in small letters, digits and dashes, each once; or * alone.",
  profiles: "Scopes of secrets",
  profilesHint: "Optional: whose scopes a call may ask for, with blanks between; default for the global ones. Only where a grant to the runner lets you call.",
  profilesBad: "Type scopes, or default, each once.",
  most: "Most for a call",
  mostHint: "In micro-units.",
  mostBad: "Type a whole number.",
  days: "Ends after",
  daysHint: "Days, 90 at most.",
  daysBad: "Type a number from 1 to 90.",
  keyTitle: "Your API key",
  keyText: "It is shown this once: copy it now. Programs send it as X-Payment-Key. If it gets lost, revoke it and make another one.",
  key: "API key",
  keySeen: "I have copied it",
  ends: "ends",
  /** @param {number} n */
  perCall: (n) => `${n.toLocaleString("en")} for a call at most`,
  calls: "Calls",
  anyProject: "any program",
  mayAsk: "May ask for secrets of",
  noSecrets: "nothing",
  revoke: "Revoke",
  /** @param {number} nonce */
  revokeOf: (nonce) => `Revoke API key ${nonce}`,
  /** @param {number} nonce */
  revokeTitle: (nonce) => `Revoke API key ${nonce}?`,
  revokeText: "Programs that use it are refused from their next call on. A revocation is final.",
  revokeWord: "revoke",
  revoked: "The API key is revoked",
  generateTitle: "Generate in the runner",
  generateText: "The runner generates the value and encrypts it. It is never shown, not even to you: only programs on the runner get it, if you grant it to them. To open it in person you have to change your network protected, which leaves a receipt.",
  generateUnproved: "The console does not verify which code the runner is; that it keeps to this is the operator's word. To have it verified:",
  /** @param {string} url */
  generateCommand: (url) => `sealspace runner generate ${url} PROTECTED_NAME`,
  generate: "Generate",
  generateWhy: "Up to three messages: this browser may call the runner for a day, and set up your network protected for an hour; the runner may write this one secret for ten minutes.",
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
  },
  hints: {
    "runner-unreachable": "Everything else works without it. Try again later, or ask your node's operator whether it runs.",
    "runner-unusable": "Ask your node's operator what runs there.",
    "runner-changed": "The page Programs shows both.",
  },
};
