/** Keccak-256 as Ethereum uses it: checksums of addresses. */

const MASK = (1n << 64n) - 1n;
const RATE_BYTES = 136;
const ROTATIONS = [1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 2, 14, 27, 41, 56, 8, 25, 43, 62, 18, 39, 61, 20, 44];
const LANES = [10, 7, 11, 17, 18, 3, 5, 16, 8, 21, 24, 4, 15, 23, 19, 13, 12, 2, 20, 14, 22, 9, 6, 1];
/** @type {bigint[]} */
const CONSTANTS = [];
for (let round = 0, register = 1; round < 24; round++) {
  let constant = 0n;
  for (let bit = 0; bit < 7; bit++) {
    if (register & 1) constant |= 1n << BigInt((1 << bit) - 1);
    register = register & 0x80 ? (register << 1) ^ 0x171 : register << 1;
  }
  CONSTANTS.push(constant);
}

/** @param {bigint} lane @param {number} by */
const turned = (lane, by) => ((lane << BigInt(by)) | (lane >> BigInt(64 - by))) & MASK;

/** @param {bigint[]} state 25 lanes */
function permute(state) {
  for (const constant of CONSTANTS) {
    const columns = [0, 1, 2, 3, 4].map((x) => [0, 5, 10, 15, 20].reduce((sum, y) => sum ^ state[x + y], 0n));
    for (let at = 0; at < 25; at++) {
      state[at] ^= columns[(at + 4) % 5] ^ turned(columns[(at + 1) % 5], 1);
    }
    let moved = state[1];
    LANES.forEach((lane, at) => ([state[lane], moved] = [turned(moved, ROTATIONS[at]), state[lane]]));
    for (let y = 0; y < 25; y += 5) {
      const row = state.slice(y, y + 5);
      for (let x = 0; x < 5; x++) state[y + x] = row[x] ^ (~row[(x + 1) % 5] & MASK & row[(x + 2) % 5]);
    }
    state[0] ^= constant;
  }
}

/** @param {Uint8Array} bytes @returns {import("./bytes.js").Bytes} 32 bytes */
export function keccak256(bytes) {
  const padded = new Uint8Array((Math.floor(bytes.length / RATE_BYTES) + 1) * RATE_BYTES);
  padded.set(bytes);
  padded[bytes.length] ^= 0x01;
  padded[padded.length - 1] ^= 0x80;
  const view = new DataView(padded.buffer);
  /** @type {bigint[]} */
  const state = Array(25).fill(0n);
  for (let at = 0; at < padded.length; at += RATE_BYTES) {
    for (let lane = 0; lane < RATE_BYTES / 8; lane++) state[lane] ^= view.getBigUint64(at + 8 * lane, true);
    permute(state);
  }
  const digest = new DataView(new ArrayBuffer(32));
  for (let lane = 0; lane < 4; lane++) digest.setBigUint64(8 * lane, state[lane], true);
  return new Uint8Array(digest.buffer);
}
