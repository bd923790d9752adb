// The texts of the page of activity; a separate file, because most pages do not need them.

export const activity = {
  title: "Activity",
  lead: "Every time the node opened a secret for you or for others, and every hour in which a person fetched a copy. The node signed each opening, and the console checked the signatures; fetches are not signed.",
  emptyTitle: "Nothing has been opened yet",
  empty: "As soon as you or a program opens a secret, a receipt appears here.",
  noneTitle: "Nothing matches",
  none: "No receipt fits these filters. To include secrets that you opened yourself, choose it under Who.",
  clear: "Show all",
  find: "Find a secret or a receiver",
  who: "Who",
  others: "For others",
  everybody: "For everybody, you too",
  since: "Since",
  periods: /** @type {[string, number][]} */ ([["All times", 0], ["Last 24 hours", 86400], ["Last 7 days", 604800], ["Last 30 days", 2592000]]),
  columns: { time: "When", why: "Why", secret: "Secret", to: "To" },
  member: "Member",
  you: "You",
  notNamed: "not named",
  notNamedText: "Not named: no stored secret has this key, and no policy or grant of this release lists secrets.",
  /** @type {Record<string, string>} */
  grounds: { owner: "you", owner_session: "you", member: "member", machine: "machine token", attested: "proved its code", off: "no proof", fetched: "fetched a copy" },
  /** @type {Record<string, string>} */
  groundTexts: {
    owner: "You asked, with your own key.",
    owner_session: "You asked, with a session that you signed.",
    member: "A member of the team asked",
    machine: "A machine token of yours asked:",
    attested: "You granted it, and the code that asked proved what it is.",
    off: "You granted it; this node required no proof of code.",
    fetched: "You share it with this person, who fetched the sealed copy and can open it.",
  },
  // Of a team's own key, while the tab shows a team.
  teamKey: "the team's own key",
  teamKeyText: "Whoever has the team's own key asked, or a session that was signed with it.",
  teamRight: "none: the team's own right",
  open: "Open",
  /** @param {string} when */
  openOf: (when) => `Open the receipt of ${when}`,
  /** @param {string} when */
  openFetch: (when) => `Open the fetch of ${when}`,
  or: " or ",
  fetch: "A fetch of a copy",
  hour: "In the hour from",
  path: "Copy",
  version: "Version",
  notKept: "not known",
  digest: "BLAKE3 of the copy",
  fetchUnsigned: "The node does not sign this; its audit chain contains it. There is one line for each person, version and hour, however often the copy was read.",
  release: "A receipt",
  grants: "By these grants",
  ownRight: "none: your own right",
  download: "Download",
  downloadAll: "Download all",
  allFile: "receipts.json",
  verify: "Verify",
  holds: "The receipt holds",
  proves: "Your node signed it, and has every document that it names, unchanged. So the node authorised this release at that time, for these reasons.",
  provesNot: "It does not prove that the answer arrived, and only the node verified the quote. To verify it yourself, without the node:",
  /** @param {string} digest @param {string} did */
  command: (digest, did) => `sealspace receipts list --out DIR && sealspace verify DIR/receipts/${digest}.json --node-did ${did}`,
  /** @param {number} shown @param {number} all @param {boolean} isReceipts whether all are receipts */
  count: (shown, all, isReceipts) => `${shown} of ${all} ${isReceipts ? (all === 1 ? "receipt" : "receipts") : all === 1 ? "entry" : "entries"}`,
  /** @param {number} n */
  tooMany: (n) => `Only the ${n.toLocaleString("en")} oldest entries are shown. The command line has all: sealspace receipts list`,
};
