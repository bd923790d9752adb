"""Tests for the rows of the threat model about keys of networks that leaked or were replaced."""

_ROTATION = "sealspace/test_key_rotation.py::"
_RETIREMENT = "sealspace/test_key_retirement.py::"

TESTS_OF_NETWORK_KEY_THREATS: dict[str, tuple[str, ...]] = {
    "3.3 an older copy of the store and its root secret, or a leaked key of one network": (
        _ROTATION + "test_everything_is_encrypted_again",
        _RETIREMENT + "test_a_destroyed_key_is_in_no_row",
    ),
    "3.3 a stolen session installs a key of its own": (
        _ROTATION + "test_others_cannot_change_the_key",
        _ROTATION + "test_statements_that_the_node_refuses",
        _ROTATION + "test_statements_that_clients_refuse",
    ),
    "3.3 a stolen session destroys the key of values that are not encrypted again": (
        _RETIREMENT + "test_EN38_a_stolen_session_destroys_no_key",
    ),
}
