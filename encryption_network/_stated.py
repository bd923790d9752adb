"""The policies that delegations state, read once for each delegation that is kept decoded.

A decoded delegation never changes and is handed from release to release, so its facts are known by their identity; they
are held here as long as what was read from them, which keeps that identity theirs.
"""

from collections import OrderedDict
from typing import Final

from capabilities.strict_json import Json
from capabilities.tokens import Delegation

from .policy import Policy, policies_of

MAX_HEADER_BYTES: Final = 8 * 1024 * 1024
"""Tokens, in all, of the delegations whose policies are held: a policy is part of its delegation's token."""


class StatedPolicies:
    """Policies by delegation; the oldest go first."""

    def __init__(self, *, max_header_bytes: int = MAX_HEADER_BYTES) -> None:
        self._max_header_bytes = max_header_bytes
        self._header_bytes = 0
        self._read: OrderedDict[int, tuple[tuple[Json, ...], int, tuple[Policy, ...]]] = OrderedDict()

    def of(self, delegation: Delegation) -> tuple[Policy, ...]:
        """Return what `policies_of` returns for a delegation's facts.

        Raises:
            PolicyError: as `policies_of`; it is not remembered.
        """
        facts = delegation.facts
        if not facts:
            return ()
        entry = self._read.get(id(facts))
        if entry is not None:
            return entry[2]
        policies = policies_of(facts)
        self._keep(facts, len(delegation.header), policies)
        return policies

    def __len__(self) -> int:
        return len(self._read)

    def _keep(self, facts: tuple[Json, ...], size_bytes: int, policies: tuple[Policy, ...]) -> None:
        self._read[id(facts)] = (facts, size_bytes, policies)
        self._header_bytes += size_bytes
        while self._header_bytes > self._max_header_bytes:
            _, (_, dropped_bytes, _) = self._read.popitem(last=False)
            self._header_bytes -= dropped_bytes
