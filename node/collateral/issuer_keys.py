"""The keys of issuers of ID tokens (OX7).

Owners name the addresses of issuers, so the addresses are untrusted: the node connects by HTTPS
only, and only to public addresses. No redirect is followed, and answers are bounded.

Example:
    key = await services.issuer_keys.find(trust, kid, now=now)
"""

import asyncio
import socket
import ssl
from collections.abc import Collection
from functools import lru_cache
from typing import Any

import aiohttp
import jwt
from msgspec import Struct, field

from capabilities.capability_errors import CapabilityError, MalformedToken
from capabilities.machine_tokens import OidcTrust
from capabilities.strict_json import parse_json
from serving.outbound import CheckedResolver, RequestRefused, is_public
from tee_backend.attestation.attestation_errors import CollateralUnusable
from tee_backend.attestation.pcs import MAX_BODY_BYTES, bounded_get

TIMEOUT_S = 5.0
"""Time limit for both documents of an issuer together."""
KEPT_S = 600.0
"""How long fetched keys are used. A key that its issuer withdraws is accepted for so long."""
RETRY_S = 60.0
"""Shortest time between two attempts to fetch an issuer's keys."""
_MOST_ISSUERS = 256
_MOST_KEYS = 64
"""Most keys of an issuer. An answer has room for 800, which would take 2 MB and 40 ms."""
_LOOKUPS = 64
"""Names that are looked up at once. A slow one occupies its thread for up to half a minute."""


class _Issuer(Struct):
    """The keys of one issuer, and when they were last requested and received."""

    keys: tuple[jwt.PyJWK, ...] = ()
    asked_at: float = float("-inf")
    fetched_at: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class IssuerKeys:
    """A cache of the keys of issuers.

    The issuers in `named` may be at addresses that are not public.
    """

    def __init__(self, named: Collection[str] = ()) -> None:
        self._named = named
        # Returns the issuer with an address and a certificate, and makes it at the first call. A
        # full cache drops the issuer that was not used for the longest time.
        self._issuer = lru_cache(_MOST_ISSUERS)(lambda _address, _certificate: _Issuer())
        self._resolver = CheckedResolver(_LOOKUPS)

    async def find(self, trust: OidcTrust, kid: object, *, now: float) -> jwt.PyJWK:
        """Return the key of an issuer that signed a token.

        Args:
            trust: names the issuer; with keys, nothing is fetched.
            kid: the key's id in the token, untrusted; None if it has none, and the issuer's only
                key counts.
            now: epoch seconds.
        Raises:
            MalformedToken: the issuer has no such key, or its keys cannot be fetched.
        """
        if trust.jwks is not None:
            return _key_with_id(_key_set(trust.jwks.encode()), kid)
        issuer = self._issuer(trust.issuer, trust.issuer_ca)
        async with issuer.lock:
            if now >= issuer.fetched_at + KEPT_S:
                issuer.keys = ()
            # A caller chooses `kid`, so an unknown one causes at most one attempt a minute. A
            # failed attempt keeps the keys: otherwise a stranger could end them.
            is_known = kid in [key.key_id for key in issuer.keys]
            if not is_known and now >= issuer.asked_at + RETRY_S:
                issuer.asked_at = now
                issuer.keys = await self._fetch(trust)
                issuer.fetched_at = now
            return _key_with_id(issuer.keys, kid)

    async def _fetch(self, trust: OidcTrust) -> tuple[jwt.PyJWK, ...]:
        """Fetch an issuer's configuration and then its keys.

        Raises:
            MalformedToken: the issuer does not answer in time, or an answer is not valid.
        """
        is_named = trust.issuer in self._named
        try:
            # True is aiohttp's own context, which has the system's certificates already. Reading
            # them again would take 30 ms.
            context: ssl.SSLContext | bool = True
            if trust.issuer_ca:
                context = ssl.create_default_context(cadata=trust.issuer_ca)
            connector = aiohttp.TCPConnector(
                ssl=context,
                resolver=None if is_named else self._resolver,
                socket_factory=None if is_named else _public_socket,
            )
            async with (
                asyncio.timeout(TIMEOUT_S),
                aiohttp.ClientSession(connector=connector) as session,
            ):
                response = await bounded_get(
                    session, f"{trust.issuer.rstrip('/')}/.well-known/openid-configuration", {}
                )
                configuration = parse_json(response.body, max_bytes=MAX_BODY_BYTES)
                keys_url = str(configuration.get("jwks_uri"))
                is_of_issuer = configuration.get("issuer") == trust.issuer
                if not is_of_issuer or not keys_url.startswith("https://"):
                    raise MalformedToken("the issuer's configuration is for another issuer")
                return _key_set((await bounded_get(session, keys_url, {})).body)
        except (
            CollateralUnusable,
            CapabilityError,
            RequestRefused,
            OSError,
            TypeError,
            ValueError,
        ) as exc:
            why = getattr(exc, "detail", str(exc)) or "no answer in time"
            raise MalformedToken(f"the issuer's keys cannot be fetched: {why}") from exc


def _public_socket(address_info: tuple[Any, ...]) -> socket.socket:
    """Return a socket for a public address (OX7).

    The name of an issuer may resolve to an address inside the operator's network.

    Args:
        address_info: one result of `socket.getaddrinfo`.
    Raises:
        OSError: the address is not public.
    """
    family, kind, protocol, _canonical_name, (address, *_) = address_info
    if not is_public(address):
        raise OSError("the issuer's address is not public")
    return socket.socket(family, kind, protocol)


def _key_set(document: bytes) -> tuple[jwt.PyJWK, ...]:
    """Parse a JSON Web Key Set; private keys and keys of unknown types are left out.

    Raises:
        MalformedToken: it is not a key set, or has too many keys.
    """
    malformed = MalformedToken(
        f"the issuer's keys are not a JSON Web Key Set of at most {_MOST_KEYS} keys"
    )
    try:
        keys = parse_json(document, max_bytes=MAX_BODY_BYTES).get("keys")
    except CapabilityError as exc:
        raise malformed from exc
    if not isinstance(keys, list) or len(keys) > _MOST_KEYS:
        raise malformed
    if not all(isinstance(key, dict) for key in keys):
        raise malformed
    # Private keys have a `d`. To check a private RSA key can take minutes.
    public_keys = [key for key in keys if isinstance(key, dict) and "d" not in key]
    try:
        return tuple(jwt.PyJWKSet(public_keys).keys)
    except (jwt.PyJWTError, RuntimeError, TypeError, ValueError) as exc:  # also of `alg: none`
        raise malformed from exc


def _key_with_id(keys: tuple[jwt.PyJWK, ...], kid: object) -> jwt.PyJWK:
    """Return the key with an id; for the id None, the only key.

    Raises:
        MalformedToken: there is no such key, or more than one.
    """
    matching = [key for key in keys if kid is None or key.key_id == kid]
    if len(matching) != 1:
        raise MalformedToken("the issuer has no key with the id that the ID token names")
    (key,) = matching
    return key
