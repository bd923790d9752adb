"""Places of a case, how a requested place relates to the granted one, and pairs of abilities."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

Related: TypeAlias = Callable[[str, str, str], str | None]
"""Of the granted resource, its owner's DID and another owner's: the requested resource.

None if this relation does not exist there.
"""

_PLACES = {
    "kv path": (10, "tinycloud:{owner}:default/kv/photos"),
    "kv folder": (4, "tinycloud:{owner}:default/kv/photos/"),
    "kv deep": (4, "tinycloud:{owner}:default/kv/photos/2026/cat.jpg"),
    "kv whole": (4, "tinycloud:{owner}:default/kv"),
    "kv empty path": (2, "tinycloud:{owner}:default/kv/"),
    "kv escaped": (2, "tinycloud:{owner}:default/kv/caf%C3%A9"),
    "kv with fragment": (1, "tinycloud:{owner}:default/kv/photos#part"),
    "database": (9, "tinycloud:{owner}:default/sql/main.db"),
    "duckdb": (3, "tinycloud:{owner}:default/duckdb/d"),
    "space": (2, "tinycloud:{owner}:default/space"),
    "capabilities": (2, "tinycloud:{owner}:default/capabilities/all"),
    "service without name": (1, "tinycloud:{owner}:default/"),
    "network": (5, "urn:tinycloud:encryption:did:{owner}:default"),
    "opaque": (2, "urn:example:box"),
    "no network": (1, "urn:tinycloud:encryption:default"),
    "dotted": (1, "tinycloud:{owner}:default/kv/a/../b"),
    "lower escape": (1, "tinycloud:{owner}:default/kv/caf%c3%a9"),
}


class _Places(Mapping[str, float]):
    """The weight of each place by its name."""

    def __getitem__(self, name: str) -> float:
        return _PLACES[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)

    def text(self, name: str, owner: str) -> str:
        """Return the resource of a place for an owner's DID."""
        return _PLACES[name][1].format(owner=owner.removeprefix("did:"))


PLACES = _Places()


def family_of(place: str) -> str:
    """Return which abilities are meant for a place."""
    families = {"database": "sql", "duckdb": "duckdb", "network": "encryption"}
    return families.get(place, "kv")


def _in_space(resource: str) -> bool:
    return resource.startswith("tinycloud:")


def _below(resource: str, _owner: str, _other: str) -> str:
    return resource + ("x" if resource.endswith("/") else "/x")


def _above(resource: str, _owner: str, _other: str) -> str | None:
    return resource.rpartition("/")[0] if resource.count("/") > 1 else None


def _other_service(resource: str, _owner: str, _other: str) -> str | None:
    return resource.replace("/kv", "/hooks") if "/kv" in resource else None


def _other_space(resource: str, _owner: str, _other: str) -> str | None:
    return resource.replace(":default", ":work") if ":default" in resource else None


def _of_other_owner(resource: str, owner: str, other: str) -> str | None:
    return resource.replace(owner[4:], other[4:]) if owner[4:] in resource else None


def _other_case(resource: str, owner: str, _other: str) -> str | None:
    """Write the owner's address in lower case (P6)."""
    if not owner.startswith("did:pkh:") or owner[4:] not in resource:
        return None
    return resource.replace(owner[4:], owner[4:].lower())


def _other_path_case(resource: str, _owner: str, _other: str) -> str | None:
    return resource.replace("photos", "Photos") if "photos" in resource else None


RELATIONS: dict[str, Related] = {
    "same": lambda resource, _owner, _other: resource,
    "below": _below,
    "far below": lambda resource, owner, other: _below(
        _below(resource, owner, other), owner, other
    ),
    "text continued": lambda resource, _owner, _other: resource + "2",
    "slash added": lambda resource, _owner, _other: resource + "/",
    "above": _above,
    "other service": _other_service,
    "other space": _other_space,
    "other owner": _of_other_owner,
    "fragment added": lambda resource, _owner, _other: (
        None if "#" in resource else resource + "#part"
    ),
    "query added": lambda resource, _owner, _other: (
        resource + "?v=1" if _in_space(resource) and "#" not in resource else None
    ),
    "address in lower case": _other_case,
    "path in another case": _other_path_case,
}

INVALID_ABILITY = "not an ability"

ABILITIES: dict[str, dict[str, tuple[str, str]]] = {
    "kv": {
        "same": ("tinycloud.kv/get", "tinycloud.kv/get"),
        "put": ("tinycloud.kv/put", "tinycloud.kv/put"),
        "alias asked": ("tinycloud.kv/del", "tinycloud.kv/delete"),
        "alias held": ("tinycloud.kv/delete", "tinycloud.kv/del"),
        "alias both": ("tinycloud.kv/delete", "tinycloud.kv/delete"),
        "other ability": ("tinycloud.kv/get", "tinycloud.kv/put"),
        "kv/* held": ("tinycloud.kv/*", "tinycloud.kv/get"),
        "kv/* both": ("tinycloud.kv/*", "tinycloud.kv/*"),
        "unknown": ("example.app/open", "example.app/open"),
        "longer text": ("tinycloud.kv/get", "tinycloud.kv/get2"),
    },
    "sql": {
        "same": ("tinycloud.sql/read", "tinycloud.sql/read"),
        "alias asked": ("tinycloud.sql/read", "tinycloud.sql/select"),
        "alias held": ("tinycloud.sql/select", "tinycloud.sql/read"),
        "implied": ("tinycloud.sql/admin", "tinycloud.sql/schema"),
        "implied by all": ("tinycloud.sql/*", "tinycloud.sql/write"),
        "alias implied by all": ("tinycloud.sql/*", "tinycloud.sql/select"),
        "admin implied by all": ("tinycloud.sql/*", "tinycloud.sql/admin"),
        "other ability": ("tinycloud.sql/read", "tinycloud.sql/write"),
        "implies not back": ("tinycloud.sql/schema", "tinycloud.sql/admin"),
        "admin does not read": ("tinycloud.sql/admin", "tinycloud.sql/read"),
        "other namespace": ("tinycloud.duckdb/*", "tinycloud.sql/read"),
    },
    "duckdb": {
        "same": ("tinycloud.duckdb/read", "tinycloud.duckdb/read"),
        "alias asked": ("tinycloud.duckdb/read", "tinycloud.duckdb/select"),
        "implied by all": ("tinycloud.duckdb/*", "tinycloud.duckdb/export"),
        "alias implied by all": ("tinycloud.duckdb/*", "tinycloud.duckdb/select"),
        "other ability": ("tinycloud.duckdb/write", "tinycloud.duckdb/read"),
        "all from one": ("tinycloud.duckdb/read", "tinycloud.duckdb/*"),
    },
    "encryption": {
        "same": ("tinycloud.encryption/decrypt", "tinycloud.encryption/decrypt"),
        "other ability": ("tinycloud.encryption/decrypt", "tinycloud.encryption/network.create"),
        "unknown": ("tinycloud.encryption/other", "tinycloud.encryption/other"),
    },
}
"""The held and the requested ability, by the kind of pair."""
