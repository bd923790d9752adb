// The texts of the page of sign-in.

export const connect = {
  title: "Sign in",
  lead: "Your secrets are encrypted in this browser. They open for you, and for people, programs, machine tokens and CI jobs that you let read them. Your signature identifies you: there is no account to create.",
  wallets: "With a wallet",
  phrases: "Without a wallet",
  phrase: "Use a recovery phrase",
  phraseHint: "Nine groups of four letters and digits. It never leaves this browser.",
  make: "Make a new recovery phrase",
  makeHint: "For your first visit: it is your key, on paper.",
  noWallet: "What is a wallet, and what is a recovery phrase?",
  noWalletText:
    "A wallet is a browser extension that holds a key. It signs one message here, which moves no money and costs nothing. A recovery phrase does the same without an extension. Keep it safe: it opens all your secrets.",
  terms: "A sign-in lasts seven days: this browser can then read and change what you store, and open your secrets. Sign out to end it sooner.",
  /** @param {number} [chain] of a wallet */
  done: (chain) => (chain ? `Signed in, on chain ${chain}` : "Signed in"),
  passkey: "Use the passkey of this browser",
  passkeyHint: "It unlocks the recovery phrase stored in this browser.",
  forget: "Forget the phrase kept here",
  forgetHint: "The passkey stays on your device, but no longer opens anything.",
  forgetText: "Without the phrase on paper, these secrets cannot be recovered.",
  forgetWord: "forget",
  forgotten: "The phrase was removed from this browser",
};
