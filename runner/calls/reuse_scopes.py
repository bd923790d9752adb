"""Which calls may run in one child, one after another (RN260).

Two calls share a child only if everything is equal that decides what the child contains and what
its program may do. Secret values are compared by a keyed hash, so that this process keeps none of
them after a run.

Example:
    scopes = ReuseScopes()
    series = scopes.series(request, key=None, project="did:key:…/echo")
    scope = scopes.scope(series, secrets, hosts=hosts, limits=limits, has_storage=False)
"""

import hmac
from collections.abc import Iterable
from dataclasses import astuple
from typing import NamedTuple

import msgspec

from capabilities.clock_and_entropy import SystemEntropy
from capabilities.principals import Principal

from ..guest.runs import Limits, ReuseScope, RunRequest

_KEY_BYTES = 32


class ReadSecret(NamedTuple):
    """A secret as a run gets it.

    Attributes:
        owner: its owner.
        variables: names of the variables that contain it.
        value: the secret itself.
        grant: text of the grant that it was read by, which includes the run statement.
    """

    owner: Principal
    variables: tuple[str, ...]
    value: str
    grant: str


class ReuseScopes:
    """Computes the scopes of calls, under a key that exists in this process alone."""

    def __init__(self) -> None:
        self._key = SystemEntropy().token(_KEY_BYTES)

    def series(self, request: RunRequest, *, key: int | None, project: str | None) -> bytes:
        """Return the digest that the calls of one series have in common.

        Args:
            request: the payer, the program, and the project that it was read from.
            key: nonce of the API key; None for a call that its caller signed.
            project: the project that was called; None for a call by the hash of a program.
        """
        payer = request.payer
        caller = [payer.did, payer.is_known, key]
        program = [request.wasm_sha256, request.target, request.origin, project]
        return self._digest("series", [caller, program])

    def scope(
        self,
        series: bytes,
        secrets: Iterable[ReadSecret],
        *,
        hosts: Iterable[str],
        limits: Limits,
        has_storage: bool,
    ) -> ReuseScope:
        """Return the calls that may run in the same child as this one.

        Args:
            series: as `series` returns it.
            secrets: the secrets of all owners, in the order in which they were read.
            hosts: the hosts that the run may contact.
            limits: the limits of the run.
            has_storage: whether the run has the storage of its project.
        """
        # RN260: a child never meets a secret, grant, host or limit that it was not started for
        contents = [[*secrets], sorted(hosts), astuple(limits), has_storage]
        return ReuseScope(series=series, contents=self._digest("contents", contents))

    def _digest(self, label: str, members: list[object]) -> bytes:
        """Return a digest of members, of which JSON is an unambiguous encoding."""
        return hmac.digest(self._key, msgspec.json.encode([label, members]), "sha256")
