"""The table of fuzz targets: each names a test, and says whose bytes its parser reads."""

import importlib
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from fuzzing.inputs import Arguments, Folders, NoInput, arguments_of


class Source(IntEnum):
    """Whose bytes a parser reads. The value is its share of the time of a run."""

    OWN_DISK = 1
    """Files, rows and processes of ours; an operator or another program could change them."""
    OTHERS = 2
    """Answers of nodes, files of other owners, settings: the reader has chosen to read them."""
    ANYONE = 4
    """Requests that anybody can send to a node, a runner or a backend, and their evidence."""


@dataclass(frozen=True)
class Target:
    """A test that gets bytes.

    Attributes:
        name: The target's name: also that of its corpus.
        module: The test module.
        function: The test in it, or a plain function.
        source: Whose bytes the parser reads.
    """

    name: str
    module: str
    function: str
    source: Source

    @cached_property
    def test(self) -> Any:
        """Return the test, as its module has it."""
        return getattr(importlib.import_module(self.module), self.function)

    @cached_property
    def inner(self) -> Callable[..., object]:
        """Return the function that the test runs on each example."""
        inner: Callable[..., object] = (
            self.test.hypothesis.inner_test if hasattr(self.test, "hypothesis") else self.test
        )
        return inner

    @cached_property
    def arguments(self) -> Arguments:
        """Return how the test's arguments are read from bytes."""
        return arguments_of(self.inner)

    @cached_property
    def _folder(self) -> Any:
        return tempfile.TemporaryDirectory(prefix="sealspace-fuzz-")

    @cached_property
    def _fixtures(self) -> dict[str, Any]:
        if not self.arguments.fixtures:
            return {}
        root = Path(self._folder.name)
        made = {"tmp_path": root, "tmp_path_factory": Folders(root)}
        return {name: made[name] for name in self.arguments.fixtures}

    def run(self, data: bytes) -> bool:
        """Run the test on an input, and return whether the input has arguments for it.

        Raises:
            Exception: What the test raises: a finding.
        """
        try:
            arguments = self.arguments.read(data)
        except NoInput:
            return False
        self.inner(**arguments, **self._fixtures)
        return True

    def examples(self, count: int) -> list[bytes]:
        """Return inputs that the test's own strategy draws."""
        if not hasattr(self.test, "hypothesis"):
            return list(importlib.import_module(self.module).SEEDS.get(self.function, ()))
        found: dict[bytes, None] = {}
        written = self.arguments.write
        fixtures = self._fixtures

        def note(**arguments: Any) -> None:
            with suppress(NoInput):
                found.setdefault(written(arguments))

        kept = self.test.hypothesis.inner_test
        self.test.hypothesis.inner_test = note
        try:
            self.test(**fixtures)
        finally:
            self.test.hypothesis.inner_test = kept
        return list(found)[:count]


def _targets(source: Source, *lines: str) -> list[Target]:
    """Return targets from lines of a name, a module below `tests` and a function."""
    found = []
    for line in lines:
        name, module, function = line.split()
        found.append(
            Target(
                name=name,
                module=module if module.startswith("fuzzing.") else f"tests.{module}",
                function=function,
                source=source,
            )
        )
    return found


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        *_targets(
            Source.ANYONE,
            "identifiers fuzzing.own_tests identifiers",
            "token-headers fuzzing.own_tests token_headers",
            "cacaos fuzzing.own_tests cacaos",
            "ucan-claims fuzzing.own_tests ucan_claims",
            "ucan-headers fuzzing.own_tests ucan_headers",
            "recaps fuzzing.own_tests recaps",
            "strict-json fuzzing.own_tests strict_json",
            "caveats capabilities.test_fuzz_rules test_fuzz_caveats",
            "facts capabilities.test_fuzz_rules test_fuzz_facts",
            "sign-in-statements capabilities.test_fuzz_rules test_fuzz_statements_in_sign_ins",
            "issuer-keys capabilities.test_fuzz_rules test_fuzz_keys",
            "wallet-parts capabilities.test_fuzz_rules test_fuzz_parts_of_wallets",
            "machine-tokens capabilities.test_machine_tokens test_fuzz_machine_tokens",
            "base64 capabilities.test_strict_base64 test_fuzz_any_text",
            "wrapped-keys encryption_network.test_fuzz test_fuzz_wrapped_keys",
            "canonical-json encryption_network.test_fuzz test_fuzz_canonical_json",
            "network-bodies encryption_network.test_fuzz test_fuzz_bodies",
            "network-ids encryption_network.test_fuzz test_fuzz_network_ids",
            "policies encryption_network.test_fuzz test_fuzz_policies",
            "key-providers encryption_network.test_key_providers test_fuzz_key_providers",
            "withdrawals encryption_network.test_withdrawals test_fuzz_requests",
            "quotes tee_backend.test_fuzz test_fuzz_quotes",
            "quote-chains tee_backend.test_fuzz test_fuzz_quotes_with_another_chain",
            "certificates tee_backend.test_fuzz test_fuzz_certificates",
            "pem tee_backend.test_fuzz test_fuzz_pem",
            "collateral tee_backend.test_fuzz test_fuzz_collateral",
            "quote-claims tee_backend.test_fuzz test_fuzz_claims",
            "challenges tee_backend.test_fuzz test_fuzz_challenges",
            "event-logs tee_backend.test_fuzz test_fuzz_event_logs",
            "evaluation-numbers tee_backend.test_fuzz test_fuzz_evaluation_numbers",
            "child-answers runner.test_answers test_fuzz_answers",
            "api-bodies runner.test_api_parts test_fuzz_api_bodies",
            "task-bodies runner.test_api_parts test_fuzz_tasks",
            "call-bodies runner.test_call_bodies test_fuzz_bodies",
            "generation-bodies runner.test_generation test_fuzz_bodies",
            "storage-messages runner.test_storage_messages test_fuzz_operations",
            "outbound-messages serving.test_outbound_requests test_fuzz_messages",
            "outbound-requests serving.test_outbound_requests test_fuzz_requests",
            "outbound-urls serving.test_outbound_requests test_fuzz_urls",
            "option-headers node.test_fuzz test_fuzz_options",
            "range-headers node.test_fuzz test_fuzz_ranges",
            "query-filters node.test_fuzz test_fuzz_queries",
            "multipart node.test_fuzz test_fuzz_multipart",
            "multipart-headers node.operations.values.test_multipart test_fuzz_of_header_values",
            "list-cursors node.test_fuzz test_fuzz_cursors",
            "sync-cursors fuzzing.own_tests sync_cursors",
            "sql-bodies fuzzing.own_tests sql_bodies",
            "sql-statements fuzzing.sql_statements run_statement",
            "delegation-queries node.operations.delegations.test_report_fuzz test_any_body",
            "read-facts node.operations.delegations.test_report_fuzz test_any_facts",
            "iexec-headers node.operations.values.test_iexec_secrets test_fuzz_of_headers",
            "iexec-addresses node.operations.values.test_iexec_secrets test_fuzz_of_addresses",
            "evidence-nonces node.platform.test_node_evidence test_fuzz_nonces",
        ),
        *_targets(
            Source.OTHERS,
            "envelopes encryption_network.test_fuzz test_fuzz_envelopes",
            "descriptors fuzzing.own_tests descriptors",
            "receipts encryption_network.test_receipt test_fuzz_receipts",
            "door-mounts attacks.test_door test_fuzz_mounts",
            "secret-files sealspace.cli.test_secret_files test_fuzz_files",
            "yaml-files sealspace.cli.test_yaml_values test_fuzz_any_bytes",
            "api-keys sealspace.test_api_keys test_fuzz_headers",
            "api-key-statements sealspace.test_api_keys test_fuzz_statements",
            "call-conditions sealspace.test_call_conditions test_fuzz_conditions",
            "contacts sealspace.test_contacts test_SH9_fuzz_records",
            "contact-statements sealspace.test_contacts test_SH9_fuzz_statements",
            "datasets sealspace.test_dataset_format test_any_bytes_are_decrypted_or_refused_fuzz",
            "dataset-keys sealspace.test_dataset_format test_keys_fuzz",
            "dataset-statements sealspace.test_dataset_format test_statements_fuzz",
            "pins sealspace.test_fuzz test_fuzz_pins",
            "portable-delegations sealspace.test_fuzz test_fuzz_portable_delegations",
            "manifests sealspace.test_fuzz test_fuzz_manifests",
            "durations-and-names sealspace.test_fuzz test_fuzz_durations_and_names",
            "decrypt-answers sealspace.test_fuzz test_fuzz_answers_with_a_key",
            "refusals sealspace.test_fuzz test_fuzz_refusals",
            "node-addresses sealspace.test_fuzz test_fuzz_addresses",
            "rights sealspace.test_fuzz test_fuzz_rights",
            "bundles sealspace.test_fuzz_provenance"
            " test_fuzz_any_bytes_are_the_same_bundle_or_none",
            "trusted-roots sealspace.test_fuzz_provenance test_fuzz_trusted_root",
            "repository-names sealspace.test_fuzz_provenance test_fuzz_repository_of",
            "python-programs sealspace.test_fuzz_python_programs test_fuzz_a_damaged_program",
            "recovery-shares fuzzing.own_tests recovery_shares",
            "recovery-sheets fuzzing.own_tests recovery_sheets",
            "invitations sealspace.test_invitations test_fuzz_lines",
            "network-keys sealspace.test_listed_keys test_EN37_fuzz_lists",
            "node-evidence sealspace.test_node_evidence test_fuzz_answers",
            "programs sealspace.test_programs test_fuzz_statements",
            "published sealspace.test_published test_fuzz_documents",
            "published-statements sealspace.test_published test_fuzz_statements",
            "expectations sealspace.test_published test_fuzz_expectations",
            "audit-entries sealspace.test_published test_fuzz_audit_entries",
            "named-receipts sealspace.test_published test_fuzz_receipts",
            "run-calls sealspace.test_run_calls test_fuzz_calls",
            "run-grants sealspace.test_run_grants test_fuzz_run_grants",
            "secret-values sealspace.test_secret_values test_fuzz_payloads",
            "signed-statements sealspace.test_signed_statements test_fuzz_statements",
            "team-moves sealspace.test_team_moves test_fuzz_lines",
            "keystores sealspace.test_wallets test_fuzz_keystores",
            "audit-exports spaces.audit.test_chain test_fuzz_exports",
            "archives spaces.archive.test_fuzz test_fuzz_archives",
            "compose-files tee_backend.measuring.test_measuring_fuzz test_fuzz_compose",
            "image-descriptions tee_backend.measuring.test_measuring_fuzz"
            " test_fuzz_image_description",
            "guest-answers tee_backend.measuring.test_measuring_fuzz test_fuzz_guest_answer",
        ),
        *_targets(
            Source.OWN_DISK,
            "network-rows fuzzing.own_tests network_rows",
            "release-records encryption_network.test_fuzz test_fuzz_release_records",
            "withdrawal-rows encryption_network.test_withdrawals test_fuzz_lists",
            "remembered-demands node.cli.test_owner_node_evidence test_fuzz_remembered_demands",
            "sealed-secrets node.platform.test_sealed_secret test_fuzz_sealed_secrets",
            "settings-files node.test_fuzz test_fuzz_settings_files",
            "settings node.test_fuzz test_fuzz_environment_and_flags",
            "operators-files node.test_fuzz test_fuzz_operators_files",
            "sessions sealspace.test_fuzz test_fuzz_sessions",
            "invitation-files sealspace.test_invitations test_fuzz_stored_sides",
            "replica-files sealspace.test_fuzz_replica test_fuzz_any_bytes",
            "backup-headers spaces.archive.test_fuzz test_fuzz_backup_headers",
            "backup-parts spaces.archive.test_fuzz test_fuzz_parts",
            "lmdb-rows spaces.archive.test_fuzz test_fuzz_rows",
            "audit-rows spaces.audit.test_chain test_fuzz_rows",
            "store-rows fuzzing.own_tests store_rows",
            "body-file-names spaces.test_damaged_rows test_fuzz_names_of_files",
            "store-frames spaces.test_fuzz test_fuzz_frames",
            "store-streams spaces.test_fuzz test_fuzz_streams_of_frames",
            "due-work-rows spaces.test_fuzz test_fuzz_due_work",
            "identity-rows spaces.test_fuzz test_fuzz_rows_of_the_store_itself",
            "sql-child-messages fuzzing.own_tests sql_child_messages",
        ),
    )
}
"""All targets by name."""
