// All texts of the console; pages contain no text of their own.

export const app = {
  name: "sealspace",
  skip: "Skip to the page",
  menu: "Menu",
  places: "Places",
  theme: "Light or dark",
  close: "Close",
  cancel: "Cancel",
  retry: "Try again",
  resends: "It is sent again by itself when the node answers. If you change it, send it yourself.",
  copy: "Copy",
  copied: "Copied",
  copyFailed: "The browser did not let the console copy. Select the text instead.",
  loading: "Loading",
  details: "Details",
  show: "Show text",
  discard: "Discard what you typed?",
  discardYes: "Discard",
  discardNo: "Keep editing",
};

export const nav = {
  groups: { secrets: "Secrets", access: "Access", space: "Space", node: "Node" },
  secrets: "Secrets",
  requests: "Requests",
  grants: "Grants",
  members: "Members",
  people: "People and teams",
  activity: "Activity",
  data: "Data",
  programs: "Programs",
  terminal: "Command line",
  node: "This node",
  connect: "Sign in",
};

export const session = {
  signIn: "Sign in",
  signOut: "Sign out",
  did: "your DID",
  signedOut: "Signed out. The session's key is deleted.",
  /** @param {string} when */
  until: (when) => `session ends ${when}`,
  ended: "Your session has ended",
  endedText: "Nothing is lost. Sign in again to continue where you were.",
  neededTitle: "Sign in to see this page",
  needed: "This page shows an owner's data. Sign in with the owner's wallet or recovery phrase; you then return to this page.",
};

const changedMembership = "An admin may have changed your role, or signed your membership anew. Choose the team again: that signs you in to it anew.";

/** Whose secrets a tab shows. */
export const whose = {
  own: "Your secrets",
  /** @param {string} name @param {string} role */
  team: (name, role) => `Team ${name} (${role})`,
  over: "signed out",
  choose: "Choose whose secrets",
  notHereTitle: "Nothing to show here",
  notHere: "This page is about what is your own. Choose your own secrets to see it.",
  notYours: "Only admins of the team see this page.",
  noTeam: "This page is about a team. Choose one to see it.",
  endedTitle: "You are signed out of the team",
  ended: "Your sign-in for it has ended, or is not in this browser. Choose the team again, or your own secrets.",
  revoked: changedMembership,
  /** Why a tab shows nothing of a team any more. */
  lost: {
    removed: { short: "not a member", title: "You are no longer a member of this team", text: "You or an admin ended it, and an admin can let you in again. This tab shows nothing of the team any more." },
    changed: { short: "changed", title: "Your membership has changed", text: changedMembership },
  },
};

/** The choice among wallets. */
export const wallets = {
  waiting: "Confirm in your wallet",
  /** @param {number} [chain] */
  waitingOn: (chain) => `Chain ${chain}. Confirm in your wallet`,
  none: "No wallet found in this browser",
  noneText: "Without a wallet, create a recovery phrase below; there is nothing to install. If you have just installed a wallet, look again.",
  again: "Look again",
};

export const secrets = {
  title: "Secrets",
  lead: "Encrypted in this browser, and stored encrypted. The node opens them for you, and for the people, programs, machine tokens and CI jobs that you let read them.",
  add: "Add a secret",
  find: "Find a secret",
  /** @param {number} shown @param {number} all */
  count: (shown, all) => (shown === all ? `${all} ${all === 1 ? "secret" : "secrets"}` : `${shown} of ${all} secrets`),
  scope: "Scope",
  scopeFilter: "Show scope",
  allScopes: "All scopes",
  global: "Global",
  columns: { select: "Select", name: "Name", scope: "Scope", changed: "Last changed", actions: "Actions" },
  notStated: "not stated",
  /** @param {string} name */
  select: (name) => `Select ${name}`,
  selectAll: "Select all shown",
  /** @param {number} n */
  removeMany: (n) => `Delete ${n} ${n === 1 ? "secret" : "secrets"}`,
  /** @param {number} n */
  removeManyTitle: (n) => `Delete ${n} ${n === 1 ? "secret" : "secrets"}?`,
  removeManyText: "Programs that read them will fail from then on, and people lose their copies. You can restore the values for a time, if the node keeps versions; the notes are gone.",
  removing: "Deleting",
  isGone: "deleted",
  isThere: "still there",
  isFailed: "failed",
  /** @param {number} n @param {number} all */
  removedSoFar: (n, all) => `${n} of ${all} are deleted`,
  /** @param {number} n */
  removedMany: (n) => `${n} ${n === 1 ? "secret is" : "secrets are"} deleted`,
  emptyTitle: "No secrets yet",
  empty: "A secret is a name and a value, such as API_KEY. Add one, or many at once from a .env or JSON file.",
  /** @param {string} chain */
  emptyChain: (chain) => ` Your owner is on chain ${chain}. Secrets that you stored with another chain selected belong to another owner; choose that chain in the wallet and sign in again.`,
  noneFound: "Nothing matches",
  noneFoundText: "No secret has this name in this scope.",
  clear: "Show all",
  open: "Open",
  /** @param {string} name */
  openOf: (name) => `Open ${name}`,
  reveal: "Reveal",
  hide: "Hide now",
  /** @param {number} s */
  hidesIn: (s) => `Hidden again in ${s} s`,
  hidden: "Hidden",
  revealed: "The value is shown",
  bytes: "The value is bytes, shown in base64.",
  unseen: "Some of its characters are invisible, look like a space or change the direction of the text. They are shown by their numbers, such as U+202E. Copy takes the text unchanged.",
  unbound: "This value does not state its name",
  unboundText: "An earlier version or another client sealed it. Whoever may write here could have stored another secret of yours under this name. People, programs and jobs are refused it, unless their grant allows it. Check that it is the right value, then bind it.",
  bind: "Bind to this name",
  findUnbound: "Find values that do not state their name",
  note: "Note",
  noteField: "Your note",
  noteHint: "For yourself, sealed like a secret. A program with a right to this secret alone cannot read it. Leave it empty to delete it.",
  /** @param {number} length @param {number} most */
  noteLong: (length, most) => `A note has at most ${most} characters; you typed ${length}.`,
  addNote: "Add a note",
  editNote: "Edit note",
  saveNote: "Seal and save",
  noteUnbound: "This note does not state its secret: an earlier version or another client stored it. Save it again to bind it.",
  noteSaved: "The note is saved",
  share: "Share",
  versions: "Versions",
  restore: "Restore a deleted secret",
  replace: "Replace",
  remove: "Delete",
  addTitle: "Add a secret",
  /** @param {string} name */
  replaceTitle: (name) => `Replace ${name}`,
  /** @param {string} name */
  removeTitle: (name) => `Delete ${name}?`,
  removeText: "Programs that read it will fail from then on, and people lose their copies. You can restore it for a time, if the node keeps versions.",
  name: "Name",
  nameHint: "Such as API_KEY.",
  nameMissing: "Type a name.",
  nameBad: "Begin with a letter; then letters, digits and underscores.",
  isProtected: "A runner generated it; it cannot be opened in person.",
  nameProtected: "Secrets that begin with PROTECTED_ are generated by a runner, never typed.",
  nameOurs: "A secret with this name exists now. It may be what you sent before the connection broke off: close this, and open it to see.",
  nameTaken: "A secret with this name exists in this scope. Open it to replace its value.",
  scopeHint: "Optional: a program or an environment, such as mail or staging. Empty for a global secret.",
  scopeBad: "Letters, digits and single dashes between them; default and global are taken.",
  value: "Value",
  valueHint: "It is sealed before it leaves this browser.",
  valueMissing: "Type or paste the value.",
  generate: "Generate",
  length: "Length",
  alphabet: "Characters",
  /** @type {Record<string, string>} */
  alphabets: { alphanumeric: "Letters, digits", hex: "Hexadecimal", digits: "Digits", symbols: "With symbols" },
  inRunner: "In the runner (PROTECTED_)",
  /** @param {string} length */
  generated: (length) => `A random value of ${length} characters is in the field.`,
  download: "Download",
  save: "Seal and save",
  saved: /** @param {string} name */ (name) => `${name} is saved`,
  removed: /** @param {string} name */ (name) => `${name} is deleted`,
  changed: "It was changed in the meantime. Open it again to see, or save once more to replace it.",
  updated: "Last changed",
  updatedLater: "Shown with the value",
  many: {
    add: "Add many",
    title: "Add many secrets",
    file: "Names and values",
    fileHint: "Paste or drop a .env file (NAME=value, one a line) or JSON ({\"NAME\": \"value\"}).",
    choose: "Choose a file",
    scopeHint: "Optional: one scope for all of them.",
    replace: "Replace those that exist",
    replaceHint: "Otherwise they stay as they are.",
    preview: "What will be saved",
    becomes: "What happens",
    isNew: "new",
    isReplaced: "replaced",
    isKept: "stays",
    isSaved: "saved",
    /** @param {number} line @param {string} text */
    line: (line, text) => `Line ${line} ${text}`,
    /** @param {number} fresh @param {number} there */
    count: (fresh, there) => `${fresh} new${there ? `, ${there} there already` : ""}`,
    /** @param {string} names @param {number} more */
    asText: (names, more) => `Numbers, true, false and null are saved as text: ${names}${more > 0 ? ` and ${more} more` : ""}`,
    faulty: "Correct these lines before saving.",
    nothing: "It contains no names and values.",
    nothingNew: "All of them exist. Choose to replace them, or cancel.",
    isAnother: "Another program stored some of them in the meantime. Check the list again, then save.",
    notText: "This file is not text, or has line ends that a text field would change.",
    tooLong: "The file is too long: 4 MiB at most.",
    /** @param {string} name */
    isRead: (name) => `${name} is read`,
    /** @param {number} count */
    saved: (count) => `${count} ${count === 1 ? "secret is" : "secrets are"} saved`,
  },
};

export const owner = {
  title: "Sign with your wallet",
  /** @param {string} did */
  other: (did) => `the wallet uses ${did}`,
  /** @param {string} did */
  otherHint: (did) => `Choose the account of this session: ${did}`,
};

export const quotedText = {
  /** @param {number} n */
  more: (n) => `(${n.toLocaleString("en")} more characters)`,
};

export const builds = {
  repository: "Repository, as stated",
  ref: "Ref, as stated",
  commit: "Commit, as stated",
  workflow: "Workflow, as stated",
  nothingStated: "its developer states nothing",
  from: "build",
  programs: "Programs",
  terms: "Terms, as signed",
};

export const pages = {
  missingTitle: "No such page",
  missing: "The console has no page at this address.",
  toStart: "Go to your secrets",
};

export const state = {
  offlineTitle: "The node does not answer",
  offline: "What is on the page stays as it is. The page tries again by itself, and loads what is missing when the node answers.",
  back: "The node answers again",
  updatedTitle: "The console was updated",
  updated: "The node serves a newer console. Load the page again to go on.",
  reload: "Load again",
  rootTitle: "This node trusts a root that is not Intel's",
  rootText: "The holder of that root can forge any evidence. Do not store anything important here.",
  offTitle: "Attestation is off on this node",
  offText: "Secrets open without proof of the calling code. Do not store anything important here.",
  changedTitle: "This is another node than last time",
  changed: "The same address answered with another identity. Unless the node was reinstalled, another party may have intercepted the connection. The console stops here.",
  before: "Last time",
  now: "Now",
  changedNext: "Ask the operator through another channel which of the two is right.",
  accept: "Continue with the new node",
  acceptTitle: "Trust the new identity?",
  acceptText: "The console forgets the former node and the session that belonged to it.",
  acceptWord: "trust",
};

/** @param {string} word */
export const typeWord = (word) => `Type ${word} to confirm`;

export const failed = {
  title: "That did not work",
  requestId: "Request",
  next: "Next",
  /** What happened, by the code of the failure. @type {Record<string, string>} */
  words: {
    "wallet-absent": "There is no wallet to ask.",
    "wallet-rejected": "The wallet refused to sign.",
    "wallet-failed": "The wallet did not answer as expected.",
    "wallet-other-chain": "The wallet is on another chain.",
    "wallet-account-changed": "The wallet uses another account.",
    "not-signed-in": "You are not signed in.",
    "session-expired": "Your session has ended.",
    "session-of-other-node": "The session belongs to another node.",
    "spaces-not-hosted": "This node does not host your spaces.",
    "node-unreachable": "The node does not answer.",
    "node-changed": "Another node answered.",
    "node-failure": "The node failed.",
    "malformed-answer": "The node's answer could not be understood.",
    "not-found": "It does not exist, or no longer exists.",
    "space-not-found": "The space does not exist yet.",
    "not-authorised": "Your session does not allow this.",
    revoked: "The grant behind this was revoked.",
    conflict: "It was changed in the meantime.",
    "too-large": "It is too large.",
    "quota-exceeded": "The space is full.",
    "rate-limited": "Too many requests came at once.",
    "envelope-broken": "The stored value is not a secret, or is damaged.",
    "label-mismatch": "The stored secret belongs to another name.",
    "place-mismatch": "The stored value was sealed for another name.",
    "payload-broken": "The stored value is not a secret, or is damaged.",
    "network-not-found": "Your encryption network does not exist yet.",
    "network-key-changed": "The network has another key than before.",
    "decrypt-refused": "The node refused to release the key.",
    "answer-untrusted": "The answer is not signed by the node.",
    "batch-incomplete": "Only some values were saved.",
    "passkey-unavailable": "No passkey could be used here.",
    "phrase-invalid": "The recovery phrase is not valid.",
  },
  other: "Something unexpected happened.",
  /** What to do, by the code. @type {Record<string, string>} */
  hints: {
    "session-expired": "Sign in again.",
    "not-signed-in": "Sign in.",
    "node-unreachable": "Check that the node runs and that you are online.",
    "node-failure": "Try again. If it keeps failing, send the operator the request's number.",
    "rate-limited": "Wait a little, then try again.",
    "not-authorised": "Sign in again, so that the session covers it.",
    "batch-incomplete": "Save again to send the rest.",
    "envelope-broken": "Replace it with a value that you know, or delete it.",
    "label-mismatch": "Replace it with a value that you know, or delete it.",
    "place-mismatch": "Somebody stored another secret's value here. Replace it with a value that you know, or delete it, and look under Grants who may write.",
    "payload-broken": "Replace it with a value that you know, or delete it.",
    conflict: "Look at it again before you change it.",
  },
};
