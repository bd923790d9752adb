/** Wallets of the browser: discovered by EIP-6963, called by EIP-1193. */

import { fromHex, hex, utf8 } from "./bytes.js";
import { checksummed, didPkh } from "./did.js";
import { ConsoleError } from "./errors.js";

/**
 * @typedef {{ request(asked: { method: string, params?: unknown[] }): Promise<any>,
 *   on?(name: string, listener: (value: any) => void): void,
 *   removeListener?(name: string, listener: (value: any) => void): void }} Provider
 * @typedef {{ id: string, name: string, icon: string, rdns: string, provider: Provider }} WalletInfo
 */
/**
 * @typedef {object} Owner an account or key that can sign in
 * @property {string} did
 * @property {"wallet" | "phrase"} kind
 * @property {string} [address] of a wallet, with its checksum
 * @property {number} [chainId] of a wallet
 * @property {(text: string) => Promise<Uint8Array<ArrayBuffer>>} [signText] of a wallet: 65 bytes over a personal message
 * @property {CryptoKeyPair} [keys] of a phrase: Ed25519, the private one cannot be exported
 * @property {(listener: () => void) => () => void} [onChange] of a wallet: called when account or chain change; returns
 *   a function that stops it
 */

const WAIT_MS = 200;
const USER_REJECTED = 4001;

/** @param {number} [waitMs] time for wallets to announce themselves @returns {Promise<WalletInfo[]>} sorted by name */
export async function discover(waitMs = WAIT_MS) {
  /** @type {Map<string, WalletInfo>} */
  const found = new Map();
  /** @param {any} event */
  const heard = ({ detail }) => {
    const info = detail?.info;
    if (typeof info?.uuid !== "string" || typeof detail.provider?.request !== "function") return;
    const [name, icon, rdns] = [info.name, info.icon, info.rdns].map((one) => String(one ?? ""));
    // Loading a remote picture would tell its host who opens this page.
    const isInline = icon.startsWith("data:image/");
    found.set(info.uuid, { id: info.uuid, name, icon: isInline ? icon : "", rdns, provider: detail.provider });
  };
  addEventListener("eip6963:announceProvider", heard);
  dispatchEvent(new Event("eip6963:requestProvider"));
  await new Promise((resume) => setTimeout(resume, waitMs));
  removeEventListener("eip6963:announceProvider", heard);
  return [...found.values()].sort((one, other) => one.name.localeCompare(other.name));
}

/** @param {Provider} provider @param {string} method @param {unknown[]} [params] */
async function ask(provider, method, params) {
  try {
    return await provider.request({ method, params });
  } catch (cause) {
    const { code, message } = /** @type {{ code?: unknown, message?: unknown }} */ (cause ?? {});
    const isRefusal = code === USER_REJECTED;
    throw new ConsoleError(isRefusal ? "wallet-rejected" : "wallet-failed", isRefusal ? "the wallet refused" : `the wallet: ${message}`, {
      hint: isRefusal ? "nothing was signed; try again when you are ready" : "open the wallet, unlock it, and try again",
      details: { method, walletCode: code },
    });
  }
}

/** @param {Provider} provider @returns {Promise<{ address: string, chainId: number }>} */
async function accountOf(provider, method = "eth_accounts") {
  const [address] = (await ask(provider, method)) ?? [];
  const chainId = Number(await ask(provider, "eth_chainId"));
  if (!/^0x[0-9a-fA-F]{40}$/.test(address) || !Number.isSafeInteger(chainId) || chainId < 1) {
    throw new ConsoleError("wallet-absent", "the wallet shares no account", { hint: "choose an account in the wallet" });
  }
  return { address: checksummed(address), chainId };
}

/** @param {WalletInfo} info @returns {Promise<Owner>} asks the wallet for its account */
export async function connect({ provider }) {
  const { address, chainId } = await accountOf(provider, "eth_requestAccounts");
  return {
    did: didPkh(chainId, address),
    kind: "wallet",
    address,
    chainId,
    async signText(text) {
      const now = await accountOf(provider);
      const details = { expected: { address, chainId }, found: now };
      if (now.address !== address) {
        const hint = "choose that account in the wallet again, or sign out and sign in as the other one";
        throw new ConsoleError("wallet-account-changed", `the wallet uses ${now.address}, not ${address}`, { hint, details });
      }
      if (now.chainId !== chainId) {
        const hint = `switch the wallet to chain ${chainId}, or sign in anew`;
        throw new ConsoleError("wallet-other-chain", `the wallet is on chain ${now.chainId}, not ${chainId}`, { hint, details });
      }
      const signature = await ask(provider, "personal_sign", ["0x" + hex(utf8(text)), address]);
      const bytes = typeof signature === "string" ? fromHex(signature.replace(/^0x/, "").toLowerCase()) : null;
      if (bytes?.length === 65) return bytes;
      const hint = "an account that is a contract cannot sign in: use one with a key of its own";
      throw new ConsoleError("wallet-failed", "the wallet returned no signature of 65 bytes", { hint });
    },
    onChange(listener) {
      for (const name of ["accountsChanged", "chainChanged", "disconnect"]) provider.on?.(name, listener);
      return () => {
        for (const name of ["accountsChanged", "chainChanged", "disconnect"]) provider.removeListener?.(name, listener);
      };
    },
  };
}
