// Asks a service for a counter that two secrets of the requester select, and writes it as the result of a task.
import { getArguments, getEnvironment } from "wasi:cli/environment@0.2.0";
import { getStderr } from "wasi:cli/stderr@0.2.0";
import { getDirectories } from "wasi:filesystem/preopens@0.2.0";
import { fetch } from "sealspace:http/client@0.1.0";

const bytes = (text) => Uint8Array.from(unescape(encodeURIComponent(text)), (character) => character.charCodeAt(0));

function write(folder, name, data) {
  const [descriptor] = getDirectories().find(([, path]) => path === folder);
  const file = descriptor.openAt({}, name, { create: true, truncate: true }, { write: true });
  for (let at = 0; at < data.length; ) at += Number(file.write(data.subarray(at), at));
}

export const run = {
  run() {
    const environment = Object.fromEntries(getEnvironment());
    for (const index of [1, 2]) {
      if (environment[`IEXEC_REQUESTER_SECRET_${index}`] === undefined) {
        getStderr().blockingWriteAndFlush(bytes(`missing requester secret ${index}\n`));
        throw undefined; // ends the program with the exit code 1
      }
    }
    const [, service] = getArguments();
    const url = `${service}/hit/${environment.IEXEC_REQUESTER_SECRET_1}/${environment.IEXEC_REQUESTER_SECRET_2}`;
    const answer = fetch({ method: "GET", url, headers: [], body: new Uint8Array() });
    const out = environment.IEXEC_OUT;
    write(out, "result.txt", answer.body);
    write(out, "computed.json", bytes(JSON.stringify({ "deterministic-output-path": `${out}/result.txt` })));
  },
};
