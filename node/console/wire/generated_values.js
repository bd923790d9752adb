/** Random values, generated in the browser. */

import { ConsoleError } from "./errors.js";

/** Alphabets by name. */
export const ALPHABETS = {
  alphanumeric: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
  hex: "0123456789abcdef",
  digits: "0123456789",
  symbols: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#%&()*+,-./:;<=>?@[]^_{|}~",
};

/** @param {number} [length] in characters, 16 to 1024 @param {keyof typeof ALPHABETS} [alphabet] @returns {string} */
export function generate(length = 32, alphabet = "alphanumeric") {
  const letters = ALPHABETS[alphabet];
  if (!letters || !Number.isInteger(length) || length < 16 || length > 1024) {
    throw new ConsoleError("invalid-input", "a value has 16 to 1024 characters of a known alphabet");
  }
  const bound = 256 - (256 % letters.length); // reject larger bytes: otherwise the first letters would be likelier
  let value = "";
  while (value.length < length) {
    for (const byte of crypto.getRandomValues(new Uint8Array(length))) {
      if (byte < bound && value.length < length) value += letters[byte % letters.length];
    }
  }
  return value;
}
