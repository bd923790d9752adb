// Spaces to which the session has no right, and the wallet's signature that adds the right.
import { fill, h } from "../elements.js";
import { data as words } from "../texts_data.js";
import { addRights, wholeSpace } from "../wire/session.js";
import { banner, failure } from "./states.js";
import { signedByOwner } from "./wallet_choices.js";

/** @import { Client } from "../wire/client.js" */
/** @import { Space } from "../wire/spaces.js" */

/** Whether the session may read and change what is in a space of its owner. @param {Client} client @param {Space} space */
export function isHeld({ session }, { id }) {
  const [wanted] = wholeSpace(id);
  return session.kind === "phrase" || session.grants.some(({ capabilities, expiresAt }) => expiresAt * 1000 > Date.now() &&
    capabilities.some(({ resource, ability }) => resource === wanted.resource && ability === wanted.ability));
}

/** The text that is shown for spaces to which the session has no right. @param {Client} client @param {Space[]} spaces @param {() => void} allowed */
export function askForRights(client, spaces, allowed) {
  const names = spaces.map(({ name }) => name).join(", ");
  const failed = h("div", { role: "alert" });
  const allow = async () => {
    fill(failed);
    try {
      const wanted = spaces.flatMap(({ id }) => wholeSpace(id));
      if (await signedByOwner(client.session, words.allowText(names), (owner) => addRights(client.session, owner, wanted))) allowed();
    } catch (error) {
      fill(failed, failure(error));
    }
  };
  return h("div", { class: "stack" }, banner({ title: words.allowTitle(names), text: words.allowWhy, action: { label: words.allow, run: allow } }), failed);
}
