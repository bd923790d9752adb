// The texts about sharing with people and teams; a separate file, because most pages do not need them.

export const sharing = {
  copiesLoading: "Looking for people with a copy",
  /** @param {number} n */
  copiesRenew: (n) => (n === 1 ? "Saving also renews the copy of this person:" : `Saving also renews the copies of these ${n} people:`),
  copiesUnknown: "Cannot tell at present who has a copy. Saving looks again, and renews the copies that there are.",
  /** @param {string} name @param {number} n */
  renewed: (name, n) => `${name} is saved, with ${n === 1 ? "one copy" : `${n} copies`}`,
  /** @param {string} team */
  inTeam: (team) => `in team ${team}`,
  /** @param {string} team */
  theTeam: (team) => `team ${team}`,
  // Sharing.
  /** @param {string} label */
  shareTitle: (label) => `Share ${label}`,
  lead: "A person gets a copy that only they can open, and each later value. Teams have a page of their own:",
  toPeople: "People and teams",
  has: "Shared with",
  nobody: "Nobody yet.",
  until: "ends",
  noEnd: "when you end it",
  whom: "Share with",
  whomHint: "The name of a contact; the DID of a person, who sees it under People and teams; or team: and the name of a team of yours.",
  noTeam: "You have no team of this name.",
  person: "Person",
  personHint: "The name of a contact, or their DID, which they see under People and teams, or as the owner in sealspace whoami.",
  personBad: "Type the DID of a wallet or a key, such as did:pkh:eip155:1:0x….",
  noContact: "You have no contact of this name. Type the DID of a wallet or a key, such as did:pkh:eip155:1:0x….",
  personYou: "This is your own DID.",
  days: "Ends after",
  daysHint: "Days, 365 at most; for a new person. You can end it at any time.",
  daysBad: "Type a number from 1 to 365.",
  next: "Next",
  confirmTitle: "Compare, then share",
  compare: "Ask the person for their fingerprint through another channel, and share only if it is the same. They see it under People and teams, or by sealspace network show.",
  fingerprint: "Fingerprint",
  gets: "Gets",
  nothingYet: "nothing yet",
  ends: "Ends",
  staysKnown: "What was read stays known after sharing ends.",
  /** @param {number} n */
  signatures: (n) => (n === 1 ? "Your wallet signs once." : `Your wallet signs ${n} times: for each new person, and for each secret.`),
  signWhy: "Signs who may read copies, and which secrets are copied. Nobody else can sign that.",
  share: "Share",
  /** @param {string} label */
  shared: (label) => `${label} is shared`,
  end: "End",
  /** @param {string} label @param {string} whom */
  endTitle: (label, whom) => `End sharing ${label} with ${whom}`,
  endText: "The right to read ends now, and the copies are deleted. What was read stays known, so replace the values afterwards.",
  ended: "Ended. What was read stays known: replace the values.",
};

/** The page of people and teams. */
export const people = {
  title: "People and teams",
  lead: "Who has copies of your secrets. Each copy opens only for one person, and is renewed when you store another value.",
  emptyTitle: "Nothing is shared",
  empty: "Share a secret with a person, or make a team whose members get the same secrets.",
  shareNew: "Share with a person",
  newTeam: "New team",
  alone: "People",
  members: "Members",
  secrets: "Secrets of the team",
  team: "Name of the team",
  teamHint: "Small letters, digits and dashes, such as ops.",
  teamBad: "Use 1 to 64 small letters, digits and dashes, a letter or digit first.",
  addMember: "Add a person",
  remove: "Remove",
  /** @param {string} did @param {string} team */
  removeTitle: (did, team) => `Remove ${did} from ${team}`,
  shareMore: "Share secrets",
  /** @param {string} did */
  shareWith: (did) => `Share secrets with ${did}`,
  /** @param {string} did */
  endAll: (did) => `End sharing everything with ${did}`,
  names: "Names of secrets",
  namesHint: "NAME or scope/NAME, one a line.",
  namesBad: "Type names of your secrets, without PROTECTED_ ones.",
  /** @param {string} name */
  missing: (name) => `You have no secret ${name}.`,
  done: "Shared",
  you: "For others who share with you",
  youText: "Give them your DID, and the fingerprint through another channel. Copies that you get are read by the command sealspace secret get NAME --from DID.",
  did: "Your DID",
  noKey: "shown once you have stored a secret",
};

/** As `failed` of texts.js: what happened, and what to do, by the code of the failure. */
export const failedAtSharing = {
  words: {
    "copies-stale": "It is saved, but people may have a copy of the former value.",
    "person-unknown": "This person has no encryption key at your node.",
    "unbound-value": "The value does not state the name of its secret.",
  },
  hints: {
    "copies-stale": "Save again to renew the copies.",
    "unbound-value": "It may be another secret's. Open the secret, look at the value, and bind it to its name; then share it.",
    "person-unknown": "Ask them to sign in here once and add a secret, or to run sealspace login with the address of your node.",
  },
};
