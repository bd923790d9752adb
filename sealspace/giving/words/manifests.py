"""What app manifests request, in plain words.

Texts of manifests are untrusted; every line is made safe for a terminal.

Example:
    for line in explain(parse_manifest(value)):
        print(line.text)
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from capabilities.clock_and_entropy import time_text
from capabilities.frozen import frozen

from ...documents.manifest_reading import ENCRYPTION, KV
from ...documents.manifests import (
    Manifest,
    ManifestRequest,
    ResourceRequest,
    compose_manifests,
    not_served,
    served,
)
from ...printable import printable
from .rights import secrets_at, verb_of

Kind = Literal[
    "app",
    "secret",
    "values",
    "network",
    "account",
    "capabilities",
    "other",
    "lifetime",
    "not-served",
    "note",
]
"""The subject of a line."""

SESSION = "the app"
"""The subject of lines without a DID: the session of the person who signs in to the app."""

_MAX_LINE_CHARS = 600
_SPANS_MS = ((86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second"))


@frozen
class ExplainedLine:
    """One line in the description of a manifest."""

    kind: Kind
    text: str
    who: str | None = None
    space: str | None = None
    path: str | None = None
    actions: tuple[str, ...] = ()
    lifetime_ms: int | None = None

    def __post_init__(self) -> None:
        """Replace terminal control characters in the text of the line."""
        object.__setattr__(self, "text", printable(self.text, most=_MAX_LINE_CHARS))


def explain(
    asked: Manifest | ManifestRequest, *, features: Sequence[str] = (), now: float | None = None
) -> tuple[ExplainedLine, ...]:
    """Describe the permissions requested by app manifests."""
    if isinstance(asked, Manifest):
        asked = compose_manifests([asked], include_account_registry_permissions=False)
    lines = [
        ExplainedLine("app", f"{manifest.name} ({manifest.app_id}) asks for this:")
        for manifest in asked.manifests
    ]
    lines += _describe_part(None, asked.resources, asked.expiry_ms, features, now)
    for target in asked.delegation_targets:
        lines += _describe_part(target.did, target.resources, target.expiry_ms, features, now)
    for unserved in not_served(asked.resources, features):
        abilities = tuple(f"{unserved.service}/{action}" for action in unserved.actions)
        lines.append(ExplainedLine("not-served", unserved.text, actions=abilities))
    for manifest in asked.manifests:
        if manifest.defaults != "none":
            why = "because it states no defaults"
            if isinstance(manifest.source, dict) and "defaults" in manifest.source:
                why = f'by its defaults "{manifest.defaults}"'
            text = f"{manifest.name} gets the default permissions of an app {why}"
            lines.append(ExplainedLine("note", f'{text}: `"defaults": false` leaves them out'))
    return tuple(lines)


def _describe_part(
    who: str | None,
    resources: Sequence[ResourceRequest],
    expiry_ms: int,
    features: Sequence[str],
    now: float | None,
) -> list[ExplainedLine]:
    """Describe the requested permissions of one recipient.

    Permissions that exist for every space are described in one line.
    """
    subject = who or SESSION
    served_resources = served(resources, features, leave_out=True)
    lines = [
        _describe_resource(who, resource, expiry_ms)
        for resource in served_resources
        if resource.origin not in ("account", "capabilities")
    ]
    if any(resource.origin == "account" for resource in served_resources):
        text = f"{subject} may keep the account's list of apps and spaces, in the space account"
        lines.append(ExplainedLine("account", text, who=who, space="account"))
    readable_spaces = [
        resource.space for resource in served_resources if resource.origin == "capabilities"
    ]
    if readable_spaces and lines and who is None:  # a DID never gets it (IP2)
        text = f"{subject} may see what was granted in {_join_with_and(readable_spaces)}"
        lines.append(ExplainedLine("capabilities", text))
    if not lines:
        return [ExplainedLine("note", f"{subject} gets nothing", who=who)]
    lines.append(_describe_lifetime(who, expiry_ms, now))
    return lines


def _describe_resource(who: str | None, request: ResourceRequest, expiry_ms: int) -> ExplainedLine:
    """Describe what a recipient may do with a requested resource.

    `expiry_ms` is the lifetime of resources without one of their own.
    """
    requested = _describe_requested(request)
    actions = _join_with_and([verb_of(action) for action in request.actions])
    text = f"{who or SESSION} may {actions} {requested.words}"
    if request.expiry_ms is not None:
        # The session of the app (no `who`) lasts as long as its sign-in, whatever it asks for.
        text += ", for " if who else "; asked for "
        text += _span(request.expiry_ms)
    if request.description:
        text += f": {request.description}"
    return ExplainedLine(
        kind=requested.kind,
        text=text,
        who=who,
        space=request.path if request.service == ENCRYPTION else request.space,
        path=requested.path,
        actions=request.actions,
        lifetime_ms=expiry_ms if request.expiry_ms is None else request.expiry_ms,
    )


def _describe_lifetime(who: str | None, expiry_ms: int, now: float | None) -> ExplainedLine:
    """Describe for how long a recipient gets the permissions."""
    span = _span(expiry_ms)
    if who is None:
        text = f"{SESSION} gets this for as long as its sign-in lasts; it asks for {span}"
    else:
        until = "" if now is None else f", until {time_text(now + expiry_ms / 1000)}"
        text = f"{who} gets this for {span}{until}, or as long as the owner's session may grant it"
    return ExplainedLine("lifetime", text, who=who, lifetime_ms=expiry_ms)


class _Requested(NamedTuple):
    """The description of a requested resource."""

    kind: Kind
    words: str
    path: str | None


def _describe_requested(request: ResourceRequest) -> _Requested:
    """Describe one request of a manifest."""
    if request.service == ENCRYPTION:
        words = f"the encryption network {request.path}"
        return _Requested(kind="network", words=words, path=None)
    is_whole = request.path in ("", "/")
    if request.service != KV:
        where = "" if is_whole else f" on {request.path}"
        words = f"with {request.service}{where} in the space {request.space}"
        return _Requested(kind="other", words=words, path=request.path)
    secrets = secrets_at(request.space, request.path)
    if secrets is not None:
        return _Requested(kind="secret", words=secrets.words, path=secrets.label)
    if is_whole:
        values = "every value"
    elif request.path.endswith("/"):
        values = f"values below {request.path}"
    else:
        values = request.path
    return _Requested(
        kind="values", words=f"{values} in the space {request.space}", path=request.path
    )


def _join_with_and(words: Sequence[str]) -> str:
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _span(lifetime_ms: int) -> str:
    for unit_ms, name in _SPANS_MS:
        count, rest = divmod(lifetime_ms, unit_ms)
        if count and not rest:
            return f"{count} {name}" if count == 1 else f"{count} {name}s"
    return f"{lifetime_ms} milliseconds"
