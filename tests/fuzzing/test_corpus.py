"""The inputs of the corpora go through their targets, and each fuzz test of bytes is a target."""

import importlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
import sbom
from fuzzing.archives import CORPUS, MAX_ARCHIVE_BYTES, MAX_BYTES, read_corpus
from fuzzing.inputs import NoInput, arguments_of
from fuzzing.mutations import changed
from fuzzing.targets import TARGETS
from hypothesis import given
from hypothesis import strategies as st
from tests_support import REPOSITORY

_NODE = "sends requests to a node in another thread"
_DRAWS = "draws what depends on what it has built"
# Fuzz tests of Hypothesis that are no targets -> why not.
NOT_TARGETS = {
    "capabilities.test_fuzz": "its arguments have no types: `own_tests` has the same parsers",
    "capabilities.test_fuzz_rules.test_fuzz_stored_headers": "part of `token-headers`",
    "capabilities.test_fuzz_rules.test_fuzz_repeated_members": "writes the text that it reads",
    "encryption_network.test_fuzz.test_fuzz_decrypt_requests": _DRAWS,
    "encryption_network.test_fuzz.test_fuzz_admin_requests": _DRAWS,
    "encryption_network.test_fuzz.test_fuzz_descriptors": "`descriptors` has the parser",
    "encryption_network.test_fuzz.test_fuzz_signed_descriptors": "`descriptors` has the parser",
    "encryption_network.test_fuzz.test_fuzz_records": "`network-rows` has the parsers",
    "node.collateral.test_issuer_keys.test_fuzz_key_sets": "judges inputs that are no key sets",
    "node.metrics.test_metrics.test_fuzz_any_head_has_an_end": _NODE,
    "node.operations.delegations.test_report_fuzz.test_any_time": "reads a number",
    "node.operations.delegations.test_report_fuzz.test_any_resource": "takes known abilities",
    "node.operations.values.test_multipart.test_fuzz_of_forms": "takes sizes above zero",
    "node.test_fuzz.test_fuzz_bytes_on_a_connection": _NODE,
    "node.test_fuzz.test_fuzz_routes": _NODE,
    "node.test_fuzz.test_fuzz_invocations": _NODE,
    "node.test_fuzz.test_fuzz_delegations_and_revocations": _NODE,
    "node.test_fuzz.test_fuzz_creating_networks": _NODE,
    "node.test_fuzz.test_fuzz_decrypt_requests": _NODE,
    "node.test_fuzz.test_fuzz_attestation": _NODE,
    "node.test_fuzz.test_fuzz_policies": _NODE,
    "node.test_fuzz_description.test_fuzz_description": _NODE,
    "runner.test_call_bodies.test_fuzz_changed_bodies": "part of `call-bodies`",
    "runner.test_environment.test_fuzz_environments": "takes names that the runner has chosen",
    "runner.test_trusted_builds.test_fuzz_answers_of_a_child": "answers of the runner's own child",
    "runner.test_journal_copies.test_fuzz_backups": "syncs files to the disk",
    "sealspace.cli.test_project.test_CL3_fuzz": "changes the working directory",
    "sealspace.test_contacts.test_SH9_fuzz_bits": "part of `contacts`",
    "sealspace.test_fuzz.test_fuzz_a_strange_node": _NODE,
    "sealspace.test_fuzz.test_fuzz_grants": "part of `token-headers`",
    "sealspace.test_fuzz_provenance.test_fuzz_one_byte_of_a_bundle": "part of `bundles`",
    "sealspace.test_fuzz_provenance.test_fuzz_one_member_of_a_bundle": "part of `bundles`",
    "sealspace.test_fuzz_provenance.test_fuzz_what_a_member_encodes": "part of `bundles`",
    "sealspace.test_fuzz_provenance.test_fuzz_claims_of_a_certificate": _DRAWS,
    "sealspace.test_fuzz_provenance.test_fuzz_one_claim_of_a_certificate": _DRAWS,
    "sealspace.test_fuzz_provenance.test_fuzz_require_build": "compares texts",
    "sealspace.test_fuzz_python_programs.test_fuzz_a_program_is_read_as_written": "writes first",
    "sealspace.test_fuzz_recovery.test_fuzz_share": "`recovery-shares` reads any share",
    "sealspace.test_fuzz_recovery.test_fuzz_sheet": "`recovery-sheets` reads any share",
    "sealspace.test_fuzz_replica.test_fuzz_changed_files": "part of `replica-files`",
    "sealspace.test_fuzz_replica.test_fuzz_rows": "judges inputs that are no rows",
    "spaces.sql.test_child_fuzz.test_fuzz_any_bytes_are_a_message_or_an_error": (
        "`sql-child-messages` has the parser"
    ),
    "spaces.test_damaged_rows.test_fuzz_rows": "`store-rows` has the parsers",
    "spaces.test_fuzz.test_fuzz_commits": "commits to a store",
    "spaces.test_fuzz.test_fuzz_reads": "reads no bytes",
    "tee_backend.measuring.test_measuring_fuzz.test_fuzz_firmware": "reads numbers",
    "tee_backend.test_grant_folder.test_fuzz_kept_files": _DRAWS,
    "serving.test_outbound_requests.test_fuzz_addresses": "reads numbers",
}


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_of_the_corpus(name: str) -> None:
    """Every input of a corpus goes through its target without a finding."""
    inputs = read_corpus(name)
    assert inputs, f"write it with: make fuzz-coverage FUZZ='--keep {name}'"
    ran = [TARGETS[name].run(data) for data in inputs.values()]
    assert any(ran)


def test_sizes_of_the_corpus() -> None:
    """The archives are within their bounds, and each has a target."""
    sizes = {path: path.stat().st_size for path in CORPUS.iterdir()}
    assert {path.name for path in sizes} <= {f"{name}.tar.xz" for name in TARGETS}
    assert max(sizes.values()) <= MAX_ARCHIVE_BYTES
    assert sum(sizes.values()) <= MAX_BYTES


def _fuzz_tests(path: Path) -> list[str]:
    """Return the fuzz tests of Hypothesis in a file, as `module.test` below `tests`."""
    below = ".".join(path.relative_to(REPOSITORY / "tests").with_suffix("").parts)
    module = importlib.import_module(f"tests.{below}")
    return [
        f"{below}.{name}"
        for name, test in vars(module).items()
        if name.startswith("test_")
        and hasattr(test, "hypothesis")
        and test.__module__ == module.__name__
        and "fuzz" in path.stem + name
    ]


@pytest.mark.slow
def test_every_fuzz_test_is_a_target() -> None:
    """A fuzz test is a target, or has a reason, which may be that of its module."""
    files = [
        path
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        if "fuzz" in path.read_text("utf-8") and path.parent.name not in ("fuzzing", "house")
    ]
    tests = {one for path in files for one in _fuzz_tests(path)}
    assert len(tests) > 100
    targets = {
        f"{target.module.removeprefix('tests.')}.{target.function}" for target in TARGETS.values()
    }
    reasons = {one for one in tests if one in NOT_TARGETS or one.rpartition(".")[0] in NOT_TARGETS}
    assert sorted(tests - targets - reasons) == []
    assert sorted(targets & reasons) == []
    named = reasons | {one.rpartition(".")[0] for one in reasons}
    assert sorted(NOT_TARGETS.keys() - named) == []


def _two(first: bytes, second: Any) -> None:
    """Take two arguments, one with bytes."""


def _one(value: dict[str, Any]) -> None:
    """Take one argument of JSON."""


@given(st.binary(), st.none() | st.text() | st.lists(st.integers(-5, 5)))
def test_arguments_are_read_as_written(first: bytes, second: Any) -> None:
    """What is written as an input is read again, in MessagePack and in JSON."""
    both = {"first": first, "second": second}
    assert arguments_of(_two).read(arguments_of(_two).write(both)) == both
    one = {"value": {"a": second}}
    assert arguments_of(_one).read(arguments_of(_one).write(one)) == one


@pytest.mark.parametrize("data", [b"", b"\xff", b"[1]", b"{", b'{"a": NaN}', b"[" * 100_000])
def test_bytes_that_are_no_arguments(data: bytes) -> None:
    """An input of another form is told from a finding."""
    with pytest.raises(NoInput):
        arguments_of(_one).read(data)
    with pytest.raises(NoInput):
        arguments_of(_two).read(data)


def test_a_value_without_an_input() -> None:
    """A value that JSON cannot have has no input."""
    with pytest.raises(NoInput):
        arguments_of(_one).write({"value": {"a": float("nan")}})


# JSON, MessagePack, and CBOR with the largest number.
TREES = (
    b'{"a":["AAAA",{"b":"00ff00ff00"}]}',
    b"\x92\x01\xa1a",
    b"\xa1aa\x1b" + b"\xff" * 8,
)


@given(
    st.binary(max_size=60)
    | st.sampled_from(
        [b'{"a":["AAAA",{"b":"00ff00ff00"}]}', b"\x92\x01\xa1a", b"\xa1aa\x1b" + b"\xff" * 8]
    ),
    st.sampled_from(["bytes", "json", "messagepack"]),
    st.integers(0, 100_000),
)
def test_changes_of_inputs(data: bytes, form: str, seed: int) -> None:
    """Any input is changed into bytes, in the same way for the same seed."""
    results = [
        changed(data, form=form, rng=random.Random(seed), change_bytes=lambda part: part + b"x")
        for _ in range(2)
    ]
    assert isinstance(results[0], bytes)
    assert results[0] == results[1]


def test_changes_leave_nothing_behind() -> None:
    """An input is changed in the same way after thousands of other changes."""

    def of_seed(seed: int) -> bytes:
        return changed(
            b'{"a":[1,{"b":[]}]}', form="json", rng=random.Random(seed), change_bytes=bytes.swapcase
        )

    before = [of_seed(seed) for seed in range(2_000)]
    assert [of_seed(seed) for seed in range(2_000)] == before


def test_changes_of_json_are_json() -> None:
    """About half of the changes of JSON keep it valid."""
    data = b'{"a":["AAAAAAAAAAAA",{"b":"00ff00ff00"}],"c":1}'
    valid = 0
    for seed in range(200):
        found = changed(
            data, form="json", rng=random.Random(seed), change_bytes=lambda part: part + b"}"
        )
        try:
            json.loads(found)
        except ValueError:
            continue
        valid += 1
    assert 60 < valid < 140


def test_the_package_is_installed_by_hashes() -> None:
    """The package beside the lock is locked by hashes, too."""
    recipe = (REPOSITORY / "Makefile").read_text("utf-8").split("\n.cache/fuzz/.installed: ")[1]
    assert "--require-hashes" in recipe.partition("\n\n")[0]
    locked = (REPOSITORY / "tools" / "fuzz.lock").read_text("utf-8")
    assert "atheris" in {one.name for one in sbom.parse_locked(locked)}
