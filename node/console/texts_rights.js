// What a right allows; a separate file, because most pages do not need it.

/** What a right allows. */
export const rights = {
  /** What is done with what follows. @type {Record<string, string>} */
  verbs: { "kv/get": "read", "kv/put": "write", "kv/del": "delete", "kv/delete": "delete", "kv/list": "list", "kv/metadata": "see the size of", "kv/sync": "follow the changes of", "kv/retain": "keep copies of", "kv/*": "do everything with",
    "sql/read": "query", "sql/write": "edit", "sql/schema": "define tables in", "sql/admin": "administer", "sql/*": "do everything with",
    "encryption/decrypt": "decrypt what is sealed to", "encryption/network.create": "create", "encryption/network.revoke": "end for ever",
    "sealspace.encryption/policy": "set conditions on", "sealspace.encryption/receipts": "read the receipts of" },
  /** What is done with the owner's own network, whole. @type {Record<string, string>} */
  ofYours: { "encryption/decrypt": "decrypt those of your secrets that it can read", "encryption/network.create": "create the key that seals your secrets",
    "encryption/network.revoke": "destroy the key of your secrets, so that they never open again", "sealspace.encryption/policy": "decide which code may open your secrets",
    "sealspace.encryption/receipts": "see who opened your secrets" },
  /** What is done, whole. @type {Record<string, string>} */
  deeds: { "capabilities/read": "see what it may do", "delegation/list": "list grants", "delegation/status": "see the state of grants", "delegation/revoke": "revoke grants",
    "space/list": "list spaces", "space/create": "create spaces", "space/info": "see the facts of spaces", "space/host": "have a space hosted" },
  /** @param {string[]} verbs */
  listed: (verbs) => verbs.length < 2 ? verbs.join("") : `${verbs.slice(0, -1).join(", ")} and ${verbs.at(-1)}`,
  inSpace: "in your space ",
  inOther: "in the space ",
  service: "with the service ",
  allValues: "every value",
  database: "the database ",
  allDatabases: "every database",
  at: "at ",
  below: "values below ",
  andBelow: " and what is below it",
  theSecret: "the secret ",
  secretsBelow: "the secrets below ",
  yourSecrets: "all your secrets",
  everySecret: "all secrets",
  andProtected: ", those that begin with PROTECTED_ too",
  of: " of ",
  yourNetwork: "the key of your secrets",
  network: "the encryption network ",
};
