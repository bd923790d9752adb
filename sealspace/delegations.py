"""Methods for granting, accepting, listing and revoking delegations.

A grant is signed by the session's key, or by the owner's wallet if the session lacks the right. The
wallet then signs one more message. The grant is registered with the node, and sent to the recipient
in a portable form that other clients of the protocol can read. A grant may include a policy: the
node then releases keys of secrets only to code that the policy approves.

Example:
    notes = client.kv().space
    await client.kv().put("shared/1", "buy milk")
    grant = [allow(f"{notes.text}/kv/shared", "tinycloud.kv/get")]
    portable = await client.delegations.delegate(friend.session.did, grant, ttl_s=3600)
    await friend.delegations.accept(portable)
    assert (await friend.kv(notes.text).get("shared/1")).body == b"buy milk"
    await client.delegations.revoke(portable)
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter

import msgspec

from capabilities.abilities import (
    CAPABILITIES_READ,
    DELEGATION_LIST,
    DELEGATION_STATUS,
    KV_GET,
    REVOKE,
    satisfies,
)
from capabilities.capability_errors import CapabilityError
from capabilities.machine_tokens import MachineGrant, OidcTrust
from capabilities.principals import Principal, parse_principal, same_principal
from capabilities.references import CID_URN, MAX_TARGETS
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import Json
from capabilities.tokens import Capability
from encryption_network.canonical_json import canonical_bytes
from encryption_network.policy import Policy

from .documents.app_names import AppNames
from .documents.manifests import DelegationTarget, target_grants
from .documents.run_grants import RunStatement
from .errors import InvalidInput, LifetimeTooLong, MalformedAnswer, SessionExpired
from .session import (
    REVOCATION_TTL_S,
    Grant,
    Session,
    capability,
    mint,
    read_grant,
    require_recipient,
    sign_message,
    space_capability,
)
from .wallets import AnyWallet, wallet_of
from .wire.caller import Caller
from .wire.delegation_history import (
    MAX_PAGE_ITEMS,
    PAGE,
    DelegationRecord,
    DelegationStatus,
    Direction,
    HistoryPage,
    Status,
    status_of,
)
from .wire.node_answers import decoded, json_object, read_pages, required_text, texts_of
from .wire.portable import PortableDelegation, cid_of, grant_of, portable_of
from .wire.sign_in import (
    pass_on,
    register,
    require_own_resources,
    sign_for_owner,
    sign_grant,
    statements,
)
from .wire.token_line import reading_rights, token_line
from .wire.transport import Request, json_request

DELEGATION_TTL_S = 7 * 86_400.0
"""Default lifetime of a grant, seconds; shorter if the session ends earlier."""

SUB_DELEGATION_TTL_S = 3_600.0
"""Default lifetime of a wallet's delegation to its own session key, seconds."""

TOKEN_TTL_S = 30 * 86_400.0
"""Default lifetime of a machine token, seconds."""

_SESSION_MARGIN_S = 60.0
_REVOCATION = Request("POST", "/revoke", repeatable=True)


def allow(resource: str, ability: str, *caveats: Mapping[str, Json]) -> Capability:
    """Create a capability, which is the content of a grant, from a resource and an ability.

    Args:
        resource: a resource of a space (`tinycloud:…:secrets/kv/vault/secrets/NAME`), or the id of
            a network.
        ability: full ability (`tinycloud.kv/get`).
        caveats: conditions (SQ rules of spec/sql.md); a wallet cannot sign them.
    Raises:
        InvalidInput: the resource is not a URI, or the ability is malformed.
    """
    return capability(resource, ability, *caveats)


class Delegations:
    """Methods for managing delegations.

    Use `Client.delegations` to get an instance.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def delegate(
        self,
        did: str,
        capabilities: Sequence[Capability],
        *,
        ttl_s: float | None = None,
        at_most: bool = False,
        policy: Policy | None = None,
        run: RunStatement | None = None,
        machine: MachineGrant | OidcTrust | None = None,
        unbound: bool = False,
        app: AppNames | None = None,
        wallet: AnyWallet | None = None,
        membership: Grant | None = None,
        domain: str = "localhost",
    ) -> PortableDelegation:
        """Grant capabilities to a DID, and register the grant with the node.

        Use one grant for each owner: the owner of any space in a grant can revoke all of it (W22).

        Args:
            did: the recipient. A fragment is dropped: a wallet's message to a key's own DID URL is
                a sign-in, and would make the recipient the owner in person (IP2).
            capabilities: one right or more; see `allow`. The right to read capabilities makes a
                session, so it is left out too, unless the recipient is this session's own key.
            ttl_s: lifetime in seconds; None: seven days, or less if the cited grants end earlier.
            at_most: accept a shorter lifetime if the cited grants end before `ttl_s`.
            policy: code that may receive keys under this grant; None: no restriction by this grant.
            run: programs and callers for which a runner may use the grant; None: not a run grant.
            machine: statement of a machine token or a trust; see `create_token`, `trust_issuer`.
            unbound: also allow values without a place; needs the owner's signature (EN47).
            app: the owner's names for the approved code, without effect (CN19).
            wallet: sign with the owner's wallet instead of the session's key.
            membership: for a team: the membership of the admin who signs (TM6); None: the owner.
            domain: the requesting authority, which the wallet shows to the person who signs.
        Returns:
            The portable form, for the recipient.
        Raises:
            InvalidInput: not a DID, a lifetime that is not positive, or nothing is left to grant.
            NotGranted, SessionExpired: the session does not have the rights that it would grant.
            LifetimeTooLong: a cited grant ends before `ttl_s`; see `at_most`.
            NodeRefused, TransportError: the node did not register the grant.
        """
        if not capabilities:
            raise InvalidInput("the delegation grants nothing: at least one capability is needed")
        life_s = DELEGATION_TTL_S if ttl_s is None else ttl_s
        if life_s <= 0:
            raise InvalidInput("the lifetime of a delegation must be more than 0 s")
        if unbound and (wallet is None or membership is not None):
            _require_own_key(self._caller.session)
        recipient = _recipient(did)
        is_own = recipient == self._caller.session.did
        granted = capabilities if is_own else _grantable(capabilities)
        # A key signs the statements as facts of a token, a wallet as resources of a message.
        facts, resources = statements(policy, run, machine, unbound=unbound, app=app)
        if wallet is None:
            grant = self._grant_by_session(
                recipient, granted, facts, ttl_s=life_s, at_most=at_most or ttl_s is None
            )
        else:
            grant = sign_for_owner(
                self._caller,
                wallet_of(wallet),
                recipient,
                granted,
                ttl_s=life_s,
                domain=domain,
                resources=resources,
                membership=membership,
            )
        await register(self._caller, grant)
        return portable_of(grant, owner=self._caller.session.owner, host=self._caller.transport.url)

    async def delegate_to_target(
        self,
        target: DelegationTarget,
        *,
        policy: Policy | None = None,
        unbound: bool = False,
        wallet: AnyWallet | None = None,
        leave_out: bool = False,
        domain: str = "localhost",
    ) -> tuple[PortableDelegation, ...]:
        """Grant a DID the rights requested in a manifest (MF12).

        There is one delegation for each owner of resources. Each grant has the shortest lifetime
        that the manifest requests, or ends with the session's grants. Nothing is signed unless
        everything can be granted. `portable.encode_bundle` makes one text of the result.

        Args:
            target: a target of a composed request (`request.delegation_targets`).
            policy: code that may receive keys under these grants; None: no restriction.
            unbound: the same as in `delegate`.
            wallet: sign with the owner's wallet instead of the session's key, once for each
                delegation.
            leave_out: leave out services that the node does not serve, instead of raising.
            domain: the requesting authority, which the wallet shows to the person who signs.
        Returns:
            The portable forms, one for each owner.
        Raises:
            InvalidInput: the manifest requests a service that the node does not serve, or nothing
                is left to grant.
            NotGranted: the session lacks rights; `missing` has each of them.
            SessionExpired, NodeRefused, TransportError: the same errors as `delegate`.
        """
        session = self._caller.session
        features = (await self._caller.info()).features
        grants = target_grants(target, owner=session.owner, features=features, leave_out=leave_out)
        if not grants:
            raise InvalidInput("the manifest requests nothing that can be granted")
        wanted = [right for grant in grants for right in grant.capabilities]
        # Either check raises before anything is signed, if one of the grants cannot be signed.
        if wallet is None:
            session.proofs_for(wanted, now=self._caller.clock.now())
        else:
            require_own_resources(wallet_of(wallet), wanted)
        portables = []
        for grant in grants:
            portable = await self.delegate(
                target.did,
                grant.capabilities,
                ttl_s=grant.ttl_s,
                # A manifest's lifetimes are upper limits, so an earlier end is acceptable.
                at_most=True,
                policy=policy,
                unbound=unbound,
                wallet=wallet,
                domain=domain,
            )
            portables.append(portable)
        return tuple(portables)

    async def create_token(
        self,
        name: str,
        secrets: Sequence[str],
        *,
        scope: str | None = None,
        ttl_s: float = TOKEN_TTL_S,
        unbound: bool = False,
        wallet: AnyWallet | None = None,
        membership: Grant | None = None,
        domain: str = "localhost",
    ) -> str:
        """Create a machine token, with which a program reads secrets without the owner's key.

        The token ends at its own time: it does not depend on this session. To revoke it, pass the
        cid of its delegation to `revoke`.

        Args:
            name: its name in lists: letters, digits, dots, dashes and underscores, at most 64.
            secrets: names of the owner's secrets, at most 64.
            scope: the scope of all of them; None: global secrets.
            ttl_s: lifetime in seconds, from one minute to 366 days.
            unbound: let the program use secrets that state no place (EN46).
            wallet: as in `delegate`, like `membership`; None only if the key is the owner's own.
            domain: the requesting authority, which the wallet shows to the person who signs.
        Returns:
            The line for SEALSPACE_TOKEN. Protect it like a password.
        Raises:
            InvalidInput: an argument is not valid, or the owner's wallet is missing.
            NotGranted: the wallet is not the owner's.
            NodeRefused, TransportError: the node did not register the token.
        """
        seed = self._caller.entropy.token(32)
        node_id = await self._caller.node_id()
        portable = await self._grant_read_only(
            MachineGrant(key=Ed25519Signer(seed).did, paths=(), end=0, name=name, unbound=unbound),
            secrets,
            scope,
            ttl_s,
            wallet,
            membership,
            domain,
        )
        return token_line(seed, node_id, portable.header)

    async def trust_issuer(
        self,
        name: str,
        secrets: Sequence[str],
        *,
        issuer: str,
        claims: dict[str, list[str | int | bool]],
        jwks: str | None = None,
        issuer_ca: str | None = None,
        scope: str | None = None,
        ttl_s: float = TOKEN_TTL_S,
        unbound: bool = False,
        wallet: AnyWallet | None = None,
        membership: Grant | None = None,
        domain: str = "localhost",
    ) -> str:
        """Let the node make machine tokens for CI jobs that present an ID token of an issuer.

        The trust ends at its own time, like a machine token. To revoke it and all tokens that the
        node made under it, pass its cid to `revoke`. The other arguments are as in `create_token`.

        Args:
            issuer: address of the issuer, exactly as in its tokens.
            claims: 1 to 8 claims, each with the values that it may have.
            jwks: the issuer's keys, as a JSON Web Key Set; None: the node fetches them.
            issuer_ca: certificates in PEM for the issuer's address; None: those of the node.
        Returns:
            The cid of the trust, for SEALSPACE_TRUST. Errors are those of `create_token`.
        """
        portable = await self._grant_read_only(
            OidcTrust(
                key=(await self._caller.info()).oidc_did,
                paths=(),
                end=0,
                name=name,
                unbound=unbound,
                issuer=issuer,
                claims=claims,
                jwks=jwks,
                issuer_ca=issuer_ca,
            ),
            secrets,
            scope,
            ttl_s,
            wallet,
            membership,
            domain,
        )
        return portable.cid

    async def _grant_read_only(
        self,
        stated: MachineGrant | OidcTrust,
        secrets: Sequence[str],
        scope: str | None,
        ttl_s: float,
        wallet: AnyWallet | None,
        membership: Grant | None,
        domain: str,
    ) -> PortableDelegation:
        """Grant the right to read secrets, and add paths and end to its statement (MT1, OX1)."""
        now = self._caller.clock.now()
        rights = reading_rights(
            self._caller.session, stated.name, secrets, scope, ttl_s, wallet is not None
        )
        paths = {right.resource.text for right in rights if right.ability == KV_GET}
        end = int(now + ttl_s)
        return await self.delegate(
            stated.key,
            rights,
            # It has to end in the stated second. Its end is rounded down when it is signed.
            ttl_s=end + 0.5 - now,
            machine=msgspec.structs.replace(stated, paths=tuple(sorted(paths)), end=end),
            wallet=wallet,
            membership=membership,
            domain=domain,
        )

    async def accept(
        self,
        portable: PortableDelegation,
        *,
        wallet: AnyWallet | None = None,
        ttl_s: float = SUB_DELEGATION_TTL_S,
        domain: str = "localhost",
    ) -> None:
        """Register a received delegation, and use it in this session.

        A delegation to this session's key is used as it is. For a delegation to the wallet, the
        wallet first signs a second one to the session's key.

        Args:
            portable: the delegation, untrusted.
            wallet: the wallet of this session's owner, if the delegation may be for it.
            ttl_s: lifetime of the wallet's delegation to the session's key, seconds; at most that
                of the delegation.
            domain: the requesting authority, which the wallet shows to the person who signs.
        Raises:
            InvalidPortableDelegation: the delegation is for another DID, or has expired.
            NodeRefused, TransportError: the node did not register it.
        """
        grant = self.read(portable)
        signer = self._caller.session.signer
        signing = None if wallet is None else wallet_of(wallet)
        await register(self._caller, grant)
        if signing is not None and same_principal(grant.delegate, signing.did):
            grant = await pass_on(self._caller, signing, grant, signer, ttl_s=ttl_s, domain=domain)
        # Other tasks may have accepted grants or pinned keys during the requests above.
        self._caller.session = self._caller.session.with_grant(grant)

    async def take_up_bundle(
        self,
        portables: Sequence[PortableDelegation],
        *,
        wallet: AnyWallet | None = None,
        domain: str = "localhost",
    ) -> None:
        """Register several received delegations, and use them in this session.

        `portable.decode_bundle` decodes a bundle of delegations. All of them are checked before
        the first is used. The wallet signs once for each delegation to the wallet.

        Raises:
            InvalidPortableDelegation: a delegation is for another DID, has expired, or differs from
                its token.
            NodeRefused, TransportError: the node did not register one; those before it are in use.
        """
        ours: list[str] = [self._caller.session.did]
        if wallet is not None:
            ours.append(wallet_of(wallet).did)
        for portable in portables:
            require_recipient(self.read(portable), *ours)
        for portable in portables:
            await self.accept(portable, wallet=wallet, domain=domain)

    def read(self, portable: PortableDelegation) -> Grant:
        """Check a portable delegation, and return the grant in it.

        The fields of the delegation must match its token.

        Raises:
            InvalidPortableDelegation: the token cannot be read, differs from the members beside it,
                or has expired.
        """
        return grant_of(portable, now=self._caller.clock.now())

    async def add_right(
        self,
        wallet: AnyWallet | None,
        capabilities: Sequence[Capability],
        *,
        ttl_s: float = SUB_DELEGATION_TTL_S,
        domain: str = "localhost",
    ) -> None:
        """Add rights to this session.

        The owner's wallet signs one message.

        Args:
            wallet: the wallet of this session's owner; None: nothing is added, because the
                session's key is the owner's and has every right.
            capabilities: the rights.
            ttl_s: lifetime in seconds.
            domain: the requesting authority, which the wallet shows to the person who signs.
        Raises:
            InvalidInput: the wallet is not the owner's.
            NodeRefused, TransportError: the node did not register the grant.
        """
        if wallet is None:
            return
        session = self._caller.session
        signing = wallet_of(wallet)
        if not same_principal(signing.did, session.owner):
            raise InvalidInput(f"the wallet {signing.did} is not the owner of this session")
        grant = sign_grant(
            self._caller, signing, session.signer.did_url, capabilities, ttl_s=ttl_s, domain=domain
        )
        await register(self._caller, grant)
        self._caller.session = self._caller.session.with_grant(grant)

    async def revoke(self, *delegations: PortableDelegation | str) -> None:
        """Revoke delegations with the session's key (V2, V5).

        The revocation is permanent and immediate. A key revokes what it issued on its own
        authority. Otherwise the session acts for the owner, with the right to revoke in its
        sign-in. Up to 32 delegations are revoked together or not at all; more are revoked in groups
        of 32.

        Args:
            delegations: portable forms or cids; `delegation_history.delegations_to_revoke` finds
                the ones that belong together.
        Raises:
            Unauthorized: this session may not revoke one of them.
            NodeRefused, TransportError: a request failed.
        """
        # Without a proof, the key acts on its own authority, for what it issued itself. A cid alone
        # does not say who issued the delegation.
        ours = self._caller.session.did
        issued_here = all(
            not isinstance(delegation, str) and read_grant(delegation.header).delegator == ours
            for delegation in delegations
        )
        proofs = () if issued_here else self._proof_of(REVOKE)
        cids = list(dict.fromkeys(map(cid_of, delegations)))
        for at in range(0, len(cids), MAX_TARGETS):
            part = cids[at : at + MAX_TARGETS]
            wanted = [capability(CID_URN + cid, REVOKE) for cid in part]
            await self._post_revocation(
                await self._caller.authorized(_REVOCATION, wanted, proofs=proofs), *part
            )

    async def revoke_by_wallet(
        self, delegation: PortableDelegation | str, wallet: AnyWallet, *, domain: str = "localhost"
    ) -> None:
        """Revoke a delegation with the owner's wallet (V3).

        The revocation is permanent and immediate.

        Raises:
            Unauthorized: the wallet did not issue it, and is neither its recipient nor the owner of
                a space in it.
            NodeRefused, TransportError: the request failed.
        """
        cid = cid_of(delegation)
        now = self._caller.clock.now()
        header = sign_message(
            wallet_of(wallet),
            self._caller.entropy,
            domain=domain,
            uri=f"ucan:{cid}",
            issued_at=now,
            expires_at=now + REVOCATION_TTL_S,
        )
        await self._post_revocation(replace(_REVOCATION, mint=lambda: header), cid)

    async def status(self, delegation: PortableDelegation | str) -> DelegationStatus:
        """Return the status of a delegation.

        The node answers the signer, the recipient, and the owner of a space in it. This session
        asks on behalf of its owner if it has that right, and then on its own authority.

        Args:
            delegation: the portable form, or a cid.
        Returns:
            The status; `not_found` also if neither principal may ask about it.
        Raises:
            NodeRefused, TransportError: a request failed.
        """
        cid = cid_of(delegation)
        right = self._proof_of(DELEGATION_STATUS)
        status = await self._ask_status(cid, right)
        if right and status.word == "not_found":
            return await self._ask_status(cid, ())
        return status

    async def query(
        self,
        *,
        direction: Direction | None = None,
        status: Status | None = None,
        space: str | None = None,
        account: str | None = None,
        tokens: bool = False,
        derived: bool = False,
        after: str | None = None,
        page_items: int = 50,
    ) -> AsyncIterator[DelegationRecord]:
        """Yield the delegations issued by or to an account.

        They are fetched one page at a time. The latest come first. Delegations signed by a key
        state no time of issue: they come last, in the order of their cids.

        Args:
            direction: only granted ones, or only received ones.
            status: only delegations with this status. `revoked` also finds those with a revoked
                ancestor.
            space: only delegations that name a space of this name or id.
            account: a space of the account, by name or id; None: the session's primary space.
            tokens: also return the token of each delegation.
            derived: also list what recipients passed on without the right to list delegations.
            after: cid of an earlier record, to continue after it.
            page_items: size of a page, 1 to 100.
        Raises:
            InvalidInput: the page size or the space is not valid.
            NotGranted, Unauthorized: the session may not list this account's delegations.
            MalformedAnswer: a page is too long, or the list does not advance or has no end.
            NodeRefused, TransportError: a request failed.
        """
        if not 1 <= page_items <= MAX_PAGE_ITEMS:
            raise InvalidInput(f"the page size must be 1 to {MAX_PAGE_ITEMS}, not {page_items}")
        filters = {
            "direction": direction,
            "status": status,
            "space": space,
            "limit": page_items,
            "tokens": tokens or None,  # members with None are not sent
            "derived": derived or None,
        }
        wanted = [
            space_capability(
                self._caller.session.chosen_space(account), "delegation", None, DELEGATION_LIST
            )
        ]
        start = None if after is None else encode_url(after.encode())

        async def ask(cursor: str | None) -> HistoryPage:
            members = filters | {"cursor": cursor or start}
            body = canonical_bytes(
                {name: value for name, value in members.items() if value is not None}
            )
            request = await self._caller.authorized(
                json_request("POST", "/delegation/query", body), wanted
            )
            page = decoded(
                PAGE, await self._caller.transport.require(request), "a page of delegations"
            )
            if len(page.records) > page_items:
                raise MalformedAnswer("a page of the node's delegations is longer than requested")
            return page

        # An empty page is not the end: filters may leave nothing of it.
        async for page in read_pages(ask, attrgetter("cursor")):
            for record in page.records:
                yield record

    def _proof_of(self, ability: str) -> tuple[str, ...]:
        """Return the CID of a grant that proves an ability (W21).

        Returns an empty tuple if the session has no such unexpired grant.
        """
        now = self._caller.clock.now()
        for grant in self._caller.session.grants:
            abilities = {granted.ability for granted in grant.capabilities}
            if ability in abilities and grant.is_live(now):
                return (grant.cid,)
        return ()

    async def _ask_status(self, cid: str, proofs: Sequence[str]) -> DelegationStatus:
        request = json_request("POST", "/delegation/status", canonical_bytes({"cid": cid}))
        wanted = [capability(CID_URN + cid, DELEGATION_STATUS)]
        answer = await self._caller.transport.exchange(
            await self._caller.authorized(request, wanted, proofs=proofs)
        )
        if answer.status != 404:  # with 404, the node answers the status `not_found`
            answer.require()
        return status_of(answer, cid)

    async def _post_revocation(self, request: Request, *cids: str) -> None:
        answer = json_object(await self._caller.transport.require(request))
        confirmed = texts_of(answer, "cids") if len(cids) > 1 else (required_text(answer, "cid"),)
        # The answer has to confirm exactly the requested revocations (J10).
        if answer.get("revoked") is not True or sorted(confirmed) != sorted(cids):
            raise MalformedAnswer("the node did not confirm the revocation")

    def _grant_by_session(
        self,
        recipient: str,
        capabilities: Sequence[Capability],
        facts: Sequence[Json],
        *,
        ttl_s: float,
        at_most: bool,
    ) -> Grant:
        """Sign a grant with the session's key, under the grants that the session has."""
        session = self._caller.session
        now = self._caller.clock.now()
        proofs = session.proofs_for(capabilities, now=now)
        left_s = self._caller.held_for_s(capabilities)
        if left_s < _SESSION_MARGIN_S:
            raise SessionExpired(
                "cannot issue a grant: the session, or a grant on which the session depends, ends"
                " within a minute"
            )
        if ttl_s > left_s and not at_most:
            raise LifetimeTooLong(f"a grant to {recipient}", asked_s=ttl_s, possible_s=left_s)
        return read_grant(
            mint(
                session.signer,
                self._caller.entropy,
                audience=recipient,
                capabilities=capabilities,
                proofs=proofs,
                # The end is rounded down, so that it is never after the parent's.
                expires_at=int(now + min(ttl_s, left_s)),
                facts=facts,
                issuer=session.did,
            )
        )


def _require_own_key(session: Session) -> None:
    """Check that a session's key is the owner's own, which may allow unbound values (EN47)."""
    if session.did != session.owner:
        raise InvalidInput(
            "only the owner's wallet can allow values without a place, not a session's key",
            hint="sign the grant with the owner's wallet",
        )


def _recipient(did: str) -> Principal:
    try:
        return parse_principal(did)
    except CapabilityError as exc:
        raise InvalidInput(
            "the recipient is not a DID",
            hint="ask the recipient for the value of `client.session.did`, such as did:key:…",
            step="ask the recipient to run `sealspace whoami` and to send you the DID",
        ) from exc


def _grantable(capabilities: Sequence[Capability]) -> list[Capability]:
    """Return the capabilities that can be granted to others (IP2).

    These are all except `CAPABILITIES_READ`.

    Raises:
        InvalidInput: no capability is left.
    """
    granted = [right for right in capabilities if not satisfies(right.ability, CAPABILITIES_READ)]
    if not granted:
        raise InvalidInput(
            f"{CAPABILITIES_READ} cannot be granted to others",
            hint="grant the resources that the recipient needs",
        )
    return granted
