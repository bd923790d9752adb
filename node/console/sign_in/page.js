/** The page that a command opens on this machine: its wallet says who it is, and signs what the command made. */

import { fill, h } from "../elements.js";
import { rightWords } from "../parts/rights.js";
import { banner } from "../parts/states.js";
import { facts } from "../parts/values.js";
import { walletChoices } from "../parts/wallet_choices.js";
import { hex, random } from "../wire/bytes.js";
import { linkCode } from "../wire/crockford.js";
import { ConsoleError } from "../wire/errors.js";
import { discover } from "../wire/wallets.js";
import { meaningOf } from "./meaning.js";
import { commandLine as words } from "./texts.js";

/**
 * @typedef {{ version: number, kind: "working" | "connect" | "sign" | "link" | "linked" | "done" | "failed", command?: string, node?: string,
 *   before?: string | null, owner?: string, address?: string, chainId?: number, text?: string, hint?: string,
 *   next?: string }} View
 *   what the command asks; see `wallet_page`
 */

const tab = hex(random(16));
/** The key of the browser's console, which came in the fragment. */
const [, key] = /^#key=(did:key:z[0-9A-Za-z]{1,100})$/.exec(location.hash) ?? [];
history.replaceState(null, "", location.pathname);
const code = key && (await linkCode(location.pathname.split("/")[1], key));
const page = h("main", { class: "question", tabIndex: -1 });

/** @param {object} said */
const post = (said) =>
  fetch("", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ tab, ...said }) });

/** @param {number} version that is answered @param {object | null} answer null: cancel @returns {Promise<void>} what is refused is a ConsoleError */
async function send(version, answer) {
  const answered = await post({ version, answer });
  if (answered.ok) return;
  const { code = "refused", text = "", hint = "" } = answered.status === 409 ? await answered.json() : {};
  throw new ConsoleError(code, text, { hint });
}

/** @param {string} title @param {...import("../elements.js").Child} content */
function show(title, ...content) {
  const heading = h("h1", { tabIndex: -1 }, title);
  fill(page, h("p", { class: "brand" }, h("img", { src: "files/mark.svg", alt: "" }), "sealspace"), heading, ...content);
  document.title = `${title} · sealspace`;
  heading.focus();
}

/** @param {[string, string | null | undefined][]} named */
const panel = (named) =>
  h("div", { class: "panel" }, facts(named.filter(([, value]) => value).map(([name, value]) => [name, h("span", { class: "mono" }, value)])));

/** @param {string} [text] of the command line, which begins lower case */
const capital = (text = "") => text.charAt(0).toUpperCase() + text.slice(1);

/** @param {View} view */
const alarm = ({ text, hint }) => h("div", { role: "alert" }, banner({ kind: "bad", title: capital(text), text: capital(hint) }));

/** @param {View} view @param {(owner: import("../wire/wallets.js").Owner) => Promise<void>} work */
function choices({ version }, work) {
  const cancel = () => send(version, null).catch(() => undefined); // the next view says what happened
  return [walletChoices(work, undefined, words.noWalletHint), h("div", { class: "row" }, h("button", { type: "button", class: "plain", on: { click: cancel } }, words.cancel))];
}

/** @param {View} view */
function showConnect(view) {
  const { version, command, node, before } = view;
  show(
    words.connect,
    h("p", { class: "dim" }, words.connectLead),
    panel([[words.command, command], [words.node, node], [words.before, before]]),
    choices(view, ({ address, chainId }) => send(version, { address, chainId })),
  );
}

/** @param {View} view */
function showSign(view) {
  const { version, command, node, owner = "", address = "", chainId = 1, text = "" } = view;
  const meaning = meaningOf(text);
  show(
    key && text.includes(`\nURI: ${key}#`) ? words.sessionHere : meaning.title,
    h("p", { class: "dim" }, words.signLead),
    chainId !== 1 && banner({ kind: "warn", title: words.otherChain(chainId), text: words.otherChainMeans }),
    panel([[words.command, command], [words.node, node], [words.owner, owner], ...meaning.facts]),
    meaning.rights.length > 0 && h("section", { class: "panel stack tight" }, h("h2", {}, words.rights),
      h("ul", { class: "rights" }, ...meaning.rights.map((one) => h("li", {}, rightWords(one, owner))))),
    choices(view, async (found) => {
      if (!found.signText || found.address !== address) {
        throw new ConsoleError("wallet-account-changed", "", { hint: words.wrongAccount(address) });
      }
      if (found.chainId !== chainId) throw new ConsoleError("wallet-other-chain", "", { hint: words.wrongChain(chainId) });
      await send(version, { signature: hex(await found.signText(text)) });
    }),
    h("details", { open: meaning.rights.length === 0 }, h("summary", {}, words.exactText), h("pre", { tabIndex: 0 }, text)),
  );
}

/** Send the console's key to the command, which asks in the terminal. @param {View} view */
async function showLink({ version }) {
  if (!key) return show(words.noKey, h("p", {}, words.noKeyHint));
  await send(version, { key }).catch(() => undefined); // the next view says what happened
}

function showWorking() {
  if (code) show(words.link, h("p", {}, words.linkLead), h("p", { class: "code" }, code));
  else show(words.working, h("p", { class: "dim" }, words.workingLead));
}

/** Have the wallets forget this address: another program may get it later. */
async function forget() {
  for (const { provider } of await discover()) {
    await provider.request({ method: "wallet_revokePermissions", params: [{ eth_accounts: {} }] }).catch(() => undefined);
  }
}

/** @param {View} view @returns {boolean} whether something follows */
function render(view) {
  if (view.kind === "connect") showConnect(view);
  else if (view.kind === "sign") showSign(view);
  else if (view.kind === "link") showLink(view);
  else if (view.kind === "linked") forget().then(() => /^https?:/.test(view.next ?? "") && location.replace(view.next ?? ""));
  else if (view.kind === "done") show(words.done, h("p", {}, words.doneLead));
  else if (view.kind === "failed") show(words.failed, alarm(view));
  else showWorking();
  return !["done", "failed", "linked"].includes(view.kind);
}

async function follow() {
  for (let version = 0; ; ) {
    const answer = await post({ version }).catch(() => null);
    if (answer?.status === 409) return show(words.otherTab, alarm(await answer.json()));
    if (!answer?.ok) return show(words.gone, h("p", {}, words.goneHint));
    const view = /** @type {View} */ (await answer.json());
    const isNews = view.version !== version;
    version = view.version;
    if (isNews && !render(view)) return forget();
  }
}

document.body.append(page);
follow();
