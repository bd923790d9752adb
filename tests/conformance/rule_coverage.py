"""Tests that cover a rule without naming its id, and rules that cannot be tested.

`pages/conformance_page.py` reads these tables. A test is `file::name` below `tests/`, never a file
alone. Entries that are no longer needed fail a test.
"""

_ADMIN_REQUESTS = "encryption_network/test_admin_requests.py::"
_GATE = "encryption_network/test_gate.py::"
_IN_PERSON = "encryption_network/test_gate_in_person.py::"
_NETWORKS = "encryption_network/test_networks.py::"
_CLIENT = "sealspace/test_client.py::"
_BACKEND = "sealspace/test_backend.py::"
_NAMES = "sealspace/test_secret_names.py::"
_RECORDED = "sealspace/test_recorded_exchanges.py::"
_ATTESTING = "attacks/test_attestation.py::"
_RELEASE = "attacks/test_release.py::"
_TOKENS = "attacks/test_tokens.py::"
_BATCH = "node/operations/values/test_kv_batch.py::"
_PUT = "node/operations/values/test_kv_put.py::"
_LIST = "node/operations/values/test_kv_list.py::"
_FORMS = "node/operations/values/test_multipart.py::"
_RACES = "attacks/test_races.py::"
_READ = "node/operations/delegations/test_read_capabilities.py::"
_SPACES = "node/operations/delegations/test_space_service.py::"
_STATUS = "node/operations/delegations/test_delegation_status.py::"
_QUERY = "node/operations/delegations/test_delegation_query.py::"
_PROBLEMS = "node/http/messages/test_problems.py::"
_ROUTES = "node/http/test_routes.py::"
_SIGNED = "node/operations/values/test_signed_urls.py::"
_PUBLIC = "node/operations/values/test_public_values.py::"
_OPERATOR = "node/operations/values/test_admin_quota.py::"
_CONDITIONS = "sealspace/test_call_conditions.py::"
_RUN_GRANTS = "sealspace/test_run_grants.py::"
_STATEMENTS = "sealspace/test_signed_statements.py::"
_PROGRAMS = "sealspace/test_programs.py::"
_RUN_CALLS = "sealspace/test_run_calls.py::"
_CALLS = "runner/test_calls.py::"

COVERED_BY: dict[str, tuple[str, ...]] = {
    # --- encryption
    "EN2": (
        _NETWORKS + "test_any_spelling_of_the_owner_is_one_id",
        _NETWORKS + "test_malformed_ids_say_how",
    ),
    "EN8": (
        _NETWORKS + "test_the_private_key_belongs_to_the_record",
        _NETWORKS + "test_the_policy_is_part_of_the_record",
    ),
    "EN9": (_NETWORKS + "test_well_known_lookups_name_an_owner",),
    "EN19": (
        _TOKENS + "test_a_decrypt_token_does_nothing_else",
        _TOKENS + "test_a_decrypt_token_needs_all_it_names",
    ),
    "EN24": (
        "sealspace/test_fuzz.py::test_fuzz_answers_with_a_key",
        _RECORDED + "test_an_answer_to_another_request_is_refused",
        _RECORDED + "test_what_the_node_did_not_sign_is_refused",
        _RECORDED + "test_an_answer_to_another_token_is_refused",
    ),
    "EN25": (
        _NAMES + "test_a_name_and_a_scope_give_a_vault_key_and_a_path",
        _NAMES + "test_other_names_are_refused",
        _NAMES + "test_scopes_that_mean_nothing_are_refused",
    ),
    "EN27": (
        _BACKEND + "test_nothing_is_released_before_attesting",
        _CLIENT + "test_an_outsider_opens_nothing",
    ),
    "enc-W1": (_RELEASE + "test_a_grant_alone_opens_nothing",),
    "enc-W2": (
        "attacks/test_relays.py::test_a_relay_that_swaps_a_network_s_key",
        _CLIENT + "test_another_node_than_the_pinned_one_is_refused",
    ),
    "enc-W3": (_BACKEND + "test_a_policy_can_bind_keys_to_one_path",),
    "enc-W4": (_TOKENS + "test_a_decrypt_token_serves_once_anywhere",),
    "enc-W7": (_CLIENT + "test_an_envelope_that_was_moved_is_noticed",),
    "enc-W9": ("attacks/test_network_nonces.py::test_a_nonce_is_forgotten",),
    "enc-W11": ("node/platform/test_root_secret.py::test_lost_secret_is_not_replaced",),
    "enc-W14": ("node/platform/test_node_evidence.py::test_what_is_bound",),
    "enc-W18": (_TOKENS + "test_a_decrypt_token_does_nothing_else",),
    "enc-W20": (_TOKENS + "test_a_revoked_grant_in_another_spelling",),
    "enc-D1": (_ADMIN_REQUESTS + "test_create_bodies_are_tolerant",),
    "enc-D4": (_NETWORKS + "test_any_spelling_of_the_owner_is_one_id",),
    # --- attestation
    "AT4": (
        _ATTESTING + "test_a_session_s_token_is_bound_to_its_body",
        _ATTESTING + "test_an_outsider_s_quote_is_not_looked_at",
    ),
    "AT5": (
        _ATTESTING + "test_a_failed_quote_uses_the_challenge_up",
        _ATTESTING + "test_an_outsider_s_quote_is_not_looked_at",
    ),
    "AT6": (
        "tee_backend/test_quote.py::test_size_is_bounded_first",
        "tee_backend/test_event_log.py::test_bounds",
    ),
    "AT7": (
        "tee_backend/test_errors.py::test_text_is_the_code",
        "tee_backend/test_claims.py::test_any_text",
    ),
    "AT10": (
        _ATTESTING + "test_the_receiver_mode_is_part_of_the_quote",
        _ATTESTING + "test_mode_signed_needs_every_policy_s_word",
    ),
    "AT15": (
        "tee_backend/test_attestation_vectors.py::test_a_respelled_signature_is_the_same_statement",
        _ATTESTING + "test_a_challenge_serves_once_anywhere",
    ),
    "AT16": (_ATTESTING + "test_collateral_of_the_caller_is_not_taken",),
    "AT18": (
        "node/collateral/test_intake.py::test_a_document_is_kept_as_it_came",
        "tee_backend/test_collateral.py::test_import_keeps_the_bytes",
    ),
    "AT27": (
        "tee_backend/test_dstack.py::test_only_sixty_four_bytes",
        "tee_backend/test_dstack.py::test_quote_and_log",
        "tee_backend/test_tsm.py::test_a_folder_for_each_quote",
        "tee_backend/test_tsm.py::test_a_quote_for_another_client",
        "tee_backend/test_tsm.py::test_another_client_writes",
    ),
    "AT25": ("node/http/test_routes.py::test_attestation_without_tee",),
    # --- release
    "RL1": (
        _GATE + "test_a_policy_can_take_the_owners_way_away",
        _GATE + "test_mode_off_keeps_what_an_owner_stated",
    ),
    "RL2": (
        _IN_PERSON + "test_the_owners_session_key_needs_no_evidence",
        _GATE + "test_in_mode_everyone_nobody_is_in_person",
        _GATE + "test_a_policy_can_take_the_owners_way_away",
    ),
    "RL5": (
        _GATE + "test_a_genuine_quote_alone_is_not_enough",
        _GATE + "test_no_evidence",
        _RELEASE + "test_the_way_in_is_open_to_the_approved",
    ),
    "RL3": (
        _IN_PERSON + "test_a_sub_delegation_is_not_in_person",
        _IN_PERSON + "test_a_ucan_of_a_key_that_owns_the_network_is_not_in_person",
    ),
    "RL4": (
        _GATE + "test_the_list_of_the_owners_session_key_counts",
        _GATE + "test_the_session_keys_list_falls_with_its_session",
        _GATE + "test_a_key_with_a_parent_that_is_no_sign_in_does_not_speak_for_the_owner",
    ),
    "RL6": (
        _GATE + "test_a_delegates_own_list_does_not_count",
        _GATE + "test_the_nodes_list_counts_only_where_it_suffices",
    ),
    "RL9": (
        _GATE + "test_a_delegates_policy_narrows",
        "encryption_network/test_gate_properties.py::test_a_further_policy_never_releases",
    ),
    "RL15": (
        _RACES + "test_a_grant_revoked_before_the_commit",
        _RACES + "test_a_network_revoked_before_the_commit",
        _RACES + "test_a_policy_tightened_before_the_commit",
        _RACES + "test_an_envelope_moved_away_before_the_commit",
        _RACES + "test_evidence_withdrawn_before_the_commit",
        _RACES + "test_the_node_s_terms_tightened_before_the_commit",
        "attacks/test_withdrawals.py::test_withdrawn_between_read_and_commit",
    ),
    "RC10": (
        "attacks/test_receipts.py::test_a_receipt_is_judged_again_offline",
        "attacks/test_receipts.py::test_evidence_without_its_basis_still_releases",
    ),
    # --- what clients rely on
    "J2": (_CLIENT + "test_a_strict_node_is_asked_to_host",),
    "J5": ("sealspace/test_transport.py::test_every_try_has_a_token_of_its_own",),
    "J9": (_BATCH + "test_metadata_of_parts",),
    "J11": ("sealspace/test_shared_values.py::test_a_public_space_is_read_without_a_session",),
    "J12": ("sealspace/test_shared_values.py::test_a_signed_url_is_for_anybody",),
    # --- values
    "M4": (
        "durability/test_load.py::test_writers_and_readers_side_by_side",
        "node/test_shared_store.py::test_two_nodes_on_one_database",
    ),
    # --- decisions
    "Q1": ("node/operations/values/test_kv_list.py::test_pages_of_any_size_equal_the_whole",),
    "Q16": (
        "node/http/messages/test_problems.py::test_passing_trouble_says_when_to_try_again",
        "spaces/store/test_durability.py::test_without_a_storekeeper_commits_are_unavailable_and_reads_go_on",
    ),
    "Q21": ("spec/test_node_rules.py::test_hosting_by_a_delegate",),
    "Q22": ("node/operations/values/test_kv_batch.py::test_batch_of_gets",),
    "Q29": (
        "durability/test_load.py::test_rivals_for_one_key",
        "durability/test_load.py::test_writers_and_readers_side_by_side",
    ),
    # --- operations
    "wire 4.4.1": (_PUT + "test_values_of_any_size", _PUT + "test_metadata_of_a_large_value"),
    "wire 4.4.2": (
        _BATCH + "test_batch_of_metadata",
        _CLIENT + "test_a_value_comes_back_with_its_metadata",
    ),
    "wire 4.4.3": (
        _PUT + "test_body_over_the_limit",
        _PUT + "test_body_that_stops",
        _PUT + "test_connection_that_breaks",
    ),
    "wire 4.4.4": (
        _LIST + "test_pages_of_any_size_equal_the_whole",
        _LIST + "test_cursor_belongs_to_its_question",
        _LIST + "test_delegated_listing_in_pages",
    ),
    "wire 4.4.5": (
        "node/operations/values/test_kv_list.py::test_options_that_a_call_cannot_have",
        _PUT + "test_conditions_on_large_values",
    ),
    "wire 4.4.6": (
        _BATCH + "test_metadata_of_parts",
        _BATCH + "test_too_many_puts",
        _FORMS + "test_parts_are_what_was_laid_out",
        _FORMS + "test_what_is_no_form",
        _FORMS + "test_names_are_decoded_once",
    ),
    "wire 4.4.7": (
        _BATCH + "test_several_deletes",
        _BATCH + "test_batch_of_gets",
        _BATCH + "test_outcomes_without_a_common_answer",
    ),
    "wire 4.4.8": (
        _BATCH + "test_both_names_of_a_delete_on_one_key",
        _CLIENT + "test_what_is_not_there",
    ),
    "wire 4.4.9": (
        "node/operations/values/test_kv_sync.py::"
        "test_CF3_kv_sync_orders_puts_overwrites_deletes_and_batches",
    ),
    "wire 4.5": (
        _READ + "test_what_stands_is_listed_newest_first",
        _READ + "test_filters",
        _READ + "test_chains",
        _READ + "test_lists_are_bounded",
    ),
    "wire 4.7": (
        _SPACES + "test_a_space_is_made_reported_and_listed",
        _SPACES + "test_targets",
        _SPACES + "test_what_others_have_is_not_reported",
        _SPACES + "test_without_the_right_nothing_is_reported",
    ),
    "wire 4.10": (
        _PROBLEMS + "test_wire_errors_are_text",
        _PROBLEMS + "test_wire_problems",
        _PROBLEMS + "test_malformed_token_is_a_problem",
    ),
    "wire 5.1": (
        _ROUTES + "test_information",
        _ROUTES + "test_health_is_empty",
        _ROUTES + "test_node_keys",
        _ROUTES + "test_host_did",
        _ROUTES + "test_options",
    ),
    "wire 5.3": (
        _STATUS + "test_who_has_a_say_is_reported",
        _STATUS + "test_words_in_order",
        _STATUS + "test_outsiders_cannot_distinguish_unknown_from_foreign",
    ),
    "wire 5.4": (
        _QUERY + "test_an_item_says_all_of_a_delegation",
        _QUERY + "test_standings_in_order",
        _QUERY + "test_directions",
        _QUERY + "test_outsiders_and_wrong_proofs",
    ),
    "wire 5.10": (
        _SIGNED + "test_a_url_gives_the_value_to_anybody",
        _SIGNED + "test_a_url_is_for_one_version",
        _SIGNED + "test_how_long_a_url_lives",
        _SIGNED + "test_what_is_asked_for_wrongly",
    ),
    "wire 5.11": (
        _PUBLIC + "test_a_public_value",
        _PUBLIC + "test_a_list_in_pages",
        _PUBLIC + "test_a_client_reads_so_often",
    ),
    "wire 5.12": (
        _OPERATOR + "test_only_the_operator",
        _OPERATOR + "test_without_a_secret_there_is_no_operator",
        _OPERATOR + "test_a_limit_holds_and_outlives_a_restart",
        _OPERATOR + "test_usage_is_reported_largest_first",
    ),
    "wire 7.2": ("node/operations/values/test_outsiders.py::test_services_that_are_not_offered",),
    "wire 5.13": (
        "node/operations/values/test_outsiders.py::test_refused_tokens_run_out",
        "node/operations/values/test_outsiders.py::test_registrations_of_a_client_known_are_not_counted",
        "node/operations/values/test_outsiders.py::test_first_registrations_of_outsiders_are_counted",
        "node/operations/values/test_outsiders.py::test_one_signer_has_so_many_delegations",
    ),
    "wire 7.1": ("spec/test_texts.py::test_the_route_table_is_the_nodes",),
    # --- run grants, programs, calls and receipts of runs
    "RN40": (
        _CONDITIONS + "test_conditions",
        _CONDITIONS + "test_the_owner_is_no_exception",
        _CONDITIONS + "test_what_cannot_be_read_is_refused_and_no_not_turns_it_into_a_yes",
    ),
    "RN41": (
        _RUN_GRANTS + "test_a_run_grant_of_a_key_and_of_a_wallet",
        _RUN_GRANTS + "test_parents_and_others_runners",
    ),
    "RN42": (_RUN_GRANTS + "test_what_a_run_grant_may_not_hold",),
    "RN43": (
        _RUN_GRANTS + "test_statement_and_policy",
        _RUN_GRANTS + "test_statements_in_a_sign_in_text",
    ),
    "RN44": (
        _RUN_GRANTS + "test_statements_that_are_refused",
        _RUN_GRANTS + "test_statements_round_trip",
    ),
    "RN45": (_CALLS + "test_a_grant_that_follows_a_project_is_for_its_active_version_alone",),
    "RN46": (
        _RUN_GRANTS + "test_statement_and_policy",
        _CALLS + "test_grants_that_a_runner_does_not_take",
    ),
    "RN50": (
        _PROGRAMS + "test_publish_show_and_go_back",
        _PROGRAMS + "test_a_public_program_is_read_by_everybody",
    ),
    "RN51": (_STATEMENTS + "test_round_trip", _STATEMENTS + "test_what_does_not_hold_is_refused"),
    "RN52": (
        _PROGRAMS + "test_versions_that_are_refused",
        _PROGRAMS + "test_bytes_that_nobody_signed_are_refused",
    ),
    "RN53": (
        _PROGRAMS + "test_active_statements_that_are_refused",
        _PROGRAMS + "test_of_two_activations_at_once_one_is_refused",
    ),
    "RN55": (
        _PROGRAMS + "test_manifests",
        _CALLS + "test_a_manifest_names_the_secrets_of_a_program",
    ),
    "RN60": (_RUN_CALLS + "test_calls_that_are_refused",),
    "RN61": (_RUN_CALLS + "test_calls_that_are_refused",),
    "RN62": (_RUN_CALLS + "test_a_call_is_for_one_body_program_runner_and_minute",),
    "RN63": (_RUN_CALLS + "test_a_key_and_a_wallet_call",),
    "RN64": (
        _RUN_CALLS + "test_sign_ins_that_are_refused",
        _RUN_CALLS + "test_a_sign_in_speaks_for_its_own_wallet_alone",
        _RUN_CALLS + "test_a_sign_in_that_rests_on_another_delegation_is_refused",
    ),
    "RN65": (_CALLS + "test_a_token_is_good_for_one_call_of_one_body",),
    "RN66": (_CALLS + "test_bodies_that_are_refused",),
    "RN67": (_CALLS + "test_what_is_not_there",),
    "RN70": (_CALLS + "test_runs_that_fail_have_receipts_too",),
    "RN71": (_CALLS + "test_a_secret_reaches_the_program_and_the_receipt_proves_the_run",),
    "RN72": (_CALLS + "test_receipts_that_do_not_hold",),
    "RN73": (_CALLS + "test_receipts_that_do_not_hold",),
    "RN74": (_CALLS + "test_a_secret_reaches_the_program_and_the_receipt_proves_the_run",),
    "RN80": (_CALLS + "test_another_program_under_the_grant", _CALLS + "test_profiles"),
    "RN81": (_CALLS + "test_callers",),
    "RN82": (_CALLS + "test_a_manifest_names_the_secrets_of_a_program",),
    "RN83": (_CALLS + "test_a_revoked_grant_serves_no_run",),
    "RN84": (_CALLS + "test_a_secret_reaches_the_program_and_the_receipt_proves_the_run",),
    "RN85": (_CALLS + "test_the_owner_calls_and_sees_the_errors_of_the_program",),
    "RN86": (_CALLS + "test_limits_of_a_grant_bind_the_run",),
}

# id -> why no test holds it; what a page marks as describing needs no entry.
UNTESTED: dict[str, str] = {}

_CAPABILITY = "spec/test_capability_vectors.py::"
_ENCRYPTION = "spec/test_encryption_vectors.py::"
_ATTESTATION = "spec/test_attestation_vectors.py::"
_MANIFESTS = "spec/test_manifest_vectors.py::"

# file of vectors -> the test that runs every case of it: rules that no other test names are covered
# by it
VECTOR_TESTS: dict[str, tuple[str, ...]] = {
    "attestation/backend_report_data.json": (_ATTESTATION + "test_backend_report_data",),
    "attestation/challenge.json": (_ATTESTATION + "test_challenge",),
    "attestation/node_report_data.json": (_ATTESTATION + "test_node_report_data",),
    "attestation/quotes.json": (_ATTESTATION + "test_quote",),
    "attestation/report_data.json": (_ATTESTATION + "test_report_data",),
    "capabilities/abilities.json": (_CAPABILITY + "test_ability",),
    "capabilities/chain.json": (_CAPABILITY + "test_chain",),
    "capabilities/containment.json": (_CAPABILITY + "test_containment",),
    "capabilities/identifiers/canonical.json": (_CAPABILITY + "test_canonical_spelling",),
    "capabilities/identifiers/principals.json": (_CAPABILITY + "test_principal",),
    "capabilities/identifiers/resources.json": (_CAPABILITY + "test_resource_parts",),
    "capabilities/tokens.json": (_CAPABILITY + "test_token",),
    "capabilities/machine_tokens.json": (_CAPABILITY + "test_machine_token",),
    "capabilities/successions.json": (_CAPABILITY + "test_succession",),
    "capabilities/trusts.json": (_CAPABILITY + "test_trust",),
    "encryption_network/admin.json": (_ENCRYPTION + "test_admin",),
    "encryption_network/canonical_json.json": (_ENCRYPTION + "test_canonical_json",),
    "encryption_network/decrypt.json": (_ENCRYPTION + "test_decrypt",),
    "encryption_network/descriptor.json": (
        _ENCRYPTION + "test_descriptor",
        _ENCRYPTION + "test_nonces",
    ),
    "encryption_network/envelope.json": (_ENCRYPTION + "test_envelope",),
    "encryption_network/keys.json": (_ENCRYPTION + "test_keys",),
    "encryption_network/kept_keys.json": (_ENCRYPTION + "test_kept_keys",),
    "encryption_network/key_statements.json": (_ENCRYPTION + "test_key_statements",),
    "encryption_network/keywrap.json": (_ENCRYPTION + "test_keywrap",),
    "encryption_network/policy.json": (_ENCRYPTION + "test_policy",),
    "manifests/composition.json": (_MANIFESTS + "test_manifests_compose",),
    "manifests/manifest.json": (
        _MANIFESTS + "test_manifests_resolve",
        _MANIFESTS + "test_manifests_are_refused",
    ),
    "secrets/places.json": ("spec/test_secret_vectors.py::test_place",),
    "secrets/unbound.json": ("spec/test_secret_vectors.py::test_unbound",),
    "recovery/shares.json": ("spec/test_recovery_vectors.py::test_shares",),
    "recovery/sheets.json": ("spec/test_recovery_vectors.py::test_sheets",),
    "compose/lines.json": (
        "spec/test_compose_vectors.py::test_lines",
        "spec/test_compose_vectors.py::test_lines_of_the_console",
    ),
    "python_programs/documents.json": ("spec/test_python_program_vectors.py::test_document",),
    "datasets/formats.json": ("spec/test_dataset_vectors.py::test_format",),
    "manifests/portable.json": (
        _MANIFESTS + "test_delegations_as_json",
        _MANIFESTS + "test_delegations_as_json_are_refused",
    ),
}
