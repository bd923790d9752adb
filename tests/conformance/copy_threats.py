"""The tests of threats by copied envelopes, which `threats` includes."""

_BINDING = "sealspace/test_binding.py::"
_BINDING_COMMAND = "sealspace/cli/test_secret_bind.py::"
_COPIES = "attacks/test_copied_keys.py::"
_RELABELLED = "attacks/test_relabelled.py::"
_UNBOUND = "sealspace/test_unbound_values.py::"

TESTS_OF_COPY_THREATS: dict[str, tuple[str, ...]] = {
    "3.1 a delegate that may write at the path of a secret stores another secret's envelope there, "
    "with its label changed or removed": (
        _RELABELLED + "test_EN45_every_door_refuses_a_relabelled_envelope",
        _RELABELLED + "test_EN45_a_moved_copy_is_refused",
        _UNBOUND + "test_EN46_a_machine_token",
        _UNBOUND + "test_EN47_what_a_recipient_passed_on_does_not_count",
        _BINDING + "test_EN48_an_envelope_at_two_paths_is_refused",
        _BINDING_COMMAND + "test_EN34_a_writer_of_the_path_is_named",
    ),
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
