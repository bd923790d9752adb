"""Attacks by hostile input to the console's modules, from a node, an app or other tabs."""

import json
from collections.abc import Iterator

import pytest
from browser import Browser, BrowserWallet, Page
from console_wire import in_page
from embedded_node import EmbeddedNode
from node_js import Scripts

from capabilities.tokens import Capability
from sealspace.apps.programs import Provenance
from sealspace.client import Client, SignIn
from sealspace.documents.builds import Build
from sealspace.session import capability, covers
from sealspace.wallets import new_wallet

SOUND = (
    '{"a":{"a":1},"b":["a","a"]}',
    r'{"__proto__":{"x":1},"constructor":"\\ud800","n":1.50}',
    "[1] ",
)
UNSOUND = (
    *(
        '{"a":1,"a":1}',
        r'{"a":1,"\u0061":2}',
        r'{"a":"\"","a":"\\"}',
        '{"__proto__":1,"__proto__":2}',
        '{"1":"a","1":"b"}',
    ),
    *(r'["\ud800"]', r'["\\\udfff"]', r'{"\udc00":1}', "[1] 2", "{'a':1}", ""),
)
_TWISTED = """
  const JUNK = [null, 1.5, "\\ud800", "constructor", [null], { a: 1.5 }];
  const twisted = function* (value, at = "") {
    for (const [index, junk] of JUNK.entries()) yield [`${at} is junk ${index}`, junk];
    if (value === null || typeof value !== "object") return;
    if (!Array.isArray(value)) yield [`${at} has more`, { ...value, more: 1.5 }];
    for (const name of Object.keys(value).slice(0, Array.isArray(value) ? 1 : 40)) {
      for (const [where, one] of twisted(value[name], `${at}.${name}`)) {
        const changed = (old, index) => (String(index) === name ? one : old);
        yield [where, Array.isArray(value) ? value.map(changed) : { ...value, [name]: one }];
      }
      if (Array.isArray(value)) continue;
      const { [name]: _, ...rest } = value;
      yield [`${at}.${name} is absent`, rest];
    }
  };
"""


@pytest.fixture(scope="module")
def wallet() -> BrowserWallet:
    """A wallet for all tests here."""
    return BrowserWallet(new_wallet())


@pytest.fixture(scope="module")
def page(browser: Browser, node: EmbeddedNode, wallet: BrowserWallet) -> Iterator[Page]:
    """One page for all tests of this module; each test signs in again."""
    with browser.page(node.url, wallet=wallet) as opened:
        yield opened


def test_any_json_of_a_node_is_read_or_refused(scripts: Scripts) -> None:
    """Answers with a missing or altered member are read, or fail with the module's own error
    (CN5)."""
    said = in_page(
        scripts,
        _TWISTED
        + """
        const [kv, grants, spaces, receipts, encryption, secrets, node] = await Promise.all(
          ["kv", "grants", "spaces", "receipts", "encryption", "secrets", "node"].map(at));
        const { Client } = await at("client"), { networkId } = await at("did");
        const { held } = await signedIn();
        const client = Client(held), network = networkId(held.owner);
        const two = [{ scope: null, name: "ONE", value: "1" }, { scope: "mail", name: "TWO", value: "2" }];
        await secrets.putMany(client, two);
        await secrets.reveal(client, null, "ONE");
        const stored = (await kv.get(client, "secrets", "vault/secrets/ONE")).body;
        const right = [{ resource: `${held.space}/kv/a`, ability: "tinycloud.kv/get" }];
        const made = await grants.grant(client, "did:key:z6Mk", right);
        const second = await grants.grant(client, "did:key:z6Mk", [{ ...right[0], ability: "tinycloud.kv/put" }]);
        const other = (await grants.list(client)).find(({ cid }) => cid === second.cid);
        const own = (await grants.list(client)).filter(({ cid }) => cid === made.cid);
        const works = {
          info: () => node.info(),
          grants: () => grants.list(client),
          spaces: () => spaces.list(client),
          space: () => spaces.get(client, "default"),
          keys: () => kv.list(client, "secrets", "vault/secrets/"),
          values: () => kv.getMany(client, "secrets", ["vault/secrets/ONE", "vault/secrets/scoped/mail/TWO"]),
          receipts: () => receipts.list(client),
          descriptor: () => encryption.descriptor({ ...client, cache: new Map() }, network),
          decrypt: () => encryption.decrypt(client, stored),
          revoke: () => grants.revoke(client, own),
          together: () => grants.revoke(client, [own[0], other]),
        };
        const real = window.fetch, wrong = [], counts = {};
        for (const [name, work] of Object.entries(works)) {
          let last;
          window.fetch = async (...asked) => (last = await real(...asked)).clone();
          await work();
          const { headers } = last, answered = await last.json();
          counts[name] = 0;
          for (const [where, lie] of twisted(answered)) {
            window.fetch = async () => new Response(JSON.stringify(lie), { headers });
            const failed = await work().then(() => null, (error) => error);
            const code = failed && (failed.name === "ConsoleError" ? failed.code : `${failed}`);
            if (code) counts[name]++;
            if (code && !/^[a-z-]+$/.test(code)) wrong.push(`${name}${where}: ${code}`);
          }
          window.fetch = real;
        }
        return { wrong, counts };
        """,
    )
    assert said["wrong"] == []
    assert set(said["counts"]) > {"grants", "values", "receipts", "decrypt"}
    assert all(said["counts"].values())


def test_lies_about_programs_and_grants(
    browser: Browser, scripts: Scripts, node: EmbeddedNode
) -> None:
    """Only a developer's own statements count as the active version of a program."""
    signer = new_wallet()
    build = Build(
        repository="github.com/alice/project",
        repository_id="1001",
        ref="refs/heads/main",
        commit="a1" * 20,
        workflow="github.com/alice/project/.github/workflows/build.yml",
    )

    async def published() -> str:
        async with Client(node.url) as client:
            await client.sign_in(signer, SignIn(spaces=("public",)))
            version = await client.programs(public=True).publish(
                "digest",
                b"\0asm\1\0\0\0",
                target="wasm32-wasip1",
                signer=signer,
                provenance=Provenance(build, b"{}"),
            )
            return version.project.text

    said = in_page(
        scripts,
        _TWISTED
        + r"""
        const { readActive } = await at("published"), { parseRunStatement } = await at("builds");
        const real = window.fetch, wrong = [], tried = { active: 0, version: 0, terms: 0 };
        const answers = {}, which = (path) => (path.endsWith("/active") ? "active" : "version");
        window.fetch = async (...asked) => {
          const got = await real(...asked);
          answers[which(asked[0])] = await got.clone().text();
          return got;
        };
        const version = await readActive(given);
        for (const name of ["active", "version"]) {
          for (const [where, lie] of twisted(JSON.parse(answers[name]))) {
            tried[name]++;
            window.fetch = async (path) => new Response(which(path) === name ? JSON.stringify(lie) : answers[which(path)]);
            const { code } = await caught(() => readActive(given));
            if (code !== "version-unusable") wrong.push(`${name}${where}: ${code}`);
          }
        }
        window.fetch = real;
        const terms = { programs: [{ wasmSha256: version.sha256, project: version.project, build: version.build }],
          callers: "AllowAll", hosts: ["a.example"], limits: { maxMemoryMb: 64 } };
        for (const [where, lie] of twisted(terms)) {
          tried.terms++;
          const before = JSON.stringify(lie);
          const read = await caught(async () => JSON.stringify(parseRunStatement(lie)));
          if (read.code !== "invalid-input" && read !== before) wrong.push(`terms${where}: ${read.code ?? read}`);
          if (where.includes(".build") && !read.code && !/\.build is (?:absent|junk 0)$/.test(where)) wrong.push(where);
        }
        return { wrong, tried, build: version.build };
        """,
        browser.run(published()),
    )
    assert said["wrong"] == []
    assert min(said["tried"].values()) > 30
    assert said["build"]["repository"] == build.repository


def test_texts_of_others_are_read_strictly_and_at_once(page: Page) -> None:
    """JSON has one reading in any spelling. No text is too long or keeps the page busy."""
    said = in_page(
        page,
        r"""
        const { strictJson } = await at("canonical_json"), { refusalOf } = await at("errors");
        const { parseEnv } = await at("env_text");
        const read = await Promise.all(given.map((one) => caught(async () => JSON.stringify(strictJson(one)))));
        const began = performance.now();
        const long = strictJson(JSON.stringify(["A".repeat(24e6), '"\"'.repeat(1000)]))[0].length;
        const texts = ["Unauthorized Action:" + " ".repeat(1900) + "x", "Unauthorized Action: a/b / tinycloud.kv/get "];
        const [blank, action] = texts.map((one) => refusalOf(401, new Headers(), one, "x").details.missing?.[0]);
        const value = parseEnv("A= x" + " ".repeat(20000) + "y \t\n").get("A").length;
        const ms = performance.now() - began, { exchange } = await at("transport"), { policyOf } = await at("policies");
        const asked = { path: "/info", method: "GET", onProgress: () => {}, maxBytes: 10, asked: "x" };
        const code = await caught(async () => policyOf({ mrtd: "ab".repeat(48) }));
        const codes = [await caught(() => exchange(asked)), code].map((one) => one.code);
        return { codes, read: read.map((one) => one.code ? null : one), long, blank, action, value, ms };
        """,
        [*SOUND, *UNSOUND],
    )
    assert [json.loads(one) for one in said["read"][: len(SOUND)]] == [
        json.loads(one) for one in SOUND
    ]
    assert said["read"][len(SOUND) :] == [None] * len(UNSOUND)
    assert said["long"] == 24_000_000
    assert said.get("blank") is None
    assert said["action"] == {"resource": "a/b", "ability": "tinycloud.kv/get"}
    assert said["value"] == 20002
    assert said["ms"] < 4000
    assert said["codes"] == ["too-large", "malformed-answer"]


def test_a_full_space_is_read_from_text_and_from_json(page: Page) -> None:
    """Both numbers of a full space are read from JSON and from the text of older nodes (J8)."""
    text = "Storage quota exceeded. Used: 5 bytes, Limit: 4 bytes"
    full = json.dumps({"error": "storage_quota_exceeded", "message": text})
    said = in_page(
        page,
        r"""
        const { refusalOf } = await at("errors");
        return given.map(([status, kind, body]) => {
          const error = refusalOf(status, new Headers({ "Content-Type": kind }), body, "x");
          return [error.code, error.details.text, error.details.usedBytes, error.details.limitBytes];
        });
        """,
        [
            [402, "application/json", full],
            [402, "text/plain", text],
            [402, "application/json", "{"],
            [413, "application/json", full],
            [400, "application/json", full],
        ],
    )
    assert said == [
        ["quota-exceeded", text, 5, 4],
        ["quota-exceeded", text, 5, 4],
        ["quota-exceeded", "{", None, None],
        ["too-large", text, None, None],
        ["refused", full, None, None],
    ]


def test_a_wallet_signs_nothing_that_a_node_chose(scripts: Scripts, wallet: BrowserWallet) -> None:
    """A wallet signs only ids of the owner's spaces, only visible texts, and nothing for an
    unexpected node (CN5)."""
    said = in_page(
        scripts,
        r"""
        const spaces = await at("spaces"), { Client } = await at("client"), { siweText } = await at("siwe");
        const { owner, held } = await signedIn();
        const client = Client(held), real = window.fetch;
        await client.checkNode();
        const other = "tinycloud:pkh:eip155:1:0x0000000000000000000000000000000000000001:secrets";
        const added = ["\u202e", "/kv", "\u200b", "\uff53", "%", ""];
        const ids = [other, ...added.map((one) => held.space + one)];
        const read = [];
        for (const id of ids) {
          window.fetch = async () => Response.json([{ id, owner: held.owner }]);
          read.push((await caught(() => spaces.list(client))).code ?? id);
        }
        window.fetch = real;
        const bare = { address: owner.address, domain: "d", chainId: 1, uri: "u", nonce: "n", issuedAt: "t" };
        const signs = ["\u202e", "\u200b", "\n", "\u2028", "\ue000", "\u00ad"];
        const texts = signs.map((sign) => ({ ...bare, statement: `a${sign}b` }));
        const refused = await Promise.all(texts.map((text) => caught(async () => siweText(text))));
        return { read, space: held.space, refused: refused.map(({ code }) => code) };
        """,
    )
    assert said["read"] == [*["malformed-answer"] * 6, said["space"]]
    assert said["refused"] == ["invalid-input"] * 6
    asked = len(wallet.asked)
    assert asked
    codes = in_page(
        scripts,
        """
        const [info] = await (await at("wallets")).discover(), owner = await (await at("wallets")).connect(info);
        const held = await session.restore(), real = window.fetch;
        const said = await (await real("/info")).json(), posted = [];
        window.fetch = async (path, more) => {
          if (more.method !== "GET") posted.push(path);
          return path === "/info" ? Response.json({ ...said, nodeId: held.did }) : real(path, more);
        };
        const rights = session.wholeSpace(held.space);
        const codes = [await caught(() => session.signIn(owner, { nodeId: held.node })),
          await caught(() => session.addRights(held, owner, rights))].map((one) => one?.code);
        window.fetch = real;
        return [codes, posted];
        """,
    )
    assert codes == [["node-changed", "node-changed"], []]
    assert len(wallet.asked) == asked


def test_a_session_that_another_tab_ended(page: Page) -> None:
    """A session that another tab ended is not stored again (CN3). Grants of two tabs are merged."""
    said = in_page(
        page,
        """
        const secrets = await at("secrets"), { Client } = await at("client"), { networkId } = await at("did");
        const { descriptor } = await at("encryption"), { withdrawalRights } = await at("backends");
        const { owner, held } = await signedIn();
        await session.signOut();
        const late = await caught(() => secrets.put(Client(held), null, "KEY", "v"));
        const back = await session.restore();
        const first = (await signedIn()).held;
        const second = (await signedIn()).held;
        const early = await caught(() => secrets.put(Client(first), null, "KEY", "v"));
        const stays = (await session.restore()).did === second.did;
        const other = await session.restore();
        await session.addRights(other, owner, withdrawalRights(owner.did));
        await secrets.put(Client(second), null, "KEY", "v");
        const kept = await session.restore();
        const lied = { ...kept, pins: [{ ...kept.pins[0], publicEncryptionKey: "AAAA" }] };
        const changed = await caught(() => descriptor(Client(lied), networkId(owner.did)));
        return { late: late.code, back, early: early.code, stays, changed: changed.code,
          kept: [kept.grants.length, kept.pins.length, second.grants.length] };
        """,
    )
    assert said["late"] == "session-expired"
    assert said["back"] is None
    assert said["early"] == "session-expired"
    assert said["stays"] is True
    assert said["kept"] == [2, 1, 2]
    assert said["changed"] == "network-key-changed"


def test_which_grant_is_cited(scripts: Scripts) -> None:
    """A grant is cited only if it is live, belongs to this owner, and covers the request by the
    node's rules."""
    space, other = (
        "tinycloud:pkh:eip155:1:0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A",
        "tinycloud:key:z6Mk",
    )
    places = [f"{space}:a", f"{space}:ab", f"{other}:a"]
    paths = ["/kv", "/kv/a", "/kv/a/", "/kv/a/b", "/kv/ab", "/kv/a%2Fb", "/kvx/a", "/sql/a"]
    network = "urn:tinycloud:encryption:did:pkh:eip155:1:0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"
    resources = [f"{place}{path}" for place in places for path in paths] + [
        f"{network}:{name}" for name in ("a", "ab")
    ]
    held, wanted = (
        _capabilities(resources, "tinycloud.kv/get"),
        _capabilities(resources, "tinycloud.kv/get"),
    )
    wanted += _capabilities(resources[:3], "tinycloud.kv/put")
    said = in_page(
        scripts,
        """
        const [held, wanted] = given, now = Date.now() / 1000;
        const grants = held.map((one, at) => ({ cid: `${at}`, capabilities: [one], expiresAt: now + 60 }));
        const cited = (some, one, more) => { try {
          return session.proofsFor({ did: "did:key:z", expiresAt: now + 60, grants: some, ...more }, one).proofs;
        } catch (error) { return error.code; } };
        const pairs = grants.map((grant) => wanted.map((one) => cited([grant], [one]) !== "not-authorised"));
        const [one, other] = [grants[0], { ...grants[0], cid: "other" }];
        const both = { ...grants[0], cid: "both", capabilities: [held[0], held[8]] };
        const ended = cited([{ ...one, expiresAt: now - 1 }, other], [held[0]]);
        const none = cited([{ ...one, expiresAt: now - 1 }], [held[0]]);
        return { pairs, ended, none, over: cited(grants, [held[0]], { expiresAt: now - 1 }),
          fewest: cited([one, both], [held[0], held[8]]) };
        """,
        [[_row(one) for one in held], [_row(one) for one in wanted]],
    )
    assert said["pairs"] == [[covers(one, asked) for asked in wanted] for one in held]
    assert sum(map(sum, said["pairs"])) > len(held)
    assert said["ended"] == ["other"]
    assert said["none"] == "not-authorised"
    assert said["over"] == "session-expired"
    assert said["fewest"] == ["both"]


def _capabilities(resources: list[str], ability: str) -> list[Capability]:
    return [capability(one, ability) for one in resources]


def _row(one: Capability) -> dict[str, str]:
    return {"resource": one.resource.text, "ability": one.ability}


def test_what_an_app_asks_for_is_not_belittled(page: Page) -> None:
    """A folder of secrets is not shown as one secret (CN8), and unknown actions are shown as
    written."""
    said = in_page(
        page,
        """
        const { rightWords } = await import("/console/parts/rights.js");
        const did = "did:key:z6Mk", { parseManifest } = await at("manifest");
        const { finalRights, requestedRight, rightOf } = await at("grants");
        const { attenuations, recapSentence } = await at("recap");
        const read = (path, actions) => {
          const asked = { service: "tinycloud.kv", space: "secrets", skipPrefix: true, path, actions };
          const { resources } = parseManifest({ app_id: "a", name: "a", did, defaults: false, permissions: [asked] });
          return requestedRight(did, resources[0]);
        };
        const words = (path) => {
          const one = read(path, ["get"]), held = rightOf(`tinycloud:key:z6Mk:secrets/kv/${path}`, one.actions);
          const { length } = finalRights(did, [one]);
          return [rightWords(one, did).textContent, length, rightWords(held, did).textContent];
        };
        const [paths, actions] = given;
        const notes = (some) => rightOf("tinycloud:key:z6Mk:default/kv/notes/", some);
        const shown = actions.map((some) => rightWords(notes(some), did).textContent);
        const tried = (some) => { try { return read("notes/", some).actions; } catch (error) { return error.code; } };
        const refused = actions.map(tried);
        return { refused, paths: paths.map(words), actions: shown,
          sentence: recapSentence(attenuations([{ resource: "r", ability: "constructor/x" }])) };
        """,
        [
            [
                "vault/secrets/scoped/mail",
                "vault/secrets/A",
                "vault/secrets/scoped/mail/A",
                "vault",
                "",
                "vaults",
            ],
            [
                ["tinycloud.kv/get", "tinycloud.kv/put"],
                ["tinycloud.kv/get", "tinycloud.sql/read"],
                ["x/constructor"],
            ],
        ],
    )
    assert said["paths"] == [
        [words, 2, words]  # reading there brings the right to decrypt
        for words in (
            "read the secrets below mail/, those that begin with PROTECTED_ too",
            "read the secret A",
            "read the secret mail/A",
            "read all your secrets, those that begin with PROTECTED_ too",
            "read all your secrets, those that begin with PROTECTED_ too",
            "read vaults and what is below it in your space secrets",
        )
    ]
    assert said["actions"] == [
        "read and write values below notes/ in your space default",
        "tinycloud.kv/get tinycloud.sql/read values below notes/ in your space default",
        "x/constructor values below notes/ in your space default",
    ]
    # MF20
    assert said["refused"] == [
        ["tinycloud.kv/get", "tinycloud.kv/put"],
        "manifest-invalid",
        "manifest-invalid",
    ]
    assert said["sentence"].endswith("(1) 'constructor': 'x' for 'r'.")
