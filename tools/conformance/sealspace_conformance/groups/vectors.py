"""Recorded tokens of fixed keys, each malformed or wrongly signed in one way."""

import json
from importlib.resources import files
from typing import Any

from sealspace_conformance.expectations import problem, status, text
from sealspace_conformance.groups.sign_in import BAD_SIGNATURE
from sealspace_conformance.run import Run

# Why it is refused is open where a node may know the name of the algorithm or not.
_EXPECTED = {
    "undecodable": problem(401),
    "signature": text(401, BAD_SIGNATURE),
    "refused": status(401),
}


def cases() -> list[dict[str, Any]]:
    """Return the cases of the file that `sealspace_conformance.minting` writes."""
    document = json.loads(files("sealspace_conformance").joinpath("vectors.json").read_bytes())
    found: list[dict[str, Any]] = document["cases"]
    return found


async def vectors(run: Run) -> None:
    """Post each token as a delegation."""
    for case in cases():
        expected = _EXPECTED[case["expect"]]
        await run.delegate(case["rule"], case["what"], expected, case["token"])
