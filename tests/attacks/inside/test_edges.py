"""Edges: clocks that jump, addresses that move, numbers that are long, and secrets that are shown."""

from pathlib import Path

import pytest
from tests_support import FixedClock

from node.config.tree import Config
from node.operations.errors import BadOption
from node.operations.values.conditions import Shape, parse_options
from node.processes.launch import Launch
from node.rates import Rates, TooMany
from spaces.store.contract import Claim
from spaces.store.lmdb._folder import open_for_writing
from spaces.store.lmdb._housekeeping import STEADY_S, Housekeeping
from spaces.store.lmdb._replay_records import FirstUses
from spaces.store.lmdb._writer import Room, Writer


def test_a_clock_that_jumped_and_came_back_does_not_close_the_node(tmp_path: Path) -> None:
    """The writer's clock stood a year ahead until it was gone by: today's tokens can be used after it was set back."""
    clock = FixedClock()
    env = open_for_writing(tmp_path)
    first_uses = FirstUses(tmp_path, "boot")
    try:
        writer = Writer(env, Room(), clock)
        now = int(clock.now())
        assert first_uses.claim(Claim(key=bytes(32), expires_at=now + 60))
        elapsed = FixedClock(0.0)
        housekeeping = Housekeeping(writer, first_uses, clock, elapsed=elapsed.now)
        clock.advance(365 * 86_400)
        for _ in range(2):
            housekeeping.keep_house()
            elapsed.advance(STEADY_S)
        assert first_uses.claims() == []
        clock.advance(-365 * 86_400)
        later = now + 3600  # an hour after every token that was swept
        assert first_uses.claim(Claim(key=b"x" * 32, expires_at=later))
    finally:
        first_uses.close()
        env.close()


def test_one_network_of_addresses_is_one_client() -> None:
    """Addresses of one IPv6 /64 share one bucket, as they share one count of new owners."""
    rates = Rates(per_minute=1)
    rates.take("2001:db8::1", now=0.0)
    with pytest.raises(TooMany):
        rates.take("2001:db8::2", now=0.0)


def test_a_long_number_in_a_header_is_the_caller_s_mistake() -> None:
    """Thousands of leading zeros are read or refused; they are no fault of the node's."""
    headers = {"x-tinycloud-max-response-bytes": "0" * 5000 + "1"}
    try:
        options = parse_options(headers, Shape(gets=1, puts=0, deletes=0, multipart=False))
    except BadOption:
        return
    assert options.max_response_bytes == 1


def test_what_starts_a_process_does_not_show_the_secret() -> None:
    """The root secret stands in no text of the launch message."""
    assert "root secret" not in repr(Launch(config=Config(), secret=b"the root secret, 32 bytes or more"))
