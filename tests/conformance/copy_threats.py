"""The tests of threats by copied envelopes, which `threats` includes."""

_COPIES = "attacks/test_copied_keys.py::"

TESTS_OF_COPY_THREATS: dict[str, tuple[str, ...]] = {
    "3.1 a writer who can read the envelope of another secret stores it at a path that a machine "
    "token, a trust, or approved code with listed paths may open: as it is, spelled differently, "
    "large, in a batch, in another space, after the original was replaced or deleted, or at the "
    "same time as another write": (
        _COPIES + "test_RL22_a_copied_envelope_opens_nothing",
        _COPIES + "test_RL22_however_the_envelope_comes_there",
        _COPIES + "test_RL21_a_former_envelope_stays_a_secret",
        _COPIES + "test_RL21_two_puts_at_once",
        _COPIES + "test_RL22_a_copy_before_the_commit_of_a_release",
    ),
    "3.1 a writer who can read an envelope stores it at a second path, so that the secret is "
    "released to nobody but its owner": (
        _COPIES + "test_RL22_neither_path_opens_a_key_at_two",
        "spec/test_network_rules.py::test_RL23_the_owner_asks_where_a_key_is_stored",
    ),
}
