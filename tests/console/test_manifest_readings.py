"""The page, the token that it signs, and the commands read each manifest in the same way (MF20,
CN8)."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from console_stage import ConsolePage
from console_wire import in_page
from node_js import Scripts
from playwright.async_api import expect

from capabilities.resources import extends, parse_resource
from capabilities.strict_json import Json
from capabilities.tokens import parse_delegation
from sealspace.documents.manifests import (
    compose_manifests,
    parse_manifest,
    resolve_manifest,
    target_grants,
    with_decrypt,
)
from sealspace.errors import ManifestInvalid
from sealspace.wire.portable import decode_bundle

OWNER = "did:pkh:eip155:1:0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"
DID = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"
NETWORK = f"urn:tinycloud:encryption:{OWNER}:default"
OWN = f"tinycloud:{OWNER[4:]}"
BASE: dict[str, Json] = {
    "app_id": "com.example.notes",
    "name": "Notes",
    "did": DID,
    "defaults": False,
}
KV = "tinycloud.kv"

SOUND: dict[str, tuple[Any, ...]] = {
    "service": (
        *[KV] * 6,
        *[f"tinycloud.{name}" for name in ("vault", "encryption", "sql", "capabilities", "space")],
    ),
    "path": (
        *(
            "",
            "/",
            "a",
            "a/",
            "inbox/1",
            "vault",
            "vault/",
            "vault/secrets",
            "vault/secrets/",
            "vault/secrets/API_KEY",
        ),
        *(
            "vault/secrets/PROTECTED_A",
            "vault/secrets/scoped/mail",
            "/vault/secrets/A",
            "//",
            "a//b",
            "vault//secrets",
        ),
        *("a%20b", NETWORK, NETWORK, NETWORK, NETWORK.replace("default", "protected")),
    ),
    "action": (
        "get",
        "get",
        "put",
        "list",
        "decrypt",
        "decrypt",
        "read",
        "create",
        "tinycloud.kv/get",
    ),
    "space": (
        "secrets",
        "secrets",
        "default",
        "a%20b",
        f"{OWN}:secrets",
        "tinycloud:key:z6Mk:secrets",
    ),
    "expiry": ("1h", "2d", "60d", "1.5h", "9 weeks"),
    "caveats": ([], [{}], None),
    "skipPrefix": (True, True, True, False),
    "prefix": ("", "p", "vault"),
    "defaults": (True, False, " ALL ", "admin"),
    "knowledge": (True, "knowledge/a.md", None),
    "did": (DID, f"{DID}#a"),
    "secret": (
        True,
        "read",
        "write",
        ["get"],
        {"scope": "Mail"},
        {"expiry": "1h"},
        {"name": "OTHER"},
        {},
    ),
    "name": ("API_KEY", "PROTECTED_KEY", "B"),
}
ODD: dict[str, tuple[Any, ...]] = {
    "service": (
        *(
            "kv",
            "encryption",
            "Tinycloud.kv",
            "tinycloud.KV",
            "ktinycloud.v",
            "tinycloud.kv/vault/secrets",
            "x.y",
        ),
        *(
            "tinycloud.tinycloud.kv",
            "tinycloud.",
            "",
            " tinycloud.kv",
            "tinycloud.kv ",
            "tinycloud%2Ekv",
            1,
            None,
        ),
    ),
    "path": (
        *(
            "vault/secrets/%50ROTECTED_A",
            "a/../vault/secrets/A",
            "./a",
            "..",
            "a/.",
            "%2e%2e/a",
            "a%2Fb",
            "a%2fb",
        ),
        *(
            "a%41",
            "a%7E",
            "a%",
            "a?b",
            "a#b",
            "a b",
            "ä",
            "a\nb",
            "a\x00",
            "a\\b",
            None,
            NETWORK.lower(),
        ),
        *(
            f"{NETWORK} ",
            f"{NETWORK}/a",
            f"{NETWORK}#a",
            "urn:tinycloud:encryption:did:key:z6Mk:a b",
        ),
        *(
            "urn:tinycloud:",
            "urn:tinycloud:encryption:foo:default",
            NETWORK.replace(":1:", ":+01:"),
        ),
    ),
    "action": (
        *(
            "*",
            "tinycloud.kv/*",
            "kv/get",
            "tinycloud.encryption/decrypt",
            "tinycloud.vault/get",
            "GET",
            "",
            "a/b/c",
            1,
        ),
        *(
            "tinycloud.vault/tinycloud.kv/get",
            "tinycloud.capabilities/read",
            "tinycloud.sql/read",
            "ge\u200bt",
        ),
    ),
    "space": (
        *(
            f"{OWN.lower()}:secrets",
            f"{OWN.replace(':1:', ':+01:')}:secrets",
            f"{OWN}#a:secrets",
            f"{OWN}:a/b",
        ),
        *(
            "Secrets",
            "a/b",
            "a:b",
            "a%2eb",
            "",
            "tinycloud:x",
            "tinycloud:pkh:eip155:0:a:b",
            None,
            1,
        ),
    ),
    "expiry": ("x", "", "-1d", 1, None),
    "caveats": ([{"a": 1}], {}, "x"),
    "skipPrefix": (None, 1),
    "prefix": ("a b", "..", None, 1),
    "defaults": (["all"], "x", None, 1),
    "knowledge": (["knowledge/a.md"], "x"),
    "did": (OWNER.lower(), "did:pkh:eip155:0:0x", "did:key:#a", ""),
    "secret": (
        *(
            {"actions": None},
            [["read"]],
            "getinycloud.kv/t",
            "tinycloud.kv/get",
            False,
            {"scope": "global"},
            [],
        ),
        *(
            {"name": " API_KEY "},
            {"name": ""},
            {"name": "  "},
            {"name": "A\x1c"},
            {"name": "\x85A"},
            {"name": "\ufeffA"},
            {"actions": "delete"},
            {"expiry": "x"},
            1,
        ),
    ),
    "name": ("lower", "A-B", ""),
}


def drawn(random: Random) -> dict[str, Json]:
    """Draw a manifest: mostly valid members, and some that resemble others."""

    def one(kind: str) -> Any:
        return random.choice((ODD if random.random() < 0.06 else SOUND)[kind])

    value: dict[str, Json] = dict(BASE)
    for member in ("prefix", "space", "expiry", "defaults", "knowledge", "did"):
        if random.random() < 0.15:
            value[member] = one(member)
    permissions: list[Json] = []
    for _ in range(random.randrange(4)):
        service = one("service")
        kind = service.rpartition(".")[2] if isinstance(service, str) else ""
        words = {
            "kv": ("get", "put", "list"),
            "vault": ("read", "head"),
            "encryption": ("decrypt",),
        }.get(kind, ("read",))
        actions = [
            random.choice(words) if random.random() < 0.85 else one("action")
            for _ in range(random.randint(1, 3))
        ]
        path = NETWORK if kind == "encryption" and random.random() < 0.8 else one("path")
        entry = {"service": service, "path": path, "actions": actions}
        entry |= {
            member: one(member)
            for member in ("space", "expiry", "caveats")
            if random.random() < 0.3
        }
        permissions.append(
            entry | ({"skipPrefix": one("skipPrefix")} if random.random() < 0.8 else {})
        )
    value["permissions"] = permissions
    if random.random() < 0.4:
        value["secrets"] = {one("name"): one("secret") for _ in range(2)}
    return value


def read_by_commands(value: Json) -> dict[str, Any] | str:
    """Return the resources, rights and lifetime that `sealspace manifest` reads from a manifest."""
    try:
        manifest = parse_manifest(value)
    except ManifestInvalid:
        return "manifest-invalid"
    rows = [
        [one.service, one.space, one.path, list(one.actions), one.expiry_ms]
        for one in resolve_manifest(manifest)
    ]
    request = with_decrypt(
        compose_manifests([manifest], include_account_registry_permissions=False), NETWORK
    )
    grants = target_grants(request.delegation_targets[0], owner=OWNER, leave_out=True)
    own = next((one for one in grants if one.owner == OWNER), None)
    rights = (
        [] if own is None else sorted([one.resource.text, one.ability] for one in own.capabilities)
    )
    return {"rows": rows, "rights": rights, "life": None if own is None else own.ttl_s}


READ = """
  const { parseManifest, isServed } = await at("manifest"), { finalRights, requestedRight } = await at("grants");
  const { rootOf } = await at("session");
  const { owner, values } = given;
  return values.map((value) => {
    let manifest;
    try { manifest = parseManifest(value); } catch (error) { return error.code ?? String(error); }
    const rows = manifest.resources.map((one) => [one.service, one.space, one.path, one.actions, one.expiryMs]);
    const served = manifest.resources.filter((one) => isServed(one, []) && one.service !== "tinycloud.capabilities");
    const chosen = served.map((one) => ({ one, right: requestedRight(owner, one) }))
      .filter(({ right }) => rootOf(right.resource) === owner);
    const rights = finalRights(owner, chosen.map(({ right }) => right))
      .flatMap(({ resource, actions }) => actions.map((ability) => [resource, ability]));
    const life = Math.min(manifest.expiryMs, ...chosen.map(({ one }) => one.expiryMs ?? Infinity)) / 1000;
    return { rows, rights: rights.sort(), life: rights.length ? life : null };
  });
"""


@pytest.mark.parametrize("seed", range(4))
def test_page_and_commands_read_every_manifest_alike(scripts: Scripts, seed: int) -> None:
    """Page and commands refuse the same manifests, and grant the same rights for the same time."""
    random = Random(seed)
    values = [drawn(random) for _ in range(400)]
    by_commands = [read_by_commands(value) for value in values]
    by_page = in_page(scripts, READ, {"owner": OWNER, "values": values})
    accepted = 0
    for value, one, other in zip(values, by_commands, by_page, strict=True):
        if isinstance(other, dict):
            other["rights"] = sorted(other["rights"])
            accepted += 1
        assert one == other, json.dumps(value)
    assert 80 < accepted < 320, accepted


def test_a_grant_with_a_query_is_counted(scripts: Scripts) -> None:
    """A node does not compare the query of a resource (X1), so a holder is listed whatever query
    its grant has."""
    script = """
      const { gives } = await at("grants");
      const { to, held, get } = given;
      return held.map((resource) => gives({ rights: [{ resource, abilities: [get] }] }, get, to));
    """
    to = f"{OWN}:secrets/kv/vault/secrets/API_KEY"
    held = [
        to,
        f"{to}?a",
        f"{OWN}:secrets/kv/vault?a=/b",
        f"{OWN}:secrets/kv?a",
        f"{OWN}:secrets/kv/vaul?t",
    ]
    covered = [extends(parse_resource(to), parse_resource(one)) for one in held]
    assert (
        in_page(scripts, script, {"to": to, "held": held, "get": "tinycloud.kv/get"})
        == covered
        == [True, True, True, True, False]
    )


def link(manifest: object) -> str:
    """Return the link of a request, as apps use it."""
    return "requests?manifest=" + base64.urlsafe_b64encode(
        json.dumps(manifest).encode()
    ).decode().rstrip("=")


def permission(path: str, *actions: str, service: str = KV, **more: Json) -> dict[str, Json]:
    """Return one entry of a manifest, unchanged."""
    return {"service": service, "path": path, "actions": list(actions), "skipPrefix": True, **more}


SHORT = permission(
    "vault/secrets/PROTECTED_A", "get", "tinycloud.kv/get", service="kv", space="secrets"
)


def test_a_service_in_another_spelling_is_refused(console: ConsolePage) -> None:
    """A link with another spelling of a service is refused, because it would be shown as one thing
    and signed as another (MF20)."""
    console.sign_in()
    for service in ("kv", "ktinycloud.v", "tinycloud.KV", "tinycloud.kv/vault", "encryption"):
        console.go(link({**BASE, "permissions": [{**SHORT, "service": service}]}))
        console.see("This request cannot be used")
        console.see("write it in full and in small letters, such as tinycloud.kv")
        console.run(expect(console.tab.get_by_role("button", name="Approve")).to_have_count(0))


def listed(console: ConsolePage) -> tuple[list[list[str]], bool]:
    """Return the rights that the page lists, and whether the page asks for code."""
    script = """() => {
      const boxes = [...document.querySelectorAll("main li label.tick")].filter((one) => one.control.checked);
      const lines = [...boxes, ...document.querySelectorAll("main li.under")].filter((one) => one.checkVisibility());
      const asks = [...document.querySelectorAll("legend")].filter((one) => one.textContent.startsWith("Which code"));
      return [lines.map((one) => one.title), asks.some((one) => one.checkVisibility())];
    }"""
    titles, asks = console.run(console.tab.evaluate(script))
    rights = {(title.split()[-1], action) for title in titles for action in title.split()[:-1]}
    return sorted(map(list, rights)), asks


def signed(console: ConsolePage) -> tuple[list[list[str]], int]:
    """Return the rights of the tokens for the app, and the number of tokens."""

    async def saved() -> bytes:
        async with console.tab.expect_download() as begun:
            await console.tab.get_by_role("button", name="Download", exact=True).click()
        return Path(await (await begun.value).path()).read_bytes()

    portables = decode_bundle(console.run(saved()))
    rows = {
        (one.resource.text, one.ability)
        for portable in portables
        for one in parse_delegation(portable.header).capabilities
    }
    return sorted(map(list, rows)), len(portables)


def asked_of(owner: str) -> Iterator[dict[str, Json]]:
    """Manifests of which an owner can grant at least a part: some written by hand, some drawn."""
    own, network = f"tinycloud:{owner[4:]}", f"urn:tinycloud:encryption:{owner}"
    yield {**BASE, "secrets": {"API_KEY": True, "PROTECTED_KEY": True}}
    yield {
        **BASE,
        "defaults": True,
        "permissions": [permission("vault", "get", space=f"{own.lower()}:secrets")],
    }
    yield {
        **BASE,
        "permissions": [
            permission("notes", "get", space="secrets"),
            permission("x", "*", expiry="1h"),
        ],
    }
    yield {
        **BASE,
        "permissions": [
            permission(f"{network.lower()}:default", "decrypt", service="tinycloud.encryption")
        ],
    }
    yield {
        **BASE,
        "permissions": [
            permission("/", "put", space="secrets"),
            permission("", "read", service="tinycloud.sql"),
        ],
    }
    random = Random(11)
    drawn_ones = (
        json.loads(json.dumps(drawn(random)).replace(OWNER[4:], owner[4:])) for _ in range(200)
    )
    for _, value in zip(
        range(4), filter(lambda one: len(_read_rights(one)) > 1, drawn_ones), strict=False
    ):
        yield value


def _read_rights(value: Json) -> list[Any]:
    read = read_by_commands(value)
    return [] if isinstance(read, str) else read["rights"]


def test_what_is_listed_is_what_is_signed(console: ConsolePage) -> None:
    """Each right of the token has a line before *Approve*, and the page asks for code if the token
    decrypts (CN8)."""
    console.sign_in()
    owner = console.run(
        console.tab.evaluate(
            "() => document.body.innerHTML.match(/did:pkh:eip155:1:0x[0-9a-fA-F]{40}/)[0]"
        )
    )
    shown = 0
    for manifest in asked_of(owner):
        console.go(link(manifest))
        console.see("Who asks")
        console.run(expect(console.tab.locator("[aria-busy=true]")).to_have_count(0))
        if not console.run(console.tab.get_by_role("button", name="Approve").count()):
            continue
        lines, asks = listed(console)
        assert lines
        if asks and console.run(console.tab.get_by_text("State no code").count()):
            console.run(console.tab.get_by_text("State no code").click())
        console.click("Approve")
        ready = console.tab.get_by_text("The grant is in force").first
        wallet = console.tab.get_by_role("button", name="Test Wallet")
        console.run(expect(ready.or_(wallet).first).to_be_visible())
        if console.run(wallet.count()):
            console.run(wallet.first.click())
        console.see("The grant is in force")
        rights, count = signed(console)
        assert rights == lines, manifest
        assert count == 1, manifest
        assert asks == any(ability.endswith("/decrypt") for _, ability in rights)
        shown += 1
    assert shown >= 6
