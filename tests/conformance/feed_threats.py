"""The tests of threats to the change feed, which `threats` includes."""

_FEED = "node/operations/values/test_kv_sync.py::"
_WAITS = "spaces/store/test_sequence_waits.py::"
_CHANGES = "spaces/values/test_changes.py::"

TESTS_OF_FEED_THREATS: dict[str, tuple[str, ...]] = {
    "3.3 a reader of changes misses one, because numbers are used again after a restore or a "
    "failover": (
        "durability/test_change_feed.py::test_CF8_a_restored_store",
        "durability/test_promotion.py::test_CF8_a_standby_that_takes_over",
        _FEED + "test_CF8_kv_sync_unknown_position_requires_reset",
    ),
    "3.3 the reader of one prefix learns from cursors and pages how often others write": (
        _FEED + "test_CF7_an_empty_page_has_the_cursor_of_its_request",
        _FEED + "test_CF7_kv_sync_cursor_is_bound_to_space_prefix_and_key",
        _CHANGES + "test_CF3_a_page_examines_a_bounded_number_of_rows",
    ),
    "3.3 callers that wait for changes keep connections and places from others": (
        _FEED + "test_CF13_a_place_for_another_owner",
        _FEED + "test_CF13_places_of_a_client_address",
        _WAITS + "test_CF13_places_are_divided_among_owners",
        _WAITS + "test_CF13_few_callers_are_awake_at_a_time",
    ),
    "3.3 values that are written and deleted fill the store with rows of deleted paths": (
        _FEED + "test_CF6_deleted_values_do_not_keep_new_ones_out",
        _CHANGES + "test_CF6_rows_of_deleted_paths_are_removed",
        _CHANGES + "test_CF6_a_write_removes_rows_that_it_needs",
    ),
}
