// The texts of the page of data; a separate file, because most pages do not need them.

export const data = {
  title: "Data",
  lead: "The data of your applications, unencrypted. Secrets have a page of their own.",
  space: "Space",
  where: "Folder",
  top: "Top folder",
  name: "Name",
  find: "Find in this folder",
  upload: "Upload",
  create: "New text",
  createTitle: "New text",
  emptyTitle: "No values are stored here",
  empty: "Upload a file, write a text, or use an application that stores in this space.",
  unnamed: "(without a name)",
  open: "Open",
  /** @param {string} name */
  openOf: (name) => `Open ${name}`,
  openFolder: "Show",
  /** @param {string} name */
  openFolderOf: (name) => `Show folder ${name}`,
  /** @param {number} n */
  count: (n) => `${n} ${n === 1 ? "entry" : "entries"}`,
  /** @param {number} n */
  tooMany: (n) => `The first ${n.toLocaleString("en")} values of this folder are shown. Open a narrower folder to see the rest.`,
  databases: "Databases",
  databasesText: "The command sealspace sql queries, changes and copies them.",
  /** @param {string} used */
  used: (used) => `${used} stored`,
  /** @param {string} used @param {string} most */
  usedOf: (used, most) => `${used} of ${most} stored`,
  /** @param {number} n */
  bytes: (n) => `${n} ${n === 1 ? "byte" : "bytes"}`,
  /** @param {number} n */
  kilobytes: (n) => `${n.toFixed(1)} KiB`,
  /** @param {number} n */
  megabytes: (n) => `${n.toFixed(1)} MiB`,
  /** @param {number} n */
  gigabytes: (n) => `${n.toFixed(1)} GiB`,
  /** @param {string} name */
  noSpace: (name) => `You have no space ${name}`,
  noSpaceText: "Choose one of your spaces above.",
  /** @param {string} name */
  allowTitle: (name) => `This session has no right to ${name}`,
  allowWhy: "Your wallet can give it one, until the session ends.",
  /** @param {string} name */
  allowText: (name) => `Lets this browser read and change everything in your space ${name} until the session ends.`,
  allow: "Allow it",
  size: "Size",
  type: "Type",
  noType: "not stated",
  version: "Version",
  notText: "The value is not text. Download it to look at it.",
  long: "The value is too long to show. Download it to look at it.",
  download: "Download",
  edit: "Edit",
  /** @param {string} name */
  editTitle: (name) => `Edit ${name}`,
  key: "Name",
  keyHint: "A slash makes folders, such as notes/today.txt.",
  oddName: "Characters of this name are invisible or change the direction of the text. They are shown encoded, such as %E2%80%AE.",
  keyBad: "Type a name that does not end with a slash; no part of it is . or ..",
  body: "Text",
  save: "Save",
  /** @param {string} name */
  saved: (name) => `${name} is saved`,
  conflict: "It was changed in the meantime",
  conflictText: "Nothing is saved yet. This is stored now; save once more to replace it by your text.",
  gone: "It was deleted in the meantime",
  goneText: "Nothing is saved yet. Save once more to store your text anew.",
  theirs: "Take what is stored",
  remove: "Delete",
  /** @param {string} name */
  removeTitle: (name) => `Delete ${name}?`,
  removeText: "Applications that read it will not find it from then on. It cannot be brought back.",
  /** @param {string} name */
  removed: (name) => `${name} is deleted`,
  /** @param {number} n */
  uploading: (n) => (n === 1 ? "Upload a file" : `Upload ${n} files`),
  uploaded: "Stored",
  /** @param {string} name */
  uploadedOne: (name) => `${name} is stored`,
  isThere: "A value with this name exists.",
  replace: "Replace it",
  again: "Try again",
  /** @param {string} size */
  most: (size) => `The console uploads at most ${size}. The command line takes more: sealspace kv put`,
  close: "Close",
};
