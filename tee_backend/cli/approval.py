"""What an owner sees of a backend's code before approving it.

The publishers of its images, a comparison with files, and what changed since the last approval.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from capabilities.capability_errors import CapabilityError
from capabilities.strict_json import JsonObject
from capabilities.tokens import parse_delegation
from encryption_network.network_errors import PolicyError
from encryption_network.policy import Policy, policies_of
from sealspace.apps.backends import Seen
from sealspace.apps.descriptions import policy_changes
from sealspace.cli.lazy import is_installed
from sealspace.cli.owner.owner_profile import KeptGrant, owner_home
from sealspace.cli.terminal import time_text

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
        policy: what would be approved; None if the node would refuse the backend.
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


def _published_code(seen: Seen) -> Iterator[str]:
    """Yield the images in the compose file that a backend publishes.

    The quote confirmed the file's hash, so the backend runs this file.
    """
    if seen.published.statement.compose is None:
        return
    if not is_installed("yaml"):
        yield "code           to see the images: pip install 'sealspace[yaml]'"
        return
    from ..measuring.measuring_errors import MeasurementRefused

    try:
        parsed = _published_compose(seen.published.statement.compose)
    except MeasurementRefused as error:
        yield f"warning: {error.message}"
        return
    publishers = ", ".join(parsed.publishers)
    name = f'"{parsed.name}", ' if parsed.name else ""
    yield f"code           {name}images published at {publishers}"
    for image in parsed.images:
        yield f"image          {image.service}: {image.reference}"


def _published_compose(text: str) -> "ComposeFile":
    from ..measuring.compose_files import parse_compose

    return parse_compose(text.encode(), file="the published compose file")


def code_names(seen: Seen, measured: "Measured | None") -> JsonObject | None:
    """Return the names of a backend's code as JSON, or None if no file names them.

    The files are those of `measured`, else the compose file that the backend publishes.
    """
    compose = seen.published.statement.compose
    if measured is None and (compose is None or not is_installed("yaml")):
        return None
    from ..measuring.measuring_errors import MeasurementRefused
    from ..measuring.reference_values import code_json

    if measured is not None:
        return code_json(measured.compose, measured.os_image_hash)
    with suppress(MeasurementRefused):
        return code_json(_published_compose(compose or ""))
    return None


# --- changes since the last approval --------------------------------------------------------------


def _changes(seen: Seen, policy: Policy, *, is_full: bool) -> Iterator[str]:
    """Yield how a policy differs from that of the last grant from this machine."""
    former = _last_grant(seen)
    if former is None:
        yield "approved       nothing yet for this backend on this machine"
        return
    kept, before = former
    granted = kept.portable.cid[:_SHORT_HEX]
    until = kept.portable.expires_at
    ended = "" if until is None else f", until {time_text(until)}"
    # the paths are those of the secrets, which the lines above list
    changes = policy_changes(replace(before, paths=()), replace(policy, paths=()))
    differing = [line for line in changes if not line.startswith("  ")]
    if not differing:
        yield f"approved       the same code as in your grant {granted}…{ended}"
        return
    yield f"approved       your grant {granted}…{ended} was for other code:"
    for line in differing:
        yield f"               {line if is_full else _shortened(line)}"


def _last_grant(seen: Seen) -> tuple[KeptGrant, Policy] | None:
    """Return the newest grant to a backend with a policy on code.

    A changed application may have a new DID, so grants to its address count too.
    """
    found: list[tuple[float, KeptGrant, Policy]] = []
    home = owner_home()
    for kept in (*home.grants_to(seen.did), *home.grants_to(seen.url)):
        with suppress(CapabilityError, PolicyError):
            delegation = parse_delegation(kept.portable.header)
            for policy in policies_of(delegation.facts):
                if policy.is_allow_list:
                    found.append((delegation.not_before or 0.0, kept, policy))
    if not found:
        return None
    _, kept, policy = max(found, key=lambda one: one[0])
    return kept, policy


def _shortened(line: str) -> str:
    """Cut each long hash in a line to its first digits."""
    words = []
    for word in line.split(" "):
        kept = word.rstrip(",")
        is_hash = len(kept) > 2 * _SHORT_HEX and set(kept) <= set("0123456789abcdef")
        words.append(f"{kept[:_SHORT_HEX]}…{word[len(kept) :]}" if is_hash else word)
    return " ".join(words)
