"""Plain-text descriptions of rights, manifests, policies and backends.

Texts of manifests and backends are untrusted; every line is made safe for a terminal.

Example:
    for line in explain(parse_manifest(value)):
        print(line.text)
    print("\\n".join(in_plain_words(seen, policy)))
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple, TypeGuard

from capabilities.clock_and_entropy import time_text
from capabilities.frozen import frozen
from capabilities.strict_json import JsonObject
from encryption_network.key_providers import provider_text
from encryption_network.policy import (
    DEFAULT_TD_ATTRIBUTES,
    REGISTERS,
    Measurements,
    Policy,
    policy_json,
)
from encryption_network.release_record import Mode

from ..delegations import allow
from ..documents.call_conditions import (
    AccountPattern,
    AllowAll,
    Condition,
    Logic,
    Not,
    Owner,
    ValidUntil,
    WasmHash,
    Whitelist,
)
from ..documents.manifest_reading import ENCRYPTION, KV
from ..documents.manifests import (
    Manifest,
    ManifestRequest,
    ResourceRequest,
    compose_manifests,
    not_served,
    served,
)
from ..documents.run_grants import (
    ByBuilds,
    ByHash,
    ProgramRule,
    RunGrant,
    RunStatement,
    read_run_grant,
)
from ..documents.secret_names import secret_at
from ..errors import InvalidInput, InvalidPortableDelegation
from ..printable import printable
from ..session import iso_time
from ..wire.portable import GrantedResource, PortableDelegation, described
from .backends import Seen
from .resource_words import place_of, secrets_at, verb_of

# --- rights ---------------------------------------------------------------------------------------


def granted_resource(resource: str, abilities: tuple[str, ...]) -> GrantedResource:
    """Create the description of a granted resource from its URI and abilities."""
    try:
        (granted,) = described([allow(resource, ability) for ability in abilities])
    except (InvalidInput, ValueError):  # a resource of another kind, or an empty list of abilities
        return GrantedResource(service="", space="", path=resource, actions=abilities)
    return granted


def rights_words(
    rights: Sequence[GrantedResource], *, by: str, with_below: bool = True
) -> tuple[str, ...]:
    """Describe granted resources in plain words.

    Each resource has one line. An encryption network has one line for each ability.
    """
    lines: list[str] = []
    for right in rights:
        place = place_of(right, by, with_below=with_below)
        verbs = [verb_of(ability) for ability in right.actions]
        if right.service == "encryption":
            lines += [f"{verb} {place}" for verb in verbs]
        elif right.service == "capabilities":
            lines.append(f"see the rights {place}")
        else:
            lines.append(f"{', '.join(verbs)} {place}")
    return tuple(lines)


def granted_labels(portable: PortableDelegation) -> list[str]:
    """Return the labels of the secrets in a grant.

    Other values are listed by their paths.
    """
    return [label_at(resource.path) for resource in portable.resources if resource.service == "kv"]


def label_at(path: str) -> str:
    """Return the label of the secret at a path.

    For other values, the result is the path itself.
    """
    secret = secret_at(path)
    return path if secret is None else secret.label


# --- manifests ------------------------------------------------------------------------------------

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


# --- run grants -----------------------------------------------------------------------------------

_MOST_FACT_CHARS = 500


def run_words(run: RunStatement) -> tuple[str, ...]:
    """Describe the permissions that a grant gives a runner.

    The lines name programs, callers, hosts and limits.
    """
    lines = [f"for the program {program_words(rule)}" for rule in run.programs]
    lines.append(f"callers: {caller_words(run.callers)}")
    lines.append(f"it may send to: {', '.join(run.hosts) or 'no host'}")
    lines.append(f"limits of a run: {_limits(run) or 'those of the runner'}")
    if run.allows_unbound:
        lines.append(
            "secrets that do not say where they belong are delivered, too: whoever may write one of"
            " these secrets can have the program read another secret of yours"
        )
    if run.refresh_for:
        lines.append("a job with the token may grant later builds")
    return tuple(lines)


def run_sentence(run: RunStatement) -> str:
    """Summarise in one line what a grant allows a runner to do.

    Long parts are truncated.
    """
    programs = _cut(" or ".join(program_words(rule) for rule in run.programs))
    limits = _limits(run)
    callers = _cut(caller_words(run.callers))
    hosts = _cut(", ".join(run.hosts)) or "no host"
    sentence = f"for {programs}; called by {callers}; sends to {hosts}"
    if run.allows_unbound:
        sentence += "; also values that do not say where they belong"
    return f"{sentence}; at most {limits}" if limits else sentence


def run_grant_of(portable: PortableDelegation) -> RunGrant | None:
    """Parse a grant that lets a runner use secrets, or a job grant.

    Return None if the delegation is not such a grant.
    """
    return run_grant_in(portable.header, portable.delegate_did)


def run_grant_in(header: str, recipient: str) -> RunGrant | None:
    """Parse a delegation to a DID as a run grant or job grant; None if it is neither."""
    # `read_run_grant` expects the recipient of a run grant, and None for a job grant.
    for runner in (recipient, None):
        with suppress(InvalidPortableDelegation):
            return read_run_grant(header, runner=runner)
    return None


def program_words(rule: ProgramRule) -> str:
    """Describe the program that a rule names."""
    if isinstance(rule, ByHash):
        words = f"{rule.wasm_sha256} of {rule.project.text}" if rule.project else rule.wasm_sha256
        return f"{words}, built from {rule.build.words}" if rule.build else words
    if isinstance(rule, ByBuilds):
        return f"{rule.project.text}, {rule.builds.words}; the runner verifies each build"
    return f"{rule.project.text}, whatever version its developer makes the active one"


def caller_words(condition: Condition) -> str:
    """Describe the callers that a condition admits."""
    match condition:
        case Owner():
            return "you alone, or with API keys of yours"  # a key calls in its owner's name (RN90)
        case Whitelist(accounts) if len(accounts) == 1:
            return f"{accounts[0]} alone, or with its API keys"
        case _:
            return _admitted(condition)


def _admitted(condition: Condition) -> str:
    """Return words for the callers whom a condition admits."""
    match condition:
        case AllowAll():
            return "anybody"
        case Owner():
            return "you"
        case Whitelist(accounts):
            return " or ".join(accounts) or "nobody"
        case AccountPattern(pattern):
            return f"anybody whose DID matches {pattern!r}"
        case ValidUntil(until, text):
            return f"anybody before {iso_time(until) if text.isdigit() else text}"
        case WasmHash(sha256):
            return f"anybody who calls {sha256}"
        case Logic("And", conditions):
            return _join_conditions(conditions, "who is also") or "anybody"
        case Logic(_, conditions):
            return _join_conditions(conditions, "or") or "nobody"
        case Not(inner):
            return f"anybody but ({_admitted(inner)})"


def _join_conditions(conditions: tuple[Condition, ...], word: str) -> str:
    if len(conditions) == 1:
        return _admitted(conditions[0])
    return f" {word} ".join(f"({_admitted(condition)})" for condition in conditions)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_FACT_CHARS else f"{text[:_MOST_FACT_CHARS]}…"


def _limits(run: RunStatement) -> str:
    return ", ".join(f"{name} {most}" for name, most in run.limits.stated.items())


# --- policies -------------------------------------------------------------------------------------

MODE_WORDS: Mapping[Mode, str] = {
    "everyone": "proof of approved code from everyone, the owner included",
    "delegates": "nothing from the owner in person, machine tokens and CI jobs; from everyone else"
    " proof of approved code",
    "off": "nothing: it opens for everyone with a grant, whatever their code is",
}
"""Release mode of a node to the proof that it requires before it opens anything."""
_DAY_S = 86_400


def policy_words(policy: Policy | None) -> tuple[str, ...]:
    """Describe every part of a key-release policy.

    Equal descriptions mean equal policies.
    """
    if policy is None:
        return ("there is no policy on code",)
    lines = [_code(measurement) for measurement in policy.measurements] or [
        "approves no code by itself: a grant has to name it"
    ]
    listed: dict[str, Sequence[str | bytes]] = {
        "compose file": policy.compose_hashes,
        "app id": policy.app_ids,
        "keys of the application from": [*map(provider_text, policy.key_providers)],
        "attributes of the trust domain": policy.td_attributes,
        "platform": policy.platform_ids,
        "platform status": policy.tcb_statuses,
    }
    for name, values in listed.items():
        for value in values:
            shown = value.hex() if isinstance(value, bytes) else value
            lines.append(f"{name} {shown}")
    if policy.tcb_grace_s is not None:
        lines.append(
            f"outdated platforms for {policy.tcb_grace_s / _DAY_S:g} days after the date of their"
            " level"
        )
    lines += [f"platforms with the advisory {advisory}" for advisory in policy.advisories]
    if policy.min_evaluation_number:
        lines.append(f"judged by collateral of number {policy.min_evaluation_number} or newer")
    if policy.max_age_s is not None:
        lines.append(f"attested at most {policy.max_age_s} s ago")
    if policy.receiver == "signed":
        lines.append(
            "keys go to any receiver key that the code's DID signed, not only to the attested one"
        )
    lines += [f"only what is stored at {path}" for path in policy.paths]
    if not policy.in_person:
        lines.append("the owner's own sessions have to prove their code too")
    return tuple(lines)


def policy_changes(before: Policy | None, after: Policy | None) -> tuple[str, ...]:
    """Describe the changes to a key-release policy as a diff.

    If each policy names one code, each of its registers has a line of its own.
    """
    old = policy_words(before)
    new = policy_words(after)
    if _has_one_code(before) and _has_one_code(after):
        old = _register_lines(before) + old[1:]
        new = _register_lines(after) + new[1:]
    changes = [f"- {line}" for line in old if line not in new]
    for line in new:
        mark = "  " if line in old else "+ "
        changes.append(mark + line)
    return tuple(changes)


def _code(entry: Measurements) -> str:
    return f"code {', '.join(_registers(entry))}"


def _registers(entry: Measurements) -> tuple[str, ...]:
    lines = [f"{name.upper()} {getattr(entry, name).hex()}" for name in REGISTERS[:-1]]
    return (*lines, f"RTMR3 {hex_of(entry.rtmr3) or 'as the compose file makes it'}")


def _has_one_code(policy: Policy | None) -> TypeGuard[Policy]:
    return policy is not None and len(policy.measurements) == 1


def _register_lines(policy: Policy) -> tuple[str, ...]:
    return tuple(f"code {line}" for line in _registers(policy.measurements[0]))


def hex_of(value: bytes | None) -> str | None:
    """Return a measurement in hexadecimal, or None."""
    return None if value is None else value.hex()


# --- backends -------------------------------------------------------------------------------------

SOON_S = 5 * 86_400.0
"""Remaining validity of collateral below which to warn, seconds: releases stop when it ends."""

_OS_IMAGE = ("mrtd", "rtmr0", "rtmr1", "rtmr2")
"""The values that tell the operating system's image."""
_MOST_NAME_CHARS = 40
_MOST_ENTRY_CHARS = 160
_MOST_SHOWN = 32
_RUNNER_LINES = (
    (
        "runner         runs programs of others; a grant says which programs, for which callers,"
        " and where they may send"
    ),
    (
        "               the node checks the runner's code; the runner alone checks programs,"
        " callers and hosts"
    ),
)
_ATTRIBUTE_BITS = {
    0: "DEBUG",
    16: "ICSSD",
    27: "LASS",
    28: "SEPT_VE_DISABLE",
    30: "PKS",
    63: "PERFMON",
}


def in_plain_words(seen: Seen, policy: Policy | None = None) -> tuple[str, ...]:
    """Describe a backend in plain words.

    Each line states one fact. With `policy`, the result also describes a grant under this policy.
    """
    lines = _facts(seen)
    if policy is not None:
        lines += _lines_about_policy(policy)
    lines += [f"warning: {warning}" for warning in warnings(seen)]
    return tuple(lines)


def warnings(seen: Seen) -> tuple[str, ...]:
    """Return warnings for an owner who grants secrets to a backend."""
    evidence = seen.verified.evidence
    texts = []
    if not seen.verified.root_is_intel:
        texts.append(
            "the platform's root certificate is not Intel's: its owner can forge any evidence"
        )
    if evidence.compose_hash is None:
        texts.append(
            "there is no event log: the code is known by its registers only, not by a compose file"
        )
    else:
        if not seen.same_as_files.issuperset(_OS_IMAGE):
            texts.append(
                "a compose hash proves nothing on an unknown image: compare MRTD and RTMR0 to RTMR2"
                " too"
            )
        is_file_known = seen.published.statement.compose is not None
        if not is_file_known and "composeHash" not in seen.same_as_files:
            texts.append(
                "it does not publish its compose file: compare the compose hash with that of the"
                " file that you reviewed"
            )
    if evidence.tcb_status != "UpToDate":
        texts.append(f"the platform's status is {evidence.tcb_status}")
    if evidence.advisories:
        texts.append(f"advisories apply to the platform: {', '.join(evidence.advisories)}")
    if evidence.td_attributes != DEFAULT_TD_ATTRIBUTES:
        texts.append(
            f"unusual attributes of the trust domain: {_attributes(evidence.td_attributes)}"
        )
    end = _collateral_end(seen)
    if end - seen.seen_at < SOON_S:
        texts.append(
            f"the collateral expires at {time_text(end)}: releases then stop unless it is renewed"
        )
    if seen.further_wishes:
        texts.append(
            "its manifest requests more, which a grant does not include:"
            f" {_join_first(seen.further_wishes, '; ')}"
        )
    return tuple(texts)


def as_json(seen: Seen, policy: Policy | None = None) -> JsonObject:
    """Return a backend's description as JSON.

    Bytes are in hex, and times in RFC 3339.
    """
    evidence = seen.verified.evidence
    return {
        "url": seen.url,
        "did": seen.did,
        "name": seen.published.statement.manifest.name,
        "isRunner": seen.is_runner,
        "composeHash": hex_of(evidence.compose_hash),
        "appId": hex_of(evidence.app_id),
        "keyProvider": evidence.key_provider,
        "measurements": {name: getattr(evidence, name).hex() for name in REGISTERS},
        "tdAttributes": evidence.td_attributes.hex(),
        "debug": _is_debugged(seen),
        "tcbStatus": evidence.tcb_status,
        "tcbDate": time_text(evidence.tcb_date),
        "advisories": list(evidence.advisories),
        "evaluationNumber": evidence.evaluation_number,
        "platformFamily": evidence.fmspc.hex(),
        "rootIsIntel": seen.verified.root_is_intel,
        "collateral": [
            {
                "part": window.name,
                "from": time_text(window.starts_at),
                "until": time_text(window.ends_at),
            }
            for window in seen.verified.windows
        ],
        "secrets": [secret.label for secret in seen.wanted],
        "furtherWishes": list(seen.further_wishes),
        "warnings": list(warnings(seen)),
        "policy": None if policy is None else policy_json(policy),
        "seenAt": time_text(seen.seen_at),
    }


def _facts(seen: Seen) -> list[str]:
    """Describe in lines of text what a backend states, and what its evidence proves."""
    evidence = seen.verified.evidence
    stated = seen.published.statement
    root = "Intel"
    if not seen.verified.root_is_intel:
        root = f"NOT Intel: {evidence.root_ca_sha256.hex()}"
    # The collateral is as old as its newest part.
    made_at = max((window.starts_at for window in seen.verified.windows), default=0.0)
    age_s = seen.seen_at - made_at
    age = f"{age_s / _DAY_S:.0f} days"
    if age_s < 2 * _DAY_S:
        age = f"{max(age_s, 0) / 3600:.0f} h"
    secrets = _join_first([secret.label for secret in seen.wanted], ", ")
    return [
        (
            f"backend        at {seen.url}, calls itself {_quote(stated.manifest.name)}"
            f" {_quote(stated.manifest.app_id)}"
        ),
        f"did            {seen.did}",
        f"asks to read   {secrets or 'no secret'}",
        *(_RUNNER_LINES if seen.is_runner else ()),
        f"compose hash   {hex_of(evidence.compose_hash) or 'none (no event log)'}",
        f"app id         {hex_of(evidence.app_id) or 'none'}",
        f"key provider   {provider_text(evidence.key_provider or 'none')}",
        *(f"{name.upper():<14} {getattr(evidence, name).hex()}" for name in REGISTERS),
        (
            f"attributes     {_attributes(evidence.td_attributes)}; debug"
            f" {'ON' if _is_debugged(seen) else 'off'}"
        ),
        (
            f"platform       {evidence.tcb_status}, level of {time_text(evidence.tcb_date)}, "
            f"advisories {', '.join(evidence.advisories) or 'none'}"
        ),
        (
            f"collateral     {age} old, number {evidence.evaluation_number}, "
            f"valid until {time_text(_collateral_end(seen))}"
        ),
        f"root           {root}",
    ]


def _lines_about_policy(policy: Policy) -> list[str]:
    """Return the lines that say what a grant with a policy names and requires."""
    registers = "MRTD, RTMR0-2" if policy.measurements[0].rtmr3 is None else "MRTD, RTMR0-3"
    code = [
        f"image {registers}",
        *(f"compose hash {compose_hash.hex()[:16]}…" for compose_hash in policy.compose_hashes),
    ]
    code += [f"app id {app_id.hex()[:16]}…" for app_id in policy.app_ids]
    code += [f"keys from {provider[:24]}" for provider in policy.key_providers]
    terms = [
        f"platform {' or '.join(policy.tcb_statuses)}",
        f"advisories {', '.join(policy.advisories) or 'none'}",
    ]
    return [
        f"a grant names  this DID; {', '.join(code)}",
        f"and requires   {'; '.join(terms)}; keys wrapped only to the attested receiver key",
        *(f"for            {path}" for path in policy.paths),
    ]


def _quote(text: str) -> str:
    return f'"{printable(text, most=_MOST_NAME_CHARS)}"'


def _join_first(texts: Sequence[str], separator: str) -> str:
    more = len(texts) - _MOST_SHOWN
    shown = separator.join(printable(text, most=_MOST_ENTRY_CHARS) for text in texts[:_MOST_SHOWN])
    return shown if more <= 0 else f"{shown}{separator}and {more} more"


def _is_debugged(seen: Seen) -> bool:
    return bool(seen.verified.evidence.td_attributes[0] & 1)


def _collateral_end(seen: Seen) -> float:
    return min((window.ends_at for window in seen.verified.windows), default=0.0)


def _attributes(attributes: bytes) -> str:
    value = int.from_bytes(attributes, "little")
    names = []
    for bit in range(64):
        is_set = (value >> bit) & 1
        if is_set:
            names.append(_ATTRIBUTE_BITS.get(bit, f"bit {bit}"))
    return ", ".join(names) or "none"
