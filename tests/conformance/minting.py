"""Fresh tokens for the exchanges in the wire documents, made by the project's own encoders."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from capabilities.cacao import encode_cacao, header_text, sign_cacao
from capabilities.recap import Recap, attach
from capabilities.signatures import Ed25519Signer, WalletSigner
from capabilities.siwe import SiweMessage
from capabilities.strict_json import Json
from capabilities.ucan import UcanPayload, encode_ucan

Grants: TypeAlias = Mapping[str, Sequence[str]]
"""Resource to abilities, all without caveats."""


def wallet_grant(
    wallet: WalletSigner,
    *,
    audience: str,
    grants: Grants,
    nonce: str,
    issued_at: str,
    expires_at: str | None = None,
) -> str:
    """Return the header text of a delegation that a wallet signs, with a ReCap."""
    message = SiweMessage(
        domain="app.example",
        address=wallet.address,
        chain_id=wallet.chain_id,
        uri=audience,
        nonce=nonce,
        issued_at=issued_at,
        expiration_time=expires_at,
    )
    recap = Recap(
        {
            resource: {ability: ({},) for ability in abilities}
            for resource, abilities in grants.items()
        },
        (),
    )
    return header_text(encode_cacao(sign_cacao(attach(message, recap), wallet)))


def key_token(
    signer: Ed25519Signer,
    *,
    audience: str,
    grants: Grants,
    expires_at: float,
    proofs: Sequence[str] = (),
    nonce: str | None = None,
    facts: Sequence[Json] = (),
) -> str:
    """Return a UCAN by a key, which is a delegation, an invocation or a revocation."""
    payload = UcanPayload(
        iss=signer.did_url,
        aud=audience,
        exp=expires_at,
        nnc=nonce,
        fct=list(facts) or None,
        prf=list(proofs),
        att={
            resource: {ability: [{}] for ability in abilities}
            for resource, abilities in grants.items()
        },
    )
    return encode_ucan(payload, signer)
