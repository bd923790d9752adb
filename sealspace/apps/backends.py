"""Functions that verify backends and grant them secrets.

An owner has the address of a backend, and has to know what runs there before granting anything.
`fetch_evidence` requests evidence for a fresh nonce and verifies it on the owner's machine, with
the owner's own collateral. `in_plain_words` describes the result. `Backends.grant` then grants the
secrets that the backend's manifest requests, on the condition that only this exact code opens them.

The address itself proves nothing. A grant names the DID and the code from the quote, so relaying
another backend's evidence gains an attacker nothing.

Example:
    # inspector: an `Inspector` of tee_backend.attestation.inspection
    seen = await fetch_evidence(backend_url, inspector)
    print("\\n".join(in_plain_words(seen, policy_for(seen, ttl_s=86_400))))
    portable = await client.backends.grant(seen, ["API_KEY"], wallet=wallet)
    await deliver(seen.url, portable)
"""

from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import Literal, Protocol, TypeVar

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.clock_and_entropy import Clock, Entropy, SystemClock, SystemEntropy
from capabilities.frozen import frozen
from capabilities.strict_base64 import encode_url
from encryption_network.judgement import Refusal, judge
from encryption_network.key_providers import is_accepted
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
from ..documents.app_names import AppNames
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
from ..session import Grant, capability, network_of_owner, space_of
from ..wallets import AnyWallet
from ..wire.caller import Caller
from ..wire.node_refusals import refusal_of
from ..wire.portable import PortableDelegation, encode_bundle
from ..wire.transport import Answer, Request, Transport, TransportSettings
from .attestation import Family, PlatformCa, fetch_terms, require_judgeable
from .expected_values import digest_of, is_provider_name

T = TypeVar("T")

LOOK_TTL_S = 900.0
"""Longest age of evidence for a grant, seconds: time for a person to read it."""

Pin = Literal["compose", "instance"]
"""How a grant names the code beside the image.

"compose": the compose file, on any instance. "instance": register RTMR3 as it is, for this start
only.
"""

Leniency = Literal["tcb-status", "advisories", "attributes"]
"""The terms that an owner may relax, each by name."""

RUNNER_APP_ID = "sealspace.runner"
"""The `app_id` in the manifest of every runner."""

_LENIENCY_OF: dict[Refusal, Leniency] = {
    "tcb_status": "tcb-status",
    "advisory": "advisories",
    "attributes": "attributes",
}


@frozen
class ValidWindow:
    """The validity period of one part of the collateral.

    Times are in epoch seconds.
    """

    name: str
    starts_at: float
    ends_at: float


@frozen(kw_only=True)
class Verified:
    """The result of verifying a backend's attestation evidence.

    Attributes:
        evidence: the facts in the form that nodes store, without a receiver key.
        ca: Intel's authority that issued the platform's certificate.
        windows: validity of every part of the collateral that was used.
        root_is_intel: whether the certificate chain ends at Intel's root.
    """

    evidence: Evidence
    ca: PlatformCa
    windows: tuple[ValidWindow, ...]
    root_is_intel: bool


class EvidenceVerifier(Protocol):
    """A verifier of published attestation evidence.

    `tee_backend.attestation.inspection.Inspector` is an implementation.
    """

    async def verify(self, published: Published, *, now: float) -> Verified:
        """Verify a backend's published attestation evidence.

        The evidence consists of a quote, an event log and a statement.

        Args:
            published: the backend's document; its nonce was checked.
            now: epoch seconds.
        Raises:
            BackendNotProven: the evidence is not valid.
            CollateralNeeded: there is no current collateral to verify it.
        """


@frozen(kw_only=True)
class Seen:
    """A backend whose attestation evidence was verified.

    `fetch_evidence` returns it.

    Attributes:
        url: the address of the backend.
        published: the published document, all of it confirmed by the quote.
        verified: the facts that the verifier found.
        seen_at: epoch seconds.
        same_as_files: names of the values that were compared with the owner's files and agree, such
            as `composeHash` and `mrtd`.
    """

    url: str
    published: Published
    verified: Verified
    seen_at: float
    same_as_files: frozenset[str] = frozenset()

    @property
    def did(self) -> str:
        """The backend's DID, to which grants are addressed."""
        return self.published.statement.did

    @property
    def measurements(self) -> Measurements:
        """The five measurement registers in the backend's quote."""
        return self.verified.evidence.measurements

    @property
    def is_runner(self) -> bool:
        """Whether the backend runs other people's programs.

        Use `Client.runners` for grants to such a backend.
        """
        return self.published.statement.manifest.app_id == RUNNER_APP_ID

    @property
    def wanted(self) -> tuple[SecretName, ...]:
        """The secrets that the backend's manifest requests."""
        wanted = []
        for resource in resolve_manifest(self.published.statement.manifest):
            secret = _requested_secret(resource)
            if secret is not None and KV_GET in resource.actions:
                wanted.append(secret)
        return tuple(wanted)

    @property
    def further_wishes(self) -> tuple[str, ...]:
        """The permissions requested in addition to reading secrets.

        They are never granted.
        """
        resources = resolve_manifest(self.published.statement.manifest)
        wishes = []
        for resource in resources:
            further = [
                action
                for action in resource.actions
                if action != KV_GET or _requested_secret(resource) is None
            ]
            if further and resource.origin == "stated":
                wishes.append(f"{', '.join(further)} on {resource.space}/{resource.path}")
        if any(resource.origin == "defaults" for resource in resources):
            wishes.append(
                'the default permissions of an app (`"defaults": false` in its manifest leaves them'
                " out)"
            )
        return tuple(wishes)


# --- requests to a backend ------------------------------------------------------------------------


async def fetch_evidence(
    url: str,
    verifier: EvidenceVerifier,
    *,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    settings: TransportSettings | None = None,
) -> Seen:
    """Fetch and verify a backend's attestation evidence for a fresh nonce.

    Args:
        url: address of the backend: `https://…`, or `http://…` on this machine.
        verifier: a verifier with the caller's own collateral; a backend's statements about its
            platform are not trusted.
        clock: None: the system's.
        entropy: None: the system's.
        settings: timeouts and retries.
    Returns:
        The backend, with every statement confirmed by its quote.
    Raises:
        InvalidInput: the address is not valid.
        BackendUnreachable: the backend did not answer.
        BackendAnswerInvalid: the answer is truncated, too long, a redirect or not a backend's.
        BackendNotProven, CollateralNeeded: the evidence could not be verified.
    Does not check:
        Whether this is the expected code: see `require_expected`, and read `in_plain_words`.
    """
    clock = clock or SystemClock()
    entropy = entropy or SystemEntropy()
    nonce = entropy.token(NONCE_BYTES)
    path = f"{EVIDENCE_PATH}?nonce={encode_url(nonce)}"
    request = Request("GET", path, repeatable=True, max_answer_bytes=MAX_PUBLISHED_BYTES)
    answer = await ask_backend(url, request, settings=settings)
    if answer.status in (429, 503):
        raise BackendUnreachable(
            "the backend is busy with other requests for evidence", hint="try again in a minute"
        )
    if answer.status == 404:
        raise BackendAnswerInvalid(
            f"the server is not a backend: it publishes no evidence at {EVIDENCE_PATH}",
            hint="use the address of the service that is to read your secrets, not the node's",
        )
    if not answer.is_success:
        raise BackendAnswerInvalid(f"the backend did not send evidence: {_error_text(answer)}")
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
) -> Answer:
    """Send grants to a backend.

    The node keeps the grants even if the backend rejects them.

    Args:
        url: address of the backend.
        portables: one grant, or several that the backend accepts together or not at all.
        settings: timeouts and retries.
    Returns:
        The answer, untrusted: the former grants of a job (RN247), or nothing.
    Raises:
        InvalidInput: the address is not valid, or there are too many grants.
        GrantNotTaken: the backend did not accept them; the message has its text.
        BackendUnreachable, BackendAnswerInvalid: there was no usable answer.
    """
    request = Request(
        "POST",
        GRANTS_PATH,
        headers={"Content-Type": "application/json"},
        body=encode_bundle(portables),
        max_answer_bytes=64 * 1024,
    )
    answer = await ask_backend(url, request, settings=settings)
    if answer.status in (404, 405):
        raise GrantNotTaken("the backend does not accept grants over HTTP")
    if not answer.is_success:
        raise GrantNotTaken(f"the backend did not accept the grant: {_error_text(answer)}")
    return answer


def require_address(url: str) -> None:
    """Check that a URL is a valid backend address.

    Raises:
        InvalidInput: the address is not valid.
    """
    _transport(url)  # raises for an invalid address


def _transport(url: str, settings: TransportSettings | None = None) -> Transport:
    try:
        return Transport(url, settings=settings)
    except InvalidInput as exc:
        raise InvalidInput(
            f"not the address of a backend: {printable(url)}",
            hint="use https://…, or http://127.0.0.1:PORT for a backend on this machine",
        ) from exc


async def ask_backend(
    url: str, request: Request, *, settings: TransportSettings | None = None
) -> Answer:
    """Send an HTTP request to a backend.

    Only modules of this package use this function.

    Raises:
        InvalidInput: the address is not valid.
        BackendUnreachable, BackendAnswerInvalid: there was no usable answer.
    """
    async with _transport(url, settings) as transport:
        try:
            answer = await transport.exchange(request)
        except ResponseTooLarge as exc:
            raise BackendAnswerInvalid(f"the response from {url} is too long") from exc
        except NodeTimeout as exc:
            raise BackendUnreachable(f"{url} did not answer in time") from exc
        except TransportError as exc:
            raise BackendUnreachable(f"no complete response from {url}: {exc.message}") from exc
    if 300 <= answer.status < 400:
        raise BackendAnswerInvalid(
            f"{url} responded with a redirect, which is not followed",
            hint="ask the backend's operator for an address that does not redirect",
        )
    return answer


def _error_text(answer: Answer) -> str:
    return printable(
        refusal_of(answer.status, answer.headers, answer.body).text or str(answer.status)
    )


# --- judging --------------------------------------------------------------------------------------


def require_expected(seen: Seen, expected: Sequence[str]) -> None:
    """Check that a backend's evidence has the expected values.

    Args:
        seen: the result of `fetch_evidence`.
        expected: all have to match. Each is a compose hash (64 hex digits), MRTD or a run-time
            register (96), or a key provider as in policies (`kms:<hex>`).
    Raises:
        InvalidInput: an entry of `expected` has none of these forms.
        BackendNotExpected: a value does not match.
    Does not check:
        Whether the values identify the code completely: see `is_whole_code`.
    """
    evidence = seen.verified.evidence
    for text in expected:
        if is_provider_name(text):
            if not is_accepted(evidence.key_provider, (text,)):
                raise BackendNotExpected(
                    f"expected key provider {text}, but the backend has"
                    f" {evidence.key_provider or 'none'}"
                )
            continue
        value = digest_of(text)  # a compose hash has 32 bytes, and a register has 48
        if len(value) == 32 and value != evidence.compose_hash:
            actual = "none" if evidence.compose_hash is None else evidence.compose_hash.hex()
            raise BackendNotExpected(f"expected compose hash {text}, but the backend has {actual}")
        if len(value) == 48 and value not in astuple(seen.measurements):
            raise BackendNotExpected(
                f"the backend does not have the expected measurement {text}; the backend's MRTD is"
                f" {evidence.mrtd.hex()}"
            )


def is_whole_code(seen: Seen, expected: Sequence[str]) -> bool:
    """Return whether the expected measurements cover all of a backend's code.

    A compose hash alone proves nothing, because another image can write any log (AT22). MRTD and
    RTMR0 to RTMR2 have to be included, with either RTMR3, or the compose hash and the key provider
    with its id. The provider of the application's keys can read what it stores, and anyone can run
    a provider without an id (AT53).
    """
    evidence = seen.verified.evidence
    digests = {digest_of(text) for text in expected if not is_provider_name(text)}
    image = {evidence.mrtd, evidence.rtmr0, evidence.rtmr1, evidence.rtmr2}
    is_image_listed = image <= digests
    is_compose_listed = evidence.compose_hash in digests
    is_application_listed = evidence.rtmr3 in digests or (
        is_compose_listed and _is_provider_listed(evidence, expected)
    )
    return is_image_listed and is_application_listed


def is_whole_policy(seen: Seen, policy: Policy) -> bool:
    """Return whether a policy restricts every part of a backend's code."""
    evidence = seen.verified.evidence
    if _is_provider_listed(evidence, policy.key_providers):
        return policy.is_allow_list
    # Without the key provider, only an entry with RTMR3 names all of the code; see `is_whole_code`.
    return any(entry.rtmr3 is not None and entry.covers(evidence) for entry in policy.measurements)


def _is_provider_listed(evidence: Evidence, providers: Sequence[str]) -> bool:
    """Return whether a list contains a backend's key provider with its id.

    An entry without an id would match any provider of the same kind.
    """
    provider = evidence.key_provider
    return provider is not None and ":" in provider and provider in providers


def require_like(seen: Seen, policy: Policy) -> None:
    """Check that a backend satisfies an approved policy.

    The owner approved the policy earlier.

    Args:
        seen: the result of `fetch_evidence`.
        policy: lists measurements, such as the result of `policy_for` at an earlier time.
    Raises:
        InvalidInput: the policy names no code.
        BackendNotExpected: the backend does not satisfy the policy.
    """
    if not policy.is_allow_list:
        raise InvalidInput(
            "the policy has no measurements, so it does not identify the approved code",
            hint="add complete `measurements` to the policy",
        )
    refusal = judge(seen.verified.evidence, policy, seen.seen_at)
    if refusal is not None:
        evidence = seen.verified.evidence
        compose = ""
        if evidence.compose_hash is not None:
            compose = f", compose hash {evidence.compose_hash.hex()}"
        raise BackendNotExpected(
            f"the backend's code is not approved ({refusal}): the backend has MRTD"
            f" {evidence.mrtd.hex()}{compose}"
        )


def require_recent(seen: Seen, now: float) -> None:
    """Check that evidence is recent enough for a grant.

    Raises BackendNotAcceptable otherwise.
    """
    if not 0 <= now - seen.seen_at <= LOOK_TTL_S:
        raise BackendNotAcceptable(
            "the backend's evidence is too old for a grant",
            problem="age",
            hint="fetch the evidence again",
        )


def policy_for(
    seen: Seen,
    *,
    paths: Sequence[str] = (),
    accept: Sequence[Leniency] = (),
    pin: Pin = "compose",
    ttl_s: float,
) -> Policy:
    """Return a policy that admits only this backend's code.

    Args:
        seen: the result of `fetch_evidence`.
        paths: resources of the secrets; keys of others are not released.
        accept: terms to relax, each only as far as this backend needs.
        pin: "compose": image, compose hash, app id and key provider. "instance", and always without
            an event log: all five registers.
        ttl_s: lifetime of the grant; an outdated platform status is accepted for that long.
    Raises:
        BackendNotAcceptable: the node would reject the backend.
        InvalidInput: there are more paths than a policy can have.
    """
    evidence = seen.verified.evidence
    is_pinned_by_compose = pin == "compose" and evidence.compose_hash is not None
    statuses: tuple[str, ...] = ("UpToDate",)
    if "tcb-status" in accept:
        statuses = tuple(sorted({evidence.tcb_status, evidence.qe_status}))
    grace_s = None
    if any(status in GRACE_STATUSES for status in statuses):
        # The grace counts from the date of the platform's level, so the level's age is added.
        age_s = max(seen.seen_at - evidence.tcb_date, 0)
        grace_s = int(min(age_s + ttl_s, MAX_SECONDS))
    td_attributes = evidence.td_attributes if "attributes" in accept else DEFAULT_TD_ATTRIBUTES
    advisories = evidence.advisories if "advisories" in accept else ()
    try:
        measurements = seen.measurements
        if is_pinned_by_compose:
            # The event log ties the compose hash to RTMR3, so the hash takes its place.
            measurements = replace(measurements, rtmr3=None)
        policy = Policy(
            measurements=(measurements,),
            compose_hashes=_none_or_one(evidence.compose_hash),
            app_ids=_none_or_one(evidence.app_id),
            key_providers=_none_or_one(evidence.key_provider),
            td_attributes=(td_attributes,),
            tcb_statuses=statuses,
            tcb_grace_s=grace_s,
            advisories=advisories,
            paths=tuple(paths),
        )
    except PolicyError as exc:
        raise InvalidInput(
            f"cannot make a policy for this grant: {exc}", hint="grant fewer secrets at once"
        ) from exc
    refusal = judge(evidence, policy, seen.seen_at)
    if refusal is not None:
        raise _not_acceptable(refusal, evidence, accept)
    return policy


def _none_or_one(value: T | None) -> tuple[T, ...]:
    """Return a tuple with the value, or an empty tuple for None."""
    if value is None:
        return ()
    return (value,)


def _not_acceptable(
    refusal: Refusal, evidence: Evidence, accept: Sequence[Leniency]
) -> BackendNotAcceptable:
    """Return the error for evidence that the node would reject, with the option that accepts it."""
    reasons: dict[Refusal, str] = {
        "tcb_status": (
            f"the platform's status is {evidence.tcb_status}, that of its quoting enclave"
            f" {evidence.qe_status}"
        ),
        "advisory": f"advisories apply to the platform: {', '.join(evidence.advisories)}",
        "attributes": f"the trust domain's attributes are {evidence.td_attributes.hex()}",
    }
    leniency = _LENIENCY_OF.get(refusal)
    hint = "fetch the evidence again; if it fails again, ask the backend's operator"
    if leniency in accept:
        hint = "ask the backend's operator to update its platform: no option accepts this"
    elif leniency is not None:
        hint = (
            "ask the backend's operator to update its platform; or, if you know the risk, pass"
            f" --accept {leniency}"
        )
    return BackendNotAcceptable(
        f"the node would reject the backend: {reasons.get(refusal, refusal)}",
        problem=refusal,
        hint=hint,
    )


# --- granting -------------------------------------------------------------------------------------


class Backends:
    """A client for granting secrets to backends.

    Use `Client.backends` to get an instance.
    """

    def __init__(self, caller: Caller, delegations: Delegations) -> None:
        self._caller = caller
        self._delegations = delegations

    async def look(self, url: str, verifier: EvidenceVerifier) -> Seen:
        """Fetch and verify a backend's attestation evidence."""
        return await fetch_evidence(
            url, verifier, clock=self._caller.clock, entropy=self._caller.entropy
        )

    def resources(self, seen: Seen, secrets: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return the resource URIs of the given secrets.

        Args:
            seen: the result of `look`.
            secrets: labels, `NAME` or `scope/NAME`; None: all that the backend requests.
        Raises:
            InvalidInput: the backend requests no secret, or not one of these.
        """
        paths_by_label = {secret.label: secret.path for secret in seen.wanted}
        chosen = tuple(dict.fromkeys(paths_by_label if secrets is None else secrets))
        unknown = sorted(set(chosen) - paths_by_label.keys())
        if unknown or not chosen:
            problem = "no secret to grant"
            if unknown:
                problem = f"the backend does not request {', '.join(unknown)}"
            requested = ", ".join(sorted(paths_by_label)) or "none"
            raise InvalidInput(
                f"{problem}: it requests {requested}",
                hint="choose secrets that the backend's manifest lists, as `NAME` or `scope/NAME`",
            )
        space = space_of(self._caller.session.owner, SECRETS_SPACE)
        return tuple(f"{space.text}/kv/{paths_by_label[label]}" for label in chosen)

    async def require_judgeable(self, seen: Seen) -> None:
        """Check that the node can verify a backend's evidence.

        Otherwise a grant to the backend has no effect.

        Raises:
            BackendNotAcceptable: the node trusts another root, rejects the key provider, or lacks
                collateral.
            NodeRefused, TransportError: the request failed.
        Does not check:
            Nodes that do not publish their terms, such as other implementations of the protocol.
        """
        evidence = seen.verified.evidence
        try:
            terms = await fetch_terms(
                self._caller.transport, Family(evidence.fmspc, seen.verified.ca)
            )
        except NotFound:
            return  # a node of another implementation may not publish its terms
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
        unbound: bool = False,
        app: AppNames | None = None,
        wallet: AnyWallet | None = None,
        membership: Grant | None = None,
    ) -> PortableDelegation:
        """Grant secrets to a backend.

        The grant applies only to the code in the backend's evidence.

        Args:
            seen: the result of `look`, at most LOOK_TTL_S ago.
            secrets: labels, `NAME` or `scope/NAME`; None: all that the backend requests.
            ttl_s: lifetime in seconds; None: seven days, or less if the session's grants end
                earlier.
            at_most: accept a shorter lifetime if the session's grants end earlier.
            accept: terms to relax; see `policy_for`.
            pin: see `policy_for`.
            unbound: let the backend use secrets that state no place (EN47).
            app: the owner's names for the code; they have no effect (CN19).
            wallet: sign with the owner's wallet. A grant by the session's key ends with the
                session.
            membership: for a team, the membership of the admin whose wallet signs (TM6); None: the
                owner.
        Returns:
            The grant, registered with the node. It allows this DID with this code to read these
                secrets, and to decrypt with the owner's network.
        Raises:
            BackendNotAcceptable: the node would reject the backend or cannot verify it, or the
                evidence is too old (`age`).
            InvalidInput, NotGranted, SessionExpired, NodeRefused, TransportError: the same errors
                as `Delegations.delegate`.
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
        wanted = [
            *(capability(resource, KV_GET) for resource in resources),
            capability(network_of_owner(self._caller.session.owner).text, DECRYPT),
        ]
        return await self._delegations.delegate(
            seen.did,
            wanted,
            ttl_s=ttl_s,
            at_most=at_most,
            policy=policy,
            unbound=unbound,
            app=app,
            wallet=wallet,
            membership=membership,
        )


def _requested_secret(resource: ResourceRequest) -> SecretName | None:
    """Return the name of the secret requested by a manifest entry.

    Return None for other resources and for folders, because a grant of a folder would include
    everything below it.
    """
    if resource.service != KV or resource.space != SECRETS_SPACE:
        return None
    return secret_at(resource.path)
