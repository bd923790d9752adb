"""People of a case with their keys, and the tokens that they sign."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from blake3 import blake3
from capability_cases import base58, raw_ucan
from key_types import Ed25519Key, JwkKey, P256Key, Secp256k1Key, TokenSigner, WalletKey, header_of
from matrix.cases import PEOPLE, REVOKE, Token
from wire_replay import token_id

from capabilities.cacao import encode_cacao, header_text, sign_cacao
from capabilities.recap import Recap, attach
from capabilities.signatures import WalletSigner
from capabilities.siwe import SiweMessage

_TERMINAL = {"xyz.tinycloud.policy/delegationMode": "terminal"}


class People:
    """The keys of all people, made from a seed.

    Attributes:
        names: the DID of each by label.
        cids: the cid of each token that was signed for the current case, by label.
    """

    def __init__(self, seed: str) -> None:
        self._signers = {label: _signer(label, seed) for label in PEOPLE}
        self._by_did = {signer.did: signer for signer in self._signers.values()}
        self.names = {label: signer.did for label, signer in self._signers.items()}
        self.cids: dict[int, str] = {}

    def sign(self, token: Token, *, start: int, nonce: str) -> str:
        """Return the header text of a token.

        Args:
            token: what to sign.
            start: the beginning of the case, epoch seconds.
            nonce: of the case; with the token's label it makes the token unique.
        """
        nonce = f"{nonce}n{token.label}"
        signer = self._by_did[token.signer]
        if token.is_cacao:
            assert isinstance(signer, WalletKey)
            text = self._cacao(token, signer, start=start, nonce=nonce)
        else:
            text = self._jwt(token, signer, start=start, nonce=nonce)
        self.cids[token.label] = token_id(text)
        return text

    def _cacao(self, token: Token, signer: WalletKey, *, start: int, nonce: str) -> str:
        wallet = WalletSigner(signer.secret)
        is_revocation = token.target is not None
        message = SiweMessage(
            domain="app.example",
            address=wallet.address,
            uri=f"ucan:{self.cids[token.target]}" if token.target is not None else token.audience,
            nonce=nonce,
            issued_at=_time_text(start),
            expiration_time=None if token.ends is None else _time_text(start + token.ends),
            not_before=None if token.begins is None else _time_text(start + token.begins),
        )
        if not is_revocation:
            att: dict[str, dict[str, Any]] = {
                resource: {ability: tuple(caveats) for ability, caveats in held.items()}
                for resource, held in _attenuations(token).items()
            }
            proofs = tuple([base58(self.cids[proof]) for proof in token.proofs])
            message = attach(message, Recap(att, proofs))
        data = bytearray(encode_cacao(sign_cacao(message, wallet)))
        if token.is_broken:
            data[data.rfind(b"asXA") + 10] ^= 1
        return header_text(bytes(data))

    def _jwt(self, token: Token, signer: TokenSigner, *, start: int, nonce: str) -> str:
        att: Mapping[str, object] = _attenuations(token)
        if token.target is not None:
            att = {f"urn:cid:{self.cids[token.target]}": {REVOKE: [{}]}}
        payload = {
            "iss": signer.issuer,
            "aud": token.audience,
            "exp": start + (token.ends or 0),
            "nbf": None if token.begins is None else start + token.begins,
            "nnc": nonce,
            "fct": [_TERMINAL] if token.is_terminal else None,
            "prf": [self.cids[proof] for proof in token.proofs],
            "att": att,
        }
        stated = {name: value for name, value in payload.items() if value is not None}
        text = raw_ucan(msgspec.json.encode(stated), header=header_of(signer), signer=signer)
        if not token.is_broken:
            return text
        signed, _, signature = text.rpartition(".")
        flipped = "B" if signature[5] == "A" else "A"
        return f"{signed}.{signature[:5]}{flipped}{signature[6:]}"


def _attenuations(token: Token) -> dict[str, dict[str, list[Mapping[str, object]]]]:
    att: dict[str, dict[str, list[Mapping[str, object]]]] = {}
    for right in token.rights:
        att.setdefault(right.resource, {})[right.ability] = [*right.caveats]
    return att


def _time_text(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _signer(label: str, seed: str) -> TokenSigner:
    secret = blake3(f"{seed}/{label}".encode()).digest()
    match label[0]:
        case "W" | "A":
            return WalletKey(secret)
        case "P":
            return P256Key(int.from_bytes(secret[:24], "big"))
        case "S":
            return Secp256k1Key(secret)
        case "J":
            return JwkKey(Ed25519Key(secret))
    return Ed25519Key(secret)
