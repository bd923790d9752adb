// @ts-check
/** What a typed text finds in a list. */

const LEAST_OF_IDENTIFIER = 6; // three letters such as "bob" are in one of 600 identifiers by chance

/**
 * Whether a row has the text that somebody looks for. Capital letters are as small ones.
 * @param {string} typed
 * @param {string[]} words names, and what the row says
 * @param {string[]} identifiers DIDs and CIDs, which are found by six characters or more
 * @returns {boolean}
 */
export function isFound(typed, words, identifiers) {
  const asked = typed.trim().toLowerCase();
  const looked = asked.length < LEAST_OF_IDENTIFIER ? words : [...words, ...identifiers];
  return looked.some((text) => text.toLowerCase().includes(asked));
}
