"""The tests of threats by delegations that are large or many, which `threats` includes."""

_DECODED = "node/operations/delegations/test_decoded_bytes.py::"
_CACHE = "spaces/grants/test_delegation_cache.py::"

TESTS_OF_DELEGATION_THREATS: dict[str, tuple[str, ...]] = {
    "3.2 large delegations that a request depends on, and that are decoded while others wait": (
        _DECODED + "test_D34_pages_of_a_query_end_by_bytes",
        _DECODED + "test_D34_one_session_in_force_is_enough",
        _DECODED + "test_D34_a_client_that_decodes_much_waits",
        _CACHE + "test_large_work_is_done_by_one_request_at_a_time",
    ),
    "3.3 a delegate or a member fills the limit of a space with rows of content keys, which stay "
    "after the values were deleted": (
        "sealspace/test_key_rows.py::test_ST22_a_delegate_takes_nothing_of_the_owner_s_limit",
        "sealspace/test_key_rows.py::test_ST22_all_delegates_leave_one_half_to_the_owner",
        "sealspace/test_key_rows.py::test_ST22_a_member_is_named_not_the_key",
    ),
}
