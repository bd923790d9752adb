"""At which priority statements compute (SQ29)."""

from spaces.sql.priorities import SLOW_BUDGET_S, Priority, SlowOwners

_SLOW, _OTHER = b"slow", b"other"


def test_SQ29_low_priority_for_ten_seconds() -> None:
    """SQ29: an owner whose statement was slow has low priority for ten seconds, others have not."""
    owners = SlowOwners()
    owners.add(_SLOW, 0.02, now=100)
    assert owners.priority_of(_SLOW, now=109) is Priority.LOW
    assert owners.priority_of(_OTHER, now=100) is Priority.USUAL
    assert owners.priority_of(_SLOW, now=110) is Priority.USUAL


def test_SQ29_after_two_seconds_of_a_minute_an_owner_comes_last() -> None:
    """SQ29: slow statements of one owner compute for two seconds in a minute; the rest of it, they
    come after all others."""
    owners = SlowOwners()
    owners.add(_SLOW, SLOW_BUDGET_S / 2, now=100)
    owners.add(_OTHER, SLOW_BUDGET_S / 2, now=110)
    assert owners.priority_of(_SLOW, now=110) is Priority.USUAL
    owners.add(_SLOW, SLOW_BUDGET_S / 2, now=115)
    assert owners.priority_of(_SLOW, now=159) is Priority.LAST
    assert owners.priority_of(_OTHER, now=111) is Priority.LOW
    assert owners.priority_of(_SLOW, now=160) is Priority.USUAL


def test_SQ29_a_new_minute_begins_with_the_next_slow_statement() -> None:
    """SQ29: an owner who used its budget has all of it again after the minute."""
    owners = SlowOwners()
    owners.add(_SLOW, SLOW_BUDGET_S, now=100)
    owners.add(_SLOW, 0.02, now=160)
    assert owners.priority_of(_SLOW, now=160) is Priority.LOW


def test_SQ29_owners_are_forgotten_in_the_order_in_which_they_were_slow() -> None:
    """SQ29: an owner is forgotten a minute after it was slow last, and not before."""
    owners = SlowOwners()
    owners.add(_SLOW, SLOW_BUDGET_S, now=100)
    owners.add(_OTHER, SLOW_BUDGET_S, now=110)
    owners.add(_SLOW, 0.02, now=120)
    owners.forget(now=169)
    assert owners.priority_of(_OTHER, now=169) is Priority.LAST
    owners.forget(now=170)
    assert owners.priority_of(_OTHER, now=169) is Priority.USUAL
    assert owners.priority_of(_SLOW, now=159) is Priority.LAST
