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
};

/** As `failed` of texts.js: what happened, and what to do, by the code of the failure. */
export const failedAtSharing = {
  words: {
    "copies-stale": "It is saved, but people may have a copy of the former value.",
    "person-unknown": "This person has no encryption key at your node.",
  },
  hints: {
    "copies-stale": "Save again to renew the copies.",
    "person-unknown": "Ask them to sign in here once and add a secret, or to run sealspace login with the address of your node.",
  },
};
