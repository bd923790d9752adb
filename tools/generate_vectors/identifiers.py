"""Vectors of identifiers: valid and invalid texts, canonical spellings, containment, abilities."""

from typing import Any

from .minting import Key, Wallet, base58, cid, cid58

_WALLET = Wallet(0x11)
_KEY = Key(0x22)
_ADDRESS = _WALLET.address
_LOWER = _ADDRESS.lower()
_SPACE = f"tinycloud:pkh:eip155:1:{_ADDRESS}:default"
_KEY_SPACE = f"tinycloud:{_KEY.did[4:]}:default"
_NETWORK = f"urn:tinycloud:encryption:{_WALLET.did}:default"
_CID = cid(b"sealspace")

_DIDS_VALID = [
    _KEY.did,
    _KEY.url,
    _WALLET.did,
    f"did:pkh:eip155:1:{_LOWER}",
    f"did:pkh:eip155:01:{_LOWER}",
    f"did:pkh:eip155:+1:{_LOWER}",
    f"did:pkh:eip155:18446744073709551615:{_LOWER}",
    "did:pkh:eip155:1:0x" + _LOWER[2:].upper(),
    f"did:pkh:eip155:1:{_LOWER}#blockchainAccountId",
    "did:pkh:eth:0x11",
    "did:pkh:solana:abc:def",
    "did:web:example.com",
    "did:ens:example.eth",
]
_DIDS_INVALID = [
    "did",
    "did:",
    "did:key",
    "did:key:",
    "did::abc",
    "DID:key:abc",
    "did:Key:abc",
    "did:k-y:abc",
    "did:k\x1b[2Jy:abc",
    "did:key:a\x07c",
    "did:key:a c",
    "did:key:é",
    "key:z6Mk",
    "https://example.com",
    f"did:pkh:eip155:0:{_LOWER}",
    f"did:pkh:eip155:-1:{_LOWER}",
    f"did:pkh:eip155:one:{_LOWER}",
    f"did:pkh:eip155:18446744073709551616:{_LOWER}",
    f"did:pkh:eip155::{_LOWER}",
    "did:pkh:eip155:1",
    "did:pkh:eip155:1:",
    f"did:pkh:eip155:1:{_LOWER[2:]}",
    f"did:pkh:eip155:1:0X{_LOWER[2:]}",
    f"did:pkh:eip155:1:{_LOWER[:-1]}",
    f"did:pkh:eip155:1:{_LOWER}0",
    f"did:pkh:eip155:1:{_LOWER[:-1]}g",
    f"did:pkh:eip155:1:{_LOWER}:x",
]
_SPACES_VALID = [
    _SPACE,
    f"tinycloud:pkh:eip155:1:{_LOWER}:default",
    _KEY_SPACE,
    "tinycloud:ens:example.eth:ns0",
    "tinycloud:ens:example.eth:a.b-c_d~e",
    "tinycloud:ens:example.eth:%C3%A9",
    "tinycloud:ens:example.eth:public",
    "tinycloud:pkh:eth:0x11:default",
]
_SPACES_INVALID = [
    "tinycloud",
    "tinycloud:",
    "tinycloud:ens:",
    "tinycloud:ens:example.eth:",
    "tinycloud::ns0",
    "tinycloud:default",
    "TINYCLOUD:ens:example.eth:ns0",
    "tiny:ens:example.eth:ns0",
    "tinycloud://ens:example.eth:ns0",
    "tinycloud:ens:example.eth:ns0/kv",
    "tinycloud:ens:example.eth:ns0?q",
    "tinycloud:ens:example.eth:ns0#f",
    "tinycloud:ens:example.eth:%41",
    "tinycloud:ens:example.eth:%c3%a9",
    "tinycloud:ens:example.eth:%4",
    "tinycloud:ens:example.eth:é",
    "tinycloud:ens:example.eth:a b",
    "tinycloud:ens:example.eth:a|b",
    f"tinycloud:pkh:eip155:0:{_LOWER}:default",
    f"tinycloud:pkh:eip155:1:{_LOWER[:-1]}:default",
]
_RESOURCES_VALID = [  # resources of a space
    "tinycloud:ens:example.eth:ns0/kv/path/to/image.jpg",
    "tinycloud:ens:example1.eth:ns1/service#peer",
    "tinycloud:ens:example2.eth:ns2/kv/#list",
    "tinycloud:ens:example3.eth:ns3/other/path/#list",
    f"{_SPACE}/kv",
    f"{_SPACE}/kv/",
    f"{_SPACE}/kv/a%20b",
    f"{_SPACE}/kv/a/b?x=1#y",
    f"{_SPACE}/kv//",
    f"{_SPACE}/",
    f"{_SPACE}/space",
    f"tinycloud:pkh:eip155:1:{_LOWER}:default/kv/a",
    f"{_KEY_SPACE}/capabilities/all",
]
_RESOURCES_OPAQUE = [  # URIs that belong to no space
    _NETWORK,
    f"urn:cid:{_CID}",
    "urn:x:y",
    "https://example.com/a",
    _SPACE,
    "tinycloud::ns0/kv/x",
    "tinycloud:ens:example.eth:/kv/x",
    f"{_SPACE}/kv/%41",
    f"{_SPACE}/kv/%c3%a9",
    f"{_SPACE}/kv/a/../b",
    f"{_SPACE}/kv/./b",
    "tinycloud://example.com/kv/x",
]
_RESOURCES_INVALID = [  # no URI at all
    "kv/a",
    "1a:b",
    ":a",
    f"{_SPACE}/kv/é",
    f"{_SPACE}/kv/a b",
    f"{_SPACE}/kv/a|b",
    f'{_SPACE}/kv/a"b',
    f"{_SPACE}/kv/a\\b",
    f"{_SPACE}/kv/a^b",
    f"{_SPACE}/kv/a`b",
    f"{_SPACE}/kv/{{a}}",
    f"{_SPACE}/kv/<a>",
    f"{_SPACE}/kv/100%",
    f"{_SPACE}/kv/%4",
    f"{_SPACE}/kv/a#b#c",
]
_ABILITIES_VALID = ["tinycloud.kv/get", "tinycloud.kv/*", "a/b", "A-_.+*/0", "é/日本", "*/*"]
_ABILITIES_INVALID = [
    "get",
    "/get",
    "tinycloud.kv/",
    "/",
    "a/b/c",
    "a b/c",
    "a/b c",
    "a/b:c",
    "a/b%",
    "a/" + "b" * 255,
]
_NETWORKS_VALID = [
    _NETWORK,
    f"urn:tinycloud:encryption:did:pkh:eip155:01:{_LOWER}:default",
    f"urn:tinycloud:encryption:{_KEY.did}:Bad",
    f"urn:tinycloud:encryption:{_KEY.url}:default",
    "urn:tinycloud:encryption:foo:default",
    "urn:tinycloud:encryption:did:pkh:solana:abc:def:default",
]
_NETWORKS_INVALID = {
    "urn:tinycloud:encryptio": "missing urn:tinycloud:encryption: prefix",
    "URN:tinycloud:encryption:did:key:z:default": "missing urn:tinycloud:encryption: prefix",
    "urn:tinycloud:encryption:default": "missing owner DID/name separator",
    "urn:tinycloud:encryption::default": "empty owner DID",
    "urn:tinycloud:encryption:did:key:zabc:": "empty network name",
    "urn:tinycloud:encryption:did:key:zabc:a/b": "network name may not contain ':' or '/'",
    f"urn:tinycloud:encryption:did:pkh:eip155:0:{_LOWER}:default": (
        "invalid owner principal: invalid EIP-155 chain ID"
    ),
    "urn:tinycloud:encryption:did:pkh:eip155:1:0x12:default": (
        "invalid owner principal: invalid EIP-155 address length: expected 40, got 2"
    ),
    "urn:tinycloud:encryption:did:abc:default": "invalid owner principal: invalid DID",
}
_CIDS_VALID = [
    _CID,
    cid58(b"sealspace"),
    _CID.upper(),
    "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG",
]
_CIDS_INVALID = [
    "bafk",
    "b",
    "x" * 59,
    _CID[:-1],
    _CID + "a",
    _CID[1:],
    "z" + base58(b"\x01\x55\x1e\x20" + bytes(31)),
]


def text_lists() -> dict[str, list[str]]:
    """Return the lines of each list by file name."""
    return {
        "did_valid": _DIDS_VALID,
        "did_invalid": _DIDS_INVALID,
        "space_valid": _SPACES_VALID,
        "space_invalid": _SPACES_INVALID,
        "resource_valid": _RESOURCES_VALID,
        "resource_opaque": _RESOURCES_OPAQUE,
        "resource_invalid": _RESOURCES_INVALID,
        "ability_valid": _ABILITIES_VALID,
        "ability_invalid": _ABILITIES_INVALID,
        "network_valid": _NETWORKS_VALID,
        "network_invalid": list(_NETWORKS_INVALID),
        "cid_valid": _CIDS_VALID,
        "cid_invalid": _CIDS_INVALID,
    }


def canonical() -> list[dict[str, Any]]:
    """Return spellings with their canonical form, and texts of errors."""
    spellings = [
        ("did", "P1", _KEY.url, _KEY.did),
        ("did", "P2", f"did:pkh:eip155:1:{_LOWER}", _WALLET.did),
        ("did", "P2", f"did:pkh:eip155:0001:{_LOWER}", _WALLET.did),
        ("did", "P2", f"did:pkh:eip155:+1:{_LOWER}#x", _WALLET.did),
        ("did", "P3", f"did:pkh:eth:{_LOWER}", f"did:pkh:eth:{_LOWER}"),
        ("did", "P6", "did:pkh:eip155:1:0x" + _LOWER[2:].upper(), _WALLET.did),
        ("space", "U6", f"tinycloud:pkh:eip155:1:{_LOWER}:default", _SPACE),
        ("space", "U7", _KEY_SPACE, _KEY_SPACE),
        (
            "resource",
            "U6",
            f"tinycloud:pkh:eip155:01:{_LOWER}:default/kv/a?q#f",
            f"{_SPACE}/kv/a?q#f",
        ),
        ("resource", "U13", f"{_SPACE}/kv/a%20b", f"{_SPACE}/kv/a%20b"),
        (
            "network",
            "1.6",
            f"urn:tinycloud:encryption:did:pkh:eip155:01:{_LOWER}:default",
            _NETWORK,
        ),
    ]
    errors = [
        ("did", "P2", f"did:pkh:eip155:1:{_LOWER[2:]}", "invalid EIP-155 address prefix"),
        (
            "did",
            "P2",
            f"did:pkh:eip155:1:{_LOWER}0",
            "invalid EIP-155 address length: expected 40, got 41",
        ),
        (
            "did",
            "P2",
            f"did:pkh:eip155:1:{_LOWER[:-1]}g",
            "invalid EIP-155 address character at 39: g",
        ),
        ("did", "P2", f"did:pkh:eip155:0:{_LOWER}", "invalid EIP-155 chain ID"),
        ("did", "P2", f"did:pkh:eip155:1:{_LOWER}:x", "invalid did:pkh:eip155 DID"),
        ("did", "P3", "did:key", "invalid DID"),
        ("did", "P3", "did:a\nb:c", "invalid DID"),
        ("did", "P3", "did:Key:c", "invalid DID"),
        *(("network", "1.6", text, error) for text, error in _NETWORKS_INVALID.items()),
    ]
    good = [
        _case(kind, rule, text, {"text": rendered}, "") for kind, rule, text, rendered in spellings
    ]
    return good + [
        _case(kind, rule, text, {"error": error}, "_fail") for kind, rule, text, error in errors
    ]


def _case(kind: str, rule: str, text: str, expect: dict[str, str], ending: str) -> dict[str, Any]:
    return {
        "name": f"{kind}-{rule}-{text}{ending}",
        "rules": [rule],
        "kind": kind,
        "input": text,
        "expect": expect,
    }


def principals() -> list[dict[str, Any]]:
    """Return pairs of identities, whether they are one principal, and the stored form of a token's
    field."""
    solana = "did:pkh:solana:abc:def"
    pairs = [
        ("one key with and without fragment", "P1 P4", _KEY.url, _KEY.did, True),
        ("one wallet in two cases", "P4 P6", f"did:pkh:eip155:1:{_LOWER}", _WALLET.did, True),
        ("one wallet on two chains", "P4", f"did:pkh:eip155:2:{_LOWER}", _WALLET.did, False),
        ("one chain in two spellings", "P4", f"did:pkh:eip155:01:{_LOWER}", _WALLET.did, True),
        (
            "chain 0 and itself",
            "P4",
            f"did:pkh:eip155:0:{_LOWER}",
            f"did:pkh:eip155:0:{_LOWER}",
            True,
        ),
        (
            "chain 0 in two cases",
            "P4",
            f"did:pkh:eip155:0:{_LOWER}",
            f"did:pkh:eip155:0:{_ADDRESS}",
            False,
        ),
        (
            "another method in two cases",
            "P3 P4",
            solana,
            solana.upper().replace("DID:PKH:SOLANA", "did:pkh:solana"),
            False,
        ),
        ("no DID and itself", "P4 P5", "ucan:x", "ucan:x", True),
    ]
    kept = [
        ("a field with a DID URL", "P1", _KEY.url, _KEY.did),
        ("a field with a wallet", "P2 P6", f"did:pkh:eip155:1:{_LOWER}", _WALLET.did),
        ("a field on chain 0", "P4", f"did:pkh:eip155:0:{_LOWER}#x", f"did:pkh:eip155:0:{_LOWER}"),
        ("a field that is no DID", "P5", "https://example.com/a#b", "https://example.com/a"),
    ]
    same = [
        {
            "name": name,
            "rules": rules.split(),
            "one": one,
            "other": other,
            "expect": {"same": equal},
        }
        for name, rules, one, other, equal in pairs
    ]
    return same + [
        {"name": name, "rules": rules.split(), "field": text, "expect": {"principal": principal}}
        for name, rules, text, principal in kept
    ]


def resource_parts() -> list[dict[str, Any]]:
    """Return resources with their parts; None is absent."""
    table = [
        ("path absent", "U11", f"{_SPACE}/kv", ("kv", None, None, None)),
        ("path empty", "U11", f"{_SPACE}/kv/", ("kv", "", None, None)),
        ("path of a slash", "U11", f"{_SPACE}/kv//", ("kv", "/", None, None)),
        ("path of segments", "U11", f"{_SPACE}/kv/a/b/", ("kv", "a/b/", None, None)),
        ("path as written", "U13", f"{_SPACE}/kv/a%20b%2F", ("kv", "a%20b%2F", None, None)),
        ("service empty", "U12", f"{_SPACE}/", ("", None, None, None)),
        ("service empty with path", "U12", f"{_SPACE}//a", ("", "a", None, None)),
        ("service unknown", "U12", f"{_SPACE}/some.thing", ("some.thing", None, None, None)),
        ("query and fragment", "U14", f"{_SPACE}/kv/a?q=/?#f/?", ("kv", "a", "q=/?", "f/?")),
        ("query and fragment empty", "U14", f"{_SPACE}/kv/a?#", ("kv", "a", "", "")),
        ("query without path", "U11 U14", f"{_SPACE}/kv?a/b", ("kv", None, "a/b", None)),
    ]
    names = ("service", "path", "query", "fragment")
    return [
        {
            "name": name,
            "rules": rules.split(),
            "input": text,
            "expect": dict(zip(names, parts, strict=True)),
        }
        for name, rules, text, parts in table
    ]


def containment() -> list[dict[str, Any]]:
    """Return pairs of resources and whether the first extends the second."""
    other = _NETWORK.replace(":default", ":other")
    table = [
        ("a path absent contains every path", "X2", f"{_SPACE}/kv/a/b", f"{_SPACE}/kv", True),
        ("a path absent contains a path empty", "X2", f"{_SPACE}/kv/", f"{_SPACE}/kv", True),
        ("a path absent contains itself", "X2", f"{_SPACE}/kv", f"{_SPACE}/kv", True),
        ("a path contains itself", "X3", f"{_SPACE}/kv/a", f"{_SPACE}/kv/a", True),
        (
            "a path contains what follows its slash",
            "X3",
            f"{_SPACE}/kv/a/b",
            f"{_SPACE}/kv/a",
            True,
        ),
        (
            "a path with slash contains what follows",
            "X3",
            f"{_SPACE}/kv/a/b",
            f"{_SPACE}/kv/a/",
            True,
        ),
        (
            "a path with slash does not contain the bare one",
            "X6",
            f"{_SPACE}/kv/a",
            f"{_SPACE}/kv/a/",
            False,
        ),
        (
            "a path does not contain its own extension",
            "X6",
            f"{_SPACE}/kv/a2",
            f"{_SPACE}/kv/a",
            False,
        ),
        (
            "a path does not contain the whole service",
            "X4",
            f"{_SPACE}/kv",
            f"{_SPACE}/kv/a",
            False,
        ),
        (
            "a path empty does not contain the whole service",
            "X4",
            f"{_SPACE}/kv",
            f"{_SPACE}/kv/",
            False,
        ),
        ("a path empty does not contain a path", "X5", f"{_SPACE}/kv/a", f"{_SPACE}/kv/", False),
        (
            "a path empty contains a path that begins with a slash",
            "X5",
            f"{_SPACE}/kv//a",
            f"{_SPACE}/kv/",
            True,
        ),
        ("escapes are not decoded", "U13", f"{_SPACE}/kv/a%2Fb", f"{_SPACE}/kv/a", False),
        ("another service", "X1", f"{_SPACE}/sql/a", f"{_SPACE}/kv/a", False),
        ("another space", "X1", f"{_KEY_SPACE}/kv/a", f"{_SPACE}/kv/a", False),
        (
            "another spelling of the space",
            "U6",
            f"tinycloud:pkh:eip155:1:{_LOWER}:default/kv/a",
            f"{_SPACE}/kv",
            True,
        ),
        ("a fragment only in the child", "X1", f"{_SPACE}/kv/a#f", f"{_SPACE}/kv", False),
        ("a fragment only in the parent", "X1", f"{_SPACE}/kv/a", f"{_SPACE}/kv#f", False),
        ("an equal fragment", "X1", f"{_SPACE}/kv/a#f", f"{_SPACE}/kv#f", True),
        ("a query does not count", "X1", f"{_SPACE}/kv/a?x=1", f"{_SPACE}/kv?y=2", True),
        ("one network in two spellings", "X7", _NETWORKS_VALID[1], _NETWORK, True),
        ("another network", "X7", other, _NETWORK, False),
        ("a longer network name", "X7", f"{_NETWORK}2", _NETWORK, False),
        ("a network below no network", "X8", _NETWORK, "urn:tinycloud:encryption:default", False),
        ("no network below a network", "X8", "urn:x:y", _NETWORK, False),
        (
            "a broken network id below itself",
            "X8",
            "urn:tinycloud:encryption:x",
            "urn:tinycloud:encryption:x",
            False,
        ),
        ("other URIs by prefix of text", "X9", "urn:x:abc", "urn:x:ab", True),
        ("other URIs that differ", "X9", "urn:x:ab", "urn:x:abc", False),
        ("a space resource below another URI", "X10", f"{_SPACE}/kv/a", "tinycloud:pkh", False),
        ("another URI below a space resource", "X10", "urn:x:y", f"{_SPACE}/kv", False),
    ]
    return [
        {
            "name": name,
            "rules": [rule],
            "child": child,
            "parent": parent,
            "expect": {"extends": extends},
        }
        for name, rule, child, parent, extends in table
    ]


def abilities() -> list[dict[str, Any]]:
    """Return pairs of abilities and whether the first satisfies the second."""
    table = [
        ("equal", "A5", "tinycloud.kv/get", "tinycloud.kv/get", True),
        ("unequal", "A5", "tinycloud.kv/get", "tinycloud.kv/put", False),
        ("unknown and equal", "A5", "x/y", "x/y", True),
        ("alias held", "A3", "tinycloud.kv/delete", "tinycloud.kv/del", True),
        ("alias required", "A3", "tinycloud.kv/del", "tinycloud.kv/delete", True),
        ("alias of select", "A3", "tinycloud.sql/select", "tinycloud.sql/read", True),
        ("alias of duckdb select", "A3", "tinycloud.duckdb/select", "tinycloud.duckdb/read", True),
        ("admin implies schema", "A4", "tinycloud.sql/admin", "tinycloud.sql/schema", True),
        ("schema does not imply admin", "A4", "tinycloud.sql/schema", "tinycloud.sql/admin", False),
        ("admin does not imply write", "A4", "tinycloud.sql/admin", "tinycloud.sql/write", False),
        (
            "the wildcard of sql implies read by its alias",
            "A4",
            "tinycloud.sql/*",
            "tinycloud.sql/select",
            True,
        ),
        (
            "the wildcard of duckdb implies import",
            "A4",
            "tinycloud.duckdb/*",
            "tinycloud.duckdb/import",
            True,
        ),
        (
            "the wildcard of duckdb implies nothing unknown",
            "A4",
            "tinycloud.duckdb/*",
            "tinycloud.duckdb/x",
            False,
        ),
        ("no wildcard for kv", "A6", "tinycloud.kv/*", "tinycloud.kv/get", False),
        ("no wildcard for all", "A6", "*/*", "tinycloud.kv/get", False),
        (
            "no wildcard for encryption",
            "A6",
            "tinycloud.encryption/*",
            "tinycloud.encryption/decrypt",
            False,
        ),
    ]
    return [
        {
            "name": name,
            "rules": [rule],
            "held": held,
            "required": required,
            "expect": {"satisfies": satisfies},
        }
        for name, rule, held, required, satisfies in table
    ]
