"""Facts that bind a token to the one route that it was signed for (T12)."""

from typing import Final

from capabilities.errors import WrongKind
from capabilities.facts import POLICY_FACT, SESSION_FACT, WITHDRAWAL_FACT
from capabilities.tokens import Invocation
from encryption_network.requests import ADMIN_TYPE

_FACTS: Final = frozenset({ADMIN_TYPE, SESSION_FACT, POLICY_FACT, WITHDRAWAL_FACT})


def check_unbound(invocation: Invocation) -> None:
    """Check that no fact of a token binds it to a route; the routes that require such a fact check it themselves."""
    for fact in invocation.facts:
        stated = fact.get("type") if isinstance(fact, dict) else None
        if isinstance(stated, str) and stated in _FACTS:
            raise WrongKind
