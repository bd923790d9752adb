// The texts about grants, backends and the readers of a secret; a separate file, because the page of sign-in does not need them.

export const grants = {
  title: "Grants and backends",
  lead: "Who may use what, and until when. What you revoke is refused from then on.",
  conditioned: ", under conditions",
  theSecrets: "the secrets ",
  /** @param {number} n */
  andMore: (n) => ` and ${n} more`,
  readsCopies: "read the copies that you share with this person",
  /** @param {string} team */
  readsCopiesOf: (team) => `read the copies that you share with the team ${team}`,
  marks: "mark ",
  sharedWith: "as shared with ",
  sharedWithTeam: "as shared with the team ",
  // Grants.
  find: "Find a receiver or a secret",
  whose: "Show",
  kinds: /** @type {[string, string][]} */ ([["others", "Granted to others"], ["own", "Your sign-ins"], ["received", "Granted to you"]]),
  standing: "Status",
  standings: /** @type {[string, string][]} */ ([["active", "Active"], ["pending", "Not yet valid"], ["expired", "Ended"], ["revoked", "Revoked"], ["*", "All"]]),
  /** @type {Record<string, string>} */
  words: { active: "active", pending: "not yet valid", expired: "ended", revoked: "revoked", ancestor_revoked: "revoked above" },
  columns: { who: "Receiver", what: "May", until: "Ends", standing: "Status" },
  unbound: "Values without a name",
  unboundText: "It may use values that do not state their name, which could be other secrets of yours.",
  calls: "It calls itself",
  from: "From",
  you: "You",
  yourSignIn: "A sign-in of yours",
  thisBrowser: "this browser",
  noEnd: "no end",
  details: "Details",
  /** @param {string} who @param {string} cid */
  detailsOf: (who, cid) => `Details of the grant to ${who}, ${cid}`,
  emptyTitle: "Nothing is granted",
  empty: "As soon as you approve what a program asks for, its grant appears here.",
  noneTitle: "Nothing matches",
  none: "No grant fits these filters.",
  clear: "Show all",
  toRequests: "Open a request",
  /** @param {number} shown @param {number} all */
  count: (shown, all) => `${shown} of ${all} ${all === 1 ? "grant" : "grants"}`,
  grantTitle: "A grant",
  issued: "Granted",
  cid: "Identifier",
  parents: "Rests on",
  noParents: "the owner's own right",
  below_: "Rest on it",
  /** @param {number} n */
  restOn: (n) => (n === 0 ? "no other grant" : n === 1 ? "one grant, which goes with it" : `${n} grants, which go with it`),
  code: "Code",
  codeHere: "By this grant:",
  codeAbove: "By the grant that it rests on:",
  codeUntil: "Approved until the grant ends: ",
  codeNoEnd: "Approved until you revoke the grant.",
  codeNone: "It approves no code. Where the node demands proof of code, it opens nothing, unless you approved code for your whole network.",
  codeUnknown: "Not known: a token of this grant cannot be read here.",
  codeMachine: "Opens secrets without code.",
  /** @param {string} name */
  codeNamed: (name) => `code ${name}`,
  revoke: "Revoke",
  revokeTitle: "Revoke this grant?",
  /** @param {string} who @param {number} n */
  revokeText: (who, n) => `${who} is refused under this grant from its next request on. ${n === 0 ? "Whatever it passes on ends too." : n === 1 ? "One grant that rests on it ends too." : `${n} grants that rest on it end too.`} What it has read already, it may keep. A revocation is final: to allow it again, grant anew.`,
  /** @param {number} n */
  ownText: (n) => `This is a sign-in of yours. The program that uses it has to sign in again. ${n === 0 ? "No grant rests on it." : n === 1 ? "A grant that was made with it ends too." : `${n} grants that were made with it end too.`}`,
  thisText: "This browser uses it: you are signed out here.",
  /** @param {number} n */
  signInText: (n) => `Only the sign-in of yours that made it can end it alone. So that sign-in ends, with ${n === 1 ? "one grant" : `${n} grants`}.`,
  itsSignIn: "a sign-in of yours, and all that was granted with it",
  /** @param {number} n */
  also: (n) => n === 1 ? "End this one too" : `End these ${n} too`,
  alsoHint: "With a right that is left, the receiver may open a sealed secret that it kept.",
  revoked: "Revoked",
  /** @param {string} when */
  stale: (when) => `Not refreshed since ${when}`,
  // Backends.
  backends: "Backends",
  backendsLead: "Programs that proved their code and received keys. Their evidence is shown as the node verified it: that is the node's word. To judge it yourself: sealspace verify",
  noBackends: "No backend has received a key yet",
  noBackendsText: "As soon as a program proves its code and opens a secret, it appears here.",
  backendColumns: { who: "Backend", last: "Last key", releases: "Keys received" },
  backendTitle: "A backend",
  /** @param {string} did */
  backendOf: (did) => `Details of the backend ${did}`,
  did: "DID",
  its: "Its grants",
  showIts: "Show them",
  evidence: "Evidence, as the node verified it",
  /** @type {[string, string][]} */
  fields: [["compose_hash", "Program (compose hash)"], ["app_id", "App id"], ["mrtd", "Image (MRTD)"], ["rtmr0", "RTMR0"], ["rtmr1", "RTMR1"], ["rtmr2", "RTMR2"], ["rtmr3", "RTMR3"],
    ["tcb_status", "Platform status"], ["qe_status", "Quoting enclave status"], ["advisories", "Advisories"], ["key_provider", "Key provider"]],
  none_: "none",
  attested: "Attested",
  root: "Trust root (SHA-256)",
  withdraw: "Withdraw code",
  withdrawTitle: "Withdraw code",
  /** What a withdrawal does, in rows. @type {[string, string][]} */
  withdrawTexts: [
    ["Denied", "Every key of your network, from the next request on, also under later grants."],
    ["How long", "For ever. The node does not list withdrawals: note what you withdraw."],
    ["Stays", "Your secrets, your grants and all other code. What was read already may be kept: replace those values."],
  ],
  withdrawWho: "Denied to",
  /** Who is denied, by what is withdrawn. @type {Record<string, string>} */
  withdrawWhos: {
    measurement: "Every backend whose evidence has this measurement or compose hash, whatever its DID.",
    did: "The holder of this DID, whatever code it runs, and everyone whose right rests on a grant that this DID signed or received.",
    evidence: "A backend as long as it shows this very evidence. With new evidence of the same code it is served again.",
  },
  withdrawWhy: "Lets this browser withdraw code, backends and evidence from your network until the session ends.",
  what: "What",
  /** @type {Record<string, string>} */
  choices: { compose_hash: "This program, wherever it runs (compose hash)", mrtd: "This image: all that boots with it (MRTD)", rtmr3: "This program as it was measured (RTMR3)", did: "This backend, whatever it runs (DID)", evidence: "This evidence alone" },
  /** @type {Record<string, string>} */
  kindsOf: { measurement: "Code: a measurement or a compose hash", did: "A backend: its DID", evidence: "Evidence: its SHA-256" },
  value: "Value",
  valueHint: "A DID, 96 or 64 hex digits of a measurement, or 64 of evidence.",
  valueBad: "Type a DID other than your own, or hex digits in small letters.",
  word: "withdraw",
  withdrawn: "Withdrawn. It receives no key from now on.",
  // Who may open a secret.
  holders: "Who may open it",
  holdersLoading: "Loading",
  noHolders: "No other live grant to it, to a copy or to the key of its network is listed.",
  /** @param {number} n */
  ownToo: (n) => `Also you, with ${n === 1 ? "one other sign-in" : `${n} other sign-ins`}.`,
  /** @param {number} n */
  teamKeyToo: (n) => `Also whoever has the team's own key, with ${n === 1 ? "one sign-in" : `${n} sign-ins`}.`,
  notListed: "Conditions on code and callers are not shown: sealspace secret show lists them. The node's operator can open it, unless the node runs in a TEE. What somebody did with a value is not known.",
  notKnown: "Cannot tell at present who may open it.",
  otherNetwork: "Grants of another owner are not listed. It is sealed to ",
  noNetwork: "It names no network, so grants on yours are counted.",
  mayOpen: "may open it",
  machines: { token: "may open it with this machine token", trust: "may open it in a job that shows an ID token", member: "may open it as a member" },
  /** @param {string} [team] */
  hasCopy: (team) => `has a copy of it${team ? ` as a member of ${team}` : ""}`,
  noCode: "has a grant that approves no code",
  hasGrant: "has a grant to open it",
  passedOn: "passed on by",
  /** @param {string} what */
  proved: (what) => `Proved last, as the node verified it: ${what} `,
  program: "program",
  image: "image",
  maySee: "may read it sealed, without the key",
  mayKey: "may open a copy that it kept",
  ends: "ends",
};
