/** BLAKE3-256, for ids of tokens and versions of values. */

const IV = [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];
const ORDER = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
const [CHUNK_START, CHUNK_END, PARENT, ROOT] = [1, 2, 4, 8];
const CHUNK_BYTES = 1024;
/** The order in which each of the seven rounds reads the words of a block. */
const ROUNDS = [[...ORDER.keys()]];
while (ROUNDS.length < 7) ROUNDS.push(ORDER.map((at) => ROUNDS[ROUNDS.length - 1][at]));
const v = new Uint32Array(16);

/** @param {number} a @param {number} b @param {number} c @param {number} d @param {number} x @param {number} y */
function mix(a, b, c, d, x, y) {
  let turned;
  v[a] += v[b] + x;
  turned = v[d] ^ v[a];
  v[d] = (turned >>> 16) | (turned << 16);
  v[c] += v[d];
  turned = v[b] ^ v[c];
  v[b] = (turned >>> 12) | (turned << 20);
  v[a] += v[b] + y;
  turned = v[d] ^ v[a];
  v[d] = (turned >>> 8) | (turned << 24);
  v[c] += v[d];
  turned = v[b] ^ v[c];
  v[b] = (turned >>> 7) | (turned << 25);
}

/**
 * @param {ArrayLike<number>} chained 8 words @param {ArrayLike<number>} block 16 words
 * @param {number} counter @param {number} size @param {number} flags @returns {Uint32Array} 8 words
 */
function compress(chained, block, counter, size, flags) {
  v.set(chained);
  v.set(IV.slice(0, 4), 8);
  v.set([counter >>> 0, Math.floor(counter / 2 ** 32), size, flags], 12);
  for (const m of ROUNDS) {
    for (let at = 0; at < 4; at++) mix(at, at + 4, at + 8, at + 12, block[m[2 * at]], block[m[2 * at + 1]]);
    for (let at = 0; at < 4; at++) {
      mix(at, ((at + 1) & 3) + 4, ((at + 2) & 3) + 8, ((at + 3) & 3) + 12, block[m[2 * at + 8]], block[m[2 * at + 9]]);
    }
  }
  return Uint32Array.from({ length: 8 }, (_, at) => v[at] ^ v[at + 8]);
}

/** @param {Uint8Array} bytes @param {number} start @param {number} size @returns {Uint32Array} 16 words */
function blockAt(bytes, start, size) {
  const words = new Uint32Array(16);
  for (let at = 0; at < size; at++) words[at >> 2] |= bytes[start + at] << (8 * (at & 3));
  return words;
}

/** @param {Uint8Array} bytes @param {number} number of the chunk @param {boolean} isRoot */
function chunk(bytes, number, isRoot) {
  const begin = number * CHUNK_BYTES;
  const end = Math.min(begin + CHUNK_BYTES, bytes.length);
  /** @type {ArrayLike<number>} */
  let chained = IV;
  let at = begin;
  do {
    const size = Math.min(64, end - at);
    const isLast = at + 64 >= end;
    const flags = (at === begin ? CHUNK_START : 0) | (isLast ? CHUNK_END | (isRoot ? ROOT : 0) : 0);
    chained = compress(chained, blockAt(bytes, at, size), number, size, flags);
    at += 64;
  } while (at < end);
  return chained;
}

/** @param {Uint8Array} bytes @returns {import("./bytes.js").Bytes} 32 bytes */
export function blake3(bytes) {
  const chunks = Math.max(1, Math.ceil(bytes.length / CHUNK_BYTES));
  /** @param {ArrayLike<number>} left @param {ArrayLike<number>} right @param {boolean} isRoot */
  const parent = (left, right, isRoot) =>
    compress(IV, [...Array.from(left), ...Array.from(right)], 0, 64, PARENT | (isRoot ? ROOT : 0));
  /** @type {ArrayLike<number>[]} */
  const waiting = [];
  for (let number = 0; number < chunks - 1; number++) {
    let node = chunk(bytes, number, false);
    for (let done = number + 1; done % 2 === 0; done /= 2) {
      node = parent(/** @type {ArrayLike<number>} */ (waiting.pop()), node, false);
    }
    waiting.push(node);
  }
  let node = chunk(bytes, chunks - 1, chunks === 1);
  while (waiting.length) node = parent(/** @type {ArrayLike<number>} */ (waiting.pop()), node, waiting.length === 0);
  const digest = new Uint8Array(32);
  for (let at = 0; at < 32; at++) digest[at] = node[at >> 2] >>> (8 * (at & 3));
  return digest;
}
