"""The operating system's clock and random source."""

from capabilities.clock_and_entropy import SystemClock, SystemEntropy


def test_system_clock_tells_the_time():
    """The system clock returns seconds since the epoch."""
    clock = SystemClock()
    assert clock.now() > 1_700_000_000


def test_system_entropy_has_the_length_asked_for():
    """The system's random bytes have the requested length and differ each time."""
    entropy = SystemEntropy()
    assert len(entropy.token(32)) == 32
    assert entropy.token(32) != entropy.token(32)
