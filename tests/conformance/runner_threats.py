"""Tests for the threat model's rows about the runner (section 3.8), in the form of `threats.py`."""

_RUNNER = "attacks/test_runner.py::"
_REPLAYS = "attacks/test_runner_replays.py::"
_STORAGE = "attacks/test_runner_storage.py::"
_FUEL = "runner/test_exact_fuel.py::"
_CONFINEMENT = "runner/test_confinement.py::"
_KEPT = "attacks/test_kept_children.py::"
_TEMPLATE = "runner/test_template.py::"
_PYTHON = "runner/test_python_programs.py::"
_PYTHON_BASE = "guests/test_python_base.py::"
_SYSTEM_CALLS = "runner/test_system_calls.py::"
_API_KEYS = "attacks/test_api_keys.py::"
_BUILD_GRANTS = "attacks/test_build_grants.py::"
_BUILDS = "runner/test_builds.py::"
_CALLS = "runner/test_calls.py::"
_GENERATED = "runner/test_generated_secrets.py::"
_TASKS = "runner/test_tasks.py::"
_SERVE = "sealspace/cli/test_runner_serve.py::"
_RUN_GRANTS = "sealspace/test_run_grants.py::"
_REPOSITORY_GRANTS = "sealspace/cli/test_repository_grants.py::"
_RUN_CALLS = "sealspace/test_run_calls.py::"
_OUTBOUND = "serving/test_outbound.py::"
_LONG_BODIES = "attacks/test_long_bodies.py::"
_SLOW_DATA = "attacks/test_slow_data_sets.py::"
_PATTERNS = "attacks/test_run_patterns.py::"
_SHARES = "runner/test_fair_shares.py::"
_JOURNAL = "runner/test_journal.py::"
_COPIES = "runner/test_journal_copies.py::"
_RESTARTS = "durability/test_runner_restarts.py::"

TESTS_OF_RUNNER_THREATS: dict[str, tuple[str, ...]] = {
    "3.8 a grant is used by other code that has the runner's key and folder": (
        _RUNNER + "test_a_grant_that_is_replayed_to_other_code",
    ),
    "3.8 a grant without a run statement, or with another one in a parent, is put into the "
    "folder": (
        _RUNNER + "test_grants_that_the_host_puts_into_the_folder",
        _RUN_GRANTS + "test_parents_and_others_runners",
    ),
    "3.8 a call is sent again, changed, or sent to another runner": (
        _RUNNER + "test_one_token_fifty_times_at_once_runs_once",
        _RUNNER + "test_a_used_token_stays_used_after_a_restart",
        _RUNNER + "test_a_body_that_was_changed_after_signing",
        _REPLAYS + "test_one_token_at_two_runners_of_one_identity",
        _REPLAYS + "test_requests_of_owners_at_two_runners_of_one_identity",
    ),
    "3.8 a task names the secret of another requester, of another application, or a data set whose "
    "owner did not name the application": (
        _TASKS + "test_the_secret_of_another_requester",
        _TASKS + "test_the_secret_of_another_application",
        _TASKS + "test_data_sets_that_are_refused",
    ),
    "3.8 a result, or decrypted data of a task, is left on the machine": (
        _SERVE + "test_a_runner_that_is_killed_during_a_task",
        _TASKS + "test_a_runner_that_ends_during_a_task",
    ),
    "3.8 a wallet revokes a sign-in, and the session calls on": (
        _RUN_CALLS + "test_sign_ins_that_are_refused",
    ),
    "3.8 the node shows an older active version": (
        _RUNNER + "test_an_older_active_version_that_is_put_back",
        _REPLAYS + "test_an_older_statement_about_the_active_version",
    ),
    "3.8 the bytes of a granted program are published under another project, with other hosts": (
        _REPLAYS + "test_a_stranger_s_manifest_for_the_bytes_of_a_grant",
        _REPLAYS + "test_a_former_grant_of_hosts_without_a_project",
    ),
    "3.8 a build of another repository, ref, workflow or authority gets the secrets of a grant to "
    "later builds; the operator's clock or trusted root lies": (
        "runner/test_trusted_builds.py::test_builds_of_another_origin",
        "runner/test_trusted_builds.py::test_a_grant_by_another_trusted_root",
        "runner/test_trusted_builds.py::test_a_trusted_root_that_was_rotated",
        "runner/test_trusted_builds.py::test_the_clock_of_the_operator_proves_nothing",
        "sealspace/test_trusted_builds.py::test_PV17_each_part_is_compared",
    ),
    "3.8 an older build with a known weakness is active again under a grant to later builds": (
        "runner/test_trusted_builds.py::test_an_older_run_or_attempt",
        "runner/test_trusted_builds.py::test_the_number_outlives_the_process",
        "runner/test_trusted_builds.py::test_a_restored_journal_is_bounded_by_the_grant",
    ),
    "3.8 a developer states another repository for a version, or the node shows another index of "
    "commits": (
        _BUILD_GRANTS + "test_no_hash_gets_a_secret_that_no_bundle_proved",
        _BUILDS + "test_the_index_proves_nothing",
        _BUILDS + "test_a_stated_build_gets_no_secret_of_another_hash",
    ),
    "3.8 the token of a job that refreshes grants is stolen": (
        _RUN_GRANTS + "test_what_a_job_may_not_grant",
        _REPOSITORY_GRANTS + "test_the_token_of_a_job_opens_nothing",
    ),
    "3.8 a stranger finds out by a call for a repository whether an owner granted for it": (
        _BUILDS + "test_strangers_learn_nothing_about_grants",
    ),
    "3.8 a caller learns a secret from how many instructions a program spends on it": (
        _FUEL + "test_twenty_thousand_calls_tell_what_metrics_tell",
        _FUEL + "test_bisection_does_not_recover_a_secret",
    ),
    "3.8 many projects are published, so that the runner forgets one": (
        _JOURNAL + "test_it_is_bounded",
    ),
    "3.8 names and sizes reveal what an owner keeps": (
        _RUNNER + "test_names_of_secrets_are_told_to_their_owner_alone",
        _CALLS + "test_the_owner_calls_and_sees_the_errors_of_the_program",
    ),
    "3.8 a reader of a receipt tries inputs out": (
        _RUNNER + "test_a_salt_does_not_reach_into_the_data",
    ),
    "3.8 a receipt is shown for other code, another run, other data": (
        _CALLS + "test_receipts_that_do_not_hold",
    ),
    "3.8 a quote that a client had made passes for a start": (
        _RUNNER + "test_a_quote_for_a_client_is_none_of_a_start",
    ),
    "3.8 conditions on callers with costly patterns, in many grants with many rules, keep the "
    "runner's event loop busy": (
        _PATTERNS + "test_a_costly_pattern_is_not_accepted",
        _PATTERNS + "test_a_costly_pattern_of_a_held_grant",
        _PATTERNS + "test_a_condition_is_judged_once_for_a_call",
        _PATTERNS + "test_nothing_is_judged_for_a_call_without_a_place",
    ),
    "3.8 one payer, or many new ones, use up children, compiler or queue, or have results of "
    "others forgotten": (
        _SHARES + "test_strangers_who_sleep_hold_up_no_key_holder",
        _SHARES + "test_one_key_that_sleeps_holds_up_no_other_owner",
        _SHARES + "test_a_heavy_compilation_holds_up_no_small_program",
        _SHARES + "test_asynchronous_calls_of_strangers_leave_half_the_queue",
        _SHARES + "test_kept_answers_of_strangers_displace_their_own",
        _SHARES + "test_receipts_of_strangers_displace_no_key_holder_s",
    ),
    "3.8 hostile bodies, many at once, or slow ones": (
        _RUNNER + "test_slow_bodies_and_too_many_calls",
        _RUNNER + "test_slow_bodies_of_one_address",
        _RUNNER + "test_nothing_of_a_generation_is_read_without_a_token",
        "runner/test_call_bodies.py::test_hostile_bodies_cost_little",
        "runner/test_shares.py::test_who_uses_much_leaves_as_much_for_others",
        _SHARES + "test_tokens_of_new_keys_hold_up_no_account",
        "tee_backend/test_surface.py::test_slow_bodies_of_one_address",
    ),
    "3.8 strangers request generated secrets, or call, at a runner that holds hundreds of grants": (
        "attacks/test_many_held_grants.py::test_requests_of_strangers_verify_no_held_grant",
        "attacks/test_many_held_grants.py::test_a_verified_grant_is_not_used_once_it_is_revoked",
    ),
    "3.8 a data set that arrives byte by byte keeps tasks of others waiting, or many of them fill "
    "the folder for tasks": (
        _SLOW_DATA + "test_a_slow_data_set_holds_up_no_other_task",
        _SLOW_DATA + "test_data_that_arrive_too_slowly",
        _SLOW_DATA + "test_data_that_stop_after_a_fast_beginning",
        _SLOW_DATA + "test_a_failed_download_is_paid_for",
        _SLOW_DATA + "test_space_is_reserved",
    ),
    "3.8 bodies that take seconds to parse, and are then refused without a charge": (
        _LONG_BODIES + "test_a_costly_body_is_not_parsed_on_the_event_loop",
        _LONG_BODIES + "test_a_payer_without_balance_has_nothing_parsed",
        _LONG_BODIES + "test_a_refused_body_costs_its_token",
        _LONG_BODIES + "test_strangers_bodies_hold_up_no_key_holder",
        _LONG_BODIES + "test_a_child_that_dies_keeps_no_place",
    ),
    "3.8 clients of a runner that read no answer, send half a head or nothing, or begin no "
    "TLS handshake": (
        "attacks/test_runner_connections.py::test_unread_answers_are_bounded",
        "attacks/test_runner_connections.py::test_unread_polls_share_one_answer",
        "serving/test_listener.py::test_silent_connections_close_no_one_out",
        "serving/test_listener.py::test_half_a_head",
        "serving/test_listener.py::test_a_handshake_that_does_not_end",
        "serving/test_listener.py::test_an_answer_that_is_not_read",
    ),
    "3.8 a page of another origin calls the runner through its visitor's browser": (
        "runner/test_api_calls.py::test_what_pages_may_call",
    ),
    "3.8 another party answers at the address of the runner that the console calls": (
        "console/test_runner_page.py::test_another_runner_than_last_time",
    ),
    "3.8 a program that broke out of its sandbox has learned the addresses of other "
    "children's memory": (
        _CONFINEMENT + "test_each_child_has_a_uid_of_its_own",
        _CONFINEMENT + "test_memory_of_parent_and_children_is_closed",
        _TEMPLATE + "test_templates_are_replaced",
        _SYSTEM_CALLS + "test_two_runners_share_no_uid",
    ),
    "3.8 a program that broke out of its sandbox connects to the node or to other services "
    "beside the runner, reads files, or attacks the kernel": (
        _SYSTEM_CALLS + "test_a_child_connects_to_nothing",
        _SYSTEM_CALLS + "test_a_child_opens_nothing",
        _SYSTEM_CALLS + "test_calls_of_a_child",
        _SYSTEM_CALLS + "test_calls_that_nothing_needs",
        _SYSTEM_CALLS + "test_without_a_filter_no_child_starts",
    ),
    "3.8 a program that broke out of its sandbox stays in its process, reads what the next run is "
    "given, and answers for it": (
        _KEPT + "test_two_callers_of_one_program",
        _KEPT + "test_two_keys_of_one_caller",
        _KEPT + "test_the_same_bytes_in_another_project",
        "runner/test_kept_children.py::test_another_series",
        "runner/test_kept_children.py::test_other_contents",
        "runner/test_kept_children.py::test_a_child_of_many_runs_ends",
    ),
    "3.8 a secret that was changed, revoked or deleted is still in the memory of a kept process": (
        _KEPT + "test_another_value_of_the_secret",
        _KEPT + "test_a_revoked_grant",
        _KEPT + "test_a_deleted_secret",
        "runner/test_kept_children.py::test_an_idle_child_ends",
    ),
    "3.8 the state that a Python base was built with is the same in every run": (
        _PYTHON_BASE + "test_two_runs_draw_different_numbers",
        _PYTHON_BASE + "test_a_run_leaves_nothing_for_the_next",
    ),
    "3.8 a script that nobody granted to runs with an owner's secret": (
        "sealspace/test_fuzz_python_programs.py::test_fuzz_refused_programs",
        _PYTHON + "test_a_base_gets_the_program_as_it_was_published",
        _PYTHON + "test_only_a_base_reads_a_program",
    ),
    "3.8 one run foretells the random numbers of another": (
        _TEMPLATE + "test_fresh_children_draw_other_numbers",
        _TEMPLATE + "test_fresh_children_draw_other_insecure_numbers",
    ),
    "3.8 the developer, the node, another caller or another project reads what a program stored": (
        _STORAGE + "test_values_of_another_caller_or_project",
        _STORAGE + "test_keys_that_look_like_paths",
    ),
    "3.8 the developer or the node changes stored values": (
        _STORAGE + "test_values_that_others_write",
    ),
    "3.8 the bytes of a granted program are published under another project, whose other programs"
    " read what it stored": (_STORAGE + "test_storage_that_the_caller_of_a_program_chose",),
    "3.8 a program fills its developer's space, or asks for operations without end": (
        "runner/test_project_storage.py::test_bounds",
        _STORAGE + "test_messages_of_a_child_that_was_taken_over",
    ),
    "3.8 a program sends a secret somewhere else": (
        _RUNNER + "test_a_secret_goes_to_the_hosts_of_its_grant_alone",
    ),
    "3.8 a name leads into the runner's network, at once or the second time": (
        _OUTBOUND + "test_a_name_that_leads_inward",
        _OUTBOUND + "test_a_name_that_leads_elsewhere_the_second_time",
        _OUTBOUND + "test_a_redirect_is_an_answer",
    ),
    "3.8 the operator answers in a service's name: the network, the resolver and the clock "
    "are theirs": (
        _OUTBOUND + "test_a_certificate_for_another_name",
        "sealspace/cli/test_runner_serve.py::test_loopback_is_for_a_simulated_domain_alone",
    ),
    "3.8 a service answers slowly, without end or with a bomb": (
        _OUTBOUND + "test_bodies_are_bounded",
        _OUTBOUND + "test_a_request_has_a_time_of_its_own",
    ),
    "3.8 an owner, or a delegate who may write its secrets, passes off a value of its own as a "
    "generated one": (
        _GENERATED + "test_what_was_not_made_here_is_not_delivered",
        "runner/test_generation.py::test_a_tag_fits_one_value_at_one_place",
    ),
    "3.8 other code that has the runner's key makes a generated secret, and knows it": (
        _GENERATED + "test_other_code_with_the_runner_s_key",
        "sealspace/cli/test_runner_commands.py::test_secrets_that_other_code_made",
    ),
    "3.8 a grant to write generated secrets is used to overwrite others": (
        _GENERATED + "test_exactly_what_was_granted",
        _GENERATED + "test_what_is_there_is_not_replaced",
    ),
    "3.8 the owner opens a generated secret in person": (
        _GENERATED + "test_the_owner_may_lift_the_policy_and_a_receipt_shows_it",
    ),
    "3.8 a private program runs for those who know its hash, or runs on after its share was "
    "revoked": (
        "runner/test_private_programs.py::test_a_private_project_has_secrets_by_its_hash",
        "runner/test_private_programs.py::test_a_private_program_is_not_another_project_s",
    ),
    "3.8 rows of keys, accounts or jobs are edited, or put in others' places": (
        _API_KEYS + "test_rows_that_the_host_edits_or_moves",
        "runner/test_ledger.py::test_accounts_that_were_edited_or_moved",
    ),
    "3.8 a program, a crash or many calls at once spend more than there is, or keep a refund": (
        _API_KEYS + "test_one_key_a_hundred_times_with_balance_for_one",
        _API_KEYS + "test_what_a_crash_leaves",
        "runner/test_ledger.py::test_balances_add_up_over_crashes",
    ),
    "3.8 a key is read on the way, or by who ends TLS before the runner": (
        "runner/test_api_calls.py::test_keys_are_not_taken_in_the_clear",
    ),
    "3.8 the holder of a key reaches more than its owner meant": (
        "runner/test_api_calls.py::test_secrets_of_a_key",
        "runner/test_api_calls.py::test_refusals_by_status",
    ),
    "3.8 a client asks for the answer of another caller": (_API_KEYS + "test_somebody_else_s_job",),
    "3.8 another process of the runner's user credits accounts, or asks with the operator's "
    "right": ("runner/test_api_calls.py::test_the_operator_s_socket",),
    "3.8 many owners make keys until no further one is kept": (
        "runner/test_api_calls.py::test_too_many_keys",
    ),
    "3.8 traces of a secret in logs, errors or files": (_RUNNER + "test_a_secret_leaves_no_trace",),
    "3.8 an older journal is restored after a loss": (
        _RESTARTS + "test_a_restored_journal",
        _COPIES + "test_a_backup_has_all_that_was_acknowledged",
        _COPIES + "test_a_damaged_backup",
        _RUNNER + "test_a_used_token_stays_used_after_a_restart",
    ),
    "3.8 a backup of the journal is stolen": (_COPIES + "test_a_backup_contains_no_plain_row",),
}

UNTESTED_RUNNER_THREATS: dict[str, str] = {
    "3.8 the operator puts an older journal back, or turns the clock back": (
        "nothing prevents it, as the row says"
    ),
    "3.8 the developer of a followed project publishes a version that gives the secret away": (
        "nothing prevents it, as "
        "the row says; that it is said before granting is held by a test of the command"
    ),
    "3.8 other code with the runner's DID reads a program that was shared with it": (
        "nothing prevents it, as the row says"
    ),
    "3.8 other code with the runner's DID and the application's keys opens stored values": (
        "nothing prevents it, as the row says"
    ),
    "3.8 a program stores an owner's secret, and a later run of the same caller, perhaps without"
    " the grant or with other hosts, reads it and sends it away": (
        "nothing prevents it, as the row says"
    ),
    "3.8 a program writes a secret into its answer": "nothing prevents it, as the row says",
    "3.8 the operator sees who is contacted, when and how much": (
        "nothing prevents it, as the row says"
    ),
    "3.8 calls for projects that do not exist use up what the node answers to one address": (
        "nothing prevents it, as the row says"
    ),
}
