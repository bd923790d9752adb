"""Expectations of OutLayer's users of a runner, and attacks on one, each with its tests.

`spec/runner/cases.md` shows them. A row is an expectation and its tests, or the reason why it has
no test.
"""

from typing import TypeAlias

Row: TypeAlias = tuple[str, tuple[str, ...] | str]

_RUNNER = "runner/"
_CALLS = _RUNNER + "test_calls.py::"
_API = _RUNNER + "test_api_calls.py::"
_PARTS = _RUNNER + "test_api_parts.py::"
_BODIES = _RUNNER + "test_call_bodies.py::"
_COMPILING = _RUNNER + "test_compilation.py::"
_CONFINED = _RUNNER + "test_confinement.py::"
_ENVIRONMENT = _RUNNER + "test_environment.py::"
_GENERATED = _RUNNER + "test_generated_secrets.py::"
_GENERATION = _RUNNER + "test_generation.py::"
_LIMITS = _RUNNER + "test_limits.py::"
_OUTBOUND = "serving/test_outbound.py::"
_RUNS = _RUNNER + "test_runs.py::"
_ATTACKS = "attacks/test_runner.py::"
_STORAGE = _RUNNER + "test_project_storage.py::"
_STORAGE_ATTACKS = "attacks/test_runner_storage.py::"
_KEYS = "attacks/test_api_keys.py::"
_TOKENS = "attacks/test_tokens.py::"
_ATTESTING = "attacks/test_attestation.py::"
_RELEASE = "attacks/test_release.py::"
_CONDITIONS = "sealspace/test_call_conditions.py::"
_GRANTS = "sealspace/test_run_grants.py::"
_RUN_CALLS = "sealspace/test_run_calls.py::"
_ENVELOPE = "encryption_network/test_envelope.py::"
_COMMANDS = "sealspace/cli/test_runner_commands.py::"
_VERIFY = "tee_backend/test_verify.py::"

_ONE_BY_ONE = (
    "each secret is stored by itself: no set of them is written, replaced or moved as a whole"
)
_NO_REPOSITORIES = "programs are named by hash or by project; no repository or branch is a name"
_NO_CHAIN = "there is no chain: no balance, token, role or predecessor to judge by"

CASES: dict[str, tuple[Row, ...]] = {
    "Secrets": (
        (
            "a secret that is granted for a program is in its run",
            (_CALLS + "test_a_secret_reaches_the_program_and_the_receipt_proves_the_run",),
        ),
        ("two profiles have two values of one name", (_CALLS + "test_profiles",)),
        ("a secret of one branch comes before that of all", _NO_REPOSITORIES),
        ("spellings of one repository are one", _NO_REPOSITORIES),
        (
            "the same bytes get a secret that is granted to their hash, others do not",
            (_CALLS + "test_another_program_under_the_grant",),
        ),
        ("a hash in capitals is not the hash", (_GRANTS + "test_statements_that_are_refused",)),
        (
            "a secret for a project is there for the version that is activated next",
            (_CALLS + "test_a_grant_that_follows_a_project_is_for_its_active_version_alone",),
        ),
        (
            "secrets put by hand and generated ones reach one run",
            (_GENERATED + "test_a_profile_and_another_secret_beside_it",),
        ),
        (
            "each type that is generated has its form, is kept, and is another one each time",
            (_GENERATION + "test_values", _GENERATED + "test_what_is_there_is_not_replaced"),
        ),
        ("an update keeps the others, or drops those put by hand", _ONE_BY_ONE),
        (
            "secrets of a repository move to a project",
            _ONE_BY_ONE + "; a grant names programs, and a further grant further ones",
        ),
        ("a replacement removes generated ones too", _ONE_BY_ONE),
        (
            "after a secret was deleted its run says so",
            (_CALLS + "test_a_secret_that_is_gone_and_one_that_is_no_text",),
        ),
        (
            "only programs see a generated value",
            (
                _GENERATED + "test_a_generated_secret_reaches_a_program_and_nobody_else",
                _GENERATED + "test_the_owner_may_lift_the_policy_and_a_receipt_shows_it",
            ),
        ),
        (
            "without a wish for secrets none are looked up",
            (_CALLS + "test_without_secrets_nobody_is_asked_for_anything",),
        ),
    ),
    "Secrets that are refused": (
        (
            "a `PROTECTED_` name that is put by hand",
            (
                _GENERATED + "test_names_are_not_written_by_hand",
                _GENERATED + "test_what_was_not_made_here_is_not_delivered",
            ),
        ),
        (
            "a generated name without that prefix, an unknown type, seventeen at once",
            (
                _GENERATION + "test_bodies_that_are_refused",
                _COMMANDS + "test_what_is_not_generated",
            ),
        ),
        ("a name that is there already", (_GENERATED + "test_what_is_there_is_not_replaced",)),
        (
            "reserved names; one that got past is not what the program sees",
            (
                _ENVIRONMENT + "test_reserved_names",
                _ENVIRONMENT + "test_how_many_names_are_reserved",
                _COMMANDS + "test_grants_that_are_not_made",
            ),
        ),
        (
            "a value that is no text, or has a NUL",
            (
                _CALLS + "test_a_secret_that_is_gone_and_one_that_is_no_text",
                "sealspace/test_secret_values.py::test_payloads_that_are_not_understood",
            ),
        ),
        ("a profile that is empty, too long, or has other characters", (_CALLS + "test_profiles",)),
        (
            "a hash of another length, a project with an invalid name or that does not exist",
            (_CALLS + "test_bodies_that_are_refused", _GRANTS + "test_statements_that_are_refused"),
        ),
        (
            "another client writes, changes rules, deletes or lists",
            (
                "attacks/test_outsiders.py::test_values_of_a_space_cannot_be_distinguished",
                _TOKENS + "test_an_outsider_cannot_revoke",
                _TOKENS + "test_a_child_is_no_wider_than_its_parent",
            ),
        ),
        (
            "a signature of another key, one that is sent again, another body under it",
            (
                _TOKENS + "test_a_forged_delegation",
                _TOKENS + "test_a_token_serves_once_on_every_worker",
                _ATTESTING + "test_a_session_s_token_is_bound_to_its_body",
            ),
        ),
        (
            "a sealed value at another place",
            (
                "attacks/test_held_grants.py::test_an_envelope_of_another_owner_is_no_secret_of_an_outsider",
                _RELEASE + "test_a_path_in_the_policy_binds_the_key",
            ),
        ),
        (
            "a sealed value that was cut, changed, or is too long",
            (
                _ENVELOPE + "test_one_flipped_bit_never_opens",
                _ENVELOPE + "test_malformed_members",
                _ENVELOPE + "test_the_size_is_bounded",
                _ENVELOPE + "test_any_bytes",
            ),
        ),
        (
            "a wish for secrets in odd forms",
            (
                _CALLS + "test_bodies_that_are_refused",
                _BODIES + "test_fuzz_changed_bodies",
                _PARTS + "test_fuzz_api_bodies",
            ),
        ),
    ),
    "Who may call": (
        (
            "everybody; a list, compared exactly; an empty list refuses the owner too",
            (
                _CALLS + "test_callers",
                _CONDITIONS + "test_conditions",
                _CONDITIONS + "test_the_owner_is_no_exception",
            ),
        ),
        (
            "patterns of accounts: alternatives, line ends, an empty one, an invalid one",
            (
                _CONDITIONS + "test_patterns",
                _CONDITIONS + "test_patterns_that_cannot_be_compiled",
                _CONDITIONS + "test_a_pattern_takes_linear_time",
            ),
        ),
        (
            "and, or, not with three values, in both orders; none of them with nothing inside",
            (_CONDITIONS + "test_connectives_of_three_verdicts", _CONDITIONS + "test_conditions"),
        ),
        ("balances, compared with six operators", _NO_CHAIN),
        (
            "statements of others about a caller",
            "none are judged yet; what cannot be read is refused, under *not* too",
        ),
        (
            "an end in time, at its moment; under *not*",
            (
                _CONDITIONS + "test_conditions",
                _CONDITIONS + "test_what_cannot_be_read_is_refused_and_no_not_turns_it_into_a_yes",
            ),
        ),
        (
            "the hash of a program; another build",
            (_CONDITIONS + "test_conditions", _CALLS + "test_another_program_under_the_grant"),
        ),
        ("the caller of the caller", _NO_CHAIN),
        ("conditions that are long or deep", (_CONDITIONS + "test_bounds",)),
        (
            "a refusal tells no name and no value, and *denied* from *could not be judged*",
            (
                _ATTACKS + "test_names_of_secrets_are_told_to_their_owner_alone",
                _ATTACKS + "test_a_secret_leaves_no_trace",
            ),
        ),
        (
            "a right that was taken away is gone in the next run",
            (_CALLS + "test_a_revoked_grant_serves_no_run",),
        ),
    ),
    "Execution": (
        (
            "input and output byte for byte, for both targets; standard error apart",
            (
                _RUNS + "test_input_and_output_are_exact",
                _CALLS + "test_without_secrets_nobody_is_asked_for_anything",
            ),
        ),
        (
            "the environment that is documented; absent is not empty",
            (_RUNS + "test_the_environment_is_what_was_given", _ENVIRONMENT + "test_the_order"),
        ),
        (
            "a program that never ends; few instructions",
            (_LIMITS + "test_instructions", _LIMITS + "test_time"),
        ),
        (
            "much memory",
            (
                _LIMITS + "test_memory_is_exact_to_the_page",
                _LIMITS + "test_memories_of_a_component_have_one_budget",
            ),
        ),
        ("more output than allowed", (_LIMITS + "test_output_is_exact",)),
        (
            "exit codes, traps, and words about limits in a program's own text",
            (
                _RUNS + "test_how_a_guest_ends",
                _RUNS + "test_exit_codes_that_a_target_does_not_have",
            ),
        ),
        (
            "formats of answers; output that is no JSON",
            (_RUNS + "test_output_is_what_the_format_says",),
        ),
        (
            "no file, socket, argument or variable of the host; nothing from run to run",
            (
                _CONFINED + "test_a_guest_reaches_no_file",
                _CONFINED + "test_a_guest_reaches_no_network",
                _RUNS + "test_nothing_is_left_from_run_to_run",
            ),
        ),
        (
            "bytes of another hash, no program, too many bytes",
            (
                _COMPILING + "test_other_bytes_than_asked_for",
                _COMPILING + "test_bytes_that_are_no_program",
            ),
        ),
        (
            "a program from an address that leads inward",
            "programs come from the node alone; no call names an address",
        ),
        (
            "the second run of a program is as the first, without loading it",
            (_COMPILING + "test_a_program_is_loaded_once",),
        ),
        (
            "an import that the runner does not offer",
            (_COMPILING + "test_programs_that_are_refused",),
        ),
        (
            "values that a program stores, for each caller apart, also under a new version",
            (
                _STORAGE + "test_values_stay_from_run_to_run",
                _STORAGE_ATTACKS + "test_values_of_another_caller_or_project",
            ),
        ),
        (
            "writes on condition; numbers that runs add to at one time; a sum that does not fit",
            (
                _STORAGE + "test_conditional_writes",
                _STORAGE + "test_parallel_increments_add_up",
            ),
        ),
        (
            "stored values of a worker, of one version, or for everybody",
            "not offered: a program that imports such a function is refused, with its name",
        ),
        (
            "requests to named hosts alone; addresses, and names that lead elsewhere later",
            (
                _ATTACKS + "test_a_secret_goes_to_the_hosts_of_its_grant_alone",
                _OUTBOUND + "test_another_name_of_a_host_is_another_host",
                _OUTBOUND + "test_a_name_that_leads_elsewhere_the_second_time",
            ),
        ),
        (
            "the order of members in the input is kept",
            (
                _PARTS + "test_the_input_is_not_made_into_objects",
                _API + "test_formats_and_the_curl_of_the_first_page",
            ),
        ),
        ("the same work takes the same", (_RUNS + "test_what_a_run_used",)),
    ),
    "Attestation": (
        (
            "a challenge serves once, for who asked, until its end",
            (
                _ATTESTING + "test_a_challenge_serves_once_anywhere",
                _ATTESTING + "test_a_challenge_belongs_to_who_asked",
                "tee_backend/test_challenge.py::test_good_until_its_expiry",
            ),
        ),
        (
            "a key that is not known, or was revoked",
            (
                _RELEASE + "test_a_grant_alone_opens_nothing",
                _CALLS + "test_a_revoked_grant_serves_no_run",
            ),
        ),
        (
            "a restart in between",
            ("sealspace/cli/test_runner_serve.py::test_a_runner_that_is_restarted",),
        ),
        (
            "one measurement changed; two approved images mixed",
            (
                _RELEASE + "test_other_code_is_refused",
                _RELEASE + "test_registers_of_two_approved_images_do_not_mix",
                _ATTACKS + "test_a_grant_that_is_replayed_to_other_code",
            ),
        ),
        (
            "a quote about another key",
            (
                _ATTACKS + "test_a_quote_for_a_client_is_none_of_a_start",
                _ATTESTING + "test_a_quote_for_another_receiver_key_is_refused",
            ),
        ),
        (
            "collateral that is over, revoked or out of date; a debug domain",
            (
                _VERIFY + "test_windows",
                _VERIFY + "test_revocation",
                _VERIFY + "test_statuses_are_stated",
                _ATTESTING + "test_a_debug_domain_opens_nothing",
            ),
        ),
        (
            "any change of a receipt, its input or its output",
            (
                _CALLS + "test_a_secret_reaches_the_program_and_the_receipt_proves_the_run",
                _CALLS + "test_receipts_that_do_not_hold",
                _ATTACKS + "test_a_salt_does_not_reach_into_the_data",
            ),
        ),
        (
            "a simulated quote whose root is not configured",
            (_VERIFY + "test_other_roots",),
        ),
        (
            "a receipt by the id of its job, at once; none for other ids",
            (_API + "test_a_key_calls_and_its_owner_pays", _CALLS + "test_what_is_not_there"),
        ),
    ),
    "The HTTPS API": (
        (
            (
                "no key, half a key, a wrong secret, another project, too much, no balance, nothing"
                " there"
            ),
            (_API + "test_refusals_by_status",),
        ),
        ("too many calls", (_API + "test_bounds_of_a_key",)),
        ("a limit below the shortest run", (_KEYS + "test_more_than_a_call_may_cost",)),
        (
            "the secret of a key in capitals",
            ("sealspace/test_api_keys.py::test_a_key_that_its_owner_made",),
        ),
        (
            "at once and later; asked for by another key, or with another secret",
            (_API + "test_later", _KEYS + "test_somebody_else_s_job"),
        ),
        (
            (
                "what is charged is what is missing; what never ran costs nothing, what failed its"
                " work"
            ),
            (
                _API + "test_a_key_calls_and_its_owner_pays",
                _API + "test_failed_runs_cost_and_refused_ones_do_not",
                _KEYS + "test_what_a_crash_leaves",
            ),
        ),
        (
            "calls at once spend no more than there is",
            (_KEYS + "test_one_key_a_hundred_times_with_balance_for_one",),
        ),
        ("a key is shown once", (_COMMANDS + "test_a_key_from_its_making_to_its_end",)),
    ),
    "Pages in the browser": (
        (
            "secrets are put, replaced, shown and deleted there, and are left nowhere else",
            (
                "console/test_canaries.py::test_nothing_is_left",
                "console/test_secrets_page.py::test_a_file_of_secrets",
            ),
        ),
        (
            "grants with whom they admit, and their end",
            ("console/test_grants_page.py::test_a_grant_and_the_code_behind_it",),
        ),
        (
            "projects and their versions",
            ("console/test_programs_page.py::test_projects_and_their_versions",),
        ),
        (
            "generated secrets, and runs with their receipts",
            "by commands alone: `sealspace runner generate`, `call` and `verify`",
        ),
    ),
}

ATTACKS: tuple[Row, ...] = (
    ("another program under the grant", (_CALLS + "test_another_program_under_the_grant",)),
    (
        "a version that the developer did not sign",
        (_ATTACKS + "test_a_version_that_its_developer_did_not_sign",),
    ),
    (
        "an older version under a project",
        (
            _ATTACKS + "test_an_older_active_version_that_is_put_back",
            _CALLS + "test_a_grant_that_follows_a_project_is_for_its_active_version_alone",
        ),
    ),
    ("the journal edited, its rows moved", (_KEYS + "test_rows_that_the_host_edits_or_moves",)),
    (
        "a grant with its statement taken away, stated twice, or in a parent",
        (
            _ATTACKS + "test_grants_that_the_host_puts_into_the_folder",
            _CALLS + "test_grants_that_a_runner_does_not_take",
            _GRANTS + "test_statements_in_a_sign_in_text",
            _GRANTS + "test_parents_and_others_runners",
        ),
    ),
    (
        "another caller, and one under *not*",
        (
            _CALLS + "test_callers",
            _CONDITIONS + "test_what_cannot_be_read_is_refused_and_no_not_turns_it_into_a_yes",
        ),
    ),
    ("a key outside of its profiles", (_API + "test_secrets_of_a_key",)),
    ("a session that is older than 24 h", (_RUN_CALLS + "test_sign_ins_that_are_refused",)),
    (
        "a body that was changed after it was signed",
        (_ATTACKS + "test_a_body_that_was_changed_after_signing",),
    ),
    (
        "a grant that is replayed to a looser runner, or one of another measurement",
        (
            _ATTACKS + "test_a_grant_that_is_replayed_to_other_code",
            _GRANTS + "test_parents_and_others_runners",
        ),
    ),
    (
        "a guest that reads the host or its sibling",
        (
            _CONFINED + "test_memory_of_parent_and_children_is_closed",
            _CONFINED + "test_a_guest_reaches_no_memory_but_its_own",
            _CONFINED + "test_each_child_has_a_uid_of_its_own",
        ),
    ),
    (
        "a guest that multiplies memories, tables or components",
        (
            _LIMITS + "test_memories_of_a_component_have_one_budget",
            _LIMITS + "test_tables",
            _LIMITS + "test_components_cannot_multiply",
        ),
    ),
    (
        "a guest that loops, or sleeps in the host",
        (_LIMITS + "test_instructions", _LIMITS + "test_time"),
    ),
    ("a guest that floods its output", (_LIMITS + "test_output_is_exact",)),
    ("a guest that writes files and links", (_CONFINED + "test_a_guest_reaches_no_file",)),
    ("a guest that sends to loopback", (_OUTBOUND + "test_a_name_that_leads_inward",)),
    (
        "a name that leads elsewhere the second time",
        (_OUTBOUND + "test_a_name_that_leads_elsewhere_the_second_time",),
    ),
    ("a redirect inward", (_OUTBOUND + "test_a_redirect_is_an_answer",)),
    ("a host of another grant", (_ATTACKS + "test_a_secret_goes_to_the_hosts_of_its_grant_alone",)),
    (
        "a compiled program with a flipped byte",
        (_COMPILING + "test_an_artefact_cannot_be_changed",),
    ),
    ("a compile bomb", (_COMPILING + "test_a_compile_bomb",)),
    (
        "a revocation between two runs, and during one",
        (
            _CALLS + "test_a_revoked_grant_serves_no_run",
            _ATTACKS + "test_a_secret_is_with_whom_it_was_sent_to_when_time_is_over",
        ),
    ),
    (
        "a revocation of a key while its call waits",
        (_KEYS + "test_a_key_that_is_revoked_while_its_call_waits",),
    ),
    (
        "one key a hundred times at once, with balance for one",
        (_KEYS + "test_one_key_a_hundred_times_with_balance_for_one",),
    ),
    ("another caller's job", (_KEYS + "test_somebody_else_s_job",)),
    ("a NUL, a line end, a statement of SQL or a path in every name", (_KEYS + "test_odd_names",)),
)
