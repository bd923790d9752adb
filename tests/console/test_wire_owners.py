"""Tests of the console's owners with a phrase, grants, receipts and files, compared with the
SDK."""

import json
import re
from dataclasses import asdict
from typing import Any

import aiohttp
from attacks.parties import release_to_machine
from browser import Browser, BrowserWallet
from console_wire import in_page
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode
from loop_thread import LoopThread
from node_js import Scripts
from tests_support import REPOSITORY

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.facts import ATTESTATION_FACT
from capabilities.principals import principal_of
from capabilities.signatures import Ed25519Signer, WalletSigner
from capabilities.tokens import parse_delegation
from encryption_network.policy import Evidence, encode_evidence
from sealspace.cli.keep.dotenv import BrokenEntry, parse_dotenv, parse_values, values_json
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import InvalidInput
from sealspace.session import key_session, mint, token_cid
from sealspace.wallets import seed_from_phrase
from sealspace.wire.portable import decode_portable

PLATFORM = SimulatedPlatform.from_seed(b"platform of the console")
VECTORS = REPOSITORY / "spec" / "vectors"
SIZES = {
    "receiver_public_key": 32,
    **dict.fromkeys(("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"), 48),
    **dict.fromkeys(("mr_config_id", "mr_owner", "mr_owner_config", "mr_seam"), 48),
    **dict.fromkeys(("td_attributes", "xfam"), 8),
    "tee_tcb_svn": 16,
    "fmspc": 6,
    **dict.fromkeys(("root_ca_sha256", "quote_sha256", "collateral_sha256"), 32),
}


def test_an_owner_with_a_phrase(scripts: Scripts, node: EmbeddedNode, loop: LoopThread) -> None:
    """The SDK derives the same key from the phrase. Values, secrets and grants work without a
    wallet."""
    said = in_page(
        scripts,
        """
        const { makePhrase, ownerFromPhrase } = await at("recovery_phrase");
        const kv = await at("kv"), secrets = await at("secrets"), grants = await at("grants");
        const { Client } = await at("client");
        const phrase = await makePhrase();
        const owner = await ownerFromPhrase(phrase.toLowerCase().replaceAll(" ", "-"));
        const held = await session.signIn(owner);
        const client = Client(held);
        await kv.put(client, "default", "a", "b");
        await secrets.put(client, null, "KEY", "value");
        const exported = await crypto.subtle.exportKey("pkcs8", owner.keys.privateKey).catch((error) => error.name);
        const last = phrase.at(-1) === "0" ? "1" : "0";
        return { phrase, did: owner.did, value: (await secrets.reveal(client, null, "KEY")).value, exported,
          wrong: (await caught(() => ownerFromPhrase(phrase.slice(0, -1) + last))).code,
          short: (await caught(() => ownerFromPhrase("abc"))).code, listed: (await grants.list(client)).length };
        """,
    )
    seed = seed_from_phrase(said["phrase"])
    assert said["did"] == Ed25519Signer(seed).did
    assert said["value"] == "value"
    # the latter in older node.js
    assert said["exported"] in ("InvalidAccessError", "InvalidAccessException")
    assert said["wrong"] == "phrase-invalid"
    assert said["short"] == "phrase-invalid"

    async def read() -> tuple[bytes, object]:
        async with Client(node.url) as client:
            await client.sign_in_with_key(seed, spaces=["default"])
            return (await client.kv().get("a")).body, await client.secrets().get("KEY")

    assert loop.run(read()) == (b"b", "value")


def test_a_phrase_under_a_passkey(browser: Browser, node: EmbeddedNode) -> None:
    """A passkey seals the phrase, and nothing opens without it."""
    # a passkey belongs to a name
    with browser.page(node.url.replace("127.0.0.1", "localhost")) as page:

        async def add() -> None:
            devtools = await page.context.new_cdp_session(page.tab)
            await devtools.send("WebAuthn.enable")
            options = {
                "protocol": "ctap2",
                "ctap2Version": "ctap2_1",
                "transport": "internal",
                "hasPrf": True,
            }
            user = {"hasResidentKey": True, "hasUserVerification": True, "isUserVerified": True}
            await devtools.send(
                "WebAuthn.addVirtualAuthenticator", {"options": {**options, **user}}
            )

        browser.run(add())
        said = in_page(
            page,
            """
            const { makePhrase } = await at("recovery_phrase"), passkey = await at("passkey");
            const phrase = await makePhrase();
            await passkey.keepPhrase(phrase, "Alice");
            const same = (await passkey.keptPhrase()) === phrase, before = await passkey.isKept();
            await passkey.forgetPhrase();
            return [same, before, await passkey.isKept(), (await caught(() => passkey.keptPhrase())).code];
            """,
        )
    assert said == [True, True, False, "passkey-unavailable"]


def test_a_manifest_is_granted_and_revoked(
    scripts: Scripts, wallet: BrowserWallet, node: EmbeddedNode, loop: LoopThread
) -> None:
    """One more signature grants an app's missing right, and the app reads until the grant is
    revoked."""
    app = Ed25519Signer(bytes(range(32)))
    manifest = {
        "app_id": "com.example.notes",
        "name": "Notes",
        "did": app.did,
        "expiry": "1d",
        "permissions": [{"service": "tinycloud.kv", "path": "inbox/", "actions": ["get", "put"]}],
        "secrets": {"API_KEY": True},
    }
    said = in_page(
        scripts,
        """
        const grants = await at("grants"), { parseManifest, isServed } = await at("manifest");
        const secrets = await at("secrets"), { Client } = await at("client"), { info } = await at("node");
        const { owner, held } = await signedIn();
        const client = Client(held);
        await secrets.put(client, null, "API_KEY", "open sesame");
        const manifest = parseManifest(given), { features } = await info(), { requestedRight } = await at("grants");
        const asked = manifest.resources.filter((one) => isServed(one, features) && one.origin !== "capabilities");
        const chosen = asked.map((one) => requestedRight(held.owner, one));
        const refused = await caught(() => grants.approve(client, null, manifest.did, chosen, { expiresS: 3600 }));
        const registers = ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"].map((one) => [one, "ab".repeat(48)]);
        const policy = { measurements: [Object.fromEntries(registers)] };
        const made = [await grants.approve(client, owner, manifest.did, chosen, { expiresS: 3600, policy })];
        const broken = { measurements: "any" };
        const unread = await caught(() => grants.grant(client, manifest.did, made[0].capabilities, { policy: broken }));
        const listed = await grants.list(client, { direction: "granted", status: "active" });
        window.granted = { client, grants, made };
        return { refused: refused.code, unread: unread.details?.status, made, listed, own: held.did };
        """,
        manifest,
    )
    assert said["refused"] == "not-authorised"
    assert len(wallet.asked) == 2
    portables = [decode_portable(one["portable"].encode()) for one in said["made"]]
    assert {one.delegate_did for one in portables} == {app.did}
    policies = [parse_delegation(one.header).facts for one in portables]
    measurements = dict.fromkeys(("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"), "ab" * 48)
    assert policies == [({ATTESTATION_FACT: {"measurements": [measurements]}},)] * len(portables)
    assert said["unread"] in (400, 401)
    listed = {one["cid"]: one for one in said["listed"]}
    assert all(one["cid"] in listed and not listed[one["cid"]]["isSession"] for one in said["made"])
    assert sum(one["delegate"] == said["own"] and one["isSession"] for one in said["listed"]) == 1

    async def used() -> tuple[bytes, str]:
        async with Client(node.url) as client:
            await client.sign_in_with_key(bytes(range(32)))
            await client.delegations.take_up_bundle(portables)
            kv = client.kv(f"tinycloud:{wallet.signer.did[4:]}:applications")
            await kv.put("com.example.notes/inbox/1", "hello")
            return (await kv.get("com.example.notes/inbox/1")).body, (
                await client.secrets(wallet.signer.did).envelope("API_KEY")
            ).network_text

    body, network = loop.run(used())
    assert body == b"hello"
    assert network == f"urn:tinycloud:encryption:{wallet.signer.did}:default"
    after = scripts.evaluate("""async () => {
          const { client, grants, made } = window.granted;
          const own = (await grants.list(client)).filter((one) => made.some(({ cid }) => cid === one.cid));
          await grants.revoke(client, own);
          const left = await grants.list(client, { status: "active" });
          return [own.length === made.length, own.filter(({ cid }) => left.some((one) => one.cid === cid)).length];
        }""")
    assert after == [True, 0]


def test_a_grant_ends_no_later_than_the_session(scripts: Scripts) -> None:
    """The node accepts a grant for the rest of the session, however long it takes to make."""
    made, ends = in_page(
        scripts,
        """
        const grants = await at("grants"), { Client } = await at("client"), { rows } = await at("session");
        const { held } = await signedIn(), now = Date.now;
        let passed = 0;
        Date.now = () => now() + (passed += 1000);
        const { expiresAt } = await grants.grant(Client(held), given, rows(held.space + "/kv/notes", ["tinycloud.kv/get"]));
        return [expiresAt, held.expiresAt];
        """,
        key_session(bytes(31) + b"\1").did,
    )
    assert made == int(ends)


def test_the_names_of_apps(
    scripts: Scripts, wallet: BrowserWallet, node: EmbeddedNode, loop: LoopThread
) -> None:
    """The console reads the name that the owner approved from the grant's token."""
    app, other = (key_session(bytes(31) + bytes([number])) for number in (1, 2))
    hostile = "N\u202eotes " + "x" * 200
    script = """
        const grants = await at("grants"), { Client } = await at("client");
        const { held } = await signedIn(), client = Client(held);
        const { rows } = await at("session");
        const rights = [...rows(held.space + "/kv/notes", ["tinycloud.kv/get"]),
          ...rows(held.space + "/delegation", ["tinycloud.delegation/list"])];
        const made = given && await grants.grant(client, given.did, rights, { name: given.name });
        const all = await grants.list(client);
        const named = [...await grants.appNames(client, all)];
        return { portable: made?.portable, named, all: all.map(({ cid }) => cid) };
        """
    said = in_page(scripts, script, {"did": app.did, "name": hostile})
    portable = decode_portable(said["portable"].encode())
    assert said["named"] == [[portable.cid, hostile[:60]]]

    async def pass_on() -> str:
        async with Client(node.url, session=app) as client, aiohttp.ClientSession() as session:
            await client.delegations.accept(portable)
            token = mint(
                app.signer,
                SystemEntropy(),
                audience=other.did,
                capabilities=[allow(f"{portable.space}/kv/notes", "tinycloud.kv/get")],
                proofs=[portable.cid],
                expires_at=SystemClock().now() + 60,
                facts=[{"sealspace.app/v1": {"name": "Your bank"}}],
                issuer=app.did,
            )
            async with session.post(
                f"{node.url}/delegate", headers={"Authorization": token}
            ) as answer:
                assert answer.status == 200
            return token_cid(token)

    passed_on = loop.run(pass_on())
    again = in_page(scripts, script)
    assert passed_on in again["all"] and again["named"] == said["named"]


def test_MT5_receipts_of_machine_tokens(
    scripts: Scripts, node: EmbeddedNode, loop: LoopThread, signer: WalletSigner
) -> None:
    """A receipt of a machine token verifies only with the token and name that it was made for."""
    loop.run(release_to_machine(node.url, PLATFORM, signer))
    said = in_page(
        scripts,
        """
        const receipts = await at("receipts"), { Client } = await at("client"), { networkId } = await at("did");
        const { held } = await signedIn();
        const { receipts: [one] } = await receipts.list(Client(held));
        const check = (changes) => caught(() => receipts.verify({ ...one, ...changes }, held.node, networkId(held.owner)));
        const { machine, ...without } = one;
        const lies = [{ ground: "owner" }, { machine: undefined }, { machine: "a b" }, { machine: [machine] }, { machine: "" }];
        const nameless = await caught(() => receipts.verify(without, held.node, networkId(held.owner)));
        const other = await check({ machine: "other" });
        return { ground: one.ground, machine, other: other.message,
          lies: [nameless, ...await Promise.all(lies.map(check))].map(({ message }) => message) };
        """,
    )
    assert said["ground"] == "machine"
    assert said["machine"] == "deploy"
    assert {text.rpartition(": ")[2] for text in said["lies"]} == {
        "it has not the members of a receipt"
    }
    assert said["other"].endswith("its signature does not hold")


def test_receipts_and_withdrawals(scripts: Scripts) -> None:
    """A reveal leaves a receipt that verifies, and a changed one does not. Code is withdrawn in
    person."""
    said = in_page(
        scripts,
        """
        const receipts = await at("receipts"), withdrawals = await at("backends"), backends = await at("backends");
        const secrets = await at("secrets"), { Client } = await at("client"), { networkId } = await at("did");
        const { owner, held } = await signedIn();
        const client = Client(held);
        await secrets.put(client, null, "KEY", "value");
        await secrets.reveal(client, null, "KEY");
        const { receipts: found } = await receipts.list(client);
        const network = networkId(held.owner);
        const changed = await caught(() => receipts.verify({ ...found[0], atMicros: 1 }, held.node, network));
        const other = await caught(() => receipts.verify(found[0], held.did, network));
        const entry = { measurement: "ab".repeat(48) };
        const before = await caught(() => withdrawals.withdraw(client, entry));
        const self = await caught(() => withdrawals.withdraw(client, { did: held.owner }));
        await session.addRights(held, owner, withdrawals.withdrawalRights(held.owner));
        await withdrawals.withdraw(client, entry);
        return { ground: found.map((one) => [one.invoker === held.did, one.evidence]), changed: changed.code,
          other: other.code, before: before.code, self: self.code, backends: await backends.list(client),
          terms: Object.keys(await backends.terms()).sort() };
        """,
    )
    assert said["ground"] == [[True, None]]
    assert said["changed"] == "receipt-invalid"
    assert said["other"] == "receipt-invalid"
    assert said["before"] == "not-authorised"
    assert said["self"] == "invalid-input"
    assert said["backends"] == []
    assert said["terms"] == [
        "attestation",
        "keyProviders",
        "nodePolicy",
        "nodePolicySuffices",
        "trustRoots",
    ]


def test_manifests_are_those_of_the_vectors(scripts: Scripts) -> None:
    cases = json.loads((VECTORS / "manifests" / "manifest.json").read_text("utf-8"))["cases"]
    answers = in_page(
        scripts,
        """
        const { parseManifest } = await at("manifest");
        return Promise.all(given.map(async (one) => {
          const read = await caught(async () => parseManifest(one));
          return read.code ? { code: read.code, path: read.details?.faults[0].path } : read;
        }));
        """,
        [one["manifest"] for one in cases],
    )
    for case, answer in zip(cases, answers, strict=True):
        expect = case["expect"]
        if "code" in expect:
            assert answer == {"code": expect["code"], "path": expect["path"]}, case["name"]
        else:
            assert [_row(one) for one in answer["resources"]] == expect["resources"], case["name"]
            assert answer["expiryMs"] == expect["expiry_ms"]


def _row(one: dict[str, Any]) -> list[object]:
    service = one["service"].removeprefix("tinycloud.")
    actions = " ".join(action.removeprefix(f"{one['service']}/") for action in one["actions"])
    return [service, one["space"], one["path"], actions, one["expiryMs"]]


ENV_FILES = [
    (
        'A=1\n# note\n\nexport B = two words # said\r\nC=\'lit $x\nnext\' # c\nD="a\\n\\"b\\"'
        ' \\$\\x"\n'
    ),
    "\ufeffA=\nB=a#b\nC= # nothing\n",
    "A=x=y\nURL=https://a/#b",
    "lower=1\nA=1\nA=2\nB='open\n",
    'A=#x\nnot an entry\nB="a" b\n',
    "",
]


def test_env_files_are_read_as_the_command_reads_them(scripts: Scripts) -> None:
    """The console reads the same names and values from .env files as the command, or names the same
    faulty lines."""
    read = in_page(
        scripts,
        """
        const { parseEnv } = await at("env_text");
        return Promise.all(given.map((file) => caught(async () => [...parseEnv(file)]).then(
          (read) => read.code ? read.details.faults.map(({ line }) => line) : read)));
        """,
        ENV_FILES,
    )
    for text, said in zip(ENV_FILES, read, strict=True):
        try:
            expected: list[Any] = [list(entry) for entry in parse_dotenv(text.encode()).items()]
        except BrokenEntry as error:
            expected = [int(number) for number in re.findall(r"line (\d+)", error.message)]
        assert said == expected, text


JSON_FILES = [
    '{"A": "1", "B": "", "CERT": {"value": "AP8=", "encoding": "base64"}}',
    '{"A": {"encoding": "base64", "value": ""}}',
    "{}",
    '{"lower": "1", "A": 1, "B": null, "C": {"value": "AP8="}, "D": "x"}',
    '{"A": {"value": "AP9=", "encoding": "base64"}, "B": {"value": "", "encoding": "hex"}}',
    '{"A": {"value": "AP8=", "encoding": "base64", "more": 1}}',
    '{"__proto__": "x", "constructor": "x", "A": "1"}',
    '{"A": "1", "A": "2"}',
    '["A"]',
    '{"A": "1"',
    '{"A": ' + "[" * 80 + "]" * 80 + "}",
    '{"A": "' + "[" * 80 + '"}',
    '{"A": "\\ud800"}',
    '{"PORT": 8080, "RATE": 1.10, "DEBUG": true, "OFF": false, "NOTHING": null, "A": "8080"}',
    '{"A": -0, "B": 1E5, "C": -1.5e-7, "D": 123456789012345678901234567890, "E" :\t1\n}',
    '{"A": "x\\"1, true", "B": 1, "C": {"value": "MQ==", "encoding": "base64"}}',
    '{"A": [1], "B": {"PORT": 8080}, "C": ["8080"], "D": 1, "E": []}',
    '{"A": 1e400}',
    '{"A": ["x", -1e400]}',
    '{"A": ' + "1" * 400 + "}",
    '{"A": 01}',
    '{"A": 1.}',
    '{"A": NaN}',
    '{"A": truely}',
]


def test_json_files_are_read_as_the_command_reads_them(scripts: Scripts) -> None:
    """The console reads the same names and values from JSON files as the command, or names the same
    faulty members."""
    read = in_page(
        scripts,
        """
        const { parseValues } = await at("json_values"), { base64 } = await at("bytes");
        const shown = (value) => typeof value === "string" ? value : { value: base64(value), encoding: "base64" };
        const read = (file) => {
          const { values, converted } = parseValues(file);
          return [...values].map(([name, value]) => [name, shown(value), converted.includes(name)]);
        };
        const place = ({ text }) => /\\d+( \\([A-Z]+\\))?/.exec(text)[0];
        return Promise.all(given.map((file) => caught(async () => read(file)).then((said) =>
          said.code ? (said.details.faults ?? []).map(place) : said)));
        """,
        JSON_FILES,
    )
    for text, said in zip(JSON_FILES, read, strict=True):
        try:
            values, converted = parse_values(text.encode())
            expected: list[Any] = [
                [name, value, name in converted] for name, value in values_json(values).items()
            ]
        except InvalidInput as error:
            expected = re.findall(r"member (\d+(?: \([A-Z]+\))?)", error.message)
        assert said == expected, text


def test_generated_values(scripts: Scripts) -> None:
    value = scripts.call("generated_values.js", "generate", 64, "hex")
    assert len(value) == 64
    assert set(value) <= set("0123456789abcdef")
    assert scripts.call("generated_values.js", "generate") != scripts.call(
        "generated_values.js", "generate"
    )


def test_evidence_is_read_as_it_is_kept(scripts: Scripts) -> None:
    """Every field of an evidence record is read, with bytes as hex digits. A damaged record is
    refused."""
    evidence = Evidence(
        invoker=principal_of("did:key:z6Mk"),
        receiver_mode="attested",
        tcb_status="UpToDate",
        qe_status="UpToDate",
        advisories=("INTEL-SA-00615", "INTEL-SA-00657"),
        evaluation_number=300,
        tcb_date=1795000000.0,
        platform_id_hash=None,
        attested_at=1795000000.5,
        expires_at=1795000600.25,
        app_id=b"\x01" * 20,
        compose_hash=None,
        key_provider="kms:" + "0a" * 40,
        **{name: bytes([at + 1] * size) for at, (name, size) in enumerate(SIZES.items())},
    )
    record = encode_evidence(evidence)
    said = scripts.call("backends.js", "decodeEvidence", list(record))
    shown = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in asdict(evidence).items()
    }
    assert said == {**shown, "advisories": list(evidence.advisories)}
    code = in_page(
        scripts,
        'const { decodeEvidence } = await at("backends"); return '
        "(await caught(async () => decodeEvidence(Uint8Array.from(given)))).code;",
        list(record[:-1]),
    )
    assert code == "malformed-answer"
