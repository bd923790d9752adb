// The frame around the pages: navigation, bar, banners, routes. Each page is a module of `pages/`; see README.md.
import { fill, h, icon } from "./elements.js";
import { navigation } from "./parts/navigation.js";
import { BACK, LOST, REVOKED, banner, emptyState, failure, onceBack, skeleton } from "./parts/states.js";
import { copyButton, distance, say, shortened } from "./parts/values.js";
import { knownNode, stopped } from "./parts/known_node.js";
import { app, failed, nav, pages, session as words, state, whose } from "./texts.js";
import { Client } from "./wire/client.js";
import { info } from "./wire/node.js";
import { onOtherTab, restore, restoreTeam, signOut } from "./wire/session.js";

/**
 * The argument of a page's `render`.
 * @typedef {object} Context
 * @property {URLSearchParams} parameters of the address, after `?`
 * @property {AbortSignal} signal aborted when the page is left
 * @property {import("./wire/node.js").NodeInfo} node
 * @property {import("./wire/session.js").Session | null} session the one whose secrets this tab shows: for a team, or the own one
 * @property {import("./wire/client.js").Client} client of that session; only for pages that need one
 * @property {(team: import("./wire/session.js").Session | null) => void} act show the secrets of a team; null: the own ones
 * @property {(path: string) => void} go to another page, for example `secrets?scope=mail`
 * @property {(session: import("./wire/session.js").Session) => void} signedIn
 */
/**
 * @typedef {object} Page
 * @property {string} title
 * @property {boolean} [needsSession]
 * @property {boolean} [isOwn] whether that is the browser's own session, whoever's secrets are shown
 * @property {(context: Context) => Element | Promise<Element>} render
 */

/** Every page; the order is that of the places. `team`: who sees it while a team is chosen, `only`: its members alone. */
const PLACES = /** @type {import("./parts/navigation.js").Place[]} */ ([
  { path: "secrets", group: "secrets", icon: "key", team: "all", load: () => import("./pages/secrets.js") },
  { path: "members", group: "access", icon: "people", team: "only", load: () => import("./pages/members.js") },
  { path: "requests", group: "access", icon: "inbox", load: () => import("./pages/requests.js") },
  { path: "grants", group: "access", icon: "share", load: () => import("./pages/grants.js") },
  { path: "people", group: "access", icon: "people", load: () => import("./pages/people.js") },
  { path: "activity", group: "access", icon: "clock", team: "admin", load: () => import("./pages/activity.js") },
  { path: "data", group: "space", icon: "data", load: () => import("./pages/data.js") },
  { path: "programs", group: "space", icon: "code", load: () => import("./pages/programs.js") },
  { path: "terminal", group: "node", icon: "terminal", team: "all", load: () => import("./pages/terminal.js") },
  { path: "node", group: "node", icon: "node", team: "all", load: () => import("./pages/node.js") },
]);
/** @type {{ path: string, team?: string, load: () => Promise<any> }[]} */
const HIDDEN_PLACES = [{ path: "connect", team: "all", load: () => import("./pages/connect.js") }, { path: "link", team: "all", load: () => import("./pages/link.js") },
  { path: "teams", team: "all", load: () => import("./pages/teams.js") }, { path: "join", team: "all", load: () => import("./pages/join.js") },
  { path: "bind", load: () => import("./pages/bind.js") }, { path: "unbound", load: () => import("./pages/unbound.js") }];
const START = "secrets";
const THEME = "sealspace.theme";
/** Where this tab keeps the DID of the team that it shows. */
const TEAM = "sealspace.team";

/** @type {import("./wire/node.js").NodeInfo} */
let node;
/** The browser's own session. @type {import("./wire/session.js").Session | null} */
let own = null;
/** The same, or the session for a team. @type {import("./wire/session.js").Session | null} */
let session = null;
/** @type {import("./wire/client.js").Client | null} */
let client = null;
let leaving = new AbortController();
/** Whether a request found no node, and the node was not seen since. */
let isAway = false;
const [FIRST_PAUSE_MS, MOST_PAUSE_MS, CALM_MS] = [500, 30_000, 60_000];
const MEMBERSHIP_MS = 60_000;
/** Why the membership behind the session for a team is not in force any more. @type {"removed" | "changed" | null} */
let lostMembership = null;
const lost = { pauseMs: 0, atMs: 0, timer: 0 };

const main = h("main", { id: "main", tabIndex: -1 });
const places = h("div", { class: "places" });
const warnings = h("div", { class: "banners", role: "region", "aria-live": "polite" });
const offline = h("div", { class: "banners", role: "alert" });
const ended = h("div", { class: "banners", role: "alert" });
const whoseLink = h("a", { class: "whose", href: "#/teams" });
const who = h("div", { class: "row who" });
const side = h("nav", { class: "side", id: "side", "aria-label": app.places });

function build() {
  // The address of this module has the digest of all files.
  const brand = () => h("a", { class: "brand", href: "#/" }, h("img", { src: new URL("mark.svg", import.meta.url).pathname, alt: "" }), app.name);
  const menu = h("button", { class: "menu plain iconic", "aria-label": app.menu, "aria-expanded": "false", "aria-controls": "side", on: { click: () => {
    menu.setAttribute("aria-expanded", String(side.classList.toggle("open")));
  } } }, icon("menu"));
  side.addEventListener("click", (/** @type {Event} */ event) => {
    if (!(/** @type {Element} */ (event.target).closest("a"))) return;
    side.classList.remove("open");
    menu.setAttribute("aria-expanded", "false");
  });
  const theme = h("button", { class: "plain iconic", "aria-label": app.theme, title: app.theme, on: { click: switchTheme } }, icon("sun"));
  fill(side, brand(), places);
  fill(document.body,
    h("a", { class: "skip", href: "#main", on: { click: (/** @type {Event} */ event) => { event.preventDefault(); main.focus(); } } }, app.skip),
    h("div", { class: "house" }, side, h("header", { class: "bar" }, menu, brand(), whoseLink, who, theme),
      h("div", { class: "content" }, offline, ended, warnings, main)));
}

function switchTheme() {
  const root = document.documentElement;
  const now = root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  localStorage.setItem(THEME, root.dataset.theme);
}

/** @param {{ expiresAt: number } | null} one @returns {boolean | null} */
const isLive = (one) => one && one.expiresAt * 1000 > Date.now();

function showSession() {
  whoseLink.hidden = !session;
  if (!own || !session) {
    whoseLink.textContent = whoseLink.title = "";
    fill(who, h("a", { class: "button", href: "#/connect" }, words.signIn));
    return;
  }
  const leave = async () => {
    await signOut();
    become(null);
    say(words.signedOut);
    location.hash = "#/connect";
  };
  const isOver = !isLive(session);
  const { member } = session;
  const role = lostMembership ? whose.lost[lostMembership].short : isOver ? whose.over : member?.role;
  const name = own.owner.split(":").at(-1) ?? "";
  whoseLink.textContent = member ? whose.team(member.name || shortened(session.owner, 18, 6), String(role)) : whose.own;
  whoseLink.title = session.owner;
  fill(who, h("span", { class: "mono", title: own.owner }, shortened(name, 6, 4)), copyButton(own.owner, words.did),
    h("span", { class: "dim small until" }, lostMembership ? words.until(distance(own.expiresAt)) : isOver ? words.ended : words.until(distance(session.expiresAt))),
    h("button", { class: "plain", on: { click: leave } }, words.signOut));
  const isShown = ended.childElementCount > 0;
  if (isOver && !isShown && !lostMembership) {
    const again = () => { location.hash = isLive(own) ? "#/teams" : `#/connect?to=${encodeURIComponent(location.hash.slice(2))}`; };
    fill(ended, banner({ kind: "warn", title: words.ended, text: words.endedText, action: { label: words.signIn, run: again } }));
  } else if (!isOver && isShown) fill(ended);
}

/**
 * @param {import("./wire/session.js").Session | null} next the own session
 * @param {import("./wire/session.js").Session | null} [team] a session for a team, whose secrets this tab shows from now on
 */
function become(next, team = null) {
  [own, session, lostMembership] = [next, team ?? next, null];
  client = own && Client(own);
  if (client && team) client = Client(team, client);
  if (team) sessionStorage.setItem(TEAM, team.owner);
  else sessionStorage.removeItem(TEAM);
  if (team) failed.hints.revoked = whose.revoked;
  else delete failed.hints.revoked;
  fill(places);
  fill(ended);
  showSession();
}

/** The session for the team that this tab showed before it was loaded again. @param {import("./wire/session.js").Session | null} kept the own session */
async function teamBefore(kept) {
  const team = sessionStorage.getItem(TEAM);
  if (!kept || !team) return null;
  const found = await restoreTeam(kept, team).catch(() => null);
  // Without one nothing is shown. To show the own secrets instead could store a value in the wrong place (TM14).
  return found ?? { ...kept, owner: team, grants: [], expiresAt: 0, member: /** @type {const} */ ({ did: kept.owner, name: "", role: "reader", secrets: [], cid: "" }) };
}

/** Ask the node whether the membership is in force behind the session for a team. If not, nothing of the team stays on the page (CN21). */
async function checkMembership() {
  const shown = session;
  if (!shown?.member || !client || document.hidden || !isLive(shown)) return;
  const { cid } = shown.member;
  const { memberships } = await import("./wire/teams.js");
  const found = await memberships(client.own, shown.owner).catch(() => null); // without an answer the next check decides
  if (!found || session !== shown || found.some((one) => one.cid === cid)) return;
  lostMembership = found.length ? "changed" : "removed";
  session = { ...shown, expiresAt: 0 };
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  showSession();
  await route();
}

/** What a page of the session shows in its place after the session has ended. */
function endedState() {
  const { title, text } = lostMembership ? whose.lost[lostMembership] : { title: whose.endedTitle, text: whose.ended };
  return show(emptyState({ icon: "people", title, text, actions: [h("a", { class: "button primary", href: "#/teams" }, whose.choose)] }), title);
}

/** @param {{ team?: string }} place @returns {boolean} whether it is for those whose secrets this tab shows */
const isFor = ({ team }) => (session?.member ? team === "all" || team === "only" || team === session.member.role : team !== "only");

/** Say what an owner has to know of the node before anything else. */
function warn() {
  fill(warnings,
    node.attestation === "off" && banner({ kind: "bad", title: state.offTitle, text: state.offText }),
    node.trustRoots.length > 0 && banner({ kind: "bad", title: state.rootTitle, text: state.rootText }));
}

/** Ask the node who it is, and say so where it does not answer. @returns {Promise<boolean>} whether it is there, and the same */
async function check() {
  try {
    node = await info();
  } catch {
    if (!offline.childElementCount) fill(offline, banner({ kind: "warn", title: state.offlineTitle, text: state.offline, action: { label: app.retry, run: check } }));
    isAway = true;
    return false;
  }
  const wasSaid = offline.childElementCount > 0;
  fill(offline);
  const change = knownNode(node.nodeId);
  if (change) {
    leaving.abort();
    fill(document.body, stopped(change, async () => { await signOut(); location.reload(); }));
    return false;
  }
  warn();
  if (isAway) {
    isAway = false;
    if (wasSaid) say(state.back);
    dispatchEvent(new Event(BACK));
  }
  return true;
}

/** Look for the node a moment after a request found none; the moments grow where `/info` answers and the requests do not. */
function look() {
  if (lost.timer) return;
  const now = Date.now();
  lost.pauseMs = now - lost.atMs > CALM_MS ? FIRST_PAUSE_MS : Math.min(2 * lost.pauseMs, MOST_PAUSE_MS);
  [lost.atMs, isAway] = [now, true];
  lost.timer = setTimeout(() => { lost.timer = 0; check(); }, lost.pauseMs);
}

/** Show the page that the address names. */
async function route() {
  adoptLink();
  if (!node) return;
  hasPage = true;
  let [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const place = [...PLACES, ...HIDDEN_PLACES].find((one) => one.path === (path || (isLive(own) ? START : "connect")));
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  navigation(places, PLACES.filter(isFor), place?.path ?? "");
  if (!place) return show(emptyState({ icon: "search", title: pages.missingTitle, text: pages.missing,
    actions: [h("a", { class: "button", href: "#/" }, pages.toStart)] }), pages.missingTitle);
  if (!isFor(place)) return show(emptyState({ icon: "people", title: whose.notHereTitle, text: !session?.member ? whose.noTeam : place.team ? whose.notYours : whose.notHere,
    actions: [h("a", { class: "button", href: "#/teams" }, whose.choose)] }), whose.notHereTitle);
  fill(main, skeleton());
  /** @type {Page} */
  let page;
  try {
    page = await place.load();
  } catch {
    // Addresses of files change with any of them: after an update those of an open page are gone.
    addEventListener(BACK, route, { once: true, signal });
    if (await check()) fill(main, banner({ kind: "warn", title: state.updatedTitle, text: state.updated, action: { label: state.reload, run: () => location.reload() } }));
    return;
  }
  if (signal.aborted) return;
  const title = page.title || /** @type {any} */ (nav)[place.path];
  if (page.needsSession && !isLive(own)) return show(emptyState({ icon: "person", title: words.neededTitle, text: words.needed,
    actions: [h("a", { class: "button primary", href: `#/connect?to=${encodeURIComponent(location.hash.slice(2))}` }, words.signIn)] }), title);
  if (page.needsSession && !page.isOwn && !isLive(session)) return endedState();
  if (path === "link" || path === "join") query = linked;
  /** @type {Context} */
  const context = { parameters: new URLSearchParams(query), signal, node, session, client: /** @type {any} */ (client),
    act: (team) => become(own, team), go: (to) => { location.hash = `#/${to}`; }, signedIn: become };
  try {
    const element = await page.render(context);
    if (!signal.aborted) show(element, title);
  } catch (error) {
    if (signal.aborted) return;
    show(failure(error, route), title);
    onceBack(error, route, signal);
  }
}

let isFirst = true;
let hasPage = false;

/** @param {Element} element @param {string} title */
function show(element, title) {
  fill(main, element);
  document.title = `${title} – ${app.name}`;
  scrollTo(0, 0);
  const heading = /** @type {HTMLElement | null} */ (main.querySelector("h1, h2"));
  if (heading) heading.tabIndex = -1;
  if (!isFirst) heading?.focus(); // so that a screen reader says where one is
  isFirst = false;
}

/** An app asks for rights at `/console/grant#manifest=…`: that is the page of requests. */
function adoptRequest() {
  const [, query] = /^#(manifest=.*)$/.exec(location.hash) ?? [];
  if (query || /\/grant\/?$/.test(location.pathname)) history.replaceState(null, "", `/console/#/requests${query ? `?${query}` : ""}`);
}

/** What `sealspace console` gave along, or the link of an invitation; see `pages/link.js` and `pages/join.js`. */
let linked = "";

/** Take it out of the address and the history before anything else happens. */
function adoptLink() {
  const [, page, query] = /^#\/(link|join)[?/](.*)$/.exec(location.hash) ?? [];
  if (!query) return;
  linked = page === "join" ? `line=${query}` : query;
  history.replaceState(null, "", `#/${page}`);
}

async function start() {
  adoptRequest();
  adoptLink();
  const theme = localStorage.getItem(THEME);
  if (theme) document.documentElement.dataset.theme = theme;
  build();
  fill(main, skeleton());
  const kept = await restore().catch(() => null);
  become(kept, await teamBefore(kept));
  addEventListener("hashchange", route);
  addEventListener("online", check);
  addEventListener("offline", check);
  addEventListener(LOST, look);
  addEventListener(REVOKED, checkMembership);
  document.addEventListener("visibilitychange", checkMembership);
  setInterval(checkMembership, MEMBERSHIP_MS);
  setInterval(() => { showSession(); if (offline.childElementCount) check(); }, 15_000);
  onOtherTab((did) => { if (own && own.did !== did) location.reload(); }); // nothing of that session stays here
  addEventListener(BACK, () => { if (!hasPage) route(); });
  if (await check()) await route();
}

start();
