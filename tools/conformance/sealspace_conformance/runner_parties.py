"""Owners who publish programs for a runner, grant secrets to it, and make tasks."""

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealspace_conformance.encodings import b64url, canonical_json
from sealspace_conformance.envelopes import DECRYPT, envelope, seal, wrap
from sealspace_conformance.keys import Key, Wallet, is_signed_by
from sealspace_conformance.run import Blocked, Owner, Run, new_owner
from sealspace_conformance.tokens import SignIn, Token, plain, time_text
from sealspace_conformance.transport import Answer, Node

CALL = "sealspace.run/call"
GET = "tinycloud.kv/get"
PUT = "tinycloud.kv/put"
CALL_FACT = "sealspace.run.call/v1"
BACKEND = "/.well-known/sealspace/backend"
RESULT_KEY = "iexec-result/NAME_IEXEC_HRESULT_HENCRYPTION_HPUBLIC_HKEY"
"""The secret with the key that results are encrypted to (X1.1), below `vault/secrets/scoped/`."""
_GRANT_S = 3600


@dataclass(frozen=True)
class RunnerAt:
    """What a runner says about itself.

    Attributes:
        did: whom grants and calls are addressed to.
        start: base64url of the SHA-256 of its startup document (RN178).
        receipt_key: the `did:key` that signs receipts.
        policy: names the runner's code (AT62).
    """

    did: str
    start: str
    receipt_key: str
    policy: Mapping[str, Any]


@dataclass(frozen=True)
class Program:
    """A published program.

    Attributes:
        project: `<developer's DID>/<name>`.
        sha256: the hash of its bytes.
    """

    project: str
    sha256: str


def new_result_key() -> RSAPrivateKey:
    """Return a new key for results."""
    return generate_private_key(65537, 2048)


def requester_secret(name: str) -> str:
    """Return where the requester's secret of a name in lower case is, below the scopes."""
    return f"iexec-requester/NAME_{name.upper()}"


def signed_statement(kind: str, value: Mapping[str, Any], wallet: Wallet) -> bytes:
    """Return a statement of a wallet (RN51)."""
    text = f"sealspace statement {kind}\n{canonical_json(value).decode()}"
    return canonical_json(
        {
            "type": kind,
            "signer": wallet.did,
            "statement": dict(value),
            "signature": b64url(wallet.sign(text)),
        }
    )


def is_statement_of(did: str, kind: str, document: Mapping[str, Any], signature: bytes) -> bool:
    """Return whether a `did:key` signed a statement of a type (RN51)."""
    text = f"sealspace statement {kind}\n".encode() + canonical_json(document.get("statement"))
    is_about = document.get("type") == kind and document.get("signer") == did
    return is_about and is_signed_by(did, text, signature)


class Party:
    """An owner at the node, with a sign-in for calls to the runner."""

    def __init__(self, run: Run, runner: Node, at: RunnerAt, public: bytes, owner: Owner) -> None:
        self.run = run
        self.runner = runner
        self.at = at
        self.public = public
        self.owner = owner
        self.result_key = new_result_key()
        self.call_sign_in = self.sign_in_for_calls()

    @property
    def did(self) -> str:
        """The DID of the wallet."""
        return self.owner.wallet.did

    # --- values and secrets at the node ---------------------------------------------------------

    async def put(self, space: str, path: str, body: bytes) -> None:
        """Store a value.

        Raises:
            Blocked: the node did not.
        """
        resource = f"{self.owner.space(space)}/kv/{path}"
        token = self.run.call(
            self.owner.session, {resource: plain(PUT)}, proofs=[self.owner.sign_in]
        )
        await self.run.prepare(f"the value {path}", token, body=body)

    async def publish(self, name: str, program: bytes) -> Program:
        """Publish a program for everybody, and make it active (RN50 to RN53)."""
        sha256 = hashlib.sha256(program).hexdigest()
        project = f"{self.did}/{name}"
        version = signed_statement(
            "sealspace.program.version/v1",
            {
                "project": project,
                "sha256": sha256,
                "bytes": len(program),
                "target": "wasm32-wasip1",
                "publishedAt": time_text(self.run.now()),
            },
            self.owner.wallet,
        )
        active = signed_statement(
            "sealspace.program.active/v1",
            {
                "project": project,
                "sha256": sha256,
                "sequence": 1,
                "statementSha256": hashlib.sha256(version).hexdigest(),
            },
            self.owner.wallet,
        )
        await self.put("public", f"projects/{name}/code/{sha256}", program)
        await self.put("public", f"projects/{name}/versions/{sha256}", version)
        await self.put("public", f"projects/{name}/active", active)
        return Program(project=project, sha256=sha256)

    async def keep(self, secret: str, value: str) -> None:
        """Store a secret, whose plaintext states its place (EN26, EN45)."""
        path = f"vault/secrets/scoped/{secret}"
        at = time_text(self.run.now())
        plaintext = {
            "value": value,
            "createdAt": at,
            "updatedAt": at,
            "place": {
                "owner": self.did,
                "space": self.owner.space("secrets"),
                "path": path,
                "form": "secret",
            },
        }
        content_key = hashlib.sha256(self.owner.session.seed + path.encode()).digest()
        sealed = envelope(
            self.owner.network(),
            wrap(self.public, content_key),
            seal(content_key, json.dumps(plaintext).encode()),
        )
        await self.put("secrets", path, json.dumps(sealed).encode())

    async def keep_result_key(self) -> None:
        """Store the key that results are encrypted to."""
        pem = self.result_key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        await self.keep(RESULT_KEY, b64encode(pem).decode())

    # --- grants to the runner -------------------------------------------------------------------

    def run_grant(
        self,
        secrets: Sequence[str],
        *,
        statements: Sequence[Mapping[str, Any]],
        audience: str = "",
        policy: Mapping[str, Any] | None = None,
    ) -> Token:
        """Return a wallet's run grant of secrets (RN41 to RN46)."""
        space = self.owner.space("secrets")
        resources = [f"{space}/kv/vault/secrets/scoped/{secret}" for secret in secrets]
        stated = {**self.at.policy, "paths": resources} if policy is None else policy
        urns = ["urn:sealspace:attestation:v1:" + b64url(canonical_json(stated))]
        urns += ["urn:sealspace:run:v1:" + b64url(canonical_json(one)) for one in statements]
        return SignIn(
            wallet=self.owner.wallet,
            audience=audience or self.at.did,
            grants={
                **{resource: plain(GET) for resource in resources},
                self.owner.network(): plain(DECRYPT),
            },
            issued_at=self.run.now(),
            ends_at=self.run.now() + _GRANT_S,
            before_recap=urns,
        ).sign()

    def portable(self, grant: Token, secrets: Sequence[str], *, audience: str = "") -> bytes:
        """Return the portable form of a run grant (MF14)."""
        space = self.owner.space("secrets")
        resources = [
            {
                "service": "kv",
                "space": space,
                "path": f"vault/secrets/scoped/{secret}",
                "actions": [GET],
            }
            for secret in secrets
        ]
        network = {
            "service": "encryption",
            "space": "encryption",
            "path": self.owner.network(),
            "actions": [DECRYPT],
        }
        return json.dumps(
            {
                "cid": grant.cid,
                "delegationHeader": {"Authorization": grant.text},
                "spaceId": space,
                "path": resources[0]["path"],
                "actions": [GET],
                "resources": [*resources, network],
                "disableSubDelegation": False,
                "expiry": time_text(self.run.now() + _GRANT_S),
                "delegateDID": audience or self.at.did,
                "ownerAddress": self.owner.wallet.address,
                "chainId": 1,
                "host": self.run.node.url,
            }
        ).encode()

    async def deliver(self, portable: bytes) -> Answer:
        """Send a grant to the runner (AT54)."""
        return await self.runner.send("POST", f"{BACKEND}/grants", body=portable)

    async def grant(self, secrets: Sequence[str], statement: Mapping[str, Any]) -> Token:
        """Register a run grant at the node, and deliver it.

        Raises:
            Blocked: the node or the runner refused it.
        """
        grant = self.run_grant(secrets, statements=[statement])
        await self.run.prepare("a run grant", grant)
        answer = await self.deliver(self.portable(grant, secrets))
        if answer.status != 204:
            raise Blocked(f"the runner took no run grant: {answer.status} {answer.text}")
        return grant

    # --- calls ----------------------------------------------------------------------------------

    def sign_in_for_calls(self, **changes: Any) -> Token:
        """Return a sign-in that allows calls (RN64), with changes."""
        contents: dict[str, Any] = {
            "wallet": self.owner.wallet,
            "audience": self.owner.session.url,
            "grants": {f"{self.owner.space()}/run": plain(CALL)},
            "issued_at": self.run.now(),
            "ends_at": self.run.now() + _GRANT_S,
            **changes,
        }
        return SignIn(**contents).sign()

    def call_token(
        self,
        program: str,
        body: bytes,
        *,
        fact: Mapping[str, Any] | None = None,
        signer: Key | None = None,
        grants: Mapping[str, Any] | None = None,
        sign_in: Token | None = None,
        **changes: Any,
    ) -> Token:
        """Return the token of a call (RN60 to RN64), with changes of it or of its fact."""
        stated = {
            "type": CALL_FACT,
            "program": program,
            "bodySha256": b64url(hashlib.sha256(body).digest()),
            "runner": self.at.did,
            "start": self.at.start,
            **(fact or {}),
        }
        contents: dict[str, Any] = {
            "audience": self.at.did,
            "proofs": [sign_in or self.call_sign_in],
            "facts": [stated],
            **changes,
        }
        rights = grants or {f"{self.owner.space()}/run/{program}": plain(CALL)}
        return self.run.call(signer or self.owner.session, rights, **contents)

    async def send(
        self, method: str, path: str, token: Token, body: bytes = b"", *, sign_in: str | None = None
    ) -> Answer:
        """Send a call with the sign-in beside it; an empty text sends none."""
        shown = self.call_sign_in.text if sign_in is None else sign_in
        headers = {"Sealspace-Sign-In": shown} if shown else {}
        return await self.runner.send(
            method, path, token=token.text, body=body or None, headers=headers
        )

    async def look_at(self, job: str, *, part: str = "") -> Answer:
        """Ask for a task, or for its result (TK8, TK10)."""
        token = self.call_token(f"calls/{job}", b"")
        return await self.send("GET", f"/tasks/{job}{part}", token)


async def new_owner_at(run: Run) -> Owner:
    """Sign in a further owner at the node.

    Raises:
        Blocked: the node did not accept the sign-in.
    """
    owner = new_owner(run.now())
    await run.prepare("the sign-in of a further owner", owner.sign_in)
    return owner
