"""Tests for the rows of the threat model about a root secret that leaked or was replaced."""

_ATTACKS = "attacks/test_root_rotation.py::"

TESTS_OF_ROOT_SECRET_THREATS = {
    "3.3 the root secret leaks": (
        _ATTACKS + "test_RK5_the_former_secret_opens_nothing",
        "durability/test_root_rotation_kills.py::test_RK5_killed_at_each_commit",
    ),
    "3.3 a former root secret signs as the node or its exchange": (
        _ATTACKS + "test_RK9_a_new_identity",
    ),
    "3.3 a node that was not stopped goes on with a former root secret": (
        _ATTACKS + "test_RK4_a_node_with_the_former_secret",
        "node/storage/test_root_secrets.py::test_RK2_a_start_says_what_to_do",
    ),
}
