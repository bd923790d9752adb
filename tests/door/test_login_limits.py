"""Tests of the number of logins that reach the node, and for whom they count (DR21)."""

import pytest
from tests_support import FixedClock

from capabilities.principals import Principal
from door.door_errors import DoorRefusal
from door.limits import LOGINS_OF_ONE_PER_MINUTE, LOGINS_PER_MINUTE
from door.login_limits import LoginAttempt, LoginRates
from serving.shares import Payer

NAMED = Payer(Principal("bafkr4ishop"), is_known=True)
OTHER_NAMED = Payer(Principal("bafkr4ibank"), is_known=True)
STRANGER = Payer(Principal("did:key:stranger"), is_known=False)
OTHER = Payer(Principal("did:key:other"), is_known=False)


def _attempt(
    holder: Payer,
    *,
    client: str | None = None,
    is_signed: bool = False,
    key_id: str | None = None,
) -> LoginAttempt:
    return LoginAttempt(client=client, holder=holder, is_signed=is_signed, key_id=key_id)


def _flood(rates: LoginRates, attempt: LoginAttempt) -> int:
    """Take logins until one is refused for its own counter, and return how many there were."""
    taken = 0
    while True:
        try:
            rates.take(attempt)
        except DoorRefusal as refusal:
            (text,) = refusal.texts
            assert refusal.status == 429 and f"{LOGINS_OF_ONE_PER_MINUTE} a minute of one" in text
            return taken
        taken += 1


@pytest.mark.parametrize(
    ("flood", "spared"),
    [
        (_attempt(STRANGER), _attempt(STRANGER, client="192.0.2.7")),
        (_attempt(STRANGER), _attempt(NAMED)),
        (_attempt(NAMED), _attempt(OTHER_NAMED)),
        (_attempt(NAMED), _attempt(NAMED, client="192.0.2.7")),
    ],
)
def test_DR21_a_flood_leaves_others_their_logins(flood: LoginAttempt, spared: LoginAttempt) -> None:
    """DR21: logins of one client, or of one client with one role, leave those of others."""
    rates = LoginRates(FixedClock())
    assert _flood(rates, flood) == LOGINS_OF_ONE_PER_MINUTE
    rates.take(spared)


@pytest.mark.parametrize("holder", [STRANGER, OTHER])
def test_DR21_new_holders_get_no_counter_of_their_own(holder: Payer) -> None:
    """DR21: a client that names another owner with each login gets no further logins."""
    rates = LoginRates(FixedClock())
    assert _flood(rates, _attempt(STRANGER, is_signed=True)) == LOGINS_OF_ONE_PER_MINUTE
    with pytest.raises(DoorRefusal, match="30 a minute of one client"):
        rates.take(_attempt(holder, is_signed=True))


def test_DR21_new_key_ids_get_no_counter_of_their_own() -> None:
    """DR21: a client that writes another key id into each ID token gets no further logins."""
    rates = LoginRates(FixedClock())
    for number in range(LOGINS_OF_ONE_PER_MINUTE):
        rates.take(_attempt(NAMED, key_id=f"forged {number}"))
    with pytest.raises(DoorRefusal, match="30 a minute of one client"):
        rates.take(_attempt(NAMED, key_id="forged again"))


def test_DR21_an_accepted_owner_has_its_own_counter() -> None:
    """DR21: once the node accepted a login, those that the owner signed are not refused for a flood
    from the same client; others that only name this owner are."""
    rates = LoginRates(FixedClock())
    rates.accept(_attempt(OTHER, is_signed=True))
    assert _flood(rates, _attempt(STRANGER)) == LOGINS_OF_ONE_PER_MINUTE
    rates.take(_attempt(OTHER, is_signed=True))
    with pytest.raises(DoorRefusal, match="30 a minute of one client"):
        rates.take(_attempt(OTHER))


def test_DR21_a_copied_key_id_uses_up_the_logins_of_its_client() -> None:
    """DR21: ID tokens with an accepted key id are counted apart from others of their client, and
    apart from those of other clients."""
    rates = LoginRates(FixedClock())
    rates.accept(_attempt(NAMED, key_id="one"))
    assert _flood(rates, _attempt(NAMED, key_id="forged")) == LOGINS_OF_ONE_PER_MINUTE
    rates.take(_attempt(NAMED, key_id="one"))
    copier = _attempt(NAMED, client="192.0.2.7", key_id="one")
    rates = LoginRates(FixedClock())
    rates.accept(_attempt(NAMED, key_id="one"))
    assert _flood(rates, copier) == LOGINS_OF_ONE_PER_MINUTE
    rates.take(_attempt(NAMED, key_id="one"))


def test_DR21_all_counters_together_are_bounded() -> None:
    """DR21: of many clients together no more logins reach the node than the limit, and the refusal
    says that it is the limit of all."""
    clock = FixedClock()
    rates = LoginRates(clock)
    taken = 0
    texts = set()
    for number in range(2 * LOGINS_PER_MINUTE):
        try:
            rates.take(_attempt(STRANGER, client=f"192.0.2.{number}"))
            taken += 1
        except DoorRefusal as refusal:
            texts.update(refusal.texts)
    assert taken == LOGINS_PER_MINUTE
    (text,) = texts
    assert "60 a minute of all callers" in text and "next: log in again in " in text
    clock.advance(60)
    rates.take(_attempt(STRANGER))
