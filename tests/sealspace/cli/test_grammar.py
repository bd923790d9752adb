"""Tests of the command line's grammar: shared options and usage errors."""

import io
import os
import pty
import sys
from pathlib import Path

import click
import pytest
from command_tree import command_tree, leaves

from node.config.loading import load_config
from sealspace.cli.exit_status import INTERRUPTED, MISSING_EXTRA
from sealspace.cli.lazy import EXTRAS, LazyGroup, Row
from sealspace.cli.root import cli, main
from sealspace.cli.shared import Shared, is_shared, share_options, shared
from sealspace.cli.terminal import (
    confirm,
    is_interactive,
    print_json,
    print_rows,
    progress,
    tell,
    time_text,
)
from sealspace.errors import InvalidInput

SHARED = ("--json", "--home", "--node", "--as", "-q", "--quiet")


@pytest.fixture
def noun(monkeypatch: pytest.MonkeyPatch) -> list[Shared]:
    """A group with one command, which returns its arguments."""
    seen: list[Shared] = []

    @click.command("verb")
    @click.option("--interrupted", is_flag=True, help="Be interrupted.")
    def verb(interrupted: bool) -> None:
        """Record the arguments of the command."""
        if interrupted:
            raise KeyboardInterrupt
        seen.append(shared())
        tell("a word")
        print_json([])

    @click.group("noun")
    def noun() -> None:
        """Define a group with one command."""

    noun.add_command(verb)
    monkeypatch.setattr(click, "noun", noun, raising=False)
    monkeypatch.setattr(cli, "table", {**cli.table, "noun": Row("click", "Hold a verb.")})
    for variable in ("SEALSPACE_NODE", "SEALSPACE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    return seen


@pytest.mark.parametrize("at", range(3))
def test_shared_options_are_taken_anywhere(
    noun: list[Shared], at: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shared options mean the same before the noun, between noun and verb, and after the verb."""
    given = ["--json", "--home", "folder", "--node", "https://node.example", "-q"]
    path = ["noun", "verb"]
    assert main([*path[:at], *given, *path[at:]]) == 0
    assert noun == [
        Shared(as_json=True, quiet=True, given_home="folder", given_node="https://node.example")
    ]
    assert noun[0].home_folder == Path("folder")
    assert noun[0].node == "https://node.example"
    assert capsys.readouterr() == ("[]\n", "")


def test_the_last_one_holds(noun: list[Shared], monkeypatch: pytest.MonkeyPatch) -> None:
    """An option after the verb overrides one before it, and both override the variables."""
    monkeypatch.setenv("SEALSPACE_NODE", "https://a.example")
    monkeypatch.setenv("SEALSPACE_HOME", "a")
    assert main(["noun", "verb"]) == 0
    assert (
        main(
            [
                "--node",
                "https://b.example",
                "noun",
                "--home",
                "b",
                "verb",
                "--node",
                "https://c.example",
            ]
        )
        == 0
    )
    assert [(one.node, one.home_folder) for one in noun] == [
        ("https://a.example", Path("a")),
        ("https://c.example", Path("b")),
    ]


@pytest.mark.parametrize("text", [None, ""])
def test_without_options(
    noun: list[Shared], monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    """Without options a command uses `~/.sealspace` and the node of the login."""
    if text is not None:
        monkeypatch.setenv("SEALSPACE_NODE", text)
        monkeypatch.setenv("SEALSPACE_HOME", text)
    assert main(["noun", "verb"]) == 0
    assert noun == [shared()]
    assert noun[0].home_folder == Path.home() / ".sealspace"
    assert noun[0].node is None
    assert noun[0].as_json is False
    assert noun[0].quiet is False


def test_every_command_takes_the_shared_options() -> None:
    """Every command has the shared options exactly once, and none of its own with the same name."""
    nodes = list(command_tree())
    assert len(nodes) > 30
    for node in nodes:
        share_options(node.command)
        names = [name for one in node.command.params for name in one.opts if name in SHARED]
        assert sorted(names) == sorted(SHARED), node.words
        assert [
            one
            for one in node.command.params
            if is_shared(one) and not set(one.opts) <= set(SHARED)
        ] == []


def test_variables_of_the_command_line_are_no_settings() -> None:
    """A node ignores variables of the command line, and refuses other unknown ones."""
    config = load_config(
        environment={
            "SEALSPACE_NODE": "https://node.example",
            "SEALSPACE_HOME": "a",
            "SEALSPACE_KEYSTORE_PASSWORD": "x",
        }
    )
    assert config == load_config(environment={})


@pytest.mark.parametrize(
    ("arguments", "first", "second"),
    [
        (
            "secrt list",
            "unknown command secrt; did you mean: sealspace secret?",
            "sealspace secret --help",
        ),
        (
            "secret lst",
            "unknown command lst; did you mean: sealspace secret list?",
            "sealspace secret list --help",
        ),
        (
            "admin owners ad x",
            "unknown command ad; did you mean: sealspace admin owners add?",
            "sealspace admin owners add --help",
        ),
        (
            "secret rm X",
            "unknown command rm; did you mean: sealspace secret delete?",
            "sealspace secret delete --help",
        ),
        (
            "secret set X",
            "unknown command set; did you mean: sealspace secret put?",
            "sealspace secret put --help",
        ),
        (
            "put X",
            "unknown command put; did you mean: sealspace secret put?",
            "sealspace secret put --help",
        ),
        (
            "list grants",
            "unknown command list; did you mean: sealspace grant list?",
            "sealspace grant list --help",
        ),
        (
            "secret list --scope",
            "option '--scope' requires an argument",
            "sealspace secret list --help",
        ),
        ("secret frobnicate", "unknown command frobnicate", "sealspace secret --help"),
        (
            "secret list --scop x",
            "unknown option --scop; did you mean --scope?",
            "sealspace secret list --help",
        ),
        (
            "login --days x",
            "invalid value for '--days': 'x' is not a valid float range",
            "sealspace login --help",
        ),
        ("secret put", "missing argument 'NAME'", "sealspace secret put --help"),
    ],
)
def test_errors_of_usage_are_two_lines(
    arguments: str, first: str, second: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped command or option is reported with the closest match and the next step."""
    assert main(arguments.split()) == 2
    assert capsys.readouterr() == ("", f"sealspace: {first}\nnext: {second}\n")


def test_lifetimes_have_one_spelling() -> None:
    """Each lifetime is the option `--expires TIME`. Its former names still work, but are hidden."""
    lifetimes = 0
    for node in leaves():
        for option in node.command.params:
            if option.name == "ttl_s":
                assert option.opts == ["--expires"], node.words
                assert option.metavar == "TIME"
                lifetimes += 1
            elif {"--days", "--ends"} & {*option.opts}:
                assert isinstance(option, click.Option) and option.hidden, node.words
    assert lifetimes > 8


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("login --expires 99d", "--expires 99d is not a duration from 1m to 30d"),
        ("login --days 99", "invalid value for '--days': 99.0 is not in the range 0.01<=x<=30"),
        ("login --days 1 --expires 1d", "--days is the former name of --expires: omit --days"),
        ("token create a --secret A --ends 400d", "--ends 400d is not a duration from 1m to 366d"),
    ],
)
def test_lifetimes_that_are_refused(
    arguments: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error has the longest possible lifetime."""
    assert main(arguments.split()) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"sealspace: {text}"


def test_a_noun_alone_says_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    """A command group without a command is a usage error that lists its commands."""
    assert main(["secret"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "\n  put " in err


def test_a_missing_extra_has_a_status_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing extra ends a command with status 20, and the message says how to install it."""
    monkeypatch.setitem(EXTRAS, "verify", ("no_such_module",))
    assert main(["verify", "x"]) == MISSING_EXTRA == 20
    assert capsys.readouterr().err.endswith("next: pip install 'sealspace[verify]'\n")


def test_an_interrupt_has_a_status_of_its_own(
    noun: list[Shared], capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C ends a command with status 130."""
    assert main(["noun", "verb", "--interrupted"]) == INTERRUPTED
    assert "next: " in capsys.readouterr().err


def test_a_group_imports_no_command() -> None:
    """The help of the program and of each group imports no command."""
    assert {node.words[0] for node in leaves()} == set(cli.table)
    assert all(
        isinstance(node.command, LazyGroup)
        for node in command_tree()
        if len(node.words) == 1 and node.is_group
    )


# --- terminal -------------------------------------------------------------------------------------


def test_a_table_for_programs_and_for_people(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Columns are aligned and cells made printable. Only a terminal gets headers. Without rows only
    a message is printed."""
    print_rows([], ("name", "expires"), (), nothing="no rows")
    assert capsys.readouterr() == ("", "no rows\n")
    rows = (("A", time_text(0.9)), ("LONGER", "\x1b[2J"))
    print_rows(rows, ("name", "expires"), rows, nothing="")
    assert capsys.readouterr().out == "A       1970-01-01T00:00:00Z\nLONGER  \ufffd[2J\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_rows(rows, ("name", "expires"), rows, nothing="")
    assert capsys.readouterr().out.splitlines()[0] == "NAME    EXPIRES"


def test_a_message_names_the_folder_that_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands in a message have the option `--home` that the command had."""
    home = str(tmp_path / "an owner")
    assert main(["secret", "list", "--home", home]) == 10
    assert f"sealspace --home '{home}' login URL --new" in capsys.readouterr().err
    assert main(["--home", home, "logout"]) == 0
    assert "sealspace" not in capsys.readouterr().err


def test_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal, a question fails and names the option that answers it."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(InvalidInput, match="cannot ask for confirmation") as refused:
        confirm("delete it?", yes=False)
    assert refused.value.hint == "add --yes"
    confirm("delete it?", yes=True)
    with progress(10, "copying") as told:
        told(10, None)


@pytest.mark.parametrize(
    ("typed", "agrees"), [("y\n", True), ("n\n", False), ("\n", False), ("maybe\ny\n", True)]
)
def test_a_person_is_asked(monkeypatch: pytest.MonkeyPatch, typed: str, agrees: bool) -> None:
    """On a terminal the question is asked, and an empty answer means no. A progress bar is shown on
    standard error."""
    controller, terminal = pty.openpty()
    try:
        with (
            os.fdopen(os.dup(terminal), "r") as stdin,
            os.fdopen(os.dup(terminal), "w") as stderr,
            monkeypatch.context() as patch,
        ):
            patch.setattr(sys, "stdin", stdin)
            patch.setattr(sys, "stderr", stderr)
            patch.setenv("TERM", "xterm")  # a dumb one shows no progress bar
            assert is_interactive()
            os.write(controller, typed.encode())
            if agrees:
                confirm("delete it?", yes=False)
            else:
                with pytest.raises(click.Abort):
                    confirm("delete it?", yes=False)
            with progress(10, "copying") as told:
                told(10, 10)
        shown = ""
        while "copying" not in shown:  # it comes in pieces
            shown += os.read(controller, 1 << 16).decode()
        assert "delete it? [y/N]" in shown
        assert ("next: answer y or n" in shown) == typed.startswith("maybe")
    finally:
        os.close(controller)
        os.close(terminal)
