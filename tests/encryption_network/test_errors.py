"""Errors: stable codes."""

import inspect

from encryption_network import errors


def concrete() -> list[type[errors.EncryptionError]]:
    """Every error class of the package."""
    classes = [item for _, item in inspect.getmembers(errors, inspect.isclass)]
    return [item for item in classes if issubclass(item, errors.EncryptionError)]


def test_codes_are_unique() -> None:
    """No two errors share a code."""
    codes = [item.code for item in concrete()]
    assert len(codes) == len(set(codes))
