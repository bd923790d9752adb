// @ts-check
import { h } from "../elements.js";

/** Save bytes as a file. @param {Uint8Array<ArrayBuffer>} bytes @param {string} name */
export function download(bytes, name) {
  // Of no type that a browser would show: what others stored is never a page of this origin.
  const url = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
