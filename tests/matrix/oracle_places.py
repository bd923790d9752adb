"""Resources and abilities as plain text: who owns one, and what contains what.

Written from spec/capabilities.md §1, without code of the product. Only the identifiers that cases
contain are understood.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

NETWORK = "urn:tinycloud:encryption:"
_ESCAPE = re.compile("%(..)")
_UNRESERVED = re.compile(r"[A-Za-z0-9\-._~]")


class Refused(Exception):
    """A refusal with its text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


@dataclass(frozen=True, slots=True)
class Place:
    """A resource in a space, in parts (U10 to U14)."""

    owner: str
    name: str
    service: str
    path: str | None
    query: str | None
    fragment: str | None


def canonical_did(did: str, names: Iterable[str]) -> str:
    """Return the canonical form of an account that is written in another case (P6)."""
    if not did.startswith("did:pkh:eip155:"):
        return did
    for name in names:
        if name.lower() == did.lower():
            return name
    return did


def place_of(text: str, names: Iterable[str]) -> Place | None:
    """Return the parts of a resource in a space, or None for an opaque one (U16)."""
    if not text.startswith("tinycloud:"):
        return None
    rest, has_fragment, fragment = text.partition("#")
    rest, has_query, query = rest.partition("?")
    space, has_service, inner = rest.removeprefix("tinycloud:").partition("/")
    if not has_service or not _is_normal(text, inner):
        return None
    suffix, _, name = space.rpartition(":")
    service, has_path, path = inner.partition("/")
    return Place(
        owner=canonical_did("did:" + suffix, names),
        name=name,
        service=service,
        path=path if has_path else None,
        query=query if has_query else None,
        fragment=fragment if has_fragment else None,
    )


def _is_normal(text: str, inner: str) -> bool:
    """Return whether a resource arrived normalised (U3)."""
    if any(segment in (".", "..") for segment in inner.split("/")):
        return False
    for code in _ESCAPE.findall(text):
        if code != code.upper() or _UNRESERVED.match(chr(int(code, 16))):
            return False
    return True


def canonical_text(text: str, names: Iterable[str]) -> str:
    """Return the rendering of a resource (U6, U14)."""
    place = place_of(text, names)
    if place is None:
        return text
    rendered = f"tinycloud:{place.owner.removeprefix('did:')}:{place.name}/{place.service}"
    if place.path is not None:
        rendered += f"/{place.path}"
    if place.query is not None:
        rendered += f"?{place.query}"
    if place.fragment is not None:
        rendered += f"#{place.fragment}"
    return rendered


def network_of(text: str, names: Iterable[str]) -> tuple[str, str] | None:
    """Return owner and name of a network id (1.6), or None."""
    if not text.startswith(NETWORK):
        return None
    owner, _, name = text.removeprefix(NETWORK).rpartition(":")
    if not owner or not name or "/" in name:
        return None
    if owner.startswith("did:"):
        owner = canonical_did(owner, names)
    return owner, name


def owner_of(text: str, names: Iterable[str]) -> str | None:
    """Return the root of a resource, or None if it has none (R1 to R3)."""
    names = tuple(names)
    place = place_of(text, names)
    if place is not None:
        return place.owner
    network = network_of(text, names)
    return None if network is None else network[0]


def contains(parent: str, child: str, names: Iterable[str]) -> bool:
    """Return whether a resource contains another one (X1 to X10)."""
    names = tuple(names)
    outer, inner = place_of(parent, names), place_of(child, names)
    if outer is None and inner is None:
        return _contains_opaque(parent, child, names)
    if outer is None or inner is None:
        return False  # X10
    if (outer.owner, outer.name, outer.service) != (inner.owner, inner.name, inner.service):
        return False  # X1
    if outer.fragment != inner.fragment:
        return False  # X1
    if outer.path is None:
        return True  # X2
    if inner.path is None or not inner.path.startswith(outer.path):
        return False  # X4
    if outer.path.endswith("/") or inner.path == outer.path:
        return True  # X3
    return inner.path[len(outer.path)] == "/"  # X3


def _contains_opaque(parent: str, child: str, names: Iterable[str]) -> bool:
    if parent.startswith(NETWORK) or child.startswith(NETWORK):
        outer, inner = network_of(parent, names), network_of(child, names)
        return outer is not None and outer == inner  # X7, X8
    return child.startswith(parent)  # X9


_ALIASES = {
    "tinycloud.kv/delete": "tinycloud.kv/del",
    "tinycloud.sql/select": "tinycloud.sql/read",
    "tinycloud.duckdb/select": "tinycloud.duckdb/read",
}
_IMPLIED = {
    "tinycloud.sql/admin": ("tinycloud.sql/schema",),
    "tinycloud.sql/*": (
        "tinycloud.sql/read",
        "tinycloud.sql/write",
        "tinycloud.sql/schema",
        "tinycloud.sql/admin",
    ),
    "tinycloud.duckdb/*": (
        "tinycloud.duckdb/read",
        "tinycloud.duckdb/write",
        "tinycloud.duckdb/admin",
        "tinycloud.duckdb/import",
        "tinycloud.duckdb/export",
    ),
}


def satisfies(held: str, required: str) -> bool:
    """Return whether a held ability is enough for a required one (A3 to A6)."""
    held, required = _ALIASES.get(held, held), _ALIASES.get(required, required)
    if held == required:
        return True
    return any(satisfies(implied, required) for implied in _IMPLIED.get(held, ()))
