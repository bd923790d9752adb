// The words for a backend's code and its changes: those of `sealspace backend show` and `sealspace backend grant`.

const DAY_S = 86_400;
const REGISTERS = ["mrtd", "rtmr0", "rtmr1", "rtmr2"];

/** A key provider; an id that is printable ASCII is also shown as text. @param {string} provider */
function providerText(provider) {
  const [, id] = /^[a-z-]+:((?:[0-9a-f]{2})+)$/.exec(provider) ?? [];
  const text = (id?.match(/../g) ?? []).map((byte) => String.fromCharCode(parseInt(byte, 16))).join("");
  return /^[ -~]+$/.test(text) ? `${provider} ("${text}")` : provider;
}

export const code = {
  code: "Code",
  /** @param {string} name @param {string[]} publishers */
  published: (name, publishers) => `${name && `"${name}", `}images published at ${publishers.join(", ")}`,
  unnamed: "The files do not name it.",
  image: "Image",
  osImage: "OS image",
  /** @param {string} hash */
  release: (hash) => `${hash}: compare it with the release`,
  sources: "Sources",
  fromFiles: "As the pasted text says. This page computes nothing from the files: on your own machine, sealspace backend measure does.",
  fromGrant: "As you approved it.",
  tooMuch: "The text names more images than this page shows. Read them on the command line: sealspace backend measure",
  changes: "Approved before",
  nothingYet: "nothing yet for this backend in your grants",
  /** @param {string} cid */
  same: (cid) => `the same code as in your grant ${cid}`,
  /** @param {string} cid */
  other: (cid) => `your grant ${cid} was for other code:`,
  until: ", until ",
  byName: "The former grant is to another DID. An app of the same name asked for it.",
  complete: "Complete hashes",
  compose: "Read the compose file",
  /** One line for each part of a policy. @param {{[member: string]: any}} policy @param {boolean} [byRegister] one for each register of its code @returns {string[]} */
  lines(policy, byRegister) {
    const { measurements = [], composeHashes = [], appIds = [], keyProviders = [], tdAttributes, platformIds = [], tcbStatuses, tcbGraceSeconds, advisories = [], minEvaluationNumber, maxAgeSeconds, receiver, paths = [], inPerson } = policy;
    const registers = (/** @type {{[register: string]: string}} */ one) => [...REGISTERS.map((name) => `${name.toUpperCase()} ${one[name]}`), `RTMR3 ${one.rtmr3 ?? "as the compose file makes it"}`];
    return [
      ...measurements.flatMap((/** @type {any} */ one) => byRegister ? registers(one) : registers(one).join(", ")).map((/** @type {string} */ one) => `code ${one}`),
      ...composeHashes.map((/** @type {string} */ one) => `compose file ${one}`),
      ...appIds.map((/** @type {string} */ one) => `app id ${one}`),
      ...keyProviders.map((/** @type {string} */ one) => `keys of the application from ${providerText(one)}`),
      ...(tdAttributes ?? ["0000001000000000"]).map((/** @type {string} */ one) => `attributes of the trust domain ${one}`),
      ...platformIds.map((/** @type {string} */ one) => `platform ${one}`),
      ...(tcbStatuses ?? ["UpToDate"]).map((/** @type {string} */ one) => `platform status ${one}`),
      ...(tcbGraceSeconds === undefined ? [] : [`outdated platforms for ${Number((tcbGraceSeconds / DAY_S).toPrecision(6))} days after the date of their level`]),
      ...advisories.map((/** @type {string} */ one) => `platforms with the advisory ${one}`),
      ...(minEvaluationNumber ? [`judged by collateral of number ${minEvaluationNumber} or newer`] : []),
      ...(maxAgeSeconds === undefined ? [] : [`attested at most ${maxAgeSeconds} s ago`]),
      ...(receiver === "signed" ? ["keys go to any receiver key that the code's DID signed, not only to the attested one"] : []),
      ...paths.map((/** @type {string} */ one) => `only what is stored at ${one}`),
      ...(inPerson === false ? ["the owner's own sessions have to prove their code too"] : []),
    ];
  },
  /** What differs between two policies. @param {{[member: string]: any}} before @param {{[member: string]: any}} after @returns {[string[], string[]]} their lines */
  pair(before, after) {
    const byRegister = before.measurements.length === 1 && after.measurements.length === 1;
    return [code.lines(before, byRegister), code.lines(after, byRegister)];
  },
};
