"""Tests that the console and the SDK accept the same builds, rules and signed statements."""

import json
import shlex
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from console_wire import in_page
from node_js import Scripts

from capabilities.capability_errors import BadSignature, InvalidJson
from capabilities.signatures import SECP256K1_ORDER, Ed25519Signer, recover_eip191
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import shaped
from sealspace.apps.programs import ACTIVE_TYPE, VERSION_TYPE, parse_active, parse_version
from sealspace.documents.builds import Build, repository_of
from sealspace.documents.project_names import parse_project
from sealspace.documents.run_grants import parse_run_statement, run_statement_json
from sealspace.documents.signed_statements import sign_statement
from sealspace.errors import InvalidInput, StatementInvalid
from sealspace.wallets import new_wallet, signature_of, wallet_of

BUILD: dict[str, Any] = {
    "repository": "github.com/alice/project",
    "repositoryId": "1001",
    "ref": "refs/heads/main",
    "commit": "a1" * 20,
    "workflow": "github.com/alice/project/.github/workflows/build.yml",
}
HASH = "ab" * 32
KEY = Ed25519Signer(bytes(32))
PROJECT = f"{KEY.did}/digest"
TEXTS = (
    "",
    "x\n",
    "github.com/-a/b",
    "github.com/a/b/c",
    "github.com/a/..",
    "github.com/a/.",
    "github.com/a/...",
    "github.com/a/../.github/workflows/x.yml",
    "refs/@#%+=,-",
    "refs/$(canary)",
    "github.com/a_b/c",
    "GitHub.com/a/b",
    f"github.com/{'a' * 39}/{'b' * 100}",
    f"github.com/{'a' * 40}/b",
    "github.com/a/b/.github/workflows/x.yml@refs/heads/main",
    "refs/heads/ä",
    "refs/" + "x" * 250,
    "refs/" + "x" * 251,
    "refs/heads/a b",
    "refs/heads/<img>",
    "0",
    "01",
    "9" * 20,
    "9" * 21,
    "A1" * 20,
    "a1" * 32,
    "a1" * 26,
    "<img src=x onerror=canary()>",
)
JUNK: tuple[Any, ...] = (None, 1, 1.5, True, [], {}, [None], "constructor")


def _builds() -> Iterator[Any]:
    yield from (BUILD, *JUNK, {**BUILD, "more": "x"}, {**BUILD, "__proto__": "x"})
    for member in BUILD:
        yield {name: text for name, text in BUILD.items() if name != member}
        for value in (*TEXTS, *JUNK):
            yield {**BUILD, member: value}


def _statements() -> Iterator[Any]:
    by_hash, by_project = {"wasmSha256": HASH}, {"project": PROJECT}
    yield from ({"programs": [{**by_hash, "build": build}]} for build in _builds())
    for rule in (
        {**by_hash, **by_project, "build": BUILD},
        by_hash,
        by_project,
        {**by_project, "build": BUILD},
        {**by_project, "build": None},
        {"build": BUILD},
        {**by_hash, "repository": BUILD["repository"]},
        *({"wasmSha256": junk} for junk in (*JUNK, HASH.upper(), HASH[2:])),
        *({"project": junk} for junk in (*JUNK, "digest", f"{PROJECT}/", f"{KEY.did}/-a", "a/b")),
        {"project": "did:pkh:eip155:1:0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a/a"},
        {"project": "did:pkh:eip155:1:0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A/a"},
        {"project": "did:web:a b/a"},
        *JUNK,
    ):
        yield {"programs": [rule]}
    one = {"programs": [by_hash]}
    yield from ({"programs": [by_hash] * count} for count in (0, 64, 65))
    yield from ({"programs": junk} for junk in JUNK)
    hosts = (
        "a",
        "a.example",
        "A.example",
        "1.2.3.4",
        "a.0x1f",
        "a..b",
        "-a",
        "a" * 64,
        "a.",
        "ä",
        1,
    )
    yield from ({**one, "hosts": [host]} for host in hosts)
    yield from ({**one, "hosts": ["a"] * count} for count in (64, 65))
    limits = [{"maxMemoryMb": n} for n in (0, 1, 512, 513, 1.5, "1", None)] + [{"more": 1}, [], 1]
    yield from ({**one, "limits": limit} for limit in limits)
    yield from ({**one, "unbound": junk} for junk in (True, False, *JUNK))
    yield from ({**one, name: 1} for name in ("more", "constructor", "hosts", "limits"))
    yield from JUNK


def _reads(parse: Any, value: Any) -> bool:
    try:
        parse(value)
    except (InvalidInput, InvalidJson):
        return False
    return True


def test_builds_and_rules_are_read_as_strictly(shared_scripts: Scripts) -> None:
    """The console refuses every member that the SDK refuses."""
    builds, statements = list(_builds()), list(_statements())
    said = in_page(
        shared_scripts,
        """
        const { parseBuild, parseRunStatement } = await at("builds");
        const works = (work) => (text) => { try { return [true, JSON.stringify(work(JSON.parse(text)))]; } catch (error) {
          return [error.code !== "invalid-input" && error.code, null]; } };
        return [given[0].map(works(parseBuild)), given[1].map(works(parseRunStatement))];
        """,
        [[json.dumps(one) for one in some] for some in (builds, statements)],
    )
    # a version that states no build may also say null
    assert [one for one, _ in said[0]] == [
        build is None or _reads(lambda one: shaped(one, Build), build) for build in builds
    ]
    for statement, (is_read, written) in zip(statements, said[1], strict=True):
        assert is_read == _reads(parse_run_statement, statement), statement
        assert not is_read or json.loads(written) == statement


def test_a_copied_rule_keeps_its_build(shared_scripts: Scripts) -> None:
    """A copy of a rule has each member of the label that the SDK wrote."""
    stated: dict[str, Any] = {
        "programs": [{"wasmSha256": HASH, "project": PROJECT, "build": BUILD}]
    }
    written = run_statement_json(parse_run_statement(stated))
    text = in_page(
        shared_scripts,
        """
        const { parseRunStatement } = await at("builds"), { canonicalText } = await at("canonical_json");
        return canonicalText(parseRunStatement(given));
        """,
        written,
    )
    assert json.loads(text) == written
    assert json.loads(text)["programs"][0]["build"] == BUILD


def test_addresses_of_repositories(shared_scripts: Scripts) -> None:
    """The console and the SDK accept the same spellings."""
    texts = (
        *(f"{begin}alice/project{end}" for begin in ("", "github.com/", "https://github.com/", "git@github.com:", "ssh://git@github.com/", "http://github.com/", "https://gitlab.com/", "https://") for end in ("", ".git", "/", ".git/")),
        *TEXTS,
        "alice",
        "alice/project/tree/main",
        "alice/project?x",
        "alice/$(canary)",
    )  # fmt: skip

    def expected(text: str) -> str | None:
        try:
            return repository_of(text)
        except InvalidInput:
            return None

    said = in_page(
        shared_scripts,
        'const { repositoryOf } = await at("builds"); return given.map(repositoryOf);',
        texts,
    )
    assert said == [expected(text) for text in texts]
    assert "github.com/alice/project" in said


def test_signatures_of_wallets(shared_scripts: Scripts) -> None:
    """The console and the SDK find the same signer of a text; a changed signature has another
    signer or none."""
    cases: list[tuple[str, bytes]] = []
    for at in range(6):
        text = f"sealspace statement {'ä' * at}"
        signature = signature_of(wallet_of(new_wallet()), text)
        r, s, v = signature[:32], signature[32:64], signature[64]
        high = (SECP256K1_ORDER - int.from_bytes(s)).to_bytes(32)
        cases += [(text, signature), (text + " ", signature), (text, r + s + bytes([55 - v]))]
        cases += [(text, r + s + bytes([v - 27])), (text, r + s + b"\2"), (text, signature[:64])]
        cases += [(text, r + high + bytes([v])), (text, s + r + bytes([v])), (text, signature * 2)]
        cases += [(text, bytes(64) + bytes([v])), (text, sha256(r).digest() + s + bytes([v]))]
        cases += [(text, SECP256K1_ORDER.to_bytes(32) + s + bytes([v])), (text, b"")]

    def expected(text: str, signature: bytes) -> str | None:
        try:
            return "0x" + recover_eip191(text.encode(), signature).hex()
        except BadSignature:
            return None

    said = in_page(
        shared_scripts,
        """
        const { recoverAddress } = await at("secp256k1"), { fromHex } = await at("bytes");
        return given.map(([text, signature]) => recoverAddress(text, fromHex(signature)));
        """,
        [[text, signature.hex()] for text, signature in cases],
    )
    assert said == [expected(text, signature) for text, signature in cases]
    assert sum(one is not None for one in said) > 12


def test_active_versions_are_verified(shared_scripts: Scripts) -> None:
    """Only statements by the developer about this project count, and only the one that `active`
    names (CN10)."""
    wallet = new_wallet()
    other = Ed25519Signer(bytes([1]) * 32)
    project = parse_project(PROJECT)
    of_wallet = parse_project(f"{wallet.did}/digest")
    stated: dict[str, Any] = {
        "project": PROJECT,
        "sha256": HASH,
        "bytes": 8,
        "target": "wasm32-wasip1",
        "publishedAt": "2026-01-01T00:00:00Z",
        "build": BUILD,
    }
    cases: list[tuple[str, bytes, bytes]] = []

    def add(version: bytes, *, of: Any = project, signer: Any = KEY, **changes: Any) -> None:
        active = {"project": of.text, "sha256": HASH, "sequence": 1}
        active |= {"statementSha256": sha256(version).hexdigest()} | changes
        active = {name: value for name, value in active.items() if value is not ...}
        cases.append((of.text, sign_statement(ACTIVE_TYPE, active, signer), version))

    sound = sign_statement(VERSION_TYPE, stated, KEY)
    add(sound)
    add(
        sign_statement(VERSION_TYPE, {**stated, "project": of_wallet.text}, wallet),
        of=of_wallet,
        signer=wallet,
    )
    plain = {name: value for name, value in stated.items() if name != "build"}
    for other_build in (plain, {**stated, "build": None}, {**stated, "source": "x" * 600}):
        add(sign_statement(VERSION_TYPE, other_build, KEY))
    unread = len(cases)
    add(sign_statement(VERSION_TYPE, stated, other))
    add(sound, signer=other)
    add(sign_statement(ACTIVE_TYPE, stated, KEY))
    add(sound, statementSha256="0" * 64)
    add(sound, statementSha256=...)
    for changes in ({"sequence": 0}, {"sequence": "1"}, {"project": of_wallet.text}, {"more": 1}):
        add(sound, **changes)
    for member in stated:
        for junk in ({"x": 1}, 7.0 if member != "bytes" else "8", "constructor"):
            if member != "publishedAt" or junk != "constructor":
                changed = {**stated, member: junk} if junk != 7.0 else {**stated, member: [7]}
                add(sign_statement(VERSION_TYPE, changed, KEY))
    add(sign_statement(VERSION_TYPE, {**stated, "more": 1}, KEY))
    add(sign_statement(VERSION_TYPE, {**stated, "build": {**BUILD, "commit": "main"}}, KEY))
    document = json.loads(sound)
    add(json.dumps({**document, "signature": encode_url(bytes(64))}).encode())
    add(json.dumps({**document, "more": 1}).encode())
    add(sound[:-1])
    add(sound[:1] + b'"type":"x",' + sound[1:])
    said = in_page(
        shared_scripts,
        """
        const { readActive } = await at("published"), real = window.fetch, read = [];
        for (const [project, active, version] of given) {
          window.fetch = async (path) => new Response(path.endsWith("/active") ? active : version);
          read.push(await caught(() => readActive(project)));
        }
        window.fetch = real;
        return read;
        """,
        [[text, active.decode(), version.decode()] for text, active, version in cases],
    )
    for (text, active, version), one in zip(cases, said, strict=True):
        assert (one.get("code") is None) == _is_active(text, active, version), (version, one)
    assert [one.get("sha256") for one in said[:unread]] == [HASH] * unread
    assert [one.get("build") for one in said[:3]] == [BUILD, BUILD, None]
    assert {one.get("code") for one in said[unread:]} == {"version-unusable"}


def _is_active(text: str, active: bytes, version: bytes) -> bool:
    project = parse_project(text)
    try:
        read = parse_active(active, project)
        parse_version(version, project, read.sha256)
    except StatementInvalid:
        return False
    return read.statement_sha256 == sha256(version).hexdigest()


def test_a_copied_command_has_each_text_as_one_word(shared_scripts: Scripts) -> None:
    """A shell reads any ref in a copied command as one word, and runs nothing in it."""
    refs = [
        "refs/heads/main",
        "refs/@#%+=,-",
        "refs/x$(canary)'`canary`",
        'refs/";canary|&<>*?!~\\',
    ]
    said = in_page(
        shared_scripts,
        """
        const { verifyingCommand } = await at("builds");
        const asked = { repository: "github.com/alice/project", project: "did:key:z/a", secrets: ["A", "mail/B"] };
        return given.map((ref) => verifyingCommand("https://runner.example", { ...asked, ref }));
        """,
        refs,
    )
    for ref, command in zip(refs, said, strict=True):
        assert shlex.split(command)[5:9] == ["github.com/alice/project", "--ref", ref, "--program"]
        assert shlex.split(command)[-4:] == ["--secret", "A", "--secret", "mail/B"]
    assert said[0].count("'") == 0


def test_labels_count_only_in_the_owners_own_grants(scripts: Scripts) -> None:
    """The console does not show terms that a session stated as verified by the owner's client
    (CN10)."""
    said = in_page(
        scripts,
        """
        const grants = await at("grants"), { Client } = await at("client");
        const { owner, held } = await signedIn(), client = Client(held);
        const rights = [{ resource: `${held.space}/kv/a`, ability: "tinycloud.kv/get" }];
        const how = { run: given, expiresS: 600 };
        const one = await grants.grant(client, "did:key:z6Mk", rights, how);
        const portable = await grants.grantAsOwner(client, owner, "did:key:z6Mk", rights, how);
        const twice = { ...held, owner: "did:key:z6Mk" };
        const all = await grants.list(client, { direction: "granted", tokens: true });
        const runs = (cid) => all.filter((grant) => grant.cid === cid).map((grant) =>
          [grants.runOf(client, grant), grants.runOf({ session: twice }, grant)].map((run) => run ?? null));
        return [runs(one.cid), runs(JSON.parse(portable).cid)];
        """,
        {"programs": [{"wasmSha256": HASH, "build": BUILD}]},
    )
    assert said == [
        [[None, None]],
        [[{"programs": [{"wasmSha256": HASH, "build": BUILD}]}, None]],
    ]
