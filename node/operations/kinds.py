"""Requests that have a route of their own: none of them is executed as a call of values (T12)."""

from typing import Final

from capabilities.abilities import DECRYPT, DELEGATION_STATUS, REVOKE
from capabilities.errors import WrongKind
from capabilities.resources import OpaqueResource
from capabilities.tokens import Invocation

from .bound_facts import check_unbound
from .releases.decrypt import is_about_network

_OF_DELEGATIONS: Final = frozenset({REVOKE, DELEGATION_STATUS})
_OWN: Final = "sealspace."


def check_call(invocation: Invocation) -> None:
    """Check that a token is no request that another route serves.

    A request for the delegations of an account passes: as a call it does nothing. On `/invoke` decrypt requests are
    recognised before this check (I6).

    Args:
        invocation: verified.

    Raises:
        WrongKind: a fact binds it to another route, or a capability is only valid for one.
    """
    check_unbound(invocation)
    for capability in invocation.capabilities:
        ability, resource = capability.ability, capability.resource
        if ability.startswith(_OWN):  # policies, withdrawals, receipts
            raise WrongKind
        if ability == DECRYPT and is_about_network(resource):
            raise WrongKind
        if ability in _OF_DELEGATIONS and isinstance(resource, OpaqueResource):
            raise WrongKind
