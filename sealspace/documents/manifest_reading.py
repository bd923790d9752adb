"""Parsing and validation of app manifests (MF1 to MF6).

Types are checked by msgspec, and other rules afterwards. Unknown members are errors; otherwise a
typo would be ignored. An invalid action of a secret is never repeated in a message, because it may
be the secret itself.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec

from capabilities.capability_errors import CapabilityError
from capabilities.frozen import frozen
from capabilities.principals import parse_principal
from capabilities.resources import NETWORK_PREFIX, SpaceResource, parse_resource, parse_space_id
from capabilities.strict_json import Json, StrictRecord, StrictStruct

from ..errors import Fault, InvalidInput, InvalidSecretName, InvalidSecretScope, ManifestInvalid
from ..printable import printable
from .secret_names import NAME_PATTERN, SECRETS_SPACE, is_secret_name, parse_secret_name
from .shapes import Text, below, shaped_at

T = TypeVar("T")

DEFAULT_EXPIRY = "30d"
KV = "tinycloud.kv"
VAULT = "tinycloud.vault"
ENCRYPTION = "tinycloud.encryption"

MAX_PERMISSIONS = 256
"""Most entries of `permissions` and of `secrets`: a person has to review them, and a token is
limited."""

_FAILED = "Manifest validation failed: "
_SERVICE = re.compile(r"tinycloud\.[a-z][a-z0-9-]*")
_ACTION = re.compile(r"[A-Za-z0-9\-_.+*]{1,100}")
_MAX_SHOWN_CHARS = 100
_TIERS: Mapping[Json, str] = {
    False: "none",
    True: "default",
    "false": "none",
    "true": "default",
    "admin": "admin",
    "all": "all",
}

_Few = msgspec.Meta(max_length=MAX_PERMISSIONS)


class Permission(StrictRecord, rename={"skip_prefix": "skipPrefix"}):
    """A validated entry of a manifest's `permissions`.

    It is not yet converted to resources.
    """

    service: str
    path: str
    actions: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)]
    space: str | None = None
    skip_prefix: bool = False
    expiry: str | None = None
    description: str | None = None
    caveats: tuple[dict[str, Any], ...] | None = None


class _Secret(StrictStruct):
    name: str | None = None
    scope: str | None = None
    actions: Any = ("read",)
    expiry: str | None = None
    description: str | None = None


class _Members(StrictStruct):
    app_id: Text
    name: Text
    manifest_version: int | float = 1
    description: str | None = None
    icon: str | None = None
    appVersion: str | None = None
    did: str | None = None
    expiry: str | None = None
    space: str | None = None
    prefix: str | None = None
    defaults: bool | str = True
    includePublicSpace: bool = True  # of other clients; it grants nothing by itself
    knowledge: bool | str | None = None
    permissions: Annotated[tuple[Permission, ...], _Few] | None = None
    secrets: Annotated[dict[str, Any], _Few] | None = None


@frozen
class Manifest:
    """A validated app manifest."""

    app_id: str
    name: str
    did: str | None
    expiry_ms: int
    space: str | None
    prefix: str
    defaults: str
    permissions: tuple[Permission, ...]
    secrets: tuple[Permission, ...]
    source: Json = field(repr=False)


def check_manifest(value: Json) -> tuple[Fault, ...]:
    """Check an app manifest for errors.

    Returns the first error in a tuple, or an empty tuple.
    """
    try:
        parse_manifest(value)
    except ManifestInvalid as exc:
        return exc.faults
    return ()


def parse_manifest(value: Json) -> Manifest:
    """Validate an app manifest.

    Args:
        value: the JSON value, untrusted.
    Returns:
        The manifest, which can be resolved.
    Raises:
        ManifestInvalid: a member is unknown or breaks its rule; the message and `faults` name the
            first one.
    Does not check:
        That services and actions exist: unknown ones pass in their full form, like unknown
            abilities at a node.
    """
    members = shaped_at("", value, _Members, _refuse)
    if members.manifest_version != 1:
        _refuse("manifest_version", "must be 1")
    _check_knowledge(members.knowledge)
    _check_did(members.did)
    tier = _tier_of(members.defaults)
    _check_expiry_and_space(members, "")
    prefix = _prefix_of(members)
    for index, entry in enumerate(members.permissions or ()):
        _check_permission(entry, f"permissions[{index}]")
    return Manifest(
        app_id=members.app_id,
        name=members.name,
        did=members.did,
        expiry_ms=parse_duration_ms(DEFAULT_EXPIRY if members.expiry is None else members.expiry),
        space=members.space,
        prefix=prefix,
        defaults=tier,
        permissions=members.permissions or (),
        secrets=tuple(_parse_secret(name, spec) for name, spec in (members.secrets or {}).items()),
        source=value,
    )


def _check_knowledge(knowledge: bool | str | None) -> None:
    """Check the location of an app's knowledge page, which this client does not read."""
    if isinstance(knowledge, str):
        is_valid = knowledge.startswith("knowledge/") and knowledge.endswith(".md")
    else:
        is_valid = knowledge is not False
    if not is_valid:
        _refuse("knowledge", "must be true or a knowledge/*.md root path")


def _check_did(did: str | None) -> None:
    if did is not None:
        try:
            parse_principal(did)
        except CapabilityError:
            _refuse("did", "must be a non-empty DID string")


def _tier_of(defaults: bool | str) -> str:
    """Return the name of the default permissions that a manifest requests.

    An unknown word must not mean permissions that the author did not request (MF3).
    """
    word = defaults.strip(" \t\n\r").lower() if isinstance(defaults, str) else defaults
    tier = _TIERS.get(word)
    if tier is None:
        _refuse("defaults", 'must be true, false, "admin" or "all"')
    return tier


def _prefix_of(members: _Members) -> str:
    """Return the beginning of the paths of an app's own values."""
    if members.prefix is None:
        member, prefix = "app_id", members.app_id
    else:
        member, prefix = "prefix", members.prefix
    if not _is_uri_path(prefix):
        _refuse(member, "begins the app's paths: no spaces, `?`, `#` or non-ASCII in it")
    return prefix


def _check_permission(entry: Permission, where: str) -> None:
    """Refuse a permission that this client cannot request; `where` names it in the error."""
    # A right has one spelling, from which every description of it is made (MF20).
    if _SERVICE.fullmatch(entry.service) is None:
        example = "write it in full and in small letters, such as tinycloud.kv"
        _refuse_as(
            f"{where}.service", f"{where}.service is required and must be a service: {example}"
        )
    if entry.service == ENCRYPTION:
        # MF20: a network's id has the form of a space's id, and both are used unencoded in a URI.
        prefix = f"{NETWORK_PREFIX}did:"
        has_prefix = entry.path.startswith(prefix)
        space_with_same_end = f"tinycloud:{entry.path.removeprefix(prefix)}"
        if not has_prefix or not _is_space(space_with_same_end):
            needed = f'require path to be a networkId URN (got "{_printable(entry.path)}")'
            _refuse_as(f"{where}.path", f"tinycloud.encryption entries {needed}")
    elif not _is_uri_path(entry.path):
        _refuse_as(
            f"{where}.path",
            f"{where}.path must be the raw path of a URI: percent-encode what is not ASCII",
        )
    if any(entry.caveats or ()):  # MF4: a grant without them would be wider than requested
        _refuse_as(
            f"{where}.caveats",
            f"{where}.caveats: this client signs no caveats; ask for a narrower path in their"
            " place",
        )
    _check_expiry_and_space(entry, where)
    for index, action in enumerate(entry.actions):
        with _convert_errors_at(f"{where}.actions[{index}]"):
            full_action(entry.service, action)  # raises for an unknown action


def _check_expiry_and_space(members: _Members | Permission, where: str) -> None:
    """Validate the lifetime and the space in a manifest.

    One of its permissions may be given instead.
    """
    _check_expiry(members.expiry, where)
    if members.space is not None and not _is_space(members.space):
        form = "a short name such as notes, or a full id tinycloud:…:notes"
        _refuse_as(below(where, "space"), f"{where or 'manifest'}.space must be {form}")


def _check_expiry(expiry: str | None, where: str) -> None:
    if expiry is not None:
        with _convert_errors_at(below(where, "expiry")):
            parse_duration_ms(expiry)


def _parse_secret(key: str, spec: object) -> Permission:
    """Convert an entry of a manifest's `secrets` to a permission."""
    where = f"secrets.{_printable(key)}"
    if not is_secret_name(key):
        _refuse(where, f"must match {NAME_PATTERN}")
    if spec is not True and not isinstance(spec, str | list | dict):
        _refuse(where, "must be true, a string action, an actions array, or an object")
    # Short forms are `true`, an action and a list of actions; their other members have defaults.
    members = spec if isinstance(spec, dict) else {}
    secret = shaped_at(where, members, _Secret, _refuse)
    words = spec if isinstance(spec, str | list) else secret.actions
    if isinstance(words, str):
        words = [words]
    if not isinstance(words, Sequence) or not words:
        _refuse(where, "actions must be non-empty")
    actions = [_secret_action(word) for word in words]
    if None in actions:
        # MF5: the word is not repeated. It may be the secret's value, written here by mistake, and
        # would appear in logs.
        _refuse_as(
            where,
            f"manifest.{where}: unknown secret action; expected read, write, delete, list, or"
            " metadata",
        )
    _check_expiry(secret.expiry, where)
    with _convert_errors_at(where):
        name = parse_secret_name(secret.name or key, scope=secret.scope)
    return Permission(
        service=VAULT,
        path=name.vault_key,
        actions=distinct(action for action in actions if action is not None),
        space=SECRETS_SPACE,
        skip_prefix=True,
        expiry=secret.expiry,
        description=secret.description,
    )


def _secret_action(word: object) -> str | None:
    """Return the action of a word in a manifest's `secrets`, or None for anything else."""
    if not isinstance(word, str):
        return None
    return SECRET_ACTIONS.get(word.removeprefix(f"{KV}/"))


@contextmanager
def _convert_errors_at(path: str) -> Iterator[None]:
    """Convert `InvalidInput` to `ManifestInvalid` with the path of a JSON member."""
    try:
        yield
    except InvalidInput as exc:
        member = {InvalidSecretName: ".name", InvalidSecretScope: ".scope"}.get(type(exc), "")
        _refuse_as(path + member, printable(exc.message.removeprefix(_FAILED)))


def _refuse(path: str, what: str) -> NoReturn:
    _refuse_as(path, f"{below('manifest', path)} {what}")


def _refuse_as(path: str, detail: str) -> NoReturn:
    fault = Fault(path, detail)
    refusal = ManifestInvalid(f"{_FAILED}{fault.text}")
    refusal.faults = (fault,)
    raise refusal


# --- actions --------------------------------------------------------------------------------------

SECRET_ACTIONS: Mapping[str, str] = {
    "read": "get",
    "write": "put",
    "delete": "del",
    **{action: action for action in ("get", "put", "del", "list", "metadata")},
}
_VAULT_ACTIONS: Mapping[str, str] = {**SECRET_ACTIONS, "head": "get"}
_ENCRYPTION_ACTIONS = ("decrypt", "network.create", "network.revoke")
# Services whose actions are all known; other services may have any.
_ACTIONS: Mapping[str, tuple[str, ...]] = {
    KV: ("get", "put", "del", "delete", "list", "metadata", "*"),
    "tinycloud.capabilities": ("read",),
    "tinycloud.delegation": ("list", "status", "revoke"),
    "tinycloud.space": ("list", "create", "info", "host"),
}


def full_action(service: str, word: str) -> str:
    """Return the full name of an action in a manifest (MF7).

    For example, `get` becomes the ability `tinycloud.kv/get`.

    Raises:
        ManifestInvalid: a known service has no such action (MF19), or the word is not an action.
    """
    if service == VAULT:
        action = _VAULT_ACTIONS.get(word.removeprefix(f"{VAULT}/").removeprefix(f"{KV}/"))
        if action is None:
            expected = "read, write, delete, get, put, del, list, head, or metadata"
            invalid(f'unknown vault action "{_printable(word)}"; expected {expected}')
        return f"{KV}/{action}"
    if service == ENCRYPTION:
        action = word.removeprefix(f"{ENCRYPTION}/")
        if action not in _ENCRYPTION_ACTIONS:
            expected = "decrypt, network.create, or network.revoke"
            invalid(f'unknown encryption action "{_printable(word)}"; expected {expected}')
        return f"{ENCRYPTION}/{action}"
    action = word if "/" in word else f"{service}/{word}"
    action_service, _, name = action.partition("/")
    # An action belongs to the service of its entry, and has one spelling (MF20).
    if action_service != service or _ACTION.fullmatch(name) is None:
        invalid(
            f'"{_printable(word)}" is not an action of {_printable(service)}: use the form "get" or'
            f' "{_printable(service)}/get"'
        )
    if action_service in _ACTIONS and name not in _ACTIONS[action_service]:
        advice = f"it has {', '.join(_ACTIONS[action_service])}"
        near = difflib.get_close_matches(name, _ACTIONS[action_service], 1)
        if near:
            advice = f"did you mean {near[0]}?"
        invalid(f'{action_service} has no action "{_printable(name)}"; {advice}')
    return action


def _is_uri_path(path: str) -> bool:
    """Return whether a path is valid in a resource URI.

    A valid path is parsed back unchanged.
    """
    space = parse_space_id("tinycloud:key:z6Mk:notes")
    resource = SpaceResource(space=space, service="kv", path=path)
    try:
        return parse_resource(resource.text) == resource
    except CapabilityError:
        return False


def _is_space(space: str) -> bool:
    """Return whether a string is the full id of a space, or a short name."""
    is_id = space.startswith("tinycloud:")
    try:
        # A short name is checked as a part of an id, with any owner.
        parse_space_id(space if is_id else f"tinycloud:key:z6Mk:{space}")
    except CapabilityError:
        return False
    return is_id or ":" not in space


def _printable(text: str) -> str:
    return printable(text, most=_MAX_SHOWN_CHARS)


def distinct(items: Iterable[T]) -> tuple[T, ...]:
    """Return the items without duplicates, in their original order."""
    return tuple(dict.fromkeys(items))


def invalid(detail: str) -> NoReturn:
    """Raise ManifestInvalid with the given detail."""
    raise ManifestInvalid(detail)


# --- durations ------------------------------------------------------------------------------------

_DURATION = re.compile(
    r"(?P<number>-?\d*\.?\d+) *(?:"
    r"(?P<millisecond>milliseconds?|msecs?|ms)|(?P<second>seconds?|secs?|s)|(?P<minute>minutes?|mins?|m)"
    r"|(?P<hour>hours?|hrs?|h)|(?P<day>days?|d)|(?P<week>weeks?|w)|(?P<year>years?|yrs?|y))?",
    re.ASCII,
)
# By the name of the last group that matched; a number without a unit is milliseconds.
_UNITS_MS: Mapping[str | None, float] = {
    "number": 1.0,
    "millisecond": 1.0,
    "second": 1_000.0,
    "minute": 60_000.0,
    "hour": 3_600_000.0,
    "day": 86_400_000.0,
    "week": 7 * 86_400_000.0,
    "year": 365.25 * 86_400_000.0,
}


def parse_duration_ms(text: str) -> int:
    """Parse a duration into whole milliseconds.

    The result is at least 1. Raises ManifestInvalid.
    """
    if not text:
        invalid(f'{_FAILED}expiry must be a non-empty duration string (got "")')
    value_ms = 0.0  # refused below, like every duration of less than 1 ms
    if len(text) <= _MAX_SHOWN_CHARS:
        match = _DURATION.fullmatch(text.lower())
        if match is not None:
            value_ms = float(match["number"]) * _UNITS_MS[match.lastgroup]
    if not 1 <= value_ms < 2**53:
        invalid(f'{_FAILED}invalid expiry duration: "{text[:_MAX_SHOWN_CHARS]}"')
    return int(value_ms)
