"""Vector files from cases: a JSON document for each subject, and text lists with one item a
line."""

import json
from pathlib import PurePosixPath

from . import (
    attestation,
    chain,
    compose_files,
    datasets,
    descriptors,
    envelopes,
    identifiers,
    key_statements,
    machine_tokens,
    manifests,
    networks,
    portables,
    python_programs,
    recovery,
    requests,
    secret_values,
    successions,
    tokens,
    trusts,
)
from .cases import Case

Files = dict[PurePosixPath, str]


def all_files() -> Files:
    """Return the content of every generated file by its path below spec/vectors."""
    files: Files = {}
    folder = PurePosixPath("capabilities")
    for name, lines in identifiers.text_lists().items():
        files[folder / "identifiers" / f"{name}.txt"] = "".join(f"{line}\n" for line in lines)
    files |= {
        folder / "identifiers" / "canonical.json": _document(
            "spellings and errors of identifiers", identifiers.canonical()
        ),
        folder / "identifiers" / "principals.json": _document(
            "who is the same principal", identifiers.principals()
        ),
        folder / "identifiers" / "resources.json": _document(
            "the parts of a resource", identifiers.resource_parts()
        ),
        folder / "containment.json": _document(
            "whether a resource extends another", identifiers.containment()
        ),
        folder / "abilities.json": _document(
            "whether an ability satisfies another", identifiers.abilities()
        ),
        folder / "tokens.json": _document("one token, read and verified", tokens.cases()),
        folder / "machine_tokens.json": _document(
            "what a machine token grants", machine_tokens.cases()
        ),
        folder / "trusts.json": _document(
            "what a trust grants, and what a machine token below it", *trusts.document()
        ),
        folder / "successions.json": _document(
            "statements by which a team moves to another wallet", *successions.document()
        ),
        folder / "chain.json": _document("a token against what is registered", *chain.cases()),
    }
    encryption = (
        envelopes.documents()
        | networks.documents()
        | descriptors.documents()
        | key_statements.documents()
        | requests.documents()
    )
    for name, document in encryption.items():
        files[PurePosixPath("encryption_network") / f"{name}.json"] = _document(*document)
    for name, document in attestation.documents().items():
        files[PurePosixPath("attestation") / f"{name}.json"] = _document(*document)
    for name, document in (manifests.documents() | portables.documents()).items():
        files[PurePosixPath("manifests") / f"{name}.json"] = _document(*document)
    for name, described in secret_values.documents().items():
        files[PurePosixPath("secrets") / f"{name}.json"] = _document(*described)
    for name, document in python_programs.documents().items():
        files[PurePosixPath("python_programs") / f"{name}.json"] = _document(*document)
    for name, document in datasets.documents().items():
        files[PurePosixPath("datasets") / f"{name}.json"] = _document(*document)
    for name, described in compose_files.documents().items():
        files[PurePosixPath("compose") / f"{name}.json"] = _document(*described)
    for name, document in recovery.documents().items():
        files[PurePosixPath("recovery") / f"{name}.json"] = _document(*document)
    return files


def _document(about: str, cases: list[Case], context: Case | None = None) -> str:
    names = [case["name"] for case in cases]
    if len(set(names)) != len(names):
        raise ValueError(f"{about}: a case name stands twice")
    document = {
        "about": about,
        "generator": "tools/vector_generator.py",
        **(context or {}),
        "cases": cases,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
