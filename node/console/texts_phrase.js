// The texts of the dialogs of a recovery phrase; a separate file, because few owners open them.

export const phrase = {
  label: "Recovery phrase",
  /** @param {number} length */
  isBad: (length) => `A phrase has 36 letters and digits; you typed ${length}.`,
  makeTitle: "Write this down",
  makeText: "It is the only way back to your secrets. Write it on paper: the next step asks for three of its groups.",
  written: "I have written it down",
  print: "Print",
  confirmText: "Read these groups from your paper. Your owner is made only when they are right.",
  /** @param {number[]} at */
  groups: (at) => `Groups ${at.slice(0, -1).join(", ")} and ${at.at(-1)}`,
  groupsHint: "One after the other; blanks and dashes do not matter.",
  groupsBad: "These are not the groups with these numbers. Compare each with what you wrote down.",
  confirm: "Confirm and sign in",
  showAgain: "Show the phrase",
  sheetTitle: "Recovery phrase for sealspace",
  sheetText: "Whoever has these nine groups can open and change all your secrets. Keep this sheet where you keep papers of value, and never photograph it.",
  sheetUse: "To sign in, open the address below, choose “Use a recovery phrase” and type the groups in order.",
  sheetNode: "Address:",
  sheetDate: "Made on:",
  keep: "Keep it in this browser behind a passkey",
  keepHint: "Protected by your fingerprint, face or PIN. Signing out does not delete it. Write the phrase down as well.",
};
