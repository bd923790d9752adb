"""Tests for the rows of the threat model's tables, for `pages/conformance_page.py`.

A row is identified by its section and the words of its threat, a test is `file::name` below
`tests/`. A row that this repository cannot test has a reason. A row of the page that is in neither
table fails a test.
"""

from conformance.agent_threats import TESTS_OF_AGENT_THREATS
from conformance.backend_threats import TESTS_OF_BACKEND_THREATS
from conformance.copy_threats import TESTS_OF_COPY_THREATS
from conformance.delegation_threats import TESTS_OF_DELEGATION_THREATS
from conformance.door_threats import TESTS_OF_DOOR_THREATS
from conformance.feed_threats import TESTS_OF_FEED_THREATS
from conformance.network_key_threats import TESTS_OF_NETWORK_KEY_THREATS
from conformance.recovery_threats import TESTS_OF_RECOVERY_THREATS, UNTESTED_RECOVERY_THREATS
from conformance.root_secret_threats import TESTS_OF_ROOT_SECRET_THREATS
from conformance.runner_threats import TESTS_OF_RUNNER_THREATS, UNTESTED_RUNNER_THREATS
from conformance.sharing_threats import TESTS_OF_SHARING_THREATS
from conformance.sql_threats import TESTS_OF_SQL_THREATS

from .team_threats import TESTS_OF_TEAM_THREATS

_BACKENDS = "sealspace/test_backends.py::"
_CALLER = "sealspace/test_addressing.py::"
_MISUSED = "attacks/test_misused_tokens.py::"
_NONCES = "attacks/test_network_nonces.py::"
_RETENTION = "sealspace/test_retention.py::"
_ATTESTING = "attacks/test_attestation.py::"
_BUCKET = "spaces/values/test_object_bucket.py::"
_COLLATERAL = "attacks/test_collateral.py::"
_EXCHANGES = "attacks/test_exchanges_of_a_trust.py::"
_CLOCKS = "attacks/test_clocks.py::"
_MIGRATION = "spaces/archive/test_migration.py::"
_NODE_EVIDENCE = "sealspace/test_node_evidence.py::"
_IN_PERSON = "attacks/test_in_person.py::"
_RACES = "attacks/test_races.py::"
_RECEIPTS = "attacks/test_receipts.py::"
_RELAYS = "attacks/test_relays.py::"
_RELEASE = "attacks/test_release.py::"
_STRANGERS = "attacks/test_outsiders.py::"
_TERMINALS = "attacks/test_terminals.py::"
_TOKENS = "attacks/test_tokens.py::"
_MACHINES = "attacks/test_machine_tokens.py::"
_ID_TOKENS = "attacks/test_id_tokens.py::"
_WITHDRAWALS = "attacks/test_withdrawals.py::"
_REVOKERS = "attacks/test_withdrawn_revokers.py::"
_CONDITIONS = "attacks/test_conditions.py::"
_COSTS = "node/operations/values/test_outsiders.py::"
_CONSOLE = "node/http/test_console.py::"
_SIGNED = "node/operations/values/test_signed_urls.py::"
_PUBLIC = "node/operations/values/test_public_values.py::"
_PUTS = "node/operations/values/test_kv_put.py::"
_WALLET_PAGE = "sealspace/cli/test_wallet_page.py::"
_CONSOLE_COMMAND = "sealspace/cli/test_console_command.py::"
_LINK_PAGE = "console/test_link_page.py::"
_SMS = "attacks/test_sms.py::"
_WALLET_SERVER = "sealspace/cli/test_wallet_server.py::"

TESTS_OF_THREATS: dict[str, tuple[str, ...]] = {
    **TESTS_OF_TEAM_THREATS,
    **TESTS_OF_AGENT_THREATS,
    **TESTS_OF_DELEGATION_THREATS,
    **TESTS_OF_DOOR_THREATS,
    **TESTS_OF_ROOT_SECRET_THREATS,
    **TESTS_OF_NETWORK_KEY_THREATS,
    **TESTS_OF_COPY_THREATS,
    **TESTS_OF_RECOVERY_THREATS,
    **TESTS_OF_SHARING_THREATS,
    # --- iExec's clients
    "3.2 a party that saw a push of iExec's client sends it again, to bring a former value back": (
        _SMS + "test_one_of_many_copies_of_a_replacement_wins",
        _SMS + "test_one_signature_raced_on_two_routes",
        "node/http/test_sms.py::test_a_deleted_secret_is_not_pushed_again_by_a_copy",
        "node/http/test_sms.py::test_copies_of_a_push_write_nothing",
    ),
    "3.2 checks of iExec's client tell strangers which secrets an owner has": (
        _SMS + "test_probing_for_secrets",
        "node/http/test_sms.py::test_checks_tell_strangers_nothing",
        "node/http/test_sms.py::test_checks_by_address_cost_the_same",
    ),
    "3.2 the service for iExec's clients stores what its owner did not grant, or for another "
    "owner": (
        _SMS + "test_nothing_is_written_without_authority",
        _SMS + "test_another_wallet_pushes_nothing_for_an_owner",
        _SMS + "test_only_the_wallet_enables_the_service",
        _SMS + "test_a_forged_id_does_not_keep_a_grant_in_force",
        "node/http/test_sms.py::test_a_grant_that_another_owner_stored",
    ),
    "3.2 a value that iExec's client pushed is read from disk, log or audit, or guessed from "
    "the record of its challenge": (_SMS + "test_a_pushed_value_is_nowhere_in_clear",),
    # --- tokens and chains
    "3.1 a job's ID token is used up for a text that is no key, or by another spelling of its "
    "trust's CID": (
        "attacks/test_id_tokens.py::"
        "test_OX3_a_key_that_nobody_has_is_refused_before_the_token_is_used",
        "attacks/test_id_tokens.py::test_OX3_a_trust_has_one_spelling",
        "capabilities/test_machine_tokens.py::test_MT2_a_key_that_nobody_can_sign_with_is_refused",
    ),
    "3.1 a token in another spelling passes as new (Q25)": (
        _TOKENS + "test_a_used_token_in_another_spelling",
        _TOKENS + "test_a_used_curve_token_with_its_twin_signature",
    ),
    "3.1 key confusion: `alg: none`, foreign `jwk`, another key type": (
        _TOKENS + "test_a_forged_delegation",
        "capabilities/test_issuers.py::test_K8_key_in_the_header_does_not_speak_for_another",
        "capabilities/test_wycheproof.py::test_Q33_K8_K9_json_web_signatures",
    ),
    "3.1 network DID makes the node fetch something (Q34)": (
        "capabilities/test_issuers.py::test_K9_any_issuer",
    ),
    "3.1 parser differences: repeated members, arrays for objects, long integers": (
        "capabilities/test_ucan.py::test_T7_repeated_known_member_is_refused",
        "capabilities/test_recap.py::test_S4_T7_repeated_members_are_refused",
        "capabilities/test_cacao.py::test_C2_unknown_and_missing_keys",
    ),
    '3.1 "I never granted that"': (
        "spaces/grants/test_delegations.py::test_registered_delegation_is_found_by_cid",
        "node/operations/delegations/test_read_capabilities.py::test_a_delegation_as_it_is_reported",
    ),
    "3.1 answers before authorisation reveal what exists": (
        _STRANGERS + "test_spaces_and_values_cannot_be_distinguished",
        _STRANGERS + "test_keys_of_networks_cannot_be_distinguished",
        _STRANGERS + "test_delegations_cannot_be_distinguished",
    ),
    "3.1 deep or wide chains, large tokens": (
        _COSTS + "test_refused_tokens_run_out",
        "node/http/test_listener.py::test_longer_token_is_431",
    ),
    "3.1 delegations without end fill the store": (
        _COSTS + "test_one_signer_has_so_many_delegations",
        "spaces/grants/test_retention.py::test_an_expired_delegation_leaves_whole",
    ),
    "3.1 a revoked delegate registers the grant again": (
        _TOKENS + "test_a_revoked_grant_in_another_spelling",
        "node/housekeeping/test_sweep_delegations.py::test_a_revoked_delegation_does_not_come_back",
    ),
    "3.1 a holder repeats the conditions of a grant and does what they exclude": (
        _CONDITIONS + "test_a_repeated_selector_restricts",
        _CONDITIONS + "test_a_selector_restricts_signed_urls",
        _CONDITIONS + "test_a_selector_restricts_lists",
        _CONDITIONS + "test_a_selector_widens_no_list",
        _CONDITIONS + "test_what_nobody_understands_is_not_run",
    ),
    "3.1 a policy in another case, or deeper in the facts, is ignored": (
        _CONDITIONS + "test_a_policy_that_nobody_would_read_is_refused",
    ),
    "3.1 a stolen machine token reads more, lasts longer, or is passed on": (
        _MACHINES + "test_MT4_cached_envelopes_stay_closed",
        _MACHINES + "test_MT3_it_reads_and_does_nothing_else",
        _MACHINES + "test_MT3_its_key_passes_nothing_on",
        _MACHINES + "test_MT4_a_revocation_counts_in_every_worker",
    ),
    "3.1 many ID tokens of one trust are exchanged, by a store that logs in each minute or by "
    "whoever runs its jobs, until the owner can store no delegation": (
        _EXCHANGES + "test_OX9_a_trust_has_so_many_live_tokens",
        _EXCHANGES + "test_OX9_at_once_no_more_than_the_limit",
        _EXCHANGES + "test_OX9_ended_tokens_leave_the_store",
        _EXCHANGES + "test_OX9_a_clock_that_leapt_blocks_no_trust",
        _EXCHANGES + "test_OX9_the_same_in_every_process",
    ),
    "3.1 a stolen, forged or repeated ID token, or one for another job, branch or node": (
        _ID_TOKENS + "test_OX3_each_claim_counts",
        _ID_TOKENS + "test_OX3_forged_tokens",
        _ID_TOKENS + "test_OX5_a_token_serves_once",
        _ID_TOKENS + "test_OX5_at_once_one_wins",
        _ID_TOKENS + "test_OX3_another_node_accepts_neither_token_nor_trust",
    ),
    "3.1 the node's exchange key, or that of another node, signs more than the owner trusts "
    "it with": (
        _ID_TOKENS + "test_D24_a_trust_has_one_link_below",
        _ID_TOKENS + "test_OX2_another_key_signs_nothing",
        "encryption_network/test_gate_trusts.py::test_OX4_the_gate_compares_it_with_its_trust",
        "encryption_network/test_gate_trusts.py::test_OX2_another_node_s_exchange_key",
    ),
    "3.1 a trust names an issuer at an inner address, or an issuer answers with a redirect or "
    "without end, or its name is answered slowly": (
        "attacks/test_issuer_keys.py::test_OX7_an_issuer_leads_nowhere_inward",
        "attacks/test_issuer_keys.py::test_OX7_answers_of_issuers_are_checked",
        "node/collateral/test_issuer_keys.py::test_OX7_sockets_for_public_addresses_only",
        "node/collateral/test_issuer_keys.py::test_OX7_slow_names_delay_nothing_else",
    ),
    "3.1 a library's canonical form differs for some bytes: two readers, or a refusal of "
    "what is canonical": (
        _TOKENS + "test_C1_a_signature_that_reads_as_a_cid",
        "capabilities/test_cacao.py::test_C1_every_signature_there_and_back",
        "capabilities/test_strict_base64.py::test_the_standard_library_agrees",
    ),
    "3.1 a hostile node forwards a call to the node that its client meant": (
        _MISUSED + "test_a_call_to_another_node_is_not_replayed_here",
        _CALLER + "test_every_token_names_the_node",
    ),
    "3.1 the text of a grant, revoked or not, is sent as a call in its delegator's name": (
        _MISUSED + "test_a_revoked_grant_makes_no_signed_url",
        _MISUSED + "test_a_grant_is_no_invocation",
        _MISUSED + "test_a_grant_to_oneself_is_no_invocation",
        "attacks/test_token_kinds.py::test_a_kind_on_every_route",
    ),
    "3.1 a token for a look-up, a read or a grant is accepted as a revocation of what it names": (
        _MISUSED + "test_what_is_no_revocation_revokes_nothing",
    ),
    "3.1 a write slips past a revocation on another worker": (
        _RACES + "test_a_put_revoked_before_the_commit",
        "durability/test_load.py::test_a_revocation_holds_everywhere_at_once",
    ),
    # --- HTTP surface
    "3.2 forged `X-Forwarded-For` evades limits per address": (
        _PUBLIC + "test_who_a_client_is",
        "attacks/test_client_addresses.py::test_a_proxy_is_known_under_either_address",
        "attacks/test_client_addresses.py::test_a_port_makes_no_other_client",
    ),
    "3.2 tokens or values in logs": (
        "node/test_redaction.py::test_canaries_stay_out_of_logs_numbers_audit_and_errors",
        "node/test_redaction.py::test_nothing_that_was_sent_stays_in_a_process",
        "node/test_logs.py::test_a_failure_has_no_message",
    ),
    "3.2 error texts reveal internals": (
        "node/test_redaction.py::test_an_unforeseen_error_is_logged_without_its_message",
        "node/http/messages/test_problems.py::test_own_errors_are_problems",
    ),
    "3.2 numbers such as `1e308` in tokens and bodies take a reader long": (
        "attacks/test_costly_numbers.py::test_strangers_numbers_are_read_by_the_fast_way",
        "attacks/test_costly_numbers.py::test_a_number_has_the_value_that_is_written",
    ),
    "3.2 large bodies": (
        "attacks/test_heaps.py::test_a_body_is_not_waited_for_without_authority",
        _PUTS + "test_body_over_the_limit",
        _PUTS + "test_body_that_stops",
        "node/operations/values/test_kv_memory.py::test_memory_of_large_values",
    ),
    "3.2 a log of requests, where it is on, tells who reads what": (
        "node/http/test_request_log.py::test_no_line_has_what_was_sent",
        "node/http/test_request_log.py::test_plain_lines_show_paths_and_addresses",
        "node/http/test_request_log.py::test_values_stay_out",
        "node/http/test_request_log.py::test_nothing_is_logged_by_default",
    ),
    "3.2 the description of the routes, open to any client": (
        "node/http/test_description.py::test_it_names_no_node",
        "node/http/test_description.py::test_an_unknown_route_names_the_description",
    ),
    "3.2 file descriptors run out": (
        "attacks/test_late_imports.py::test_no_request_imports",
        "attacks/test_late_imports.py::test_no_sweep_imports",
    ),
    "3.2 a settings file in the folder in which the node is started": (
        "attacks/test_settings_files.py::test_a_settings_file_in_the_current_folder",
        "node/config/test_loading.py::test_no_file_of_the_current_folder",
    ),
    "3.2 a guessed signed URL": (
        _SIGNED + "test_made_up_tickets",
        _SIGNED + "test_tickets_near_a_real_one",
        "spaces/values/test_tickets.py::test_a_ticket_is_found_by_itself_alone",
    ),
    "3.2 one token makes many URLs": (
        _MISUSED + "test_a_token_makes_one_signed_url",
        _MISUSED + "test_a_token_that_lives_long_makes_no_signed_url",
    ),
    "3.2 a leaked signed URL": (
        _SIGNED + "test_a_revocation_ends_the_url_at_once",
        _SIGNED + "test_a_url_is_for_one_version",
        _SIGNED + "test_how_long_a_url_lives",
    ),
    "3.2 a page among public or signed values acts as the node's own": (
        "attacks/test_browsers.py::test_no_value_is_a_page_of_the_nodes_origin",
        _SIGNED + "test_a_url_gives_the_value_to_anybody",
    ),
    "3.2 script of another party runs in the console, where an owner's session is": (
        _CONSOLE + "test_headers_of_every_file",
        _CONSOLE + "test_no_page_of_another_origin_reads_it",
    ),
    "3.2 a value of the node acts as a page of the console's origin": (
        "attacks/test_browsers.py::test_no_value_is_a_page_of_the_nodes_origin",
    ),
    "3.2 clients without a token load the console": (_CONSOLE + "test_files_are_read_once",),
    "3.2 a page of another origin calls the node through its visitor's browser (CORS is on)": (
        "attacks/test_browsers.py::test_the_operator_is_closed_to_pages",
        "attacks/test_browsers.py::test_a_page_of_any_origin_calls_what_the_sdk_calls",
        "node/http/test_routes.py::test_options",
    ),
    "3.2 memory and connections without a token: request heads that never end, pipelined "
    "requests behind unread answers": (
        "attacks/test_connections.py::test_heads_behind_an_unread_answer_take_no_memory",
        "node/http/test_listener.py::test_a_head_that_does_not_end_is_given_up",
        "node/http/test_listener.py::test_a_client_that_takes_nothing_of_an_answer_is_given_up",
        "node/http/test_connection_bounds.py::test_a_client_has_so_many_connections",
    ),
    "3.2 request ids reveal how many requests others make": (
        "node/http/test_routes.py::test_each_answer_has_its_own_trace_id",
    ),
    "3.2 the operator's secret": (
        "node/operations/values/test_admin_quota.py::test_only_the_operator",
        "node/operations/values/test_admin_quota.py::test_where_the_secret_may_stand",
    ),
    "3.2 metrics reveal to others how the node is used": (
        "node/metrics/test_metrics.py::test_who_may_read",
        "node/metrics/test_metrics.py::test_labels_are_from_lists",
        "node/metrics/test_metrics_node.py::test_each_address_serves_its_own",
        "node/metrics/test_metrics_node.py::test_off_by_default",
        "node/config/test_checks.py::test_metrics_stay_on_loopback",
    ),
    "3.2 public reads by any client": (
        _PUBLIC + "test_a_client_reads_so_often",
        _PUBLIC + "test_a_list_in_pages",
        "node/test_rates.py::test_memory_is_bounded",
    ),
    "3.2 long keys with a common beginning make every page expensive": (
        "attacks/test_costs.py::test_long_paths_beside_cost_nobody_a_page",
        "spaces/values/test_long_paths.py::test_a_page_costs_its_own_length",
    ),
    "3.2 bytes that are charged to no account: keys, metadata, delegations": (
        "attacks/test_costs.py::test_keys_and_metadata_are_charged",
        "attacks/test_costs.py::test_delegations_are_charged_by_their_size",
        "attacks/test_spellings.py::test_names_of_one_delegation_are_charged",
        "attacks/test_costs.py::test_a_repeated_revocation_writes_nothing",
        "node/operations/values/test_outsiders.py::test_bytes_from_one_address_are_bounded",
    ),
    "3.2 many spaces, many owners": (
        "spaces/grants/test_hosting.py::test_bound_of_new_owners",
        "spaces/grants/test_hosting.py::test_racing_grants_stay_within_the_bounds",
        "attacks/test_hosting.py::test_an_outsider_on_a_closed_node",
        "attacks/test_closed_networks.py::test_a_network_of_an_outsider",
        "attacks/test_admission.py::test_removed_between_read_and_commit",
    ),
    "3.2 handler mistakes": (
        "spec/test_node_rules.py::test_other_routes_execute_nothing",
        "encryption_network/test_gate.py::test_an_admission_is_made_by_the_gate_only",
    ),
    # --- store
    "3.3 another process writes commits": (
        "spec/test_value_rules.py::test_the_data_folder_is_its_owners",
        "spaces/store/test_durability.py::test_outsider_on_the_socket",
    ),
    "3.3 half a write after a crash": (
        "durability/test_kills.py::test_kills_of_the_whole_node",
        "spaces/store/test_durability.py::test_killed_storekeeper_loses_nothing_and_repeats_nothing",
    ),
    "3.3 audit rewritten": (
        "spaces/audit/test_chain.py::test_every_flipped_byte_is_found",
        "node/housekeeping/test_seal_audit.py::test_a_turn_of_the_housekeeping_seals",
    ),
    "3.3 whoever knows the cid of an owner's delegation cites it, to fill the owner's list, or to"
    " have another person named for a read or a write": (
        "capabilities/test_support.py::test_support_is_found_as_the_rules_say",
        "node/operations/delegations/test_delegation_query.py"
        "::test_D33_citing_an_owners_delegation_lists_nothing_there",
        "attacks/test_members.py::test_M62_a_sign_in_that_does_not_support_the_write",
        "sealspace/test_copy_fetches.py::test_RC33_who_cites_anothers_grant_is_named",
    ),
    "3.3 one wrong clock locks the others out, or prevents housekeeping": (
        _CLOCKS + "test_one_wrong_clock_locks_nobody_out",
        _CLOCKS + "test_a_floor_that_a_wrong_clock_raised_is_lowered",
        "spaces/test_lease.py::test_end_that_a_clock_ahead_wrote_is_nobody_s",
    ),
    "3.3 a clock that was ahead makes the store forget what was used or revoked": (
        _CLOCKS + "test_a_revoked_grant_outlives_a_clock_that_stood_ahead",
        "spaces/store/lmdb/test_housekeeping.py::test_clock_that_stood_ahead",
    ),
    "3.3 the source of a move is still served, with grants that were revoked since": (
        _MIGRATION + "test_folder_that_was_moved_is_no_store_any_more",
        _MIGRATION + "test_database_that_was_moved_is_no_store_any_more",
    ),
    "3.3 a delegation that an earlier version registered, and this one would refuse, breaks "
    "an owner's lists and revocations": (
        "attacks/test_former_texts.py::test_an_outsider_s_text_bars_no_list",
        "attacks/test_former_texts.py::test_a_former_grant_is_used_and_revoked",
    ),
    "3.3 one store's sweep removes another's bodies from a shared bucket": (
        _BUCKET + "test_place_inside_another_is_refused",
        _BUCKET + "test_sweeps_keep_to_names_of_their_own",
    ),
    "3.3 stolen disk": (
        "encryption_network/test_keywrap.py::test_seals_at_rest",
        "encryption_network/test_networks.py::test_the_private_key_belongs_to_the_record",
    ),
    "3.3 disk full": (
        "durability/test_limits.py::test_a_full_store",
        _PUTS + "test_full_disk_is_507",
        "spaces/store/test_durability.py::test_full_store_still_reads_and_revokes",
    ),
    "3.3 two nodes on one secret": (
        "node/processes/test_start.py::test_a_store_keeps_its_secret",
        "node/processes/test_supervisor.py::test_a_second_node_on_the_folder_is_refused",
    ),
    # --- release and attestation
    "3.4 a relayed quote": (
        _ATTESTING + "test_a_quote_for_another_holder_is_refused",
        _ATTESTING + "test_a_quote_for_another_receiver_key_is_refused",
        _ATTESTING + "test_a_challenge_serves_once_anywhere",
    ),
    "3.4 minted quotes": (
        "tee_backend/test_verify.py::test_other_roots",
        "sealspace/test_backend.py::test_a_quote_of_another_platform_is_refused",
    ),
    "3.4 extracted platform keys": (
        "encryption_network/test_policy.py::test_one_demand_at_a_time",
        "tee_backend/test_backend_on_a_node.py::test_another_machine",
        "tee_backend/test_simulated.py::test_one_machine_is_revoked",
    ),
    "3.4 favourable collateral chosen by the prover": (
        _ATTESTING + "test_collateral_of_the_caller_is_not_taken",
        "node/collateral/test_intake.py::test_older_does_not_replace_newer",
    ),
    "3.4 a mirror, or an attacker in its place, supplies a PCK list that the authority never "
    "signed, and no quote verifies": (
        _COLLATERAL + "test_a_forged_list_does_not_replace_the_authority_s_own",
        _COLLATERAL + "test_a_forged_list_gives_way_to_a_genuine_one",
    ),
    "3.4 looser settings at a restart": (
        "node/processes/test_start.py::test_looser_configuration_is_refused",
        "node/processes/test_supervisor.py::test_looser_terms_are_refused",
    ),
    '3.4 "that key was never released", "that was approved code"': (
        _RECEIPTS + "test_a_release_leaves_a_receipt",
        _RECEIPTS + "test_a_receipt_is_judged_again_offline",
        _RECEIPTS + "test_no_receipt_without_a_release",
    ),
    "3.4 documents of receipts reveal other networks": (
        _RECEIPTS + "test_who_reads_receipts",
        _RECEIPTS + "test_what_is_no_place_or_document",
    ),
    "3.4 code found bad keeps its evidence until that ends": (
        _WITHDRAWALS + "test_withdrawn_between_read_and_commit",
        _WITHDRAWALS + "test_the_operator_withdraws_everywhere_at_once",
    ),
    "3.4 a stolen session that was withdrawn loosens the policy for others": (
        _WITHDRAWALS + "test_a_withdrawn_session_changes_nothing_more",
        _WITHDRAWALS + "test_withdrawn_before_a_policy_is_written",
    ),
    "3.4 a stolen session that was withdrawn revokes the network for ever, and with it every "
    "secret": (
        _REVOKERS + "test_RC38_a_withdrawn_party",
        _REVOKERS + "test_RC38_withdrawn_before_the_commit",
    ),
    "3.4 an application that was withdrawn by its compose hash attests again without the "
    "event log": (_WITHDRAWALS + "test_a_withdrawn_application_leaves_its_log_out",),
    "3.4 receipts, documents and audit entries fill the store": (
        _RECEIPTS + "test_documents_stay_when_evidence_is_renewed",
        _RETENTION + "test_receipts_and_documents_go_when_their_time_has_come",
        _RETENTION + "test_audit_is_cut_when_an_export_is_kept",
    ),
    "3.4 content key wrapped under a weak secret": (
        _RELEASE + "test_a_low_order_receiver_key_gets_nothing",
        "encryption_network/test_keywrap.py::test_low_order_points_are_refused_on_both_sides",
    ),
    "3.4 keys of networks, or content keys, read out of a worker's memory later": (
        "encryption_network/test_release.py::test_no_key_stays_behind",
    ),
    "3.4 platforms linked through their ids": (
        "tee_backend/test_examine.py::test_no_machine_identity",
    ),
    "3.4 nonces of network administration fill the store": (
        _NONCES + "test_a_nonce_is_forgotten",
        _NONCES + "test_a_token_that_lives_long_does_nothing_twice",
        _NONCES + "test_a_nonce_serves_one_token_whenever_each_ends",
    ),
    "3.4 junk quotes": (
        _ATTESTING + "test_an_outsider_s_quote_is_not_looked_at",
        _ATTESTING + "test_a_challenge_cannot_be_made_up",
        "spec/test_network_rules.py::test_challenges",
        "node/collateral/test_quotes.py::test_junk_makes_the_next_one_wait",
    ),
    "3.4 a genuine TEE with any code": (
        _RELEASE + "test_a_genuine_quote_without_approval_opens_nothing",
    ),
    "3.4 a grant with measurements counts as a person, and opens without evidence": (
        _IN_PERSON + "test_measurements_bind_a_backend_that_also_reads_capabilities",
        _IN_PERSON + "test_a_harmless_grant_does_not_lift_measurements",
        _IN_PERSON + "test_a_sign_in_with_a_policy_is_nobody_in_person",
        "attacks/test_in_person_table.py::test_row",
        "sealspace/test_client.py::test_a_grant_to_a_manifest_s_target_signs_nobody_in",
    ),
    "3.4 an old sign-in, or one made under a wrong clock, is posted late": (
        _IN_PERSON + "test_an_old_grant_posted_today_is_not_in_person",
        _IN_PERSON + "test_a_sign_in_of_the_future_is_not_in_person_yet",
        _IN_PERSON + "test_a_clock_that_was_ahead_leaves_no_long_sign_in",
    ),
    "3.4 an application leaves out its event log, which names its key provider": (
        "node/operations/attestation/test_key_providers.py::test_a_log_that_is_left_out_escapes_no_terms",
        "node/operations/attestation/test_key_providers.py::test_narrowed_terms_hold_for_evidence_that_tells_of_nobody",
    ),
    "3.4 a delegate widens a policy": (
        _RELEASE + "test_a_delegate_cannot_approve_itself",
        _RELEASE + "test_a_delegate_can_only_narrow",
        "encryption_network/test_gate_properties.py::test_a_further_policy_never_releases",
    ),
    "3.4 old evidence after a policy was narrowed": (
        _RACES + "test_a_policy_tightened_before_the_commit",
    ),
    # --- client and backend
    "3.5 a relay answers for the node that it could not judge a backend, or that it could (AT59)": (
        "sealspace/cli/test_owner_commands.py::test_no_grant_that_the_node_could_not_judge",
        "node/operations/attestation/test_terms.py::test_what_a_node_tells",
        "sealspace/test_lying_node.py::test_terms_that_are_none",
        "node/operations/attestation/test_codes.py::test_whose_fault_another_root_is",
    ),
    "3.5 a false node, or a relay, serves its own network key": (
        _RELAYS + "test_a_relay_that_swaps_a_network_s_key",
        _RELAYS + "test_a_relay_that_takes_the_signature_away",
        _RELAYS + "test_a_relay_that_swaps_the_key_of_a_new_network",
        _RELAYS + "test_a_relay_that_answers_with_a_descriptor_of_before",
        "sealspace/test_descriptors.py::test_a_key_that_changes",
        "sealspace/test_client.py::test_another_node_than_the_pinned_one_is_refused",
        "sealspace/test_recorded_exchanges.py::test_what_the_node_did_not_sign_is_refused",
    ),
    "3.5 a node that runs other code than its users approved, or that poses as one in a TEE": (
        _NODE_EVIDENCE + "test_other_code",
        _NODE_EVIDENCE + "test_no_trust_domain",
        _NODE_EVIDENCE + "test_evidence_is_renewed",
        _NODE_EVIDENCE + "test_replayed_evidence",
    ),
    "3.5 a relay in front of a genuine node shows that node's evidence as its own": (
        _NODE_EVIDENCE + "test_evidence_of_another_node",
        _NODE_EVIDENCE + "test_another_nodes_did_in_the_answer",
        _NODE_EVIDENCE + "test_nothing_is_sealed_before_the_evidence",
    ),
    "3.5 a hostile node sends pages of a list without end": (
        "sealspace/test_listing.py::test_keys_that_do_not_advance",
        "sealspace/test_listing.py::test_delegations_that_do_not_end",
        "sealspace/test_listing.py::test_a_list_has_an_end",
        "sealspace/test_lying_node.py::test_receipts_that_are_no_page_or_do_not_advance",
    ),
    "3.5 a node in a TEE whose operator kept the root secret": (
        _NODE_EVIDENCE + "test_who_has_the_secret",
    ),
    "3.5 requests for the node's own quote keep its platform busy": (
        "node/platform/test_node_evidence.py::test_a_rate_for_each_client",
        "node/platform/test_node_evidence.py::test_a_slow_platform",
        "node/platform/test_node_evidence.py::test_a_place_is_held_while_the_platform_hangs",
    ),
    "3.5 a node signs, as a release to attested code, a release that was judged by no policy": (
        _RECEIPTS + "test_no_code_was_judged_by_no_policy",
        _RECEIPTS + "test_an_application_that_nobody_gave_keys",
    ),
    "3.5 a receipt of another node is presented as one of the owner's node": (
        _RECEIPTS + "test_a_receipt_of_another_node_or_root",
        _WITHDRAWALS + "test_the_operators_files_are_verified_without_the_node",
    ),
    "3.5 a release is forgotten before its owner checks": (
        _RETENTION + "test_receipts_and_documents_go_when_their_time_has_come",
        _RETENTION + "test_by_default_audit_stays",
        "node/cli/test_audit.py::test_memory_is_not_too_short",
        "spaces/audit/test_pruning.py::test_nothing_is_cut_that_is_not_kept_elsewhere",
    ),
    "3.5 recorded evidence, or that of another backend, is shown to an owner": (
        _BACKENDS + "test_recorded_evidence",
        _BACKENDS + "test_a_changed_statement",
        _BACKENDS + "test_other_code_with_the_same_key_is_refused",
    ),
    "3.5 a description with a DID and a policy of an attacker's own code is given to an owner, who "
    "approves it in the browser": (
        "console/test_requests_page.py::test_what_a_backend_states_about_its_code",
        "console/test_requests_page.py::test_the_first_approval_needs_no_command",
    ),
    "3.5 a secret is added in transit to a backend's request": (
        _BACKENDS + "test_a_changed_statement",
        _BACKENDS + "test_a_grant_reaches_no_other_secret",
    ),
    "3.5 a compose file gives its code more than its images show: the Docker socket, scripts,"
    " files of the operator": (
        "sealspace/cli/test_approval.py::test_what_code_may_do_has_its_own_yes",
        "sealspace/cli/test_approval.py::test_a_file_that_is_not_published",
    ),
    "3.5 a hostile image writes an approved compose hash into its log": (
        _BACKENDS + "test_other_code_with_the_same_key_is_refused",
        "sealspace/cli/test_owner_commands.py::test_a_part_of_the_code_is_not_enough",
    ),
    "3.5 approved code gets its keys from another party's service, which can read its data": (
        "sealspace/cli/test_owner_commands.py::test_a_part_of_the_code_is_not_enough",
        "sealspace/cli/test_owner_commands.py::test_another_key_provider_than_expected",
        "sealspace/cli/test_owner_commands.py::test_approved_code_whose_keys_anybody_may_give_is_asked_about",
        "attacks/test_expected_code.py::test_a_key_provider_without_an_id_is_anybody",
    ),
    "3.5 text from a backend, a node or an invoker controls the owner's terminal": (
        _BACKENDS + "test_what_an_outsider_wrote_cannot_steer_a_terminal",
        _TERMINALS + "test_statements_that_a_quote_binds",
        _TERMINALS + "test_every_text_of_every_answer",
        _TERMINALS + "test_receipts_that_a_node_signed",
        _TERMINALS + "test_commands_print_through_one_module",
        "sealspace/test_published.py::test_fuzz_statements",
    ),
    **TESTS_OF_BACKEND_THREATS,
    "3.5 another delegate of an owner delegates to a backend, with conditions or revoked, so "
    "that its grant is cited in place of the owner's": (
        "attacks/test_held_grants.py::test_another_delegate_s_grant_hides_none",
        "attacks/test_held_grants.py::test_evidence_is_renewed_under_a_grant_that_stands",
        "attacks/test_held_grants.py::test_grants_that_arrive_together_are_all_held",
    ),
    "3.5 an owner's envelope is stored as another owner's secret, or sent in its place by a "
    "relay, for a backend of both to open": (
        "attacks/test_held_grants.py::test_an_envelope_of_another_owner_is_no_secret_of_an_outsider",
    ),
    "3.5 the host reads or copies the folder in which a backend keeps grants, or its key file": (
        "sealspace/test_kept_backend.py::test_no_key_is_on_disk",
        "tee_backend/test_grant_folder.py::test_what_was_kept_is_there_again",
        "tee_backend/test_backend_key.py::test_a_file_is_made_once",
        "tee_backend/test_backend_key.py::test_the_key_of_a_key_service",
    ),
    "3.5 the host changes or removes files of that folder": (
        "tee_backend/test_grant_folder.py::test_a_damaged_grant_is_set_aside",
        "tee_backend/test_grant_folder.py::test_what_is_no_file_is_set_aside",
        "tee_backend/test_grant_folder.py::test_a_damaged_state_stops_the_start",
    ),
    "3.5 incomplete or compressed grants take a backend's memory and time": (
        "attacks/test_backend_door.py::test_half_a_grant_is_not_held_for_ever",
        "attacks/test_backend_door.py::test_a_packed_grant_is_not_unpacked",
    ),
    "3.5 requests for a backend's evidence keep its platform busy": (
        _BACKENDS + "test_quotes_are_made_one_at_a_time",
    ),
    "3.5 the owner's key on the owner's machine": (
        "sealspace/cli/test_owner_commands.py::test_nothing_secret_is_said_or_left_open",
        "sealspace/cli/test_owner_commands.py::test_what_is_broken_is_named",
    ),
    "3.5 an application that asks for one secret reads the owner's other secrets, or replaces its "
    "own": (
        "sealspace/test_requested_rights.py::"
        "test_MF22_an_application_gets_the_secrets_of_its_manifest_alone",
    ),
    "3.5 the owner of one space that a sign-in or a grant mentions revokes all of it (W22)": (
        "attacks/test_mentioned_spaces.py::test_the_other_owner_revokes_what_mentions_its_space",
        "attacks/test_mentioned_spaces.py::test_another_owners_space_without_a_grant",
    ),
    "3.5 an envelope moved to another key or space": (
        "sealspace/test_client.py::test_an_envelope_that_was_moved_is_noticed",
    ),
    "3.5 another user of the machine answers the page of `login --browser` with an account "
    "of their own, or reads it": (
        _WALLET_SERVER + "test_LP1_the_system_says_whose_a_connection_is",
        _WALLET_SERVER + "test_LP1_a_closed_socket_is_nobody_s",
        _WALLET_SERVER + "test_LP1_another_user_gets_nothing",
    ),
    "3.5 a page of another origin reaches that page, by a name of its own or through its "
    "visitor's browser": (
        _WALLET_SERVER + "test_LP2_only_under_the_address_that_was_printed",
        _WALLET_SERVER + "test_LP3_only_below_the_token",
        _WALLET_SERVER + "test_LP4_what_changes_something_comes_from_the_page",
        _WALLET_SERVER + "test_LP4_no_other_origin_reads",
    ),
    "3.5 the wallet is shown one text and signs another": (
        _WALLET_PAGE + "test_only_the_account_that_was_named_signs",
        _WALLET_PAGE + "test_the_page_shows_what_is_signed",
    ),
    "3.5 `sealspace console` signs in the key of another program in place of the browser's": (
        _CONSOLE_COMMAND + "test_LP7_no_is_the_default",
        _CONSOLE_COMMAND + "test_LP7_only_a_key_is_accepted",
        _LINK_PAGE + "test_a_browser_is_signed_in_from_the_command_line",
    ),
    "3.5 another user of the machine serves a page at the other address of `localhost`, and has "
    "its key signed in by `sealspace console`": (
        _CONSOLE_COMMAND + "test_LP8_another_user_cannot_take_the_name",
    ),
    "3.5 a link signs a person in at the console as an attacker, who then gets the secrets that "
    "the person stores": (
        _LINK_PAGE + "test_CN9_a_link_signs_nobody_in_as_somebody_else",
        _LINK_PAGE + "test_CN9_a_sign_in_that_is_over_or_forged",
        _LINK_PAGE + "test_CN9_a_key_waits_for_ten_minutes",
    ),
    "3.5 a page without an answer keeps a command waiting": (
        _WALLET_SERVER + "test_nobody_answers_in_time",
        _WALLET_SERVER + "test_LP5_bodies_are_bounded_and_strict",
        _WALLET_SERVER + "test_LP5_connections_are_bounded",
    ),
    # --- attacks that others have suffered
    "3.6 evidence of an honest machine diverted to another end of a connection "
    "(CVE-2026-33697 and the relays of attested TLS)": (
        _ATTESTING + "test_a_quote_for_another_receiver_key_is_refused",
        _ATTESTING + "test_a_challenge_serves_once_anywhere",
        "tee_backend/test_report_data.py::test_every_field_is_bound",
    ),
    "3.6 attestation keys read off the memory bus (TEE.fail, WireTap): genuine quotes for "
    "code that runs nowhere": (
        "encryption_network/test_policy.py::test_one_demand_at_a_time",
        "tee_backend/test_backend_on_a_node.py::test_another_machine",
        "tee_backend/test_simulated.py::test_another_machine_under_one_root",
        _WITHDRAWALS + "test_the_operator_withdraws_everywhere_at_once",
    ),
    "3.6 a development image that extends the same RTMR3 as the approved one": (
        "tee_backend/test_backend_on_a_node.py::test_the_application_on_another_image",
    ),
    "3.6 an event log whose digests are believed, or of which one copy is replayed and "
    "another one read": (
        "tee_backend/test_event_log.py::test_entries_that_nobody_can_recompute",
        "tee_backend/test_event_log_claims.py::test_an_approved_payload_beside_a_kept_digest",
        "tee_backend/test_backend_on_a_node.py::test_a_forged_log",
    ),
    "3.6 a verifier that does not check the identity of the quoting enclave (CVE-2026-22696)": (
        "tee_backend/test_second_verifier.py::test_any_flipped_bit",
        "tee_backend/test_verify.py::test_each_signed_field",
        "tee_backend/test_verify.py::test_body_of_one_and_signature_of_another",
    ),
    # --- runner
    **TESTS_OF_RUNNER_THREATS,
    **TESTS_OF_SQL_THREATS,
    **TESTS_OF_FEED_THREATS,
}


UNTESTED_THREATS: dict[str, str] = {
    "3.2 an operator, or an attacker who changes the node's files, changes the console's": (
        "outside the program"
    ),
    "3.2 traffic read or changed on the way": (
        "TLS is the operator's; single use and signed answers: I20, EN20"
    ),
    "3.3 files of the store replaced by older ones": (
        "the node cannot tell; an exported audit head can"
    ),
    "3.5 a hostile node lists a revoked grant as live, to get new values for a person who was "
    "removed": "only the node knows what was revoked",
    "3.5 a node withholds memberships from the list of an admin, or from a member": (
        "only the node knows what it stores; what it lists is verified: TM2"
    ),
    "3.5 a secret in a backend's log": "the approved code's own matter",
    "3.5 hostile input to approved code": "the approved code's own matter",
    **UNTESTED_RUNNER_THREATS,
    **UNTESTED_RECOVERY_THREATS,
}
