// Writes its input, and the length of the secret JWT_KEY.
import { getEnvironment } from "wasi:cli/environment@0.2.0";
import { getStdin } from "wasi:cli/stdin@0.2.0";
import { getStdout } from "wasi:cli/stdout@0.2.0";

function input() {
  const stdin = getStdin(), bytes = [];
  try {
    for (;;) bytes.push(...stdin.blockingRead(65536));
  } catch (error) {
    if (error.payload?.tag !== "closed") throw error;
    return bytes;
  }
}

export const run = {
  run() {
    const key = Object.fromEntries(getEnvironment()).JWT_KEY ?? "";
    const more = Array.from(` ${key.length}`, (character) => character.charCodeAt(0));
    getStdout().blockingWriteAndFlush(new Uint8Array([...input(), ...more]));
  },
};
