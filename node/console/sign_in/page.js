// @ts-check
/** The page that a command opens on this machine: its wallet says who it is, and signs what the command made. */

import { fill, h, icon } from "../elements.js";
import { hex } from "../wire/bytes.js";
import { ConsoleError } from "../wire/errors.js";
import { connect, discover } from "../wire/wallets.js";
import { TEXTS } from "./texts.js";

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
  throw new ConsoleError(refusal.code ?? "refused", refusal.text ?? TEXTS.unforeseen, { hint: refusal.hint ?? TEXTS.tryAgain });
}

/** @param {string} title @param {...import("../elements.js").Child} content */
function show(title, ...content) {
  const heading = h("h1", { tabIndex: -1 }, title);
  fill(page, h("p", { class: "brand" }, h("img", { src: "files/mark.svg", alt: "" }), "sealspace"), heading, ...content);
  document.title = `${title} · sealspace`;
  heading.focus();
}

/** @param {[string, string | null | undefined][]} named */
const facts = (named) =>
  h("dl", { class: "facts" }, ...named.map(([name, value]) =>
    value ? h("div", {}, h("dt", {}, name), h("dd", { class: "mono" }, value)) : null));

/** @param {string} text @param {string} hint */
const banner = (text, hint) =>
  h("div", { class: "banner bad", role: "alert" }, icon("warning"), h("div", {}, h("strong", {}, text), h("p", {}, hint)));

/**
 * Buttons for the wallets of this browser; what one of them refuses is said above them.
 * @param {(name: string) => string} label @param {(info: WalletInfo) => Promise<void>} work
 */
function wallets(label, work) {
  const wrong = h("div", {}), choices = h("ul", { class: "choices" }), said = h("p", { class: "dim", role: "status" });
  /** @param {WalletInfo} info */
  const use = async (info) => {
    for (const button of choices.querySelectorAll("button")) button.disabled = true;
    said.textContent = TEXTS.confirmInWallet;
    fill(wrong);
    try {
      await work(info);
    } catch (error) {
      const { message, hint } = error instanceof ConsoleError ? error : { message: TEXTS.unforeseen, hint: TEXTS.tryAgain };
      fill(wrong, banner(message, hint));
      for (const button of choices.querySelectorAll("button")) button.disabled = false;
    }
    said.textContent = "";
  };
  const look = async () => {
    said.textContent = TEXTS.searching;
    fill(wrong);
    const found = await discover();
    said.textContent = "";
    fill(choices, ...found.map((info) =>
      h("li", {}, h("button", { type: "button", on: { click: () => use(info) } }, icon("key"), label(info.name)))));
    if (!found.length) {
      fill(wrong, banner(TEXTS.noWallet, TEXTS.noWalletHint));
      fill(choices, h("li", {}, h("button", { type: "button", on: { click: look } }, TEXTS.lookAgain)));
    }
  };
  look();
  const cancel = () => send("cancel", {}).catch((error) => fill(wrong, banner(error.message, error.hint)));
  const end = h("button", { type: "button", class: "plain", on: { click: cancel } }, TEXTS.cancel);
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
    TEXTS.connect,
    h("p", { class: "dim" }, TEXTS.connectLead),
    h("div", { class: "panel" }, facts([[TEXTS.command, command], [TEXTS.node, node], [TEXTS.before, before]])),
    wallets(TEXTS.useWallet, async (info) => {
      const { address, chainId } = await accountOf(info);
      await send("answer", { version, address, chainId });
    }),
  );
}

/** @param {View} view */
function showSign({ version, command, node, owner, address = "", chainId = 1, title = "", text = "", facts: said = [], rights = [] }) {
  show(
    title,
    h("p", { class: "dim" }, TEXTS.signLead),
    chainId !== 1 && h("p", { class: "banner warn" }, icon("warning"), TEXTS.otherChain(chainId)),
    h("div", { class: "panel" }, facts([[TEXTS.command, command], [TEXTS.node, node], [TEXTS.owner, owner], ...said])),
    rights.length > 0 && h("section", { class: "panel stack tight" }, h("h2", {}, TEXTS.rights),
      h("ul", { class: "rights" }, ...rights.map((one) => h("li", {}, one)))),
    wallets(TEXTS.signWith, async (info) => {
      const found = await accountOf(info);
      if (!found.signText || found.address !== address) {
        throw new ConsoleError("wallet-account-changed", TEXTS.wrongAccount(found.address ?? "", address), { hint: TEXTS.wrongAccountHint });
      }
      if (found.chainId !== chainId) {
        throw new ConsoleError("wallet-other-chain", TEXTS.wrongChain(found.chainId ?? 0, chainId), { hint: TEXTS.wrongChainHint });
      }
      await send("answer", { version, signature: hex(await found.signText(text)) });
    }),
    h("details", { open: rights.length === 0 }, h("summary", {}, TEXTS.exactText), h("pre", { tabIndex: 0 }, text)),
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
      show(TEXTS.done, h("p", {}, TEXTS.doneLead));
      return false;
    case "failed":
      show(TEXTS.failed, banner(view.text ?? "", view.hint ?? ""));
      return false;
    default:
      show(TEXTS.working, h("p", { class: "dim" }, TEXTS.workingLead));
      return true;
  }
}

async function follow() {
  for (let version = 0; ; ) {
    const answer = await fetch(`next?tab=${tab}&after=${version}`, { cache: "no-store" }).catch(() => null);
    if (answer?.status === 409) {
      const { text, hint } = await answer.json();
      return show(TEXTS.otherTab, banner(text, hint));
    }
    if (!answer?.ok) return show(TEXTS.gone, h("p", {}, TEXTS.goneHint));
    const view = /** @type {View} */ (await answer.json());
    const isNews = view.version !== version;
    version = view.version;
    if (isNews && !render(view)) return forget();
  }
}

document.body.append(page);
follow();
