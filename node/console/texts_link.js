// The texts of the page that signs in from the command line; a separate file, because no other page needs them.

export const link = {
  title: "Sign in from the command line",
  lead: "The command sealspace console signs this browser in with a key that is made here and never leaves it. Continue only if you have just started that command yourself.",
  compare: "After you continue, the terminal asks whether the browser shows this code:",
  go: "Continue",
  replaces: "This ends the sign-in of this browser as",
  /** @param {string} owner */
  done: (owner) => `Signed in as ${owner}`,
  none: "Nothing to sign in here",
  noneText: "This address works once. To sign this browser in from the command line, run",
  refused: "This sign-in is not for this browser",
  refusedText: "It was made for another key, has been used, or is too old. Nothing has changed. To start again, run",
};
