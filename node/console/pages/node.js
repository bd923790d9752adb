import { h, pageHead } from "../elements.js";
import { loading } from "../parts/states.js";
import { copyField, facts } from "../parts/values.js";
import { node as words } from "../texts_node.js";
import { hex, random } from "../wire/bytes.js";
import { exchange, jsonOf, requireSuccess } from "../wire/transport.js";

export const title = words.title;

const NONCE_BYTES = 32;

/** @param {string} path @param {string} asked @param {AbortSignal} signal @returns {Promise<any>} */
const read = async (path, asked, signal) => jsonOf(requireSuccess(await exchange({ path, asked, signal, repeatable: true })));

/** @param {import("../app.js").Context} context */
export function render({ node, signal }) {
  const terms = h("section", { class: "panel", "aria-label": words.release });
  const evidence = h("section", { class: "panel", "aria-label": words.evidence });
  loading(terms, () => read("/attestation/terms", words.release, signal), (said) => termsOf(node, said), { signal, lines: 4 });
  const nonce = hex(random(NONCE_BYTES));
  loading(evidence, () => read(`/attestation?nonce=${nonce}`, words.evidence, signal), (said) => evidenceOf(said, nonce), { signal, lines: 3 });
  return h("div", { class: "page" },
    pageHead(words),
    h("section", { class: "panel", "aria-label": words.identity }, h("h2", {}, words.identity), facts([
      [words.did, copyField(node.nodeId, words.did)],
      [words.version, node.version],
      [words.features, h("span", { class: "row tight" }, node.features.map((one) => h("span", { class: "chip" }, one)))],
      [words.maxSecret, words.maxSecretIs],
    ])), terms, evidence);
}

/** @param {import("../wire/node.js").NodeInfo} node @param {any} said */
function termsOf(node, said) {
  const roots = node.trustRoots.length
    ? [h("span", { class: "chip bad" }, words.otherRoot), ...node.trustRoots.map((one) => copyField(one, words.trustRoot))]
    : h("span", { class: "chip good" }, words.intel);
  const policy = said.nodePolicySuffices ? words.policySuffices : said.nodePolicy ? words.policyOn : words.policyOff;
  const isOff = node.attestation === "off";
  return [h("h2", {}, words.release), facts([
    [words.mode, [h("span", { class: `chip ${isOff ? "bad" : "good"}` }, node.attestation), h("p", { class: "small dim" }, words.modes[node.attestation])]],
    [words.trustRoot, roots],
    [words.keyProviders, said.keyProviders?.length ? said.keyProviders.map((/** @type {string} */ one) => copyField(one)) : words.anyProvider],
    [words.nodePolicy, policy],
  ])];
}

/** @param {any} said @param {string} nonce */
function evidenceOf(said, nonce) {
  const head = h("h2", {}, words.evidence);
  const command = `sealspace verify ${location.origin}`;
  if (said.mode === "classic") return [head, h("p", { class: "dim" }, words.noTee)];
  return [head, h("p", { class: "dim" }, words.tee), facts([
    [words.mode, h("span", { class: "chip" }, said.mode)],
    [words.boundNonce, said.nonce === nonce ? words.yes : h("span", { class: "chip bad" }, words.no)],
    [words.quoteSize, words.bytes(said.quote.length / 2)],
    [words.compose, said.compose_hash && copyField(said.compose_hash, words.compose)],
    [words.appId, said.app_id && copyField(said.app_id, words.appId)],
    [words.secretOrigin, said.secret_origin],
    [words.tool, copyField(command)],
  ])];
}
