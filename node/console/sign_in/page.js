// @ts-check
/** The page that a command opens on this machine: its wallet says who it is, and signs what the command made. */

import { fill, h, icon } from "../elements.js";
import { banner } from "../parts/states.js";
import { facts } from "../parts/values.js";
import { commandLine as words, failed } from "../texts.js";
import { hex } from "../wire/bytes.js";
import { ConsoleError } from "../wire/errors.js";
import { connect, discover } from "../wire/wallets.js";

/**
 * @typedef {import("../wire/wallets.js").WalletInfo} WalletInfo
 * @typedef {{ version: number, kind: "working" | "connect" | "sign" | "done" | "failed", command?: string, node?: string,
 *   before?: string | null, owner?: string, address?: string, chainId?: number, title?: string, text?: string,
 *   hint?: string, facts?: [string, string][], rights?: string[] }} View what the command asks; see `wallet_desk`
 */

const tab = hex(crypto.getRandomValues(new Uint8Array(16)));
const page = h("main", { class: "question", tabIndex: -1 });
/** @type {Set<WalletInfo>} wallets that shared an account with this address */
const used = new Set();

/** @param {string} path @param {object} said what the server does not take is a ConsoleError */
async function send(path, said) {
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify({ tab, ...said }) });
  if (answer.ok) return;
  const refusal = answer.status === 409 ? await answer.json() : {};
  throw new ConsoleError(refusal.code ?? "refused", refusal.text ?? failed.other, { hint: refusal.hint ?? words.tryAgain });
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

/** @param {string} title @param {string} text */
const alarm = (title, text) => h("div", { role: "alert" }, banner({ kind: "bad", title: capital(title), text: capital(text) }));

/** @param {string} text of the command line, which begins lower case */
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** @param {any} error a ConsoleError, or anything @returns what happened and what to do, for a person */
function failure(error) {
  const hint = error instanceof ConsoleError && error.hint ? error.hint : words.tryAgain;
  const title = failed.words[error?.code] ?? (error instanceof ConsoleError ? error.message : failed.other);
  return alarm(title, hint);
}

/**
 * Buttons for the wallets of this browser; what one of them refuses is said above them.
 * @param {(name: string) => string} label @param {(info: WalletInfo) => Promise<void>} work
 */
function wallets(label, work) {
  const wrong = h("div", {}), choices = h("ul", { class: "choices" }), said = h("p", { class: "dim", role: "status" });
  /** @param {WalletInfo} info */
  const use = async (info) => {
    for (const button of choices.querySelectorAll("button")) button.disabled = true;
    said.textContent = words.confirmInWallet;
    fill(wrong);
    try {
      await work(info);
    } catch (error) {
      fill(wrong, failure(error));
      for (const button of choices.querySelectorAll("button")) button.disabled = false;
    }
    said.textContent = "";
  };
  const look = async () => {
    said.textContent = words.searching;
    fill(wrong);
    const found = await discover();
    said.textContent = "";
    fill(choices, ...found.map((info) =>
      h("li", {}, h("button", { type: "button", on: { click: () => use(info) } }, icon("key"), label(info.name)))));
    if (!found.length) {
      fill(wrong, alarm(words.noWallet, words.noWalletHint));
      fill(choices, h("li", {}, h("button", { type: "button", on: { click: look } }, words.lookAgain)));
    }
  };
  look();
  const cancel = () => send("cancel", {}).catch((error) => fill(wrong, failure(error)));
  const end = h("button", { type: "button", class: "plain", on: { click: cancel } }, words.cancel);
  return [wrong, choices, said, h("div", { class: "row" }, end)];
}

/** @param {WalletInfo} info */
async function accountOf(info) {
  const owner = await connect(info);
  used.add(info);
  return owner;
}

/** @param {View} view */
function showConnect({ version, command, node, before }) {
  show(
    words.connect,
    h("p", { class: "dim" }, words.connectLead),
    panel([[words.command, command], [words.node, node], [words.before, before]]),
    wallets(words.useWallet, async (info) => {
      const { address, chainId } = await accountOf(info);
      await send("answer", { version, address, chainId });
    }),
  );
}

/** @param {View} view */
function showSign({ version, command, node, owner, address = "", chainId = 1, title = "", text = "", facts: said = [], rights = [] }) {
  show(
    title,
    h("p", { class: "dim" }, words.signLead),
    chainId !== 1 && banner({ kind: "warn", title: words.otherChain(chainId), text: words.otherChainMeans }),
    panel([[words.command, command], [words.node, node], [words.owner, owner], ...said]),
    rights.length > 0 && h("section", { class: "panel stack tight" }, h("h2", {}, words.rights),
      h("ul", { class: "rights" }, ...rights.map((one) => h("li", {}, one)))),
    wallets(words.signWith, async (info) => {
      const found = await accountOf(info);
      if (!found.signText || found.address !== address) {
        throw new ConsoleError("wallet-account-changed", "", { hint: words.wrongAccount(address) });
      }
      if (found.chainId !== chainId) {
        throw new ConsoleError("wallet-other-chain", "", { hint: words.wrongChain(chainId) });
      }
      await send("answer", { version, signature: hex(await found.signText(text)) });
    }),
    h("details", { open: rights.length === 0 }, h("summary", {}, words.exactText), h("pre", { tabIndex: 0 }, text)),
  );
}

/** Have the wallets forget this address: another program may get it later. */
async function forget() {
  for (const { provider } of used) {
    await provider.request({ method: "wallet_revokePermissions", params: [{ eth_accounts: {} }] }).catch(() => undefined);
  }
}

/** @param {View} view @returns {boolean} whether something follows */
function render(view) {
  switch (view.kind) {
    case "connect":
      showConnect(view);
      return true;
    case "sign":
      showSign(view);
      return true;
    case "done":
      show(words.done, h("p", {}, words.doneLead));
      return false;
    case "failed":
      show(words.failed, alarm(view.text ?? "", view.hint ?? ""));
      return false;
    default:
      show(words.working, h("p", { class: "dim" }, words.workingLead));
      return true;
  }
}

async function follow() {
  for (let version = 0; ; ) {
    const answer = await fetch(`next?tab=${tab}&after=${version}`, { cache: "no-store" }).catch(() => null);
    if (answer?.status === 409) {
      const { text, hint } = await answer.json();
      return show(words.otherTab, alarm(text, hint));
    }
    if (!answer?.ok) return show(words.gone, h("p", {}, words.goneHint));
    const view = /** @type {View} */ (await answer.json());
    const isNews = view.version !== version;
    version = view.version;
    if (isNews && !render(view)) return forget();
  }
}

document.body.append(page);
follow();
