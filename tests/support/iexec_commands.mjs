// iExec's own client in one process that runs many commands, because to load it takes a second.
//
// Arguments: the folder of the client's programs, and the path of a socket. A request on the socket is
// one line of JSON, [noun, arguments, current folder, home]. So is its answer, [exit status, standard
// output, standard error].
//
// A program is evaluated anew for each command. It finds its arguments, folders and an unused parser of
// arguments, as in a process of its own, and where it ends the process it ends the command.

import { createRequire } from "node:module";
import { createServer } from "node:net";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, place] = process.argv.slice(2);
const { Command, program: parser } = createRequire(join(folder, "iexec.js"))("commander");
let count = 0;

class Ended extends Error {
  constructor(status) {
    super();
    this.status = status;
  }
}

async function statusOf(noun) {
  Object.assign(parser, new Command());
  let ran;
  parser.parse = () => {
    ran = parser.parseAsync();
  };
  process.exitCode = 0;
  process.exit = (status) => {
    throw new Ended(status ?? process.exitCode);
  };
  count += 1;
  try {
    await import(`${pathToFileURL(join(folder, `iexec-${noun}.js`))}?${count}`);
    await ran;
  } catch (error) {
    if (error instanceof Ended) return error.status;
    console.error(error);
    return 1;
  }
  return process.exitCode;
}

async function answer([noun, given, current, home]) {
  process.chdir(current);
  process.env.HOME = home;
  process.argv = [process.execPath, `iexec-${noun}`, ...given];
  const streams = [process.stdout, process.stderr];
  const written = streams.map((stream) => stream.write);
  const said = ["", ""];
  streams.forEach((stream, at) => {
    stream.write = (text) => {
      said[at] += text;
      return true;
    };
  });
  try {
    return [await statusOf(noun), ...said];
  } finally {
    streams.forEach((stream, at) => {
      stream.write = written[at];
    });
  }
}

createServer((connection) => {
  let asked = "";
  connection.on("data", async (piece) => {
    asked += piece;
    if (asked.endsWith("\n")) connection.end(`${JSON.stringify(await answer(JSON.parse(asked)))}\n`);
  });
}).listen(place, () => console.log("ready"));
