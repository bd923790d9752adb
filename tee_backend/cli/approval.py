"""What an owner sees of a backend's code before approving it.

The publishers of its images, a comparison with files, and what changed since the last approval.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from capabilities.capability_errors import CapabilityError
from capabilities.strict_json import JsonObject
from capabilities.tokens import parse_delegation
from encryption_network.network_errors import PolicyError
from encryption_network.policy import Policy, policies_of
from sealspace.apps.backends import Seen
from sealspace.cli.lazy import is_installed
from sealspace.cli.owner.owner_profile import KeptGrant, owner_home
from sealspace.cli.terminal import time_text
from sealspace.documents.app_names import AppNames, is_alike, quoted_name, read_app_names
from sealspace.giving.words.policies import policy_changes
from sealspace.service.command_errors import ExtraMissing
from sealspace.wire.portable import PortableDelegation

from .backend_measure import code_lines, compared, compared_lines

if TYPE_CHECKING:  # the parser of compose files needs the extra `yaml`
    from ..measuring.compose_files import ComposeFile
    from ..measuring.reference_values import Measured

_SHORT_HEX = 16


def approval_lines(
    seen: Seen, policy: Policy | None, measured: "Measured | None", *, is_full: bool
) -> Iterator[str]:
    """Yield what helps an owner to decide about a backend's code.

    Args:
        seen: the verified backend.
        policy: the policy that would be approved; None if the node would refuse the backend.
        measured: the values that follow from files; None without files.
        is_full: whether hashes are printed completely.
    """
    if measured is not None:
        yield from code_lines(measured)
        yield from compared_lines(compared(measured, seen), is_full=is_full)
        yield f"sources        {measured.sources}"
    else:
        yield from _published_code(seen)
    if policy is not None:
        yield from _changes(seen, policy, is_full=is_full)


def known_compose(seen: Seen, measured: "Measured | None") -> "ComposeFile | None":
    """Return the compose file of a backend's code, or None if nobody showed it.

    It is the file of `measured`, else the one that the backend publishes, whose hash the quote
    confirmed.

    Raises:
        ExtraMissing: the file cannot be read without the extra `yaml`.
        MeasurementRefused: the published file cannot be read, so nothing of it is approved.
    """
    if measured is not None:
        return measured.compose
    text = seen.published.statement.compose
    if text is None:
        return None
    if not is_installed("yaml"):
        raise ExtraMissing(
            "what the backend's code may do is not known: the extra `yaml` is not installed",
            hint="pip install 'sealspace[yaml]'",
        )
    from ..measuring.compose_files import parse_compose

    return parse_compose(text.encode(), file="the published compose file", is_pinned=False)


def compose_lines(compose: "ComposeFile | None") -> Iterator[str]:
    """Yield what would be approved, in a sentence, and then what is not harmless."""
    if compose is None:
        return
    name = f'the application "{compose.name}"' if compose.name else "an application"
    publishers = ", ".join(dict.fromkeys(compose.publishers)) or "nobody"
    number = "1 image" if len(compose.images) == 1 else f"{len(compose.images)} images"
    yield f"to approve     {name}, which runs {number} published at {publishers}"
    for text in compose.line_texts:
        yield f"allows         {text}"
    if compose.lines:
        yield f"allow with     --allow {compose.lines_digest}"


def shown_compose_lines(seen: Seen, measured: "Measured | None") -> Iterator[str]:
    """Yield the lines of `compose_lines`, or why they are not known; nothing is granted."""
    from ..measuring.measuring_errors import MeasurementRefused

    try:
        yield from compose_lines(known_compose(seen, measured))
    except (ExtraMissing, MeasurementRefused) as error:
        yield f"warning: {error.message}; next: {error.hint}"


def _published_code(seen: Seen) -> Iterator[str]:
    """Yield the images in the compose file that a backend publishes."""
    from ..measuring.measuring_errors import MeasurementRefused

    with suppress(ExtraMissing, MeasurementRefused):
        compose = known_compose(seen, None)
        for image in () if compose is None else compose.images:
            yield f"image          {image.service}: {image.reference or 'none'}"


def code_names(seen: Seen, measured: "Measured | None") -> JsonObject | None:
    """Return the names of a backend's code as JSON, or None if no file names them.

    The files are those of `measured`, else the compose file that the backend publishes.
    """
    from ..measuring.measuring_errors import MeasurementRefused

    os_image_hash = "" if measured is None else measured.os_image_hash
    try:
        compose = known_compose(seen, measured)
    except (ExtraMissing, MeasurementRefused):
        return None
    if compose is None:
        return None
    from ..measuring.reference_values import code_json

    return code_json(compose, os_image_hash)


def allowed_names(seen: Seen, measured: "Measured | None") -> JsonObject:
    """Return what a backend's compose file allows as JSON; null if the file is not known."""
    from ..measuring.measuring_errors import MeasurementRefused

    compose = None
    with suppress(ExtraMissing, MeasurementRefused):
        compose = known_compose(seen, measured)
    if compose is None:
        return {"allows": None, "allowDigest": None}
    return {"allows": [*compose.line_texts], "allowDigest": compose.lines_digest}


# --- signed names ---------------------------------------------------------------------------------

_MOST_SHOWN_NAMESAKES = 3


def name_lines(app: AppNames | None, seen: Seen) -> Iterator[str]:
    """Yield the name that is to be signed, and the grants to others that have a similar name.

    Two builds of one name cannot be told apart in a list, so the owner sees this before signing.
    """
    if app is None:
        return
    yield f"name           {quoted_name(app.name)}, signed with the grant"
    namesakes = []
    for kept_grant in owner_home().grants():
        portable = kept_grant.portable
        other_app = read_app_names(portable.header)
        if portable.delegate_did != seen.did and other_app is not None and is_alike(other_app, app):
            namesakes.append(portable)
    for portable in namesakes[-_MOST_SHOWN_NAMESAKES:]:
        short_cid = portable.cid[:_SHORT_HEX]
        yield f"warning: your grant {short_cid}… to {portable.delegate_did} has a similar name"


def signed_name(portable: PortableDelegation) -> str | None:
    """Return the name that a grant made on this machine states for its code, or None."""
    app = read_app_names(portable.header)
    return None if app is None else app.name or None


# --- changes since the last approval --------------------------------------------------------------


def _changes(seen: Seen, policy: Policy, *, is_full: bool) -> Iterator[str]:
    """Yield how a policy differs from that of the last grant from this machine."""
    approved = _last_approval(seen)
    if approved is None:
        yield "approved       nothing yet for this backend on this machine"
        return
    short_cid = approved.grant.portable.cid[:_SHORT_HEX]
    expires_at = approved.grant.portable.expires_at
    name = signed_name(approved.grant.portable)
    if name is not None:
        yield f"you called it  {quoted_name(name)} in your grant {short_cid}…"
    until = "" if expires_at is None else f", until {time_text(expires_at)}"
    # The paths are those of the secrets, which the lines above list.
    policy_lines = policy_changes(replace(approved.policy, paths=()), replace(policy, paths=()))
    changed_lines = [line for line in policy_lines if not line.startswith("  ")]
    if not changed_lines:
        yield f"approved       the same code as in your grant {short_cid}…{until}"
        return
    yield f"approved       your grant {short_cid}…{until} was for other code:"
    for line in changed_lines:
        yield f"               {line if is_full else _shorten_hashes(line)}"


class _Approval(NamedTuple):
    """A policy on code that an owner granted to.

    `granted_at` is in epoch seconds; 0 if the grant does not state it.
    """

    granted_at: float
    grant: KeptGrant
    policy: Policy


def _last_approval(seen: Seen) -> _Approval | None:
    """Return the newest grant to a backend with a policy on code; None if there is none.

    A changed application may have a new DID, so grants to its address count too.
    """
    approvals = []
    home = owner_home()
    for grant in (*home.grants_to(seen.did), *home.grants_to(seen.url)):
        # Grants that this version cannot read are left out.
        with suppress(CapabilityError, PolicyError):
            delegation = parse_delegation(grant.portable.header)
            for policy in policies_of(delegation.facts):
                if policy.is_allow_list:
                    granted_at = delegation.not_before or 0.0
                    approvals.append(_Approval(granted_at=granted_at, grant=grant, policy=policy))
    return max(approvals, key=attrgetter("granted_at"), default=None)


def _shorten_hashes(line: str) -> str:
    """Cut each long hash in a line to its first digits."""
    words = []
    for word in line.split(" "):
        word_without_comma = word.rstrip(",")
        commas = word[len(word_without_comma) :]
        is_hex = set(word_without_comma) <= set("0123456789abcdef")
        if is_hex and len(word_without_comma) > 2 * _SHORT_HEX:
            words.append(f"{word_without_comma[:_SHORT_HEX]}…{commas}")
        else:
            words.append(word)
    return " ".join(words)
