import { h, pageHead } from "../elements.js";
import { banner, emptyState, skeleton } from "../parts/states.js";
import { copyField, say } from "../parts/values.js";
import { session as sessionWords } from "../texts.js";
import { link as words } from "../texts_link.js";
import { linkCode } from "../wire/crockford.js";
import { acceptSignIn, keepOffer, newOffer } from "../wire/link.js";

export const title = words.title;

/** The local page of `sealspace console`: a port of this machine, and the token of its address. */
const PLACE = /^([1-9][0-9]{0,4})\.([A-Za-z0-9_-]{43})$/;

/** @param {import("../app.js").Context} context */
export async function render(context) {
  const { parameters, session, node } = context;
  const token = parameters.get("session");
  if (token !== null) {
    const accepted = await acceptSignIn(token, node.nodeId, parameters.get("wallet")).catch((error) => {
      if (error.code !== "link-refused") throw error; // for example no connection: it can be tried again
      return null;
    });
    if (!accepted) return nothing(words.refused, words.refusedText);
    context.signedIn(accepted);
    say(words.done(accepted.owner));
    context.go("secrets");
    return skeleton();
  }
  const [, port, secret] = PLACE.exec(parameters.get("to") ?? "") ?? [];
  if (!port || Number(port) > 65535) return nothing(words.none, words.noneText);
  const offer = await newOffer();
  const go = async () => {
    await keepOffer(offer);
    location.replace(`http://127.0.0.1:${port}/${secret}/#key=${offer.did}`); // CN9: nowhere else
  };
  return h("div", { class: "page welcome" },
    pageHead(words),
    session && banner({ kind: "warn", title: words.replaces, text: session.owner }),
    h("section", { class: "panel stack" }, h("p", {}, words.compare), h("p", { class: "code" }, await linkCode(secret, offer.did)),
      h("div", { class: "row" }, h("button", { class: "primary", on: { click: go } }, words.go))));
}

/** @param {string} what @param {string} why */
const nothing = (what, why) => h("div", { class: "page" }, h("header", {}, h("h1", {}, words.title)),
  h("section", { class: "panel" }, emptyState({ icon: "terminal", title: what, text: [why, " ", copyField("sealspace console")], actions: [
    h("a", { class: "button", href: "#/connect" }, sessionWords.signIn)] })));
