"""The guest programs of the tests match the sources beside them."""

import hashlib
import json

import pytest
from guests.build import BUILT, DIGESTS, build, compiler_of, outputs, sources

_BUILDS = [(name, command, source) for source in sources() for name, command in outputs(source)]


def test_every_program_has_its_digest() -> None:
    """Each source has a program, each program a source, and each recorded digest matches."""
    noted = json.loads(DIGESTS.read_text())
    assert (
        {name for name, _, _ in _BUILDS}
        == noted.keys()
        == {path.stem for path in BUILT.glob("*.wasm")}
    )
    for name, row in noted.items():
        assert row["sha256"] == hashlib.sha256((BUILT / f"{name}.wasm").read_bytes()).hexdigest(), (
            name
        )


@pytest.mark.parametrize(
    ("name", "command", "source"), _BUILDS, ids=[name for name, _, _ in _BUILDS]
)
def test_programs_are_what_their_sources_say(name: str, command: list[str], source) -> None:
    """An installed compiler of the recorded version reproduces the program's bytes."""
    compiler, noted = compiler_of(source), json.loads(DIGESTS.read_text())[name]
    if compiler != noted["compiler"]:
        pytest.skip(f"{name} was made by {noted['compiler']}, which is not installed")
    assert noted["sha256"] == hashlib.sha256(build(command, source)).hexdigest()
