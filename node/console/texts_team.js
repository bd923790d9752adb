// The texts about teams whose members use the same secrets; a separate file, because most pages do not need them.

import { failed } from "./texts.js";

/** @type {Record<string, string>} */
export const roles = { admin: "Admin", writer: "Writer", reader: "Reader" };

/** @type {Record<string, string>} */
const WITH_ARTICLE = { admin: "an admin", writer: "a writer", reader: "a reader" };

/** @param {string[]} secrets labels */
export const secretsText = (secrets) => (secrets.length ? secrets.join(", ") : "all secrets");

export const noWallet = "A team needs a signature of your wallet, and this browser has none. If you signed in with sealspace console, use the team from the command line: sealspace use NAME.";

/** The page that chooses whose secrets a tab shows. */
export const teams = {
  title: "Whose secrets",
  lead: "This tab shows your own secrets, or those of one team. Other tabs keep what they show.",
  own: "Your own secrets",
  ownText: "Others read or change one only if you share it or grant a right to it.",
  list: "Your teams",
  none: "You are in no team. An admin adds you by your DID, or sends you an invitation.",
  needsWallet: "A member of a team signs with a wallet, and you signed in with a recovery phrase.",
  notNamed: "Not among your contacts",
  shown: "shown in this tab",
  use: "Show",
  /** @param {string} name */
  useOf: (name) => `Show the secrets of ${name}`,
  anew: "Sign in anew",
  until: "ends",
  admittedBy: "admitted by",
  newTitle: "Is it this team?",
  newText: "Anybody can make you a member of a team of theirs, and reads what you store in it. Go on only if an admin told you this DID.",
  team: "DID of the team",
  admin: "Signed by",
  role: "Your role",
  name: "Your name for the team",
  nameHint: "A new contact, which only you see: 1 to 32 small letters, digits, - and _.",
  nameBad: "Use 1 to 32 small letters, digits, - and _, a letter first; no word such as me or team.",
  itIs: "It is this team",
  /** @param {string} name */
  why: (name) => `Signs you in to the team ${name} for up to seven days. This browser can then use its secrets, as your role allows.`,
  /** @param {string} name */
  done: (name) => `This tab shows the secrets of ${name}`,
  back: "This tab shows your own secrets",
  joinTitle: "Join a team",
  joinText: "Open the link that an admin sent you, or paste the line of the invitation.",
  line: "Invitation",
  lineHint: "It begins with sinv_.",
  lineBad: "Paste the whole line, which begins with sinv_.",
  join: "Read it",
  waiting: "You answered an invitation.",
  goOn: "Go on",
};

/** The page of a team's members. */
export const members = {
  title: "Members",
  lead: "Who uses the team's secrets, in which role. Each membership is signed by the team's key or an admin's wallet; this browser verifies that.",
  mine: "Your membership",
  notAdmin: "Only admins list the members, add and remove them.",
  role: "Role",
  secrets: "Secrets",
  ends: "Ends",
  admittedBy: "Admitted by",
  byTeam: "the team's own key",
  until: "ends",
  you: "you",
  called: "called",
  oneAdmin: "The team has one admin",
  oneAdminText: "If this wallet's key is lost, only the team's own key helps. Make another member an admin.",
  unreadTitle: "Some memberships are not valid, or not readable here",
  /** @param {number} n */
  unreadText: (n) => `The node lists ${n} more that ${n === 1 ? "states to be a membership" : "state to be memberships"}. Whoever has one may still be let in by the node. Compare with: sealspace team members.`,
  add: "Add a member",
  invite: "Invite",
  did: "Member",
  didHint: "The name of a contact, or the DID of a wallet. Compare it with the person: whoever has this wallet reads the secrets.",
  didBad: "Type the DID of a wallet, such as did:pkh:eip155:1:0x…, or the name of a contact who has one.",
  roleHints: "A reader reads. A writer also replaces, deletes and restores. An admin also adds and removes members, and sees who reads.",
  which: "Only these secrets",
  whichHint: "Optional: NAME or scope/NAME, one a line, 64 at most. Empty for all. An admin uses all.",
  whichBad: "Type names of secrets, each once, 64 at most; none for an admin.",
  name: "How the team calls the member",
  nameHint: "Optional: letters, digits, dots, dashes and underscores.",
  nameBad: "Use up to 64 letters, digits, dots, dashes and underscores.",
  days: "Ends after",
  daysHint: "Days, 1,830 at most; no later than your own membership.",
  daysBad: "Type a number from 1 to 1830.",
  /** @param {string} role */
  addWhy: (role) => `Signs that this wallet belongs to ${WITH_ARTICLE[role]} of the team.`,
  added: "The member is added",
  change: "Change",
  /** @param {string} whom */
  changeTitle: (whom) => `Change the role of ${whom}`,
  changeText: "The new membership is signed first, then the former one ends. The person chooses the team again.",
  changeWhy: "Signs the new membership, and anew those of others that depend on the former one.",
  changed: "The role is changed",
  remove: "Remove",
  /** @param {string} whom */
  removeTitle: (whom) => `Remove ${whom}`,
  removeWord: "remove",
  removeText: "From the next request on, the person reads and writes nothing. What was read stays known, so replace those values afterwards.",
  /** @param {number} n */
  signs: (n) => `Your wallet first signs ${n === 1 ? "the membership of one person" : `the memberships of ${n} people`} anew, whom this admin had admitted.`,
  removeWhy: "Signs anew the memberships of others that depend on this one.",
  removed: "The member is removed",
  /** @param {string} whom */
  knownTitle: (whom) => `Values that ${whom} knows`,
  knownText: "What was read stays known. These secrets were opened with the membership, according to the receipts, or stored by the person: replace their values. Keep the list, because a read is not named any more after its secret is replaced.",
  known: "Secrets to replace",
  noneKnown: "No receipt names a secret that was opened with the membership, and the person stored none.",
  /** @param {number} n */
  unnamedKnown: (n) => `${n === 1 ? "One read is" : `${n} reads are`} not named: the value was replaced or deleted since, or the team has more than 2,000 secrets.`,
  notAllKnown: "There are too many receipts to read here. The command line reads all of them: sealspace receipts list --by DID",
  /** @param {number} n */
  unreadKnown: (n) => `Who stored ${n} more secrets was not asked; their versions say it.`,
  leave: "Leave the team",
  leaveWord: "leave",
  leaveText: "You read and write nothing of the team from then on. Only an admin can let you in again.",
  left: "You left the team",
  waiting: "Invitations",
  answerBy: "answer by",
  noWaiting: "No invitation of yours waits in this browser.",
  open: "Open",
  withdraw: "Withdraw",
  withdrawn: "The invitation has ended, and nobody was admitted",
};

/** Both sides of an invitation. */
export const invitation = {
  title: "Invite",
  text: "For a person whose DID you do not know. The link opens nothing, and serves once.",
  make: "Make an invitation",
  lasts: "Answer within",
  lastsHint: "Days, 30 at most.",
  lastsBad: "Type a number from 1 to 30.",
  /** @param {string} role */
  openTitle: (role) => `Invitation for ${WITH_ARTICLE[role]}`,
  send: "Send the link over any channel. In a terminal the person can use the line with sealspace team join.",
  link: "Link",
  line: "Line",
  answerBy: "Answer by",
  ends: "Membership ends",
  waits: "Waiting for the person. You can close this, and open it again below the members, until you sign out.",
  compare: "Ask the person to read the words to you, in a call or face to face. Compare all four.",
  words: "Words",
  person: "Person",
  question: "Does the person read the same words?",
  yes: "Yes, admit",
  no: "No, they differ",
  /** @param {string} role */
  why: (role) => `Signs that this person is ${WITH_ARTICLE[role]} of the team.`,
  admitted: "The person is a member",
  differ: "Nobody was admitted, and the invitation has ended. Make a new one, and send it over another channel.",
  // The person who joins.
  joinTitle: "Join a team",
  joinLead: "An admin invites you. Nobody joins before both of you have compared four words.",
  none: "No invitation",
  noneText: "Open the link of the invitation again, or paste its line.",
  toTeams: "Go to your teams",
  calls: "The admin calls the team",
  team: "DID of the team",
  admin: "Admin",
  gets: "You become",
  answer: "Answer the invitation",
  answerText: "Your DID is sent to the admin. Your secrets stay your own.",
  answered: "Waiting for the admin. You can close this page, and go on later from your teams, until you sign out.",
  read: "Read these words to the admin, in a call or face to face. If the admin sees other words, somebody is between you: the admin then answers no.",
  confirms: "Waiting until the admin has confirmed.",
  isMember: "You are a member",
  show: "Show the secrets of the team",
};

Object.assign(failed.words, { "invitation-invalid": "The invitation cannot be used." });
