"""Codes of errors."""

import ast
from pathlib import Path

import encryption_network
from encryption_network.network_errors import TEXTS, EncryptionError


def test_codes_are_unique() -> None:
    """No two errors share a code."""
    codes = [
        kind.code for kind in EncryptionError.__subclasses__() if kind.code != EncryptionError.code
    ]
    assert len(codes) > 5 and len({*codes, *TEXTS}) == len(codes) + len(TEXTS)


def test_every_row_is_raised() -> None:
    """The table of codes lists exactly the codes that this package and the node raise."""
    packages = [
        Path(encryption_network.__path__[0]),
        Path(encryption_network.__path__[0]).parent / "node",
    ]
    trees = [
        ast.parse(path.read_text("utf-8")) for folder in packages for path in folder.rglob("*.py")
    ]
    raised = {
        ast.literal_eval(call.args[0])
        for tree in trees
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "RequestError"
    }
    assert raised == TEXTS.keys()
