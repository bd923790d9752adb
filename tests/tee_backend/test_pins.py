"""The libraries that judge quotes: exactly the reviewed one, and no other verifier."""

import re
import tomllib
from importlib.metadata import version

from tests_support import REPOSITORY

# Whose answers the table of texts and the recorded verdicts are about.
LIBRARY, EXAMINED = "dcap-qvl", "0.7.0"
# Replays digests that it is given; prefers the prover's certificates; asks services by itself.
NOT_HERE = ("dstack-sdk", "dstack_sdk", "tinfoil", "secretvm-verify", "intel-sgx-ra")


def test_the_verifier_is_pinned() -> None:
    """The verifier is required in one version, locked with hashes, and installed in that version
    (AT13)."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    required = [one for group in project["optional-dependencies"].values() for one in group]
    assert [one for one in required if one.startswith(LIBRARY)] == [f"{LIBRARY}=={EXAMINED}"]
    lock = (REPOSITORY / "requirements.lock").read_text("utf-8")
    (entry,) = re.findall(
        rf"^{LIBRARY}==(\S+) \\\n((?: +--hash=sha256:[0-9a-f]{{64}}(?: \\)?\n)+)",
        lock,
        re.MULTILINE,
    )
    assert entry[0] == EXAMINED
    assert version(LIBRARY) == EXAMINED


def test_no_other_verifier_is_required() -> None:
    """No dependency replays logs or fetches collateral on its own."""
    texts = [
        (REPOSITORY / name).read_text("utf-8") for name in ("pyproject.toml", "requirements.lock")
    ]
    assert [
        name
        for text in texts
        for name in NOT_HERE
        if re.search(rf"^[\s\"]*{name}\b", text, re.MULTILINE)
    ] == []
