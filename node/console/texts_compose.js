// The words for the text of a compose file.

export const compose = {
  lead: "Paste the compose file that the publisher of this code serves, or choose it. It stays in this browser. The page shows what it says if its SHA-256 is the one above.",
  label: "Text of the compose file",
  upload: "Choose the compose file",
  /** @type {{[problem: string]: (hash: string) => string}} */
  problems: {
    "too-large": () => "This is more than 256 KiB, so it was not read. Ask the publisher for the compose file alone.",
    other: (hash) => `This is another text: its SHA-256 is ${hash.slice(0, 16)}…, not that of this code. Do not rely on it. A changed space or line end makes another text: choose the file as it was downloaded.`,
    half: () => "This is not Unicode text: it contains half a character.",
    "not-text": () => "This has the SHA-256 of this code, but is not text in UTF-8, so it cannot be shown.",
  },
  /** @param {string} hash */
  same: (hash) => `Its SHA-256 is that of the code: ${hash.slice(0, 16)}…`,
  words: "The words below are its author's.",
  name: "It calls itself",
  image: "Image",
  unpinned: "without a digest: the code can be replaced while the file stays the same",
  noImage: "no image: its code is not in the file",
  mounts: "Mounts",
  variables: "Variables that the file sets",
  allows: "It may also",
  none: "none",
  /** @param {number} line */
  unread: (line) => `This page does not read line ${line} of this file. Read the text itself, or on your own machine: sealspace backend measure`,
  whole: "The whole text",
};
