/**
 * Parse .env files by the rules of `sealspace secret import`: `NAME=VALUE`, optionally after `export`. An unquoted value is
 * literal and ends before ` #`. Single quotes are literal; double quotes allow escapes. Variables are not expanded. Errors
 * give the line number and never quote the line, because it may contain a secret.
 */

import { ConsoleError } from "./errors.js";
import { NAME_PATTERN } from "./secrets.js";

export const MAX_FILE_CHARS = 4 * 1024 * 1024;
export const MAX_ENTRIES = 1000;
export const MOST_FAULTS = 20;
const START = /[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*/y;
const NOTHING = /[ \t]*(?:#[^\n]*)?(?:\n|(?![^]))/y;
const QUOTED = /'([^']*)'|"((?:[^"\\]|\\[^])*)"/y;
/** @type {{[letter: string]: string}} */
const ESCAPED = { n: "\n", r: "\r", t: "\t", '"': '"', "\\": "\\", $: "$", "`": "`" };

/** @param {RegExp} pattern sticky @param {string} text @param {number} at */
function matchAt(pattern, text, at) {
  pattern.lastIndex = at;
  return pattern.exec(text);
}

/** @param {string} text @param {number} at @returns {number} */
const nextLine = (text, at) => (text.indexOf("\n", at) < 0 ? text.length : text.indexOf("\n", at) + 1);

/** @param {string} text @param {number} at @returns {[string, number] | string} the value and the start of the next line, or an error */
function valueAt(text, at) {
  if (text[at] === "'" || text[at] === '"') {
    const found = matchAt(QUOTED, text, at);
    const end = found && matchAt(NOTHING, text, at + found[0].length);
    if (!found || !end) return "has an unclosed quote, or text after the closing quote";
    const value = found[1] ?? found[2].replace(/\\([^])/g, (whole, letter) => ESCAPED[letter] ?? whole);
    return [value, at + found[0].length + end[0].length];
  }
  const following = nextLine(text, at);
  const line = text.slice(at, following).replace(/\n$/, "");
  if (line.startsWith("#") && text[at - 1] === "=") return "has a value that begins with #: put the value in single quotes";
  const whole = text[at - 1] + line;
  const comment = whole.search(/[ \t]#/);
  return [(comment < 0 ? line : line.slice(0, comment)).replace(/^[ \t]+|(?<![ \t])[ \t]+$/g, ""), following];
}

/** @param {string} file @returns {Map<string, string>} in file order; throws ConsoleError `invalid-input`, whose `details.faults` have line numbers */
export function parseEnv(file) {
  if (file.length > MAX_FILE_CHARS) throw new ConsoleError("too-large", `the file has more than ${MAX_FILE_CHARS} characters`);
  const text = file.replace(/^\ufeff/, "").replaceAll("\r\n", "\n");
  /** @type {Map<string, string>} */
  const values = new Map();
  /** @type {{ line: number, text: string }[]} */
  const faults = [];
  let [at, counted, line] = [0, 0, 1];
  while (at < text.length && faults.length < MOST_FAULTS) {
    const nothing = matchAt(NOTHING, text, at);
    if (nothing) {
      at += nothing[0].length;
      continue;
    }
    for (; counted < at; counted++) if (text[counted] === "\n") line++;
    const start = matchAt(START, text, at);
    const name = start?.[1] ?? "";
    let wrong = "";
    if (!start) wrong = "is not NAME=VALUE";
    else if (!NAME_PATTERN.test(name)) wrong = "does not begin with a valid secret name: capitals, digits and underscores, a capital first";
    else if (values.has(name)) wrong = "repeats the name of an earlier entry";
    else if (values.size === MAX_ENTRIES) wrong = `exceeds the limit of ${MAX_ENTRIES} entries`;
    const read = wrong || valueAt(text, at + (start?.[0].length ?? 0));
    if (typeof read === "string") {
      faults.push({ line, text: read });
      at = nextLine(text, at);
    } else {
      values.set(name, read[0]);
      at = read[1];
    }
  }
  if (!faults.length) return values;
  const message = faults.map((fault) => `line ${fault.line} ${fault.text}`).join("; ");
  throw new ConsoleError("invalid-input", message, { hint: "write NAME='VALUE', or begin the line with #", details: { faults } });
}
