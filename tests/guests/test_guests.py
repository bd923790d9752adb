"""The programs that tests run are built from the sources beside them."""

import hashlib
import json

import pytest
from guests.build import BUILT, DIGESTS, build, compiler_of, outputs, sources

_BUILDS = [(name, command, source) for source in sources() for name, command in outputs(source)]


def test_every_program_has_its_digest() -> None:
    """There is a program for each source, and no other; each is the one whose digest was noted."""
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
    """Where the compiler that made a program is installed, it makes the same bytes again."""
    compiler, noted = compiler_of(source), json.loads(DIGESTS.read_text())[name]
    if compiler != noted["compiler"]:
        pytest.skip(f"{name} was made by {noted['compiler']}, which is not installed")
    assert noted["sha256"] == hashlib.sha256(build(command, source)).hexdigest()
