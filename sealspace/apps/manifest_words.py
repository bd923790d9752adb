"""What a manifest asks for, in words: who gets what, in which space, until when, which secrets, which network.

Texts of a manifest are untrusted: in every line they are made fit for a terminal.

Example:
    for line in explain(parse_manifest(value)):
        print(line.text)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ..documents.manifest_reading import ENCRYPTION, KV
from ..documents.manifests import (
    DelegationTarget,
    Manifest,
    ManifestRequest,
    NotServed,
    ResourceRequest,
    compose_manifests,
    not_served,
    served,
)
from ..documents.secret_names import SECRETS_SPACE, list_prefix, secret_at
from ..printable import printable
from ..tokens import shown_time

Kind = Literal[
    "app", "secret", "values", "network", "account", "capabilities", "other", "lifetime", "not-served", "note"
]
"""What a line is about: one of these words."""

SESSION: Final = "the app"
"""Who acts in a line without a DID: the session of the person who signs in to the app."""

_WORDS: Final = {
    f"{KV}/get": "read",
    f"{KV}/put": "write",
    f"{KV}/del": "delete",
    f"{KV}/list": "list",
    f"{KV}/metadata": "see the metadata of",
    f"{ENCRYPTION}/decrypt": "decrypt with",
    f"{ENCRYPTION}/network.create": "create",
    f"{ENCRYPTION}/network.revoke": "revoke",
}
_MAX_LINE_CHARS: Final = 600
_SPANS_MS: Final = ((86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedLine:
    """One statement about a manifest.

    Attributes:
        kind: what it is about.
        text: the whole statement, one printable line.
        who: DID of the recipient; None: the session of whoever signs in to the app.
        space: space or network it is about; None: none in particular.
        path: raw path in the space; for a secret its label, `NAME` or `scope/NAME`.
        actions: full abilities.
        lifetime_ms: for how long it is asked for, milliseconds.
    """

    kind: Kind
    text: str
    who: str | None = None
    space: str | None = None
    path: str | None = None
    actions: tuple[str, ...] = ()
    lifetime_ms: int | None = None


def explain(
    asked: Manifest | ManifestRequest, *, features: Sequence[str] = (), now: float | None = None
) -> tuple[ExplainedLine, ...]:
    """Say what a manifest, or a composed request, asks for.

    Args:
        asked: a checked manifest, or what `compose_manifests` made of several.
        features: of the node, see `manifests.not_served`.
        now: epoch seconds; with it, lines also say until when.
    Returns:
        First who asks, then what the app's own session gets, then each DID's part, then what is left out and why.
    """
    if isinstance(asked, Manifest):
        return explain(
            compose_manifests([asked], include_account_registry_permissions=False), features=features, now=now
        )
    lines = [_line("app", f"{one.name} ({one.app_id}) asks for this:") for one in asked.manifests]
    lines += _part(None, asked.resources, asked.expiry_ms, features, now)
    for target in asked.delegation_targets:
        lines += _target(target, features, now)
    lines += [_left_out(one) for one in not_served(asked.resources, features)]
    lines += [_defaults(one) for one in asked.manifests if one.defaults != "none"]
    return tuple(lines)


def _target(target: DelegationTarget, features: Sequence[str], now: float | None) -> list[ExplainedLine]:
    return _part(target.did, target.resources, target.expiry_ms, features, now)


def _part(
    who: str | None, resources: Sequence[ResourceRequest], expiry_ms: int, features: Sequence[str], now: float | None
) -> list[ExplainedLine]:
    """Say what one recipient gets; the rows that every space brings are one line."""
    subject = SESSION if who is None else who
    kept = served(resources, features, leave_out=True)
    lines = [_resource(one, who, subject, expiry_ms) for one in kept if one.origin not in ("account", "capabilities")]
    if any(one.origin == "account" for one in kept):
        text = f"{subject} may keep the account's list of apps and spaces, in the space account"
        lines.append(_line("account", text, who=who, space="account"))
    read = [one.space for one in kept if one.origin == "capabilities"]
    if read and lines and who is None:  # a DID never gets it (IP2)
        lines.append(_line("capabilities", f"{subject} may see what was granted in {_listed(read)}"))
    if not lines:
        return [_line("note", f"{subject} gets nothing", who=who)]
    span = _span(expiry_ms)
    if who is None:
        text = f"{subject} gets this for as long as its sign-in lasts; it asks for {span}"
    else:
        until = "" if now is None else f", until {shown_time(now + expiry_ms / 1000)}"
        text = f"{subject} gets this for {span}{until}, or as long as the owner's session may grant it"
    return [*lines, _line("lifetime", text, who=who, lifetime_ms=expiry_ms)]


def _resource(one: ResourceRequest, who: str | None, subject: str, expiry_ms: int) -> ExplainedLine:
    verbs = _listed([_WORDS.get(action, action) for action in one.actions])
    kind, place, path = _place(one)
    text = f"{subject} may {verbs} {place}"
    if one.expiry_ms is not None:
        text += f", for {_span(one.expiry_ms)}" if who else f"; asked for {_span(one.expiry_ms)}"
    if one.description:
        text += f": {one.description}"
    return _line(
        kind,
        text,
        who=who,
        space=one.path if one.service == ENCRYPTION else one.space,
        path=path,
        actions=one.actions,
        lifetime_ms=expiry_ms if one.expiry_ms is None else one.expiry_ms,
    )


def _place(one: ResourceRequest) -> tuple[Kind, str, str | None]:
    """Return the kind of a resource, its name in words, and the path that a line shows."""
    if one.service == ENCRYPTION:
        return "network", f"the encryption network {one.path}", None
    whole = one.path in ("", "/")
    folder = list_prefix(None)
    if one.service == KV and one.space == SECRETS_SPACE and f"{one.path}/".startswith(folder):
        label = one.path[len(folder) :].removeprefix("scoped/")
        below = f"the owner's secrets{label and f' below {label}'}, those that begin with PROTECTED_ too"
        return "secret", below if secret_at(one.path) is None else f"the secret {label}", label
    if one.service == KV:
        below = "every value" if whole else f"values below {one.path}" if one.path.endswith("/") else f"{one.path}"
        return "values", f"{below} in the space {one.space}", one.path
    where = "" if whole else f" on {one.path}"
    return "other", f"with {one.service}{where} in the space {one.space}", one.path


def _left_out(one: NotServed) -> ExplainedLine:
    return _line("not-served", one.text, actions=tuple(f"{one.service}/{action}" for action in one.actions))


def _defaults(manifest: Manifest) -> ExplainedLine:
    """Say what the tier of a manifest brought, whether it was named or not."""
    named = isinstance(manifest.source, dict) and "defaults" in manifest.source
    why = f'of its defaults "{manifest.defaults}"' if named else "because it does not say otherwise"
    return _line(
        "note",
        f'{manifest.name} gets the default permissions of an app {why}: `"defaults": false` leaves them out',
    )


def _line(
    kind: Kind,
    text: str,
    *,
    who: str | None = None,
    space: str | None = None,
    path: str | None = None,
    actions: tuple[str, ...] = (),
    lifetime_ms: int | None = None,
) -> ExplainedLine:
    return ExplainedLine(
        kind=kind,
        text=printable(text, most=_MAX_LINE_CHARS),
        who=who,
        space=space,
        path=path,
        actions=actions,
        lifetime_ms=lifetime_ms,
    )


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _span(lifetime_ms: int) -> str:
    for unit_ms, name in _SPANS_MS:
        count, rest = divmod(lifetime_ms, unit_ms)
        if count and not rest:
            return f"{count} {name}" if count == 1 else f"{count} {name}s"
    return f"{lifetime_ms} milliseconds"
