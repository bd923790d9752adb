"""Tests for the threats of grants that any client delivers to a backend, or registers for it."""

_DOOR = "attacks/test_backend_door.py::"

TESTS_OF_BACKEND_THREATS: dict[str, tuple[str, ...]] = {
    "3.5 a stranger registers any number of grants to a backend at its node, to displace those of"
    " owners or to keep it busy": (
        "sealspace/test_found_grants.py::test_strangers_do_not_displace_owners",
        "sealspace/test_found_grants.py::test_unknown_names_cost_the_node_nothing",
        "sealspace/test_found_grants.py::test_a_long_list_is_read_in_parts",
    ),
    "3.5 grants from any client stay in a backend for ever, or keep it busy": (
        "attacks/inside/test_granting.py::test_outsiders_grants_do_not_stay_for_ever",
        "attacks/inside/test_granting.py::test_one_client_cannot_shut_the_door",
        "attacks/inside/test_granting.py::test_a_flood_of_grants_does_not_stop_the_backend",
        "tee_backend/test_held_grants.py::test_what_was_read_stays",
    ),
    "3.5 grants with broken signatures, or valid ones of any number of new keys, use up what a "
    "backend accepts, so that deliveries of owners are refused": (
        _DOOR + "test_broken_signatures_take_no_place_of_genuine_grants",
        _DOOR + "test_checks_of_signatures_are_bounded",
        _DOOR + "test_new_keys_leave_room_for_new_owners",
        _DOOR + "test_an_owner_with_a_grant_delivers_through_a_flood",
        "sealspace/cli/test_runner_serve.py"
        "::test_grants_that_were_not_delivered_and_floods_of_others",
    ),
}
