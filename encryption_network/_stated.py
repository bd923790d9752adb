"""The policies that delegations state, read once for each delegation that is kept decoded.

A decoded delegation never changes and is handed from release to release, so its facts are known by their identity; they
are held here as long as what was read from them, which keeps that identity theirs.
"""

from collections import OrderedDict
from typing import Final

from msgspec import Struct

from capabilities.strict_json import Json
from capabilities.tokens import Delegation

from .policy import Policy, policies_of

MAX_HEADER_BYTES: Final = 8 * 1024 * 1024
"""Tokens, in all, of the delegations whose policies are held: a policy is part of its delegation's token."""


class _Stated(Struct, frozen=True):
    """The policies that a delegation's facts state.

    Attributes:
        facts: referenced, so that their identity is not reused.
        size_bytes: of the delegation's token.
        policies: in their order.
        name_code: one of them is an allow-list.
    """

    facts: tuple[Json, ...]
    size_bytes: int
    policies: tuple[Policy, ...]
    name_code: bool


class StatedPolicies:
    """Policies by delegation; the oldest are evicted first."""

    def __init__(self, *, max_header_bytes: int = MAX_HEADER_BYTES) -> None:
        self._max_header_bytes = max_header_bytes
        self._header_bytes = 0
        self._read: OrderedDict[int, _Stated] = OrderedDict()

    def of(self, delegation: Delegation) -> tuple[Policy, ...]:
        """Return what `policies_of` returns for a delegation's facts.

        Raises:
            PolicyError: as `policies_of`; it is not remembered.
        """
        return self._of(delegation).policies if delegation.facts else ()

    def name_code(self, delegation: Delegation) -> bool:
        """Return whether one of a delegation's policies is an allow-list.

        Raises:
            PolicyError: as `of`.
        """
        return self._of(delegation).name_code if delegation.facts else False

    def __len__(self) -> int:
        return len(self._read)

    def _of(self, delegation: Delegation) -> _Stated:
        facts = delegation.facts
        found = self._read.get(id(facts))
        if found is None:
            policies = policies_of(facts)
            name_code = any(policy.is_allow_list for policy in policies)
            found = _Stated(facts, len(delegation.header), policies, name_code)
            self._keep(found)
        return found

    def _keep(self, stated: _Stated) -> None:
        self._read[id(stated.facts)] = stated
        self._header_bytes += stated.size_bytes
        while self._header_bytes > self._max_header_bytes:
            _, dropped = self._read.popitem(last=False)
            self._header_bytes -= dropped.size_bytes
