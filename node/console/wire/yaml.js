/**
 * A strict reader of a part of YAML, for the texts that a page shows. It reads mappings, sequences and texts. It refuses whatever could be
 * read in two ways, or could grow: anchors, aliases, tags, merges, repeated names, texts of several lines and documents of several parts.
 */

import { ConsoleError } from "./errors.js";

/**
 * @typedef {string | Block | YamlNode[] | Map<string, any>} YamlNode each text as it is written, without a type; an absent value is ""
 * @typedef {{ block: true }} Block a text of several lines (`|` or `>`), which is not read
 */

const MOST_DEPTH = 16;
const MOST_LINE_CHARS = 4096;
const NAME = /^([A-Za-z0-9_./$][A-Za-z0-9_./$-]*)[ ]*:(?:[ ]+|$)/;
const QUOTED = /^(?:"((?:[^"\\]|\\[\\"nt])*)"|'((?:[^']|'')*)')/;
const FLOW_TEXT = /^[A-Za-z0-9_./$=+-](?:[A-Za-z0-9_./$=+@-]|:(?=[A-Za-z0-9_./$=+@-]))*/;
const COMMENT = /^[ ]*(?:#.*)?$/;
/** @type {{[letter: string]: string}} */
const ESCAPED = { n: "\n", t: "\t" };

/** @param {number} line the first has the number 1 @returns {ConsoleError} */
export const unread = (line) => new ConsoleError("invalid-input", `line ${line} is not read`, { details: { line } });

/** @param {string} text untrusted, of bounded length @returns {YamlNode} throws ConsoleError `invalid-input`, whose `details.line` is not read */
export function readYaml(text) {
  // Other line ends and controls mean different things to different readers.
  const odd = /[^\P{C}\n\r]|\r(?!\n)|[\u2028\u2029\ufeff]/u.exec(text);
  if (odd) throw unread(text.slice(0, odd.index).split("\n").length);
  const lines = text.split(/\r?\n/);
  if (lines[0] === "---") lines[0] = "";
  return new Reader(lines).document();
}

class Reader {
  /** @param {string[]} lines */
  constructor(lines) {
    this.lines = lines;
    this.at = 0;
  }

  /** @returns {YamlNode} */
  document() {
    const read = this.skip() ? this.block(this.indent(), 0) : "";
    if (this.skip()) this.refuse();
    return read;
  }

  /** @returns {never} */
  refuse() {
    throw unread(this.at + 1);
  }

  /** Go to the next line that is neither empty nor a comment. @returns {boolean} whether there is one */
  skip() {
    while (this.at < this.lines.length && COMMENT.test(this.lines[this.at])) this.at++;
    if (this.at < this.lines.length && (this.lines[this.at].length > MOST_LINE_CHARS || /^(?:---|\.\.\.|%)/.test(this.lines[this.at]))) this.refuse();
    return this.at < this.lines.length;
  }

  /** @returns {number} spaces before the text of this line */
  indent() {
    return this.lines[this.at].search(/[^ ]/);
  }

  /** @param {number} indent @returns {string | null} the rest of this line, if it has this indentation */
  rest(indent) {
    return this.skip() && this.indent() === indent ? this.lines[this.at].slice(indent) : null;
  }

  /** @param {number} indent @param {number} depth @returns {YamlNode} */
  block(indent, depth) {
    if (depth > MOST_DEPTH) this.refuse();
    return /^-(?: |$)/.test(this.rest(indent) ?? "") ? this.sequence(indent, depth) : this.mapping(indent, depth);
  }

  /** @param {number} indent @param {number} depth */
  sequence(indent, depth) {
    const found = [];
    for (let line = this.rest(indent); line !== null && /^-(?: |$)/.test(line); line = this.rest(indent)) {
      const text = line.slice(1);
      const inner = indent + 1 + text.search(/[^ ]|$/);
      const item = text.trimStart();
      if (/^-(?: |$)/.test(item) || NAME.test(item)) {
        this.lines[this.at] = " ".repeat(inner) + item;
        found.push(this.block(inner, depth + 1));
      } else {
        found.push(this.value(item, indent, depth, false));
      }
    }
    return found;
  }

  /** @param {number} indent @param {number} depth */
  mapping(indent, depth) {
    /** @type {Map<string, YamlNode>} */
    const found = new Map();
    for (let line = this.rest(indent); line !== null; line = this.rest(indent)) {
      const named = NAME.exec(line) ?? this.refuse();
      if (found.has(named[1])) this.refuse();
      found.set(named[1], this.value(line.slice(named[0].length), indent, depth, true));
    }
    if (!found.size) this.refuse();
    return found;
  }

  /** Read a value and go to the next line. @param {string} text the rest of its line @param {number} indent of its parent @param {number} depth @param {boolean} isMember @returns {YamlNode} */
  value(text, indent, depth, isMember) {
    if (COMMENT.test(text)) return this.nested(indent, depth, isMember);
    if (/^[|>][+-]?[ ]*$/.test(text)) return this.several(indent);
    const { read, left } = /^["'[{]/.test(text) ? this.flow(text, depth) : this.plain(text);
    if (!/^(?:[ ]+#.*|[ ]*)$/.test(left)) this.refuse();
    this.at++;
    if (this.skip() && this.indent() > indent) this.refuse(); // the text goes on in the next line
    return read;
  }

  /** @param {string} text @returns {{ read: string, left: string }} */
  plain(text) {
    const [whole] = text.split(/[ ]#/, 1);
    const read = whole.trimEnd();
    if (/^(?:[&*!|>%@`"'#,[\]{}?]|[-:](?: |$))/.test(read) || /:(?: |$)/.test(read)) this.refuse();
    return { read, left: "" };
  }

  /** @param {number} indent @param {number} depth @param {boolean} isMember @returns {YamlNode} what the lines below have */
  nested(indent, depth, isMember) {
    this.at++;
    if (!this.skip()) return "";
    const inner = this.indent();
    if (inner > indent) return this.block(inner, depth + 1);
    return isMember && inner === indent && /^-(?: |$)/.test(this.lines[this.at].slice(inner)) ? this.sequence(indent, depth + 1) : "";
  }

  /** Leave out a text of several lines. @param {number} indent of its parent @returns {Block} */
  several(indent) {
    let inner = 0;
    let widest = 0;
    for (this.at++; this.at < this.lines.length; this.at++) {
      const line = this.lines[this.at];
      const own = line.search(/[^ ]/);
      if (own < 0) {
        if (!inner) widest = Math.max(widest, line.length);
        continue;
      }
      if (own < (inner || indent + 1)) break;
      if (!inner && widest > own) this.refuse();
      inner ||= own;
    }
    return { block: true };
  }

  /** Read a value of one line in quotation marks or brackets. @param {string} text @param {number} depth @returns {{ read: YamlNode, left: string }} `left` is what follows */
  flow(text, depth) {
    if (depth > MOST_DEPTH) this.refuse();
    const quoted = QUOTED.exec(text);
    if (quoted) {
      const read = quoted[1] === undefined ? quoted[2].replaceAll("''", "'") : quoted[1].replace(/\\(.)/g, (_, letter) => ESCAPED[letter] ?? letter);
      return { read, left: text.slice(quoted[0].length) };
    }
    if (text[0] === "[" || text[0] === "{") return this.collection(text, depth);
    const found = FLOW_TEXT.exec(text) ?? this.refuse();
    if (/^-(?:$|[^A-Za-z0-9_./$=+@-])/.test(text)) this.refuse();
    return { read: found[0], left: text.slice(found[0].length) };
  }

  /** @param {string} text that begins with a bracket @param {number} depth @returns {{ read: YamlNode, left: string }} */
  collection(text, depth) {
    const isMapping = text[0] === "{";
    const end = isMapping ? "}" : "]";
    /** @type {YamlNode[]} */
    const items = [];
    /** @type {Map<string, YamlNode>} */
    const members = new Map();
    let left = text.slice(1).trimStart();
    while (left[0] !== end) {
      const [before, name] = isMapping ? NAME.exec(left) ?? this.refuse() : ["", ""];
      if (members.has(name)) this.refuse();
      const one = this.flow(left.slice(before.length), depth + 1);
      if (isMapping) members.set(name, one.read);
      else items.push(one.read);
      left = one.left.trimStart();
      if (left[0] === ",") left = left.slice(1).trimStart();
      else if (left[0] !== end) this.refuse();
    }
    return { read: isMapping ? members : items, left: left.slice(1) };
  }
}
