// The texts about versions of secrets; a separate file, because most pages do not need them.

export const versions = {
  /** @param {string} label */
  title: (label) => `Versions of ${label}`,
  lead: "The node keeps a number of former values. It states the times and who stored a value; nothing proves them.",
  /** @param {number} n */
  version: (n) => `Version ${n}`,
  current: "current",
  stored: "stored",
  replaced: "replaced",
  by: "by",
  you: "you",
  storedAt: "Stored",
  storedBy: "Stored by",
  replacedAt: "Replaced",
  notStated: "not stated",
  open: "Open",
  /** @param {number} n */
  openOf: (n) => `Open version ${n}`,
  only: "There is no former value.",
  again: "Store it again",
  againText: "The value that it replaces becomes a version too. People with a copy get this value.",
  /** @param {number} n @param {string} label */
  rolledBack: (n, label) => `Version ${n} of ${label} is stored again`,
  restoreTitle: "Restore a deleted secret",
  restoreText: "The node keeps the versions of a deleted secret for seven days, if it keeps versions. The last value is stored again; sharing and notes do not come back.",
  restore: "Restore",
  /** @param {string} label */
  restored: (label) => `${label} is restored`,
  notKept: "No version of it is kept: it never existed, is too old, or was deleted with all versions.",
  notDeleted: "It is not deleted: a secret with this name exists.",
};
