"""Parsing and verification of authorization tokens (sections 2.1 to 2.5, 5.5).

A token is parsed into an `Unverified...` value. `verify_...` checks its signature and returns the
type without that prefix, which otherwise only `restore_delegation` creates. The caller then checks
time, chain and replay.

    parse -> check_window -> verify -> (chain) judge

Example:
    invocation = verify_invocation(parse_invocation(header))
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from .abilities import REVOKE
from .cacao import (
    Cacao,
    header_bytes,
    header_text,
    parse_cacao,
    restore_cacao,
    restore_header_bytes,
    verify_cacao,
)
from .capability_errors import ChainError, InvalidIdentifier, MalformedToken, WrongKind
from .caveats import Caveats, caveats_of, same_json
from .cids import ContentKey, Digest, content_key_of_cacao, content_key_of_ucan, digest_of
from .facts import is_terminal, statement_facts
from .frozen_struct import AcyclicStruct
from .principals import Principal, principal_of
from .recap import recap_of
from .references import (
    CID_AUDIENCE,
    MAX_TARGETS,
    CitedDelegation,
    cited_parents,
    target_of,
    targets_among,
)
from .resources import Resource, parse_resource
from .siwe import parse_rfc3339
from .strict_json import Json
from .ucan import UcanToken, parse_ucan, verify_ucan

MAX_HEADER_BYTES = 393_216
"""Longest header value; a sign-in for many spaces is long."""

MAX_CAPABILITIES = 1024
"""Most pairs of resource and ability in one token."""

MAX_FACTS = 256


class Capability(AcyclicStruct):
    """Permission for one kind of action on one resource.

    Attributes:
        resource: The resource.
        ability: As written, aliases not resolved.
        caveats: Conditions in their stored form (T2); empty for none, and always in a CACAO (S5).
    """

    resource: Resource
    ability: str
    caveats: Caveats


class _Token(AcyclicStruct):
    """The fields common to all kinds of tokens.

    Attributes:
        header: The text as received; never logged.
        content_key: Identifies the signed statement in any encoding.
        parents: Cited proofs, in signed order; a CACAO's revocation has none (V3).
        not_before: Epoch seconds or None.
    """

    header: str
    content_key: ContentKey
    parents: tuple[CitedDelegation, ...]
    not_before: float | None

    def __repr__(self) -> str:
        shown = (
            f"{name}={getattr(self, name)!r}"
            for name in self.__struct_fields__
            if name not in _HIDDEN
        )
        return f"{type(self).__name__}({', '.join(shown)})"


# Both contain the token itself: a log line with it could be replayed.
_HIDDEN = frozenset({"header", "envelope"})


class _StoredToken(_Token):
    """The fields common to delegations and revocations.

    Unlike invocations, these tokens are stored.

    Attributes:
        form: The envelope.
        cid: BLAKE3-256 of the bytes received: a UCAN's text, a CACAO's CBOR (E6).
        expires_at: Epoch seconds; None: never.
    """

    form: Literal["cacao", "ucan"]
    cid: Digest
    expires_at: float | None


class _DelegationFields(_StoredToken):
    """The contents of a delegation.

    Attributes:
        delegator: The principal that grants.
        delegate: The principal that receives the grant; in a CACAO any URI (P5).
        audience: The delegate as given, with its fragment.
        capabilities: In order of resource text and ability (T7).
        issued_at: Epoch seconds; None for a UCAN, which has no issue time (T5).
        terminal: Whether other delegations may not cite it (3.4).
        facts: The facts of a UCAN, or the statements in a CACAO in the same form.
    """

    delegator: Principal
    delegate: Principal
    audience: str
    capabilities: tuple[Capability, ...]
    issued_at: float | None
    terminal: bool
    facts: tuple[Json, ...]


class UnverifiedDelegation(_DelegationFields):
    """A delegation whose signature has not been verified yet.

    Verification uses the `envelope`.
    """

    envelope: Cacao | UcanToken


class Delegation(_DelegationFields):
    """A delegation whose signature was verified.

    Obtain it with `verify_delegation` or `restore_delegation`.
    """


class _InvocationFields(_Token):
    """The contents of an invocation.

    An invocation is a token that can be used only once.

    Attributes:
        invoker: The principal that acts.
        audience: `aud` as given.
        addressee: The principal in `aud`, canonical if possible; see token_kinds.check_addressed.
        capabilities: The requested ones, in order of resource text and ability (T7).
        expires_at: Epoch seconds.
        nonce: `nnc` or None.
        facts: `fct`, as given.
    """

    invoker: Principal
    audience: str
    addressee: Principal
    capabilities: tuple[Capability, ...]
    expires_at: float
    nonce: str | None
    facts: tuple[Json, ...]

    @property
    def cid(self) -> Digest:
        """The BLAKE3-256 digest of the token's text (E6, E7)."""
        return digest_of(self.header.encode())


class UnverifiedInvocation(_InvocationFields):
    """An invocation whose signature has not been verified yet.

    Verification uses the `envelope`.
    """

    envelope: UcanToken


class Invocation(_InvocationFields):
    """An invocation whose signature was verified.

    Obtain it with `verify_invocation`.
    """


class _RevocationFields(_StoredToken):
    """The contents of a revocation.

    Attributes:
        revoker: The principal that revokes.
        addressee: The principal in a UCAN's `aud`, see token_kinds.check_addressed; None for a
            CACAO, whose `aud` is the target.
        targets: The revoked delegations, in the order of the token's text; a CACAO has one (V3).
    """

    revoker: Principal
    addressee: Principal | None
    targets: tuple[CitedDelegation, ...]


class UnverifiedRevocation(_RevocationFields):
    """A revocation whose signature has not been verified yet.

    Verification uses the `envelope`.
    """

    envelope: Cacao | UcanToken


class Revocation(_RevocationFields):
    """A revocation whose signature was verified.

    Obtain it with `verify_revocation`.
    """


def parse_delegation(header: str) -> UnverifiedDelegation:
    """Parse a delegation token from an HTTP header (E2, E4).

    A delegation is a UCAN or a CACAO. A text that contains a dot is parsed as a UCAN.

    Args:
        header: Untrusted header value, which is the token alone (E1).

    Raises:
        MalformedToken: Too large, not decodable, or of a shape that no rule allows (E5).

    Does not check:
        Signature, time window, chain.
    """
    _check_header(header)
    if "." in header:  # base64 has no dot (E2)
        return _ucan_delegation(header)
    data = header_bytes(header)
    return _cacao_delegation(header, data, parse_cacao(data))


def parse_invocation(header: str) -> UnverifiedInvocation:
    """Parse an invocation token from an HTTP header (E4).

    An invocation is always a UCAN.

    Args:
        header: Untrusted header value, which is the token alone (E1).

    Raises:
        MalformedToken: Too large, not decodable, or of a shape that no rule allows (E5).

    Does not check:
        Signature, time window, audience (token_kinds.check_addressed), replay, chain.
    """
    _check_header(header)
    token = parse_ucan(header)
    payload = token.payload
    invoker = token.issuer  # without the fragment of `iss` (T5)
    return UnverifiedInvocation(
        header=header,
        # I20, T9: the key covers the signed text only. Another encoding of a used token is
        # rejected as used, and another encoding of a delegation is found as that delegation.
        content_key=content_key_of_ucan(invoker, token.signing_input),
        invoker=invoker,
        audience=payload.aud,
        addressee=token.audience,
        capabilities=_capabilities(payload.att),
        parents=cited_parents(payload.prf),
        expires_at=payload.exp,
        not_before=payload.nbf,
        nonce=payload.nnc,
        facts=_facts(payload.fct),
        envelope=token,
    )


def parse_revocation(header: str) -> UnverifiedRevocation:
    """Parse a revocation token from an HTTP header (E2, E4).

    A revocation is a UCAN or a CACAO. A text that contains a dot is parsed as a UCAN.

    Args:
        header: Untrusted header value, which is the token alone (E1).

    Raises:
        MalformedToken: As for a delegation, or no target is named (V1, V3). A target is never
            guessed from `prf` (Q8).
        WrongKind: It contains another capability than the revocation of its targets, or a ReCap
            (V1, V3).

    Does not check:
        Signature, time window, audience (token_kinds.check_addressed), whether the target exists
        and who may revoke it.
    """
    _check_header(header)
    if "." in header:  # base64 has no dot (E2)
        return _ucan_revocation(header)
    data = header_bytes(header)
    return _cacao_revocation(header, data, parse_cacao(data))


def verify_delegation(unverified: UnverifiedDelegation) -> Delegation:
    """Verify the signature of a delegation (D5).

    Raises:
        BadSignature: Another key signed it, or the key is of an unsupported type.
    """
    _verify_envelope(unverified.envelope)
    return _verified_copy(unverified)


def verify_invocation(unverified: UnverifiedInvocation) -> Invocation:
    """Verify the signature of an invocation (I3).

    Raises:
        BadSignature: Another key signed it, or the key is of an unsupported type.
    """
    verify_ucan(unverified.envelope)
    return Invocation(
        header=unverified.header,
        content_key=unverified.content_key,
        parents=unverified.parents,
        not_before=unverified.not_before,
        invoker=unverified.invoker,
        audience=unverified.audience,
        addressee=unverified.addressee,
        capabilities=unverified.capabilities,
        expires_at=unverified.expires_at,
        nonce=unverified.nonce,
        facts=unverified.facts,
    )


def verify_revocation(unverified: UnverifiedRevocation) -> Revocation:
    """Verify the signature of a revocation (5.5)."""
    _verify_envelope(unverified.envelope)
    return Revocation(
        header=unverified.header,
        content_key=unverified.content_key,
        parents=unverified.parents,
        not_before=unverified.not_before,
        form=unverified.form,
        cid=unverified.cid,
        expires_at=unverified.expires_at,
        revoker=unverified.revoker,
        addressee=unverified.addressee,
        targets=unverified.targets,
    )


def restore_delegation(header: str) -> Delegation:
    """Parse a delegation that was read from the store.

    Its signature was verified before it was stored. The caller guarantees that the store is intact.
    Texts that an earlier version accepted stay readable, even if they would be rejected now; the
    returned header is in today's form.

    Raises:
        MalformedToken: The stored text is damaged.
    """
    _check_header(header)
    if "." in header:  # base64 has no dot (E2)
        unverified = _ucan_delegation(header)
    else:
        data = restore_header_bytes(header)
        unverified = _cacao_delegation(header_text(data), data, restore_cacao(data))
    return _verified_copy(unverified)


def _verified_copy(unverified: UnverifiedDelegation) -> Delegation:
    """Return the delegation as a verified one, without its envelope.

    The caller verified the signature, either now or before the delegation was stored.
    """
    return Delegation(
        header=unverified.header,
        content_key=unverified.content_key,
        parents=unverified.parents,
        not_before=unverified.not_before,
        form=unverified.form,
        cid=unverified.cid,
        expires_at=unverified.expires_at,
        delegator=unverified.delegator,
        delegate=unverified.delegate,
        audience=unverified.audience,
        capabilities=unverified.capabilities,
        issued_at=unverified.issued_at,
        terminal=unverified.terminal,
        facts=unverified.facts,
    )


def check_window(
    token: _DelegationFields | _InvocationFields | _RevocationFields, now: float
) -> None:
    """Check that a token is valid at a given time (T4, C8, H7).

    There is no leeway.

    Args:
        token: Verified or not: the time may be checked first.
        now: Epoch seconds.

    Raises:
        ChainError: `delegation-outside-window`, or the code of the other kinds: it is expired or
            not valid yet.
    """
    if isinstance(token, _InvocationFields):
        kind, form = "invocation", "ucan"
    else:
        kind = "delegation" if isinstance(token, _DelegationFields) else "revocation"
        form = token.form
    earliest, latest = token.not_before, token.expires_at
    is_outside = latest is not None and now > latest
    if earliest is not None and not is_outside:
        # The not-before of a wallet's message is exclusive (C8), that of a UCAN is not (T4).
        is_outside = now < earliest or (now == earliest and form == "cacao")
    if is_outside:
        raise ChainError(f"{kind}-outside-window")


def _check_header(header: str) -> None:
    if len(header) > MAX_HEADER_BYTES:
        raise MalformedToken("token too large")
    if not header.isascii():
        raise MalformedToken("token is not ASCII")


def _verify_envelope(envelope: Cacao | UcanToken) -> None:
    if isinstance(envelope, Cacao):
        verify_cacao(envelope)
    else:
        verify_ucan(envelope)


def _ucan_delegation(header: str) -> UnverifiedDelegation:
    """Parse a delegation that is a UCAN."""
    token = parse_ucan(header)
    payload = token.payload
    facts = _facts(payload.fct)
    return UnverifiedDelegation(
        form="ucan",
        header=header,
        cid=digest_of(header.encode()),  # of the bytes as received (E6, E7)
        content_key=content_key_of_ucan(token.issuer, token.signing_input),
        delegator=token.issuer,  # without the fragment of `iss` (T5)
        delegate=token.audience,
        audience=payload.aud,
        capabilities=_capabilities(payload.att),
        parents=cited_parents(payload.prf),
        expires_at=payload.exp,
        not_before=payload.nbf,
        issued_at=None,
        terminal=bool(facts) and is_terminal(facts),
        facts=facts,
        envelope=token,
    )


def _cacao_delegation(header: str, data: bytes, cacao: Cacao) -> UnverifiedDelegation:
    """Convert a wallet-signed message to a delegation."""
    message = cacao.message
    recap = recap_of(message)
    granted = {} if recap is None else recap.att
    facts = statement_facts(message.resources)
    return UnverifiedDelegation(
        form="cacao",
        header=header,
        cid=digest_of(data),  # of the CBOR as received (E6, E7)
        content_key=content_key_of_cacao(message.iss, message.digest),
        delegator=principal_of(message.iss),  # in canonical form (S9)
        delegate=principal_of(message.uri),
        audience=message.uri,
        # S5: the caveats of a ReCap contain only null, so they set no conditions.
        capabilities=_capabilities(
            {resource: dict.fromkeys(abilities, ({},)) for resource, abilities in granted.items()}
        ),
        parents=() if recap is None else cited_parents(recap.prf),
        expires_at=_time(message.expiration_time),
        not_before=_time(message.not_before),
        issued_at=_time(message.issued_at),
        # a wallet's grant is terminal only as a machine token or a trust (S10, MT3)
        terminal=bool(facts) and is_terminal(facts),
        facts=facts,
        envelope=cacao,
    )


def _ucan_revocation(header: str) -> UnverifiedRevocation:
    """Parse a revocation that is a UCAN (V1, V5)."""
    token = parse_ucan(header)
    payload = token.payload
    capabilities = _capabilities(payload.att)
    targets = targets_among(payload.att)
    # V1, V5: one capability for each target and no others. A token that also grants or requests
    # something must not work as a revocation.
    if len(capabilities) != len(targets) or any(
        capability.ability != REVOKE for capability in capabilities
    ):
        raise WrongKind
    # V5: no target is repeated. Only a revocation of a single target may have caveats.
    digests = {target.digest for target in targets}
    if len(digests) < len(targets) or len(targets) > MAX_TARGETS:
        raise WrongKind
    if len(targets) > 1 and any(capability.caveats for capability in capabilities):
        raise WrongKind
    return UnverifiedRevocation(
        form="ucan",
        header=header,
        cid=digest_of(header.encode()),
        content_key=content_key_of_ucan(token.issuer, token.signing_input),
        revoker=token.issuer,  # without the fragment of `iss` (T5)
        addressee=token.audience,
        targets=targets,
        parents=cited_parents(payload.prf),
        expires_at=payload.exp,
        not_before=payload.nbf,
        envelope=token,
    )


def _cacao_revocation(header: str, data: bytes, cacao: Cacao) -> UnverifiedRevocation:
    """Convert a wallet-signed message to a revocation (V3)."""
    message = cacao.message
    if not message.uri.startswith(CID_AUDIENCE):  # the audience is the target (V3)
        raise MalformedToken("revocation has no target")
    if recap_of(message) is not None:  # it grants something, so it is a delegation (V3)
        raise WrongKind
    return UnverifiedRevocation(
        form="cacao",
        header=header,
        cid=digest_of(data),
        content_key=content_key_of_cacao(message.iss, message.digest),
        revoker=principal_of(message.iss),
        addressee=None,
        targets=(target_of(message.uri.removeprefix(CID_AUDIENCE)),),
        parents=(),
        expires_at=_time(message.expiration_time),
        not_before=_time(message.not_before),
        envelope=cacao,
    )


def _capabilities(
    att: Mapping[str, Mapping[str, Sequence[Mapping[str, Json]]]],
) -> tuple[Capability, ...]:
    """Return a token's capabilities in sorted order (T7).

    They are sorted by resource text and ability. Different spellings of one capability are merged
    (Q19).
    """
    if len(att) == 1:  # fast path: nearly every invocation has one capability
        ((text, abilities),) = att.items()
        if len(abilities) == 1:
            ((ability, listed),) = abilities.items()
            only = Capability(resource=_resource(text), ability=ability, caveats=caveats_of(listed))
            return (only,)
    # Resources are counted too, because one without abilities adds nothing to the sum.
    if sum(map(len, att.values())) > MAX_CAPABILITIES or len(att) > MAX_CAPABILITIES:
        raise MalformedToken("too many capabilities")
    merged: dict[tuple[str, str], Capability] = {}
    for text, abilities in att.items():
        resource = _resource(text)
        rendered = resource.text
        for ability, listed in abilities.items():
            capability = Capability(resource=resource, ability=ability, caveats=caveats_of(listed))
            first = merged.get((rendered, ability))
            if first is None:
                merged[rendered, ability] = capability
            elif not same_json(dict(first.caveats), dict(capability.caveats)):
                # Choosing either of them could ignore a condition.
                raise MalformedToken("a capability is listed twice with different caveats")
    # A2, T7: plain string order of resource, then ability
    return tuple([merged[key] for key in sorted(merged)])


def _resource(text: str) -> Resource:
    try:
        return parse_resource(text)
    except InvalidIdentifier as exc:  # even a resource outside all spaces has to be a URI (T1)
        raise MalformedToken("resource is not a URI") from exc


def _facts(listed: Sequence[Json] | None) -> tuple[Json, ...]:
    facts = tuple(listed or ())
    if len(facts) > MAX_FACTS:
        raise MalformedToken("too many facts")
    return facts


def _time(text: str | None) -> float | None:
    return None if text is None else parse_rfc3339(text)
