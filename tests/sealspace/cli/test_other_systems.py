"""Commands on systems other than Linux."""

import sys

import pytest

from sealspace.cli.use.run_process import keep_out_of_core_dumps
from sealspace.service.command_errors import CommandNotExecutable


def test_secrets_are_not_passed_on_without_protection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory cannot be protected from core dumps, a command that passes on secrets ends with
    an error that names the reason."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(CommandNotExecutable, match="the system is not Linux") as refused:
        keep_out_of_core_dumps()
    assert "on Linux" in str(refused.value.hint)
