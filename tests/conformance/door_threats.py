"""Tests for the threat model's rows about doors, as in `threats.py`."""

_ATTACKS = "attacks/test_door.py::"
_PLACES = "attacks/test_door_places.py::"
_CACHE = "door/test_cache.py::"
_LOGINS = "door/test_logins.py::"

TESTS_OF_DOOR_THREATS: dict[str, tuple[str, ...]] = {
    "3.5 a caller of a door reads with the grant of another caller, by its token, its cache or "
    "another path": (
        _ATTACKS + "test_DR15_the_cache_of_one_caller_is_not_of_another",
        _ATTACKS + "test_DR2_paths_have_one_spelling",
        _ATTACKS + "test_DR6_tokens_of_others",
    ),
    "3.5 a web page makes a browser send requests to a door on its visitor's machine": (
        _ATTACKS + "test_DR3_headers_that_would_change_the_meaning",
    ),
    "3.5 a revoked right still answers at a door": (
        _CACHE + "test_DR15_without_a_cache_a_revoked_right_ends_at_once",
        _CACHE + "test_DR15_a_cached_value",
        _CACHE + "test_DR16_the_longest_time_is_the_longer_setting",
    ),
    "3.5 a caller makes a door send requests to the node without end, or fills its memory": (
        _ATTACKS + "test_DR14_huge_bodies",
        _CACHE + "test_DR14_requests_to_the_node_are_bounded",
        _CACHE + "test_DR15_the_cache_is_bounded",
        _LOGINS + "test_DR21_logins_are_bounded",
    ),
    "3.5 a caller of a door takes the places of its other callers, with many machine tokens, with "
    "requests that wait, with slow bodies, or with credentials that nobody signed": (
        _PLACES + "test_DR21_id_tokens_that_nobody_signed",
        _PLACES + "test_DR14_one_token_takes_a_share_of_the_requests",
        _PLACES + "test_DR14_slow_bodies_close_no_door",
        _PLACES + "test_DR14_waiting_requests_are_shared",
        _PLACES + "test_DR19_tokens_of_a_free_account_leave_places",
        _PLACES + "test_DR20_only_named_callers_log_in",
        _LOGINS + "test_DR19_an_idle_grant_gives_its_place",
    ),
    "3.5 an ID token that was used at a door is used there again by a thief": (
        _LOGINS + "test_DR11_the_same_id_token_again",
    ),
}
