"""Granting to what was seen: ask a backend for its evidence, have it verified, and grant to exactly
that code.

An owner has the address of a backend and wants to know what runs there before anything is granted.
`fetch_evidence` asks it with a fresh nonce and has the answer verified, on the owner's own machine and
with the owner's own collateral; what it returns says in plain words what was seen
(`in_plain_words`). `Backends.grant` then delegates the secrets that the backend's manifest asks
for, on the condition that only that exact code opens them.

Where the evidence came from proves nothing by itself: a grant names the DID and the code in the
quote, so that relaying another backend's evidence gains nothing.

Example:
    seen = await fetch_evidence(backend_url, inspector)  # an `Inspector` of tee_backend.attestation.inspection
    print("\\n".join(in_plain_words(seen, policy_for(seen, ttl_s=86_400))))
    portable = await client.backends.grant(seen, ["API_KEY"], wallet=wallet)
    await deliver(seen.url, portable)
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Final, Literal, Protocol, TypeAlias

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.clock_and_entropy import Clock, Entropy, SystemClock, SystemEntropy
from capabilities.strict_base64 import encode_url
from encryption_network.judgement import Refusal, judge
from encryption_network.key_providers import NAMES, is_accepted, parse_key_provider
from encryption_network.network_errors import PolicyError
from encryption_network.policy import (
    DEFAULT_TD_ATTRIBUTES,
    GRACE_STATUSES,
    MAX_SECONDS,
    Evidence,
    Measurements,
    Policy,
)

from ..delegations import DELEGATION_TTL_S, Delegations
from ..documents.manifest_reading import KV
from ..documents.manifests import ResourceRequest, resolve_manifest
from ..documents.published import (
    EVIDENCE_PATH,
    GRANTS_PATH,
    MAX_PUBLISHED_BYTES,
    NONCE_BYTES,
    Published,
    parse_published,
)
from ..documents.secret_names import SECRETS_SPACE, SecretName, secret_at
from ..errors import (
    BackendAnswerInvalid,
    BackendNotAcceptable,
    BackendNotExpected,
    BackendUnreachable,
    GrantNotTaken,
    InvalidInput,
    NodeTimeout,
    NotFound,
    ResponseTooLarge,
    TransportError,
)
from ..printable import printable
from ..session import capability, network_of_owner, space_of
from ..wallets import AnyWallet
from ..wire.caller import Caller
from ..wire.node_refusals import refusal_of
from ..wire.portable import PortableDelegation, encode_bundle
from ..wire.transport import Answer, Request, Transport, TransportSettings
from .attestation import Family, PlatformCa, fetch_terms, require_judgeable

LOOK_TTL_S: Final = 900.0
"""How long before a grant the backend may have been seen: a person has to read the result, and code
changes."""

Pin = Literal["compose", "instance"]
"""What a grant names beside the image: the compose file, on any instance; or RTMR3 as it is, this
start alone."""

Leniency = Literal["tcb-status", "advisories", "attributes"]
"""What the strict terms refuse and an owner may accept, each by name."""

RUNNER_APP_ID: Final = "sealspace.runner"
"""What the manifest of a runner calls it."""

_LENIENCY_OF: Final[dict[Refusal, Leniency]] = {
    "tcb_status": "tcb-status",
    "advisory": "advisories",
    "attributes": "attributes",
}


@dataclass(frozen=True, slots=True)
class ValidWindow:
    """When a part of the collateral is valid, epoch seconds."""

    name: str
    starts_at: float
    ends_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a verifier found; made by an `EvidenceVerifier`.

    Attributes:
        evidence: the facts, normalised as nodes keep them; without a receiver key, because nothing
            is to be received yet.
        ca: which of Intel's authorities issued the platform's certificate.
        windows: of every part of the collateral that the quote was judged by.
        root_is_intel: whether the chain ends at Intel's root certificate.
    """

    evidence: Evidence
    ca: PlatformCa
    windows: tuple[ValidWindow, ...]
    root_is_intel: bool


class EvidenceVerifier(Protocol):
    """Verifies what a backend published; `tee_backend.attestation.inspection.Inspector` is one."""

    async def verify(self, published: Published, *, now: float) -> Verified:
        """Verify quote, event log and what they bind.

        Raises:
            BackendNotProven: something does not hold.
            CollateralNeeded: there is nothing current to judge it by.
        """
        ...


WantedSecret: TypeAlias = SecretName
"""A secret that a manifest asks to read: its `label`, `NAME` or `scope/NAME`, and its `path` in the
space `secrets`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A backend as it was seen, every statement of it confirmed by its quote; made by `fetch_evidence`.

    Attributes:
        url: the address that was asked.
        published: what it published.
        verified: what the verifier found in it.
        seen_at: epoch seconds.
    """

    url: str
    published: Published
    verified: Verified
    seen_at: float

    @property
    def did(self) -> str:
        """The DID that a grant is for."""
        return self.published.statement.did

    @property
    def measurements(self) -> Measurements:
        """The five registers of the quote."""
        return self.verified.evidence.measurements

    @property
    def is_runner(self) -> bool:
        """Whether it says that it executes programs of others; a grant then names those: see
        `Client.runners`."""
        return self.published.statement.manifest.app_id == RUNNER_APP_ID

    @property
    def wanted(self) -> tuple[WantedSecret, ...]:
        """The secrets that it asks to read."""
        return tuple(
            secret
            for one in resolve_manifest(self.published.statement.manifest)
            if KV_GET in one.actions and (secret := _secret_of(one)) is not None
        )

    @property
    def further_wishes(self) -> tuple[str, ...]:
        """What its manifest asks for beside reading secrets, a text each; never part of a grant
        here."""
        resources = resolve_manifest(self.published.statement.manifest)
        stated = []
        for one in resources:
            further = [
                action for action in one.actions if action != KV_GET or _secret_of(one) is None
            ]
            if further and one.origin == "stated":
                stated.append(f"{', '.join(further)} on {one.space}/{one.path}")
        if any(one.origin == "defaults" for one in resources):
            stated.append(
                'the default permissions of an app (`"defaults": false` in its manifest leaves them'
                " out)"
            )
        return tuple(stated)


# --- looking --------------------------------------------------------------------------------------


async def fetch_evidence(
    url: str,
    verifier: EvidenceVerifier,
    *,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    settings: TransportSettings | None = None,
) -> Seen:
    """Ask a backend for its evidence with a fresh nonce, and verify the answer.

    Args:
        url: of the backend, `https://…`, or `http://…` on this machine.
        verifier: with the caller's own collateral; what a backend says about its platform is not
            trusted.
        clock: the system's when None.
        entropy: the system's when None.
        settings: timeouts and retries.
    Raises:
        InvalidInput: no such address.
        BackendUnreachable: no answer.
        BackendAnswerInvalid: cut off, too long, a redirect, no backend.
        BackendNotProven, CollateralNeeded: as the verifier says.
    Does not check:
        Whether this is the wanted code: see `require_expected`, and read what `in_plain_words`
            says.
    """
    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
    nonce = entropy.token(NONCE_BYTES)
    path = f"{EVIDENCE_PATH}?nonce={encode_url(nonce)}"
    request = Request("GET", path, repeatable=True, max_answer_bytes=MAX_PUBLISHED_BYTES)
    answer = await ask_backend(url, request, settings=settings)
    if not answer.is_success:
        raise _no_evidence(answer)
    published = parse_published(answer.body, nonce=nonce)
    now = clock.now()
    return Seen(
        url=url,
        published=published,
        verified=await verifier.verify(published, now=now),
        seen_at=now,
    )


async def deliver(
    url: str, *portables: PortableDelegation, settings: TransportSettings | None = None
) -> None:
    """Send a grant to the backend that it is for; the grant is registered at the node either way.

    Args:
        url: address of the backend.
        portables: one, or several that belong together; the backend takes up all or none.
        settings: timeouts and retries.
    Raises:
        InvalidInput: no such address, or too many grants.
        GrantNotTaken: the backend accepts none this way, or could not use this one; its text is in
            the message.
        BackendUnreachable, BackendAnswerInvalid: no usable answer.
    """
    headers = {"Content-Type": "application/json"}
    request = Request(
        "POST",
        GRANTS_PATH,
        headers=headers,
        body=encode_bundle(portables),
        max_answer_bytes=64 * 1024,
    )
    answer = await ask_backend(url, request, settings=settings)
    if answer.status in (404, 405):
        raise GrantNotTaken("the backend takes no grants over HTTP")
    if not answer.is_success:
        raise GrantNotTaken(f"the backend does not take the grant: {_said(answer)}")


def require_address(url: str) -> None:
    """Check the address of a backend, before anybody is told that it is asked.

    Raises:
        InvalidInput: no such address.
    """
    _transport(url)


def _transport(url: str, settings: TransportSettings | None = None) -> Transport:
    try:
        return Transport(url, settings=settings)
    except InvalidInput as exc:
        raise InvalidInput(
            f"not the address of a backend: {printable(url)}",
            hint="https://…, or http://127.0.0.1:PORT for one on this machine",
        ) from exc


async def ask_backend(
    url: str, request: Request, *, settings: TransportSettings | None = None
) -> Answer:
    """Send one request to a backend; for the modules of this package.

    Raises:
        InvalidInput: no such address.
        BackendUnreachable, BackendAnswerInvalid: no usable answer.
    """
    async with _transport(url, settings) as transport:
        try:
            answer = await transport.exchange(request)
        except ResponseTooLarge as exc:
            raise BackendAnswerInvalid(f"the answer of {url} is too long") from exc
        except NodeTimeout as exc:
            raise BackendUnreachable(f"{url} does not answer in time") from exc
        except TransportError as exc:
            raise BackendUnreachable(f"no whole answer from {url}: {exc.message}") from exc
    if 300 <= answer.status < 400:
        raise BackendAnswerInvalid(
            f"{url} sends us elsewhere, and redirects are not followed",
            hint="ask the backend's operator for the address that answers itself",
        )
    return answer


def _no_evidence(answer: Answer) -> BackendAnswerInvalid | BackendUnreachable:
    if answer.status in (429, 503):
        return BackendUnreachable(
            "the backend is busy making quotes for others", hint="ask again in a minute"
        )
    if answer.status == 404:
        return BackendAnswerInvalid(
            f"there is no evidence at {EVIDENCE_PATH}",
            hint="give the address of a backend that publishes evidence",
        )
    return BackendAnswerInvalid(f"the backend gives no evidence: {_said(answer)}")


def _said(answer: Answer) -> str:
    return printable(
        refusal_of(answer.status, answer.headers, answer.body).text or str(answer.status)
    )


# --- judging --------------------------------------------------------------------------------------


def require_expected(seen: Seen, expected: Sequence[str]) -> None:
    """Compare what was seen with what the owner knows from elsewhere.

    Args:
        seen: from `fetch_evidence`.
        expected: each 64 hex digits (a compose hash), 96 (MRTD or a run-time register), or a key
            provider as policies name it (`kms:<hex>`); all have to be present.
    Raises:
        InvalidInput: a text is no such value.
        BackendNotExpected: one is not present.
    Does not check:
        That they identify the code completely: see `is_whole_code`.
    """
    evidence = seen.verified.evidence
    for text in expected:
        if _is_provider(text):
            if not is_accepted(evidence.key_provider, (text,)):
                raise BackendNotExpected(
                    f"expected keys from {text}, the backend has {evidence.key_provider or 'none'}"
                )
            continue
        value = _hex(text)
        if len(value) == 32 and value != evidence.compose_hash:
            found = (
                "shows none"
                if evidence.compose_hash is None
                else f"runs {evidence.compose_hash.hex()}"
            )
            raise BackendNotExpected(f"expected compose hash {text}, the backend {found}")
        if len(value) == 48 and value not in astuple(seen.measurements):
            raise BackendNotExpected(
                f"expected measurement {text}, the backend has MRTD {evidence.mrtd.hex()}"
            )


def is_whole_code(seen: Seen, expected: Sequence[str]) -> bool:
    """Return whether expected values leave nothing open: the image, what was started on it, and its
    key provider.

    A compose hash alone says nothing, because another image can write any log (AT22), and a part of
    the image says nothing either: MRTD and RTMR0 to RTMR2 have to be present, and RTMR3, or the
    compose hash and the key provider with its id. The provider of the application's keys can read
    what it stores, and anybody can run a service of a kind (AT53).
    """
    evidence = seen.verified.evidence
    named = {_hex(text) for text in expected if not _is_provider(text)}
    image = {evidence.mrtd, evidence.rtmr0, evidence.rtmr1, evidence.rtmr2}
    by_compose = evidence.compose_hash in named and _has_provider_named(evidence, expected)
    return image <= named and (evidence.rtmr3 in named or by_compose)


def is_whole_policy(seen: Seen, policy: Policy) -> bool:
    """Return whether a policy that what was seen satisfies leaves nothing of it open; as
    `is_whole_code`."""
    evidence = seen.verified.evidence
    if _has_provider_named(evidence, policy.key_providers):
        return policy.is_allow_list
    return any(entry.rtmr3 is not None and entry.covers(evidence) for entry in policy.measurements)


def _has_provider_named(evidence: Evidence, named: Sequence[str]) -> bool:
    """Return whether one of some texts names the key provider by its id: without an id it could be
    any provider."""
    provider = evidence.key_provider
    return provider is not None and ":" in provider and provider in named


def require_like(seen: Seen, policy: Policy) -> None:
    """Compare what was seen with code that the owner approved before.

    Args:
        seen: from `fetch_evidence`.
        policy: that lists measurements, for example of `policy_for` over what was seen then.
    Raises:
        InvalidInput: it names no code.
        BackendNotExpected: the backend does not satisfy it.
    """
    if not policy.is_allow_list:
        raise InvalidInput(
            "what was approved names no code", hint="it lists `measurements`, whole ones"
        )
    refusal = judge(seen.verified.evidence, policy, seen.seen_at)
    if refusal is not None:
        evidence = seen.verified.evidence
        compose = (
            "" if evidence.compose_hash is None else f", compose hash {evidence.compose_hash.hex()}"
        )
        raise BackendNotExpected(
            f"the backend is not what was approved ({refusal}): MRTD {evidence.mrtd.hex()}{compose}"
        )


def require_recent(seen: Seen, now: float) -> None:
    """Refuse what was seen too long ago: BackendNotAcceptable."""
    if not 0 <= now - seen.seen_at <= LOOK_TTL_S:
        raise BackendNotAcceptable(
            "what was seen is too old to grant to", problem="age", hint="look again"
        )


def policy_for(
    seen: Seen,
    *,
    paths: Sequence[str] = (),
    accept: Sequence[Leniency] = (),
    pin: Pin = "compose",
    ttl_s: float,
) -> Policy:
    """Return the conditions that name exactly what was seen.

    Args:
        seen: from `fetch_evidence`.
        paths: resources of the secrets; the keys of others are not opened.
        accept: what may deviate from the strict terms, as it was seen and no further.
        pin: "compose": image, compose hash, app id and key provider; "instance", and wherever there
            is no log: all five registers.
        ttl_s: of the grant; an outdated status that is accepted is accepted for so long.
    Raises:
        BackendNotAcceptable: the node would refuse what was seen.
        InvalidInput: more paths than a policy holds.
    """
    evidence = seen.verified.evidence
    by_compose = pin == "compose" and evidence.compose_hash is not None
    statuses = (
        tuple(sorted({evidence.tcb_status, evidence.qe_status}))
        if "tcb-status" in accept
        else ("UpToDate",)
    )
    has_grace = not GRACE_STATUSES.isdisjoint(statuses)
    grace_s = (
        int(min(max(seen.seen_at - evidence.tcb_date, 0) + ttl_s, MAX_SECONDS))
        if has_grace
        else None
    )
    try:
        policy = Policy(
            measurements=(
                replace(seen.measurements, rtmr3=None) if by_compose else seen.measurements,
            ),
            compose_hashes=(evidence.compose_hash,) if evidence.compose_hash is not None else (),
            app_ids=(evidence.app_id,) if evidence.app_id is not None else (),
            key_providers=(evidence.key_provider,) if evidence.key_provider is not None else (),
            td_attributes=(
                evidence.td_attributes if "attributes" in accept else DEFAULT_TD_ATTRIBUTES,
            ),
            tcb_statuses=statuses,
            tcb_grace_s=grace_s,
            advisories=evidence.advisories if "advisories" in accept else (),
            paths=tuple(paths),
        )
    except PolicyError as exc:
        raise InvalidInput(
            f"no policy can say that: {exc}", hint="grant fewer secrets at once"
        ) from exc
    refusal = judge(evidence, policy, seen.seen_at)
    if refusal is not None:
        raise _not_acceptable(refusal, evidence, accept)
    return policy


def _not_acceptable(
    refusal: Refusal, evidence: Evidence, accept: Sequence[Leniency]
) -> BackendNotAcceptable:
    said: dict[Refusal, str] = {
        "tcb_status": (
            f"the platform's status is {evidence.tcb_status}, its quoting enclave's"
            f" {evidence.qe_status}"
        ),
        "advisory": f"advisories apply to the platform: {', '.join(evidence.advisories)}",
        "attributes": f"the trust domain's attributes are {evidence.td_attributes.hex()}",
    }
    leniency = _LENIENCY_OF.get(refusal)
    hint = "look again; if it stays, ask the backend's operator"
    if leniency in accept:
        hint = "no terms accept that: have its platform brought up to date"
    elif leniency is not None:
        hint = (
            "have its platform brought up to date; or, once you know what it means, accept it:"
            f" --accept {leniency}"
        )
    return BackendNotAcceptable(
        f"the node would refuse it: {said.get(refusal, refusal)}", problem=refusal, hint=hint
    )


# --- granting -------------------------------------------------------------------------------------


class Backends:
    """Granting to backends; made by `Client.backends`."""

    def __init__(self, caller: Caller, delegations: Delegations) -> None:
        self._caller = caller
        self._delegations = delegations

    async def look(self, url: str, verifier: EvidenceVerifier) -> Seen:
        """Ask a backend for its evidence and verify it; as `fetch_evidence`."""
        return await fetch_evidence(
            url, verifier, clock=self._caller.clock, entropy=self._caller.entropy
        )

    def resources(self, seen: Seen, secrets: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return the resources of the secrets that a grant would name.

        Args:
            seen: from `look`.
            secrets: labels, `NAME` or `scope/NAME`; None: all that the backend asks for.
        Raises:
            InvalidInput: it asks for none, or not for one of these.
        """
        wanted = {one.label: one.path for one in seen.wanted}
        asks = f"it asks for {', '.join(sorted(wanted))}" if wanted else "it asks for none"
        chosen = tuple(wanted) if secrets is None else tuple(dict.fromkeys(secrets))
        unknown = sorted(set(chosen) - wanted.keys())
        if unknown or not chosen:
            what = (
                f"the backend does not ask for {', '.join(unknown)}"
                if unknown
                else "no secret to grant"
            )
            raise InvalidInput(
                f"{what}: {asks}",
                hint="name secrets that its manifest lists, as `NAME` or `scope/NAME`",
            )
        space = space_of(self._caller.session.owner, SECRETS_SPACE)
        return tuple(f"{space.text}/kv/{wanted[label]}" for label in chosen)

    async def require_judgeable(self, seen: Seen) -> None:
        """Ask the node whether it can judge what was seen; a grant to a backend that it cannot
        judge opens nothing.

        Raises:
            BackendNotAcceptable: it trusts another root, takes no such key provider, or lacks
                collateral.
            NodeRefused, TransportError: as each says.
        Does not check:
            A node that does not tell its terms, as other implementations of the protocol.
        """
        evidence = seen.verified.evidence
        try:
            terms = await fetch_terms(
                self._caller.transport, Family(evidence.fmspc, seen.verified.ca)
            )
        except NotFound:
            return
        require_judgeable(terms, evidence)

    async def grant(
        self,
        seen: Seen,
        secrets: Sequence[str] | None = None,
        *,
        ttl_s: float | None = None,
        at_most: bool = False,
        accept: Sequence[Leniency] = (),
        pin: Pin = "compose",
        wallet: AnyWallet | None = None,
    ) -> PortableDelegation:
        """Delegate secrets to exactly what was seen; the grant is registered at the node when this
        returns.

        Args:
            seen: from `look`, at most LOOK_TTL_S ago.
            secrets: labels, `NAME` or `scope/NAME`; None: all that the backend asks for.
            ttl_s: lifetime in seconds; None: seven days, or what is left of the session's grants.
            at_most: take what is left of the session's grants, where they end earlier.
            accept: what may deviate from the strict terms; see `policy_for`.
            pin: see `policy_for`.
            wallet: sign with the owner's wallet instead of the session's key, whose expiry limits a
                grant.
        Returns:
            The grant: reading these secrets, and decrypt on the owner's network, for this DID and
                this code.
        Raises:
            BackendNotAcceptable: the node would refuse what was seen or could not judge it, see
                `require_judgeable`, or it was seen too long ago (`age`).
            InvalidInput, NotGranted, SessionExpired, NodeRefused, TransportError: as
            `Delegations.delegate`.
        """
        resources = self.resources(seen, secrets)
        require_recent(seen, self._caller.clock.now())
        policy = policy_for(
            seen,
            paths=resources,
            accept=accept,
            pin=pin,
            ttl_s=DELEGATION_TTL_S if ttl_s is None else ttl_s,
        )
        await self.require_judgeable(seen)  # before anything is signed
        network = network_of_owner(self._caller.session.owner)
        wanted = [
            *(capability(one, KV_GET) for one in resources),
            capability(network.text, DECRYPT),
        ]
        return await self._delegations.delegate(
            seen.did, wanted, ttl_s=ttl_s, at_most=at_most, policy=policy, wallet=wallet
        )


def _secret_of(one: ResourceRequest) -> SecretName | None:
    """Return the secret that a manifest asks for; None for all else: a grant to a folder would
    reach all below it."""
    return secret_at(one.path) if one.service == KV and one.space == SECRETS_SPACE else None


def _is_provider(text: str) -> bool:
    """Return whether a text names a key provider; raises InvalidInput where it only begins like
    one."""
    if text.partition(":")[0] not in NAMES:
        return False
    try:
        parse_key_provider(text)
    except PolicyError as exc:
        raise InvalidInput(
            f"what is expected is no key provider: {exc.reason}",
            hint="kms:<hex>, with the id that `backend show` says",
        ) from exc
    return True


def _hex(text: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) not in (32, 48) or value.hex() != text.lower():
        raise InvalidInput(
            "what is expected is no measurement",
            hint=(
                "64 hex digits (a compose hash), 96 (MRTD or a register), or a key provider"
                " (kms:<hex>)"
            ),
        )
    return value
