"""Fixtures: an owner's wallet, session keys, backends, and a node's state of their grants."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache

import libipld
import msgspec
import pytest
from capability_cases import machine_statement
from tests_support import CountingEntropy, altered

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.cacao import encode_cacao, header_text, sign_cacao
from capabilities.chain import Authority, Marker, Registered, judge_invocation, judge_registration
from capabilities.cids import ContentKey, cid_text
from capabilities.facts import (
    ATTESTATION_FACT,
    MACHINE_FACT,
    MACHINE_URN,
    MEMBER_URN,
    statement_resource,
)
from capabilities.memberships import Role, secret_rights
from capabilities.principals import Principal
from capabilities.recap import Recap, attach
from capabilities.resources import parse_network_id
from capabilities.sign_ins import AuthorityFacts, owner_authority
from capabilities.signatures import Ed25519Signer, WalletSigner
from capabilities.siwe import SiweMessage
from capabilities.strict_json import Json
from capabilities.tokens import (
    Delegation,
    Invocation,
    parse_delegation,
    parse_invocation,
    verify_delegation,
    verify_invocation,
)
from capabilities.ucan import UcanPayload, encode_ucan
from encryption_network.gate import ReleaseRequest, admit
from encryption_network.grounds import REASONS, KeyOwner, RowStamp
from encryption_network.keyring import Keyring
from encryption_network.keywrap import public_key_of, wrap
from encryption_network.network_errors import ReleaseRefused
from encryption_network.networks import create_network
from encryption_network.policy import Evidence, Measurements, Policy, encode_policy, policy_json
from encryption_network.release_record import ReleaseRecord
from encryption_network.requests import (
    CheckedDecrypt,
    bind_decrypt,
    check_decrypt,
    decrypt_body_json,
    decrypt_fact,
    parse_decrypt_body,
)
from encryption_network.withdrawals import NOTHING_WITHDRAWN, Withdrawals, encode_withdrawals

NOW = 1_795_000_000.0
DAY_S = 86_400
CODE = Measurements(
    mrtd=b"\x01" * 48,
    rtmr0=b"\x02" * 48,
    rtmr1=b"\x03" * 48,
    rtmr2=b"\x04" * 48,
    rtmr3=b"\x05" * 48,
)
ROOT = hashlib.sha256(b"root").digest()
LIST = Policy(measurements=(CODE,))
RECEIVER_SECRET = b"\x31" * 32
RECEIVER = public_key_of(RECEIVER_SECRET)
CONTENT_KEY = bytes(range(32))
_KEYRING = Keyring(b"\x07" * 32)
_WALLET = WalletSigner(b"\x0a" * 32)
MEMBER, ADMIN = WalletSigner(b"\x0b" * 32), WalletSigner(b"\x0c" * 32)
_SIGNERS = [Ed25519Signer(bytes([number]) * 32) for number in (0x41, 0x42, 0x43)]


@lru_cache(maxsize=500)  # worlds of one test have many sign-ins in common
def _sign_in(message: SiweMessage, wallet: WalletSigner) -> Delegation:
    """Return a wallet's sign-in as a node reads it."""
    data = encode_cacao(sign_cacao(message, wallet))
    return verify_delegation(parse_delegation(header_text(data)))


class World:
    """A client that mints grants and requests, and the state that a node would have of them."""

    NOW = NOW
    DAY_S = DAY_S
    CODE = CODE
    ROOT = ROOT
    LIST = LIST
    RECEIVER_SECRET = RECEIVER_SECRET
    RECEIVER = RECEIVER
    MEMBER = MEMBER
    ADMIN = ADMIN
    CONTENT_KEY = CONTENT_KEY

    def __init__(self) -> None:
        self.now = NOW
        self.keyring = _KEYRING
        self.entropy = CountingEntropy(b"world")
        self.wallet = _WALLET
        self.owner = Principal(self.wallet.did)
        self.session, self.backend, self.other = _SIGNERS
        self.urn = f"urn:tinycloud:encryption:{self.owner}:default"
        self.space = f"tinycloud:{self.owner[4:]}:default"
        self.network = create_network(
            parse_network_id(self.urn), now=NOW, keyring=self.keyring, entropy=self.entropy
        )
        self.links: dict[ContentKey, Registered] = {}
        self.marks: dict[ContentKey, Marker] = {}
        self.record = ReleaseRecord(trust_roots=(ROOT,))
        self.withdrawals = NOTHING_WITHDRAWN
        self._nonce = 0

    # --- grants ---

    def sign_in(
        self,
        holder: Ed25519Signer,
        *,
        read: bool = True,
        decrypt: bool = True,
        policies: Sequence[Policy] = (),
        lifetime_s: float = DAY_S,
        age_s: float = 0,
        registered_at: float | None = None,
        audience: str | None = None,
        wallet: WalletSigner | None = None,
        parents: Sequence[Registered] = (),
        network: str | None = None,
        space: str | None = None,
    ) -> Registered:
        """Return a wallet's sign-in as a CACAO, with the given parents."""
        signer = wallet or self.wallet
        att: dict[str, dict[str, tuple[dict[str, None], ...]]] = {}
        if read:
            att[f"{space or self.space}/capabilities/all"] = {"tinycloud.capabilities/read": ({},)}
        if decrypt:
            att[network or self.urn] = {DECRYPT: ({},)}
        self._nonce += 1
        message = SiweMessage(
            domain="app.example",
            address=signer.address,
            uri=audience or holder.did_url,
            nonce=f"nonce{self._nonce}",
            issued_at=iso(self.now - age_s),
            expiration_time=iso(self.now + lifetime_s),
            resources=tuple(statement_resource(policy_json(policy)) for policy in policies),
        )
        proofs = tuple(base58_cid(parent.delegation.cid) for parent in parents)
        delegation = _sign_in(attach(message, Recap(att, proofs)), signer)
        return self.register(delegation, parents, registered_at)

    def grant(
        self,
        signer: Ed25519Signer,
        holder: str,
        *,
        parents: Sequence[Registered] = (),
        policies: Sequence[Policy] = (),
        att: dict[str, dict[str, list[dict[str, Json]]]] | None = None,
        lifetime_s: float = DAY_S / 2,
    ) -> Registered:
        """Return a UCAN delegation; without `att` it grants decrypt on the network."""
        self._nonce += 1
        payload = UcanPayload(
            iss=signer.did_url,
            aud=holder,
            exp=self.now + lifetime_s,
            nnc=f"urn:uuid:{self._nonce}",
            fct=[{ATTESTATION_FACT: policy_json(policy)} for policy in policies] or None,
            prf=[cid_text(parent.delegation.cid) for parent in parents],
            att={self.urn: {DECRYPT: [{}]}} if att is None else att,
        )
        return self.register(
            verify_delegation(parse_delegation(encode_ucan(payload, signer))), parents, None
        )

    def machine(
        self,
        holder: Ed25519Signer,
        *names: str,
        signer: Ed25519Signer | None = None,
        lifetime_s: int = DAY_S,
        registered_at: float | None = None,
        **changes: object,
    ) -> Registered:
        """Return the owner's machine token for secrets of these names.

        The wallet signs it, or a key that owns the network. `changes` replace members of the
        statement.
        """
        ends_at, paths = int(self.now) + lifetime_s, [self.path(name) for name in names or ("ONE",)]
        stated = machine_statement(key=holder.did, paths=paths, ends_at=ends_at, name="deploy")
        stated |= changes  # type: ignore[arg-type]  # any JSON
        att = {path: {KV_GET: ({},)} for path in paths} | {self.urn: {DECRYPT: ({},)}}
        if signer is not None:
            payload = UcanPayload(
                iss=signer.did_url,
                aud=holder.did,
                exp=ends_at,
                fct=[{MACHINE_FACT: stated}],
                prf=[],
                att={resource: {name: [{}] for name in held} for resource, held in att.items()},
            )
            token = encode_ucan(payload, signer)
        else:
            self._nonce += 1
            message = SiweMessage(
                domain="app.example",
                address=self.wallet.address,
                uri=holder.did,
                nonce=f"nonce{self._nonce}",
                issued_at=iso(self.now),
                expiration_time=iso(ends_at),
                resources=(statement_resource(stated, urn=MACHINE_URN),),
            )
            token = header_text(
                encode_cacao(sign_cacao(attach(message, Recap(att, ())), self.wallet))
            )
        return self.register(verify_delegation(parse_delegation(token)), (), registered_at)

    def member(
        self,
        role: Role,
        *names: str,
        wallet: WalletSigner = MEMBER,
        by: Registered | None = None,
        signer: WalletSigner | None = None,
        registered_at: float | None = None,
        changes: Mapping[str, Json] | None = None,
    ) -> Registered:
        """Return the membership of a wallet for all secrets, or for those of these names.

        The owner's wallet signs it, or `signer`, citing `by`. `changes` replace members of the
        statement.
        """
        ends_at = int(self.now) + DAY_S
        paths = [self.path(name) for name in names]
        stated: dict[str, Json] = {"member": wallet.did, "role": role, "end": ends_at}
        if paths:
            stated["paths"] = [*paths]
        stated |= changes or {}
        rights = secret_rights("reader" if role == "reader" else "writer", self.owner, paths)
        att: dict[str, dict[str, tuple[dict[str, None], ...]]] = {self.urn: {DECRYPT: ({},)}}
        for resource, ability in rights:
            att.setdefault(resource, {})[ability] = ({},)
        self._nonce += 1
        own = signer or self.wallet
        message = SiweMessage(
            domain="app.example",
            address=own.address,
            uri=wallet.did,
            nonce=f"nonce{self._nonce}",
            issued_at=iso(self.now),
            expiration_time=iso(ends_at),
            resources=(statement_resource(stated, urn=MEMBER_URN),),
        )
        parents = () if by is None else (by,)
        proofs = tuple(base58_cid(parent.delegation.cid) for parent in parents)
        return self.register(
            _sign_in(attach(message, Recap(att, proofs)), own), parents, registered_at
        )

    def path(self, name: str) -> str:
        """Return the resource of a secret of the owner."""
        return f"tinycloud:{self.owner[4:]}:secrets/kv/vault/secrets/{name}"

    def register(
        self, delegation: Delegation, parents: Sequence[Registered], registered_at: float | None
    ) -> Registered:
        """Judge and store a delegation as a node does."""
        at = self.now if registered_at is None else registered_at
        link = msgspec.structs.replace(
            judge_registration(delegation, parents, self.marks, now=self.now), registered_at=at
        )
        self.links[delegation.content_key] = link
        self.marks[delegation.content_key] = Marker.LIVE
        return link

    def revoke(self, link: Registered) -> None:
        """Revoke a delegation."""
        self.marks[link.delegation.content_key] = Marker.REVOKED

    # --- requests ---

    def body(self, **changes: Json) -> dict[str, Json]:
        """Return a decrypt body for `CONTENT_KEY`, with members replaced."""
        wrapped = base64.b64encode(
            wrap(self.network.public_key, CONTENT_KEY, CountingEntropy(b"wrap"))
        ).decode()
        body = decrypt_body_json(
            self.urn,
            target_node=self.keyring.node_did,
            alg=self.network.alg,
            key_version=self.network.key_version,
            encrypted_symmetric_key=wrapped,
            receiver_public_key=RECEIVER,
        )
        return body | changes

    def invocation(
        self,
        signer: Ed25519Signer,
        *,
        facts: Sequence[Json],
        proofs: Iterable[Registered] = (),
        att: dict[str, dict[str, list[dict[str, Json]]]] | None = None,
        aud: str | None = None,
        exp: float | None = None,
        nbf: float | None = None,
        nonce: str | None = "urn:uuid:1",
    ) -> Invocation:
        """Return a verified invocation; without `att` it requests decrypt on the network."""
        payload = UcanPayload(
            iss=signer.did_url,
            aud=self.keyring.node_did if aud is None else aud,
            exp=self.now + 60 if exp is None else exp,
            nbf=nbf,
            nnc=nonce,
            fct=list(facts),
            prf=[cid_text(proof.delegation.cid) for proof in proofs],
            att={self.urn: {DECRYPT: [{}]}} if att is None else att,
        )
        return verify_invocation(parse_invocation(encode_ucan(payload, signer)))

    def checked(
        self, signer: Ed25519Signer, proofs: Sequence[Registered], *, receiver: bytes = RECEIVER
    ) -> CheckedDecrypt:
        """Return a decrypt request that has passed rows 5 to 21."""
        body = self.body()
        if receiver != RECEIVER:
            body = decrypt_body_json(
                self.urn,
                target_node=self.keyring.node_did,
                alg=self.network.alg,
                key_version=1,
                encrypted_symmetric_key=str(body["encryptedSymmetricKey"]),
                receiver_public_key=receiver,
            )
        invocation = self.invocation(signer, facts=[decrypt_fact(body)], proofs=proofs)
        network = parse_network_id(self.urn)
        bound = bind_decrypt(
            invocation, parse_decrypt_body(dict(body)), network, self.keyring.node_did
        )
        return check_decrypt(bound, self.network, self.now)

    def authority(self, invocation: Invocation, proofs: Sequence[Registered]) -> Authority:
        """Return the verdict of the chain rules on an invocation."""
        return judge_invocation(invocation, proofs, self.marks, now=self.now)

    def request(
        self,
        signer: Ed25519Signer,
        proofs: Sequence[Registered],
        *,
        evidence: Evidence | None = None,
        sessions: Sequence[Registered] = (),
        receiver: bytes = RECEIVER,
        key_paths: dict[str, RowStamp] | None = None,
        key_owner: KeyOwner | None = None,
    ) -> ReleaseRequest:
        """Return the input of the gate; its links are exactly the cited closures.

        By default, one of the paths at which the key is stored owns it.
        """
        if key_paths and key_owner is None:
            key_owner = self.key_owner(*key_paths)
        decrypt = self.checked(signer, proofs, receiver=receiver)
        keys = [member.content_key for proof in proofs for member in proof.closure]
        return ReleaseRequest(
            decrypt=decrypt,
            authority=self.authority(decrypt.bound.invocation, proofs),
            owner=owner_authority(
                AuthorityFacts(
                    owner=decrypt.network.owner,
                    invoker=decrypt.bound.invocation.invoker,
                    cited=tuple(proof.delegation.content_key for proof in proofs),
                    links={key: self.links[key] for key in keys},
                    sessions=tuple(sessions),
                    marks=self.marks,
                    now=self.now,
                )
            ),
            exchange_key=self.keyring.exchange_signer.did,
            release_record=self.record,
            network_row=row("network"),
            record_row=row("record"),
            withdrawals=self.withdrawals,
            withdrawals_row=row("withdrawals"),
            evidence=evidence,
            evidence_row=None if evidence is None else row("evidence"),
            key_paths=key_paths or {},
            key_owner=key_owner,
        )

    def with_facts(self, request: ReleaseRequest, **changes: object) -> ReleaseRequest:
        """Return a request whose owner authority was computed from other facts."""
        return altered(request, owner=owner_authority(altered(request.owner.facts, **changes)))

    def evidence(self, holder: Ed25519Signer, **changes: object) -> Evidence:
        """Return evidence that satisfies `LIST` at `NOW`, with fields replaced."""
        return evidence_of(holder, **changes)

    def reason_of(self, request: ReleaseRequest) -> str:
        """Return why a request is refused, or an empty text if it is admitted."""
        try:
            admit(request)
        except ReleaseRefused as refusal:
            assert refusal.reason in REASONS
            assert refusal.text == f"release refused: {refusal.reason}"
            return refusal.reason
        return ""

    def own_network(self) -> ReleaseRequest:
        """Return a request of a did:key on its own network, and make it the owner."""
        self.owner = Principal(self.backend.did)
        self.urn = f"urn:tinycloud:encryption:{self.owner}:default"
        self.network = altered(self.network, network=self.urn)
        return self.request(self.backend, [])

    def row(self, name: str) -> RowStamp:
        """Return a row of the store."""
        return row(name)

    def key_owner(
        self, *paths: str, is_at_two_paths: bool = False, is_secret: bool = True
    ) -> KeyOwner:
        """Return what the store says about the requested content key."""
        return KeyOwner(
            row=row("key owner"),
            paths=frozenset(paths),
            is_at_two_paths=is_at_two_paths,
            is_secret=is_secret,
        )

    def withdraw(self, **entries: object) -> None:
        """Add withdrawals to this network."""
        listed = Withdrawals(**entries)  # type: ignore[arg-type]  # by name
        self.network = altered(self.network, withdrawals_row=encode_withdrawals(listed))

    def demand(self, policy: Policy | None) -> None:
        """Set the owner's policy on the network."""
        self.network = altered(
            self.network, policy_json=None if policy is None else encode_policy(policy)
        )


def row(name: str) -> RowStamp:
    """Return a row of the store."""
    return RowStamp(name.encode(), hashlib.blake2b(name.encode(), digest_size=16).digest())


def iso(moment: float) -> str:
    """Return epoch seconds in the form of SIWE texts."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def base58_cid(digest: bytes) -> str:
    """Return a CID in the form that ReCaps use."""
    return libipld.encode_multibase("z", b"\x01\x55\x1e\x20" + digest)


def evidence_of(holder: Ed25519Signer, **changes: object) -> Evidence:
    """Return evidence that satisfies `LIST` at `NOW`, with fields replaced."""
    evidence = Evidence(
        invoker=Principal(holder.did),
        receiver_public_key=RECEIVER,
        receiver_mode="attested",
        mrtd=CODE.mrtd,
        rtmr0=CODE.rtmr0,
        rtmr1=CODE.rtmr1,
        rtmr2=CODE.rtmr2,
        rtmr3=CODE.rtmr3 or b"",
        mr_config_id=bytes(48),
        mr_owner=bytes(48),
        mr_owner_config=bytes(48),
        td_attributes=bytes.fromhex("0000001000000000"),
        xfam=bytes.fromhex("e702060000000000"),
        tee_tcb_svn=bytes(16),
        mr_seam=bytes(48),
        tcb_status="UpToDate",
        qe_status="UpToDate",
        advisories=(),
        evaluation_number=19,
        tcb_date=NOW - 100 * DAY_S,
        fmspc=bytes(6),
        platform_id_hash=b"\x09" * 32,
        root_ca_sha256=ROOT,
        quote_sha256=b"\x0b" * 32,
        collateral_sha256=b"\x0c" * 32,
        attested_at=NOW - 10,
        expires_at=NOW + 290,
        compose_hash=b"\x0d" * 32,
        app_id=b"\x0e" * 20,
        key_provider="kms:aa",
    )
    return replace(evidence, **changes)  # type: ignore[arg-type]  # by name


@pytest.fixture
def world() -> World:
    """An owner, keys and a network, without any grants."""
    return World()


@pytest.fixture
def new_world() -> type[World]:
    """A factory for worlds."""
    return World
