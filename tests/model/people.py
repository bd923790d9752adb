"""People in a trace, and the requests that they sign."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime

from blake3 import blake3
from conformance.minting import key_token
from model.rules import body_of, tag_of, type_of
from model.steps import KEYS, OWNERS, REVOKE, WALLETS, Call, Grant, Revoke, Rows, resource_in
from wire_replay import Request, token_id

from capabilities.cacao import encode_cacao, header_text, sign_cacao
from capabilities.recap import Attenuations, Recap, attach
from capabilities.signatures import Ed25519Signer, WalletSigner
from capabilities.siwe import SiweMessage
from capabilities.strict_json import Json
from capabilities.ucan import UcanPayload, encode_ucan

_TERMINAL: Json = {"xyz.tinycloud.policy/delegationMode": "terminal"}


class People:
    """Two wallets and four keys that are new to the node, with a common start time.

    `salt` makes these keys different from those of other traces; `start` is in epoch seconds.
    """

    def __init__(self, salt: str, start: int) -> None:
        self._salt, self._start = salt, start
        self._wallets = {name: WalletSigner(self._seed(name)) for name in WALLETS}
        self._keys = {name: Ed25519Signer(self._seed(name)) for name in KEYS}
        self.names: dict[str, str] = {}
        self.names |= {name: wallet.did for name, wallet in self._wallets.items()}
        self.names |= {name: key.did for name, key in self._keys.items()}
        for space, owner in OWNERS.items():
            self.names[space] = f"tinycloud:{self.names[owner].removeprefix('did:')}:space-{space}"
        self.cids: dict[int, str] = {}

    def _seed(self, name: str) -> bytes:
        return blake3(f"{self._salt} {name}".encode()).digest()

    def _time(self, seconds: int | None) -> str | None:
        if seconds is None:
            return None
        return datetime.fromtimestamp(self._start + seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _granted(self, rows: Rows) -> dict[str, list[str]]:
        granted: dict[str, list[str]] = {}
        for row in rows:
            granted.setdefault(resource_in(self.names[row.space], row), []).append(row.ability)
        return granted

    def _sign_in(
        self,
        signer: str,
        *,
        uri: str,
        label: int,
        recap: Recap | None,
        begins: int | None,
        ends: int | None,
    ) -> str:
        wallet = self._wallets[signer]
        message = SiweMessage(
            domain="app.example",
            address=wallet.address,
            uri=uri,
            nonce=f"n{label}{self._salt}",
            issued_at="2026-01-01T00:00:00Z",
            not_before=self._time(begins),
            expiration_time=self._time(ends),
        )
        signed = message if recap is None else attach(message, recap)
        return header_text(encode_cacao(sign_cacao(signed, wallet)))

    def _recap(self, rows: Rows, parents: tuple[int, ...]) -> Recap:
        granted = self._granted(rows)
        att: Attenuations = {
            resource: {one: ({},) for one in held} for resource, held in granted.items()
        }
        return Recap(att, tuple(_base58(self.cids[parent]) for parent in parents))

    def grant(self, step: Grant) -> Request:
        """Return the registration of a delegation."""
        if step.signer in self._wallets:
            recap = self._recap(step.rows, step.parents)
            audience = self.names[step.audience]
            token = self._sign_in(
                step.signer,
                uri=audience,
                label=step.label,
                recap=recap,
                begins=step.begins,
                ends=step.ends,
            )
        else:
            token = self._grant_by_key(step)
        self.cids[step.label] = token_id(token)
        return Request("POST", "/delegate", (("authorization", token),), None)

    def _grant_by_key(self, step: Grant) -> str:
        payload = UcanPayload(
            iss=self._keys[step.signer].did_url,
            aud=self.names[step.audience],
            exp=self._start + (step.ends or 0),  # a UCAN has to end
            nbf=None if step.begins is None else self._start + step.begins,
            nnc=f"n{step.label}",
            fct=[_TERMINAL] if step.terminal else None,
            prf=[self.cids[parent] for parent in step.parents],
            att={
                place: {one: [{}] for one in held}
                for place, held in self._granted(step.rows).items()
            },
        )
        return encode_ucan(payload, self._keys[step.signer])

    def call(self, step: Call, cursors: Mapping[int, str]) -> Request:
        """Return the use of an invocation; a wallet's is a CACAO, which is never a valid one."""
        headers = [("authorization", self._invocation(step)), ("content-type", type_of(step.body))]
        if step.condition is not None:
            headers.append((step.condition[0], tag_of(step.condition[1])))
        if step.limit is not None:
            headers.append(("x-tinycloud-limit", str(step.limit)))
        if step.cursor is not None:
            headers.append(("x-tinycloud-cursor", cursors[step.cursor]))
        if step.most_bytes is not None:
            headers.append(("x-tinycloud-max-response-bytes", str(step.most_bytes)))
        return Request("POST", "/invoke", tuple(headers), body_of(step.body))

    def _invocation(self, step: Call) -> str:
        if step.signer in self._wallets:
            recap = self._recap(step.rows, step.proofs)
            uri = self.names[step.signer]
            return self._sign_in(
                step.signer, uri=uri, label=step.label, recap=recap, begins=None, ends=step.ends
            )
        return key_token(
            self._keys[step.signer],
            audience=self.names[step.signer],  # T8
            grants=self._granted(step.rows),
            expires_at=self._start + step.ends,
            proofs=[self.cids[proof] for proof in step.proofs],
            nonce=f"n{step.label}",
        )

    def revoke(self, step: Revoke) -> Request:
        """Return a revocation."""
        target = self.cids[step.target]
        if step.signer in self._wallets:  # V3
            token = self._sign_in(
                step.signer,
                uri=f"ucan:{target}",
                label=step.label,
                recap=None,
                begins=None,
                ends=step.ends,
            )
        else:
            token = key_token(  # V2
                self._keys[step.signer],
                audience=self.names[step.signer],  # T8
                grants={f"urn:cid:{target}": [REVOKE]},
                expires_at=self._start + step.ends,
                proofs=[self.cids[proof] for proof in step.proofs],
                nonce=f"n{step.label}",
            )
        return Request("POST", "/revoke", (("authorization", token),), None)


def _base58(cid: str) -> str:
    """Return a base32 cid in base58btc multibase (S6)."""
    letters = cid[1:].upper()
    number = int.from_bytes(base64.b32decode(letters + "=" * (-len(letters) % 8)), "big")
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[digit] + text
    return "z" + text
