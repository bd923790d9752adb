"""Identifiers of spaces, resources and encryption networks.

Rules U1 to U16 (texts), X1 to X10 (containment), R1 to R3 (root authority), section 1.6 (networks).
Texts are compared as they are and never decoded (U13). Only the address of an Ethereum owner is
put into canonical form (U6).

Example:
    parent = parse_resource("tinycloud:key:z6Mk...:default/kv/photos")
    extends(parse_resource("tinycloud:key:z6Mk...:default/kv/photos/cat.jpg"), parent)  # True
"""

import re

from .cache import memoize
from .capability_errors import InvalidIdentifier
from .frozen_struct import AcyclicStruct
from .principals import Principal, parse_principal, principal_of

NETWORK_PREFIX = "urn:tinycloud:encryption:"
_ACCOUNT_NETWORK = f"{NETWORK_PREFIX}did:pkh:eip155:"
_SCHEME = "tinycloud:"

_MEMOISED_CHARS = 512
"""Longest text whose result is cached, so that unauthenticated clients cannot fill the caches."""


class SpaceId(AcyclicStruct, cache_hash=True):
    """The identifier of a space.

    Attributes:
        owner: Canonical principal of the owner (U5).
        name: Raw URI text without `/` and `:`, never empty (U4).
    """

    owner: Principal
    name: str

    @property
    def text(self) -> str:
        """The space id as a canonical string (U6)."""
        return f"{_SCHEME}{self.owner[4:]}:{self.name}"


class SpaceResource(AcyclicStruct):
    """A resource inside a space.

    Attributes:
        space: The space.
        service: Unchecked, possibly empty (U12).
        path: Percent-encoded as written; None is absent, "" is present and empty (U11).
        query: Without its `?`; None is absent.
        fragment: Without its `#`; None is absent.
    """

    space: SpaceId
    service: str
    path: str | None = None
    query: str | None = None
    fragment: str | None = None

    @property
    def text(self) -> str:
        """The resource as a canonical string (U6, U14)."""
        text = f"{self.space.text}/{self.service}"
        if self.path is not None:
            text += f"/{self.path}"
        if self.query is not None:
            text += f"?{self.query}"
        if self.fragment is not None:
            text += f"#{self.fragment}"
        return text


class OpaqueResource(AcyclicStruct):
    """A URI that does not refer to a space (U16).

    It is stored exactly as written.
    """

    text: str


class NetworkId(AcyclicStruct):
    """The identifier of an encryption network.

    Attributes:
        owner: A DID, or any other text. A DID is canonical if P2 applies, otherwise as written. A
            fragment stays.
        name: Never empty, without `/` and `:`.
    """

    owner: str
    name: str

    @property
    def text(self) -> str:
        """The network id as a canonical string."""
        return f"{NETWORK_PREFIX}{self.owner}:{self.name}"


Resource = SpaceResource | OpaqueResource

# RFC 3986. Repeats are possessive and of single characters, so that no input causes backtracking.
# The two hexadecimal digits after each "%" are checked separately, because possessive groups match
# wrongly before Python 3.11.5.
_PATH_CHARS = r"[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*+"
_TAIL_CHARS = r"[A-Za-z0-9\-._~!$&'()*+,;=:@/?%]*+"
_REG_NAME = r"[A-Za-z0-9\-._~!$&'()*+,;=%]*+"
_USER_INFO = r"[A-Za-z0-9\-._~!$&'()*+,;=:%]*+"
_NO_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_H16 = r"[0-9A-Fa-f]{1,4}"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_LS32 = rf"(?:{_H16}:{_H16}|{_IPV4})"
_IPV6 = "|".join(
    [rf"(?:{_H16}:){{6}}{_LS32}", rf"::(?:{_H16}:){{5}}{_LS32}"]
    + [rf"(?:(?:{_H16}:){{0,{n}}}{_H16})?::(?:{_H16}:){{{4 - n}}}{_LS32}" for n in range(5)]
    + [rf"(?:(?:{_H16}:){{0,5}}{_H16})?::{_H16}", rf"(?:(?:{_H16}:){{0,6}}{_H16})?::"]
)
_IP_LITERAL = rf"\[(?:{_IPV6}|[vV][0-9A-Fa-f]++\.[A-Za-z0-9\-._~!$&'()*+,;=:]++)\]"
_AUTHORITY_TEXT = rf"(?:{_USER_INFO}@)?(?:{_IP_LITERAL}|{_REG_NAME})(?::[0-9]*+)?"
_SCHEME_TEXT = r"[A-Za-z][A-Za-z0-9+.\-]*+"
_PARTS = re.compile(
    rf"(?P<scheme>{_SCHEME_TEXT}):"
    rf"(?:(?P<authority>//{_AUTHORITY_TEXT})(?P<abempty>(?:/{_PATH_CHARS})?)|(?!//)(?P<path>{_PATH_CHARS}))"
    rf"(?:\?(?P<query>{_TAIL_CHARS}))?(?:#(?P<fragment>{_TAIL_CHARS}))?"
)
_AUTHORITY = re.compile(_AUTHORITY_TEXT)
_URI_SCHEME = re.compile(_SCHEME_TEXT)
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_DOT_SEGMENTS = frozenset({".", ".."})
_ESCAPES = re.compile(r"%(..)")


def is_uri(text: str) -> bool:
    """Return whether a string is an ASCII URI with a scheme (RFC 3986)."""
    return _parts_of(text) is not None


def _parts_of(text: str) -> re.Match[str] | None:
    return _PARTS.fullmatch(text) if "%" not in text or has_valid_escapes(text) else None


def has_valid_escapes(text: str) -> bool:
    """Return whether every `%` in a string is followed by two hexadecimal digits."""
    return "%" not in text or _NO_ESCAPE.search(text) is None


def is_authority(text: str) -> bool:
    """Return whether a string is a URI authority such as `localhost:5173`."""
    return bool(text) and has_valid_escapes(text) and _AUTHORITY.fullmatch(text) is not None


def is_scheme(text: str) -> bool:
    """Return whether a string is a URI scheme such as `https`."""
    return _URI_SCHEME.fullmatch(text) is not None


def parse_space_id(text: str) -> SpaceId:
    """Parse a space id such as `tinycloud:key:z6Mk...:default`.

    Its form is `tinycloud:<owner without did:>:<name>`.

    Raises:
        InvalidIdentifier: Not a URI, not normalised (U3), or not of that shape (U1, U2, U4, U5).
    """
    parts = _parts_of(text)
    space = None
    if (
        parts is not None
        and text.startswith(_SCHEME)
        and "/" not in text
        and "?" not in text
        and "#" not in text
    ):
        space = _space_of(text[len(_SCHEME) :])
    if space is None:
        raise InvalidIdentifier("Invalid space ID")
    return space


# Many tokens name the same few resources.
@memoize(4096, longest=_MEMOISED_CHARS)
def parse_resource(text: str) -> Resource:
    """Parse the URI of a resource (U10 to U16).

    A URI that is not in a space becomes an opaque resource.

    Raises:
        InvalidIdentifier: The text is not a URI (T1).
    """
    parts = _parts_of(text)
    if parts is None:
        raise InvalidIdentifier("invalid resource URI")
    return _space_resource(text, parts) or OpaqueResource(text)


def _space_resource(text: str, parts: re.Match[str]) -> SpaceResource | None:
    """Return the resource in a space that a URI names, or None if it names another thing."""
    scheme, _authority, _path_after_authority, whole_path, query, fragment = parts.groups()
    if scheme != "tinycloud":  # (U1)
        return None
    if whole_path is None:  # a resource in a space has no authority (U2, U10)
        return None
    head, slash, rest = whole_path.partition("/")  # the first slash ends the space (U11)
    if not slash:  # a space alone is no resource (U10)
        return None
    # A text that is not normalised is never repaired: others could compare it as it is (U3).
    if "." in rest and _DOT_SEGMENTS.intersection(rest.split("/")):
        return None
    if "%" in text and not _escapes_are_normal(text):
        return None
    space = _space_of(head)
    if space is None:
        return None
    service, slash, after_slash = rest.partition("/")
    # Without a second slash the path is absent. With one it is present, even if it is empty (U11).
    path = after_slash if slash else None
    return SpaceResource(
        space=space,
        service=service,
        path=path,
        query=query,
        fragment=fragment,
    )


def _escapes_are_normal(text: str) -> bool:
    """Return whether a URI's percent escapes are normalised (U3).

    They must be in upper case, and must not encode an unreserved character.
    """
    return all(
        code == code.upper() and chr(int(code, 16)) not in _UNRESERVED
        for code in _ESCAPES.findall(text)
    )


@memoize(4096, longest=_MEMOISED_CHARS)
def _space_of(head: str) -> SpaceId | None:
    """Parse a space id without its scheme, or return None if it is invalid."""
    suffix, _, name = head.rpartition(":")
    # never repaired: others could compare it as it is (U2, U3, U4)
    if not name or not suffix or not _escapes_are_normal(head):
        return None
    try:
        owner = parse_principal("did:" + suffix)  # in canonical form (U5)
    except InvalidIdentifier:
        return None
    return SpaceId(owner, name)


# One key request contains the same id in token, fact, body and path.
@memoize(4096, longest=_MEMOISED_CHARS)
def parse_network_id(text: str) -> NetworkId:
    """Parse the URN of an encryption network.

    Its form is `urn:tinycloud:encryption:<owner>:<name>`.
    """
    if not text.startswith(NETWORK_PREFIX):
        raise InvalidIdentifier(f"missing {NETWORK_PREFIX} prefix")
    owner, separator, name = text[len(NETWORK_PREFIX) :].rpartition(":")
    if not separator:
        raise InvalidIdentifier("missing owner DID/name separator")
    return network_id(owner, name)


def network_id(owner: str, name: str) -> NetworkId:
    """Create the id of an encryption network from its owner and name."""
    if not owner:
        raise InvalidIdentifier("empty owner DID")
    if not name:
        raise InvalidIdentifier("empty network name")
    if ":" in name or "/" in name:
        raise InvalidIdentifier("network name may not contain ':' or '/'")
    if owner.startswith("did:"):
        try:
            canonical = parse_principal(owner)
        except InvalidIdentifier as exc:
            raise InvalidIdentifier(f"invalid owner principal: {exc.text}") from exc
        # The fragment is kept: it distinguishes networks, although their owner is the same
        # principal.
        _, hash_sign, fragment = owner.partition("#")
        owner = canonical + hash_sign + fragment
    return NetworkId(owner, name)


def network_of(resource: Resource) -> NetworkId | None:
    """Return the encryption network named by a resource, or None."""
    if not isinstance(resource, OpaqueResource) or not resource.text.startswith(NETWORK_PREFIX):
        return None
    return _network_in(resource.text)


# One token can cause many comparisons with the same id.
@memoize(4096)
def _network_in(text: str) -> NetworkId | None:
    try:
        return parse_network_id(text)
    except InvalidIdentifier:
        return None


def extends(child: Resource, parent: Resource) -> bool:
    """Return whether a grant on one resource covers another resource (X1 to X10).

    `child` is the resource that the grant on `parent` has to cover.
    """
    if isinstance(child, SpaceResource):
        # X10, X1: the query is not compared.
        if (
            not isinstance(parent, SpaceResource)
            or child.space != parent.space
            or child.service != parent.service
            or child.fragment != parent.fragment
        ):
            return False
        # a grant without a path is on all paths (X2)
        return parent.path is None or _within_path(child.path, parent.path)
    # a resource in a space and another one never contain each other (X10)
    return isinstance(parent, OpaqueResource) and _within_opaque(child, parent)


def _within_path(child: str | None, parent: str) -> bool:
    """Return whether a path is another path, or below it (X2 to X6)."""
    if child is None:  # a resource without a path is larger than any path (X4)
        return False
    if not child.startswith(parent):
        return False
    below = child[len(parent) :]
    # whole segments only: `photos` contains `photos/a` and not `photos2` (X3, X5, X6)
    return not below or below.startswith("/") or parent.endswith("/")


def _within_opaque(child: OpaqueResource, parent: OpaqueResource) -> bool:
    """Return whether a grant on a URI outside all spaces covers another (X7 to X9)."""
    inner, outer = child.text, parent.text
    if not inner.startswith(NETWORK_PREFIX):
        # X9: the text of the child begins with that of the parent. So the parent is not a network
        # id, because the child does not begin with the prefix of network ids (X8).
        return inner.startswith(outer)
    # Two different texts can name one network only if its owner is an Ethereum account (P2).
    if inner != outer and not (
        inner.startswith(_ACCOUNT_NETWORK) and outer.startswith(_ACCOUNT_NETWORK)
    ):
        return False
    network = network_of(child)
    # nothing is inside a network but the network itself (X7, X8)
    return network is not None and network == network_of(parent)


def root_of(resource: Resource) -> Principal | None:
    """Return the owner of a resource, or None (R3).

    A resource without a root always needs a proof.
    """
    if isinstance(resource, SpaceResource):
        return resource.space.owner  # whoever owns a space is its root (R1)
    network = network_of(resource)
    # of other resources only networks have an owner (R2)
    return None if network is None else principal_of(network.owner)
