"""Tests for the threat model's rows about SQL databases, in the form of `threats.py`."""

_SQL = "node/operations/sql/"
_ENDLESS = "attacks/test_statements_without_end.py::"

TESTS_OF_SQL_THREATS: dict[str, tuple[str, ...]] = {
    "3.3 a statement reaches a file, another database, or the memory or settings of the node": (
        "spaces/sql/test_guard.py::test_functions_and_tables_outside_the_database_are_refused",
        "spaces/sql/test_guard_fuzz.py::test_no_statement_leaves_its_database",
    ),
    "3.3 a holder of a limited grant reads or changes more: by a view, a trigger, a foreign key, "
    "a CTE, another spelling, a second caveat or an export": (
        _SQL + "test_caveats.py::test_SQ21_tables_limit_what_is_read",
        _SQL + "test_caveats.py::test_SQ22_tables_limit_what_is_written",
        _SQL + "test_caveats.py::test_SQ23_a_request_runs_under_one_caveat",
        _SQL + "test_caveats.py::test_SQ25_a_limited_grant_exports_nothing",
        _SQL + "test_caveat_fuzz.py::test_random_statements_stay_within_a_caveat",
    ),
    "3.3 a misspelt caveat limits nothing, or a delegate passes on more than it has": (
        _SQL + "test_caveats.py::test_SQ20_a_caveat_that_is_not_understood",
        _SQL + "test_caveats.py::test_SQ28_a_grant_is_passed_on_with_less",
        "capabilities/test_sql_caveats.py::"
        "test_SQ28_a_child_allows_nothing_that_its_parent_does_not",
    ),
    "3.3 two readers of a caveat take different ones of two statements with one name, or of two "
    "values for one position": (
        "capabilities/test_sql_caveats.py::test_SQ20_a_caveat_that_does_not_parse_is_refused",
        "capabilities/test_sql_caveats.py::test_SQ28_not_contained",
    ),
    "3.3 values of a caller become part of a named statement, or replace its fixed parameters": (
        _SQL + "test_caveats.py::test_SQ26_SQ27_only_named_statements_run",
    ),
    "3.3 statements without an end, with large values or on many databases occupy the node": (
        _SQL + "test_limits.py::test_a_statement_ends_by_its_deadline",
        _SQL + "test_limits.py::test_a_slow_space_leaves_threads_for_others",
        _SQL + "test_limits.py::test_values_and_expressions_are_limited",
        _ENDLESS + "test_a_statement_without_jumps_ends_by_its_deadline",
        _ENDLESS + "test_a_revoked_reader_is_stopped",
        _ENDLESS + "test_several_owners_leave_places_for_others",
        _ENDLESS + "test_SIGTERM_ends_a_node_while_statements_run",
    ),
    "3.3 a log of a database fills the disk, beyond every quota": (
        _ENDLESS + "test_the_log_is_bounded_within_one_transaction",
        _ENDLESS + "test_the_log_is_bounded_beside_a_slow_reader",
    ),
    "3.3 rows of a statement stay in the memory of the node": (
        _ENDLESS + "test_rows_are_not_in_the_memory_of_a_worker",
    ),
    "3.3 an error of SQLite is used to run code in a child": (
        "spaces/sql/test_child_fuzz.py::test_fuzz_any_bytes_are_a_message_or_an_error",
        "serving/confinement/test_sql_children.py::test_SQ29_a_child_opens_files_of_its_space_alone",
    ),
    "3.3 a file of a database is damaged or lost": (
        "durability/test_database_backups.py::test_a_damaged_database_is_named",
        "durability/test_database_backups.py::test_BK10_a_backup_of_databases_in_use",
    ),
}
