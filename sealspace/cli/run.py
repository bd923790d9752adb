"""`sealspace run` and `template`: secrets for other programs, as environment variables or in a
file."""

import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from capabilities.strict_base64 import encode_standard

from ..client import Client
from ..errors import InvalidInput
from ..private_files import replace_file
from ..secrets import is_secret_name
from .command_errors import NotThere
from .owner_profile import at_node
from .paths import FILE_OR_DASH, NEW_FILE, read_named
from .run_masker import patterns_of
from .run_process import keep_out_of_core_dumps, replace_process, run_masked
from .secret import no_secret, scope_option
from .terminal import words


def text_of(value: str | bytes) -> str:
    """Return the value of a secret as other programs get it."""
    return value if isinstance(value, str) else encode_standard(value)


@at_node
async def read_values(
    client: Client,
    names: Sequence[str] | Callable[[Sequence[str]], Sequence[str]],
    *,
    scope: str | None,
) -> dict[str, str | bytes]:
    """Read secrets by their names."""
    secrets = client.secrets()
    wanted = names(await secrets.list(scope=scope)) if callable(names) else names
    found = await secrets.get_many(wanted, scope=scope)
    for name in wanted:
        if name not in found:
            raise await no_secret(secrets, name, scope)
    return found


# Of the loader, of shells, of git's and npm's configuration, of folders with configuration, and
# ours.
_PREFIXES: Final = (
    "LD_",
    "DYLD_",
    "BASH_",
    "GIT_CONFIG",
    "GIT_SSH",
    "NPM_CONFIG_",
    "XDG_",
    "SEALSPACE_",
)
# Where programs, and what they read first, are looked for.
_SEARCHED: Final = """
    PATH HOME SHELL USER LOGNAME PWD CDPATH TMPDIR IFS ENV SHELLOPTS BASHOPTS ZDOTDIR PROMPT_COMMAND PS4
    TERMINFO GCONV_PATH LOCPATH NLSPATH GLIBC_TUNABLES HOSTALIASES GNUPGHOME CARGO_HOME GOPATH JAVA_HOME GEM_HOME
    AWS_CONFIG_FILE KUBECONFIG PIP_CONFIG_FILE BUNDLE_GEMFILE VIMINIT EXINIT
"""
# Programs that others start.
_STARTED: Final = """
    EDITOR VISUAL PAGER MANPAGER BROWSER LESSOPEN LESSCLOSE GIT_EXEC_PATH GIT_PROXY_COMMAND GIT_ASKPASS
    GIT_EDITOR GIT_PAGER GIT_EXTERNAL_DIFF GIT_TEMPLATE_DIR SSH_ASKPASS SUDO_ASKPASS
"""
# Options and libraries of interpreters and build tools.
_INTERPRETED: Final = """
    NODE_OPTIONS NODE_PATH PERL5LIB PERL5OPT PERL5DB PERLLIB RUBYOPT RUBYLIB CLASSPATH JAVA_TOOL_OPTIONS
    JDK_JAVA_OPTIONS JAVA_OPTS MAVEN_OPTS GRADLE_OPTS PHPRC PHP_INI_SCAN_DIR LUA_PATH LUA_CPATH LUA_INIT GOFLAGS RUSTC
    RUSTC_WRAPPER RUSTFLAGS CARGO_BUILD_RUSTC CARGO_BUILD_RUSTC_WRAPPER MAKEFLAGS MAKEFILES GNUMAKEFLAGS CC CXX GEM_PATH
    DOTNET_STARTUP_HOOKS CORECLR_PROFILER CORECLR_PROFILER_PATH NODE_REPL_EXTERNAL_MODULE ERL_FLAGS R_PROFILE
"""
# Whom connections go through, and whom they trust.
_TRUSTED: Final = """
    HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY SSL_CERT_FILE SSL_CERT_DIR SSLKEYLOGFILE OPENSSL_CONF
    OPENSSL_MODULES OPENSSL_ENGINES CURL_CA_BUNDLE CURL_HOME REQUESTS_CA_BUNDLE NODE_EXTRA_CA_CERTS
    NODE_TLS_REJECT_UNAUTHORIZED GIT_SSL_NO_VERIFY DOCKER_HOST PIP_TRUSTED_HOST
"""
_NAMES: Final = frozenset(f"{_SEARCHED} {_STARTED} {_INTERPRETED} {_TRUSTED}".split())
_LONGEST_BYTES: Final = 131_071
"""Longest `NAME=value` that the kernel hands to a program (MAX_ARG_STRLEN, without the zero
byte)."""


def child_environment(
    inherited: Mapping[bytes, bytes], values: Mapping[str, str | bytes], *, allowed: Collection[str]
) -> dict[bytes, bytes]:
    """Return the whole environment of the child."""
    refused = sorted(name for name in values if directs_programs(name) and name not in allowed)
    if refused:
        raise InvalidInput(
            f"programs take orders from the variable {refused[0]}, so the secret {refused[0]} is"
            " not handed over",
            hint=(
                "name the secrets you need: --only A,B; or trust that one: --allow-override"
                f" {','.join(refused)}"
            ),
        )
    environment = {
        name: text for name, text in inherited.items() if not name.startswith(b"SEALSPACE_")
    }
    return environment | {name.encode(): _held(name, value) for name, value in values.items()}


def directs_programs(name: str) -> bool:
    """Whether a variable of this name decides which code runs, or whom connections trust."""
    # PYTHONPATH, not PYTHON_API_KEY
    is_pythons = name.startswith("PYTHON") and not name.startswith("PYTHON_")
    return name in _NAMES or name.startswith(_PREFIXES) or is_pythons


def _held(name: str, value: str | bytes) -> bytes:
    data = text_of(value).encode()
    too_long = len(name) + 1 + len(data) > _LONGEST_BYTES
    if too_long or b"\0" in data:
        reason = (
            "is longer than an environment variable may be"
            if too_long
            else "has a zero byte, which no variable can hold"
        )
        raise InvalidInput(
            f"the secret {name} {reason}",
            hint="leave it out with --only, and have the program read it by `sealspace secret get`",
        )
    return data


_OF_SECRETS = re.compile(r".*_(KEY|TOKEN|SECRET|PASSWORD|DSN|CREDENTIALS)|(DATABASE|REDIS)_URL")


@click.command(
    "run",
    context_settings={"allow_interspersed_args": False},
    epilog=(
        "Examples: `sealspace run -- ./deploy.sh`; `sealspace run --only API_KEY -- python app.py`;"
        " `sealspace run --scope ci -- env`."
    ),
)
@scope_option
@click.option(
    "--only", metavar="A,B", help="Only these secrets; by default those named as secrets."
)
@click.option(
    "--allow-override",
    metavar="A,B",
    help=(
        "Hand over these too although programs take orders from variables of these names, like"
        " PATH."
    ),
)
@click.option(
    "--allow-empty", is_flag=True, help="Run the command even if there is no secret to hand over."
)
@click.option(
    "--no-masking",
    is_flag=True,
    help="Do not mask: this process becomes the command, on the same terminal.",
)
@click.argument("command", metavar="-- COMMAND…", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    scope: str | None,
    only: str | None,
    allow_override: str | None,
    allow_empty: bool,
    no_masking: bool,
    command: tuple[str, ...],
) -> int | None:
    """Run a command with secrets as environment variables.

    Its output shows `***` where a secret's value would be, also JSON-escaped, percent-encoded or in
    base64; values of under four bytes are not masked. Signals and the exit status are passed on.
    Nothing is written to a file.

    Without `--only` it gets the secrets of the scope whose names end in _KEY, _TOKEN, _SECRET,
    _PASSWORD, _DSN or _CREDENTIALS, and DATABASE_URL and REDIS_URL; a line on standard error names
    the others.

    The command inherits standard input; its outputs are pipes, so that it sees no terminal there:
    an editor or a pager needs `--no-masking`. A secret of bytes is handed over in base64. Variables
    `SEALSPACE_…` are not handed over.
    """
    keep_out_of_core_dumps()
    allowed = _names(allow_override or "")
    values = read_values(
        _names(only) if only is not None else lambda names: _chosen(names, allowed), scope=scope
    )
    # of a wrong wallet or scope: the command would run without its keys
    if not values and not allow_empty:
        raise NotThere(
            "there are no secrets to hand over, so the command was not started",
            hint=(
                "sealspace whoami; sealspace secret list --all; name what you need: --only A,B; or"
                " add --allow-empty"
            ),
        )
    environment = child_environment(os.environb, values, allowed=allowed)
    if no_masking:
        replace_process(command, environment)
    if os.isatty(1) and os.isatty(2):
        words("output is masked and no terminal for the command; --no-masking gives it this one")
    return run_masked(command, environment, _patterns(values))


def _chosen(names: Sequence[str], allowed: Sequence[str]) -> Sequence[str]:
    """Return the names that are handed over where the caller named none, and print the others."""
    # CL1: no list of refused names is complete; programs also take orders from TAR_OPTIONS, CFLAGS,
    # RSYNC_RSH, PS0.
    chosen = [
        name
        for name in names
        if name in allowed or (_OF_SECRETS.fullmatch(name) and not directs_programs(name))
    ]
    if others := [name for name in names if name not in chosen]:
        words(
            f"not handed over ({len(others)}): {', '.join(others):.300}; name the secrets you need:"
            " --only A,B"
        )
    return chosen


def _patterns(values: Mapping[str, str | bytes]) -> frozenset[bytes]:
    """Return what is masked; name the secrets that cannot be."""
    found: set[bytes] = set()
    for name, value in values.items():
        patterns = patterns_of(text_of(value).encode())
        if isinstance(value, bytes):
            patterns |= patterns_of(value)
        if not patterns and value:
            words(f"{name} is too short to be masked in the output")
        found |= patterns
    return frozenset(found)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


_MAX_BYTES: Final = 16 << 20
_OPENED: Final = re.compile(rb"""\{\{-?\s*secret(?:\s*["']|\s+\w)""")
_PLACE: Final = re.compile(rb'\{\{\s*secret\s+"([^"\n]*)"\s*\}\}')


@click.command(
    "template",
    epilog=(
        'Example: a file with the line `password: {{ secret "DB_PASSWORD" }}`, then `sealspace'
        " template app.yaml --out app.local.yaml`."
    ),
)
@click.argument("file", type=FILE_OR_DASH)
@scope_option
@click.option(
    "--out",
    "target",
    type=NEW_FILE,
    help="File to write, readable by its owner alone; by default standard output.",
)
def template(file: Path, scope: str | None, target: Path | None) -> None:
    """Fill secrets into a text: each `{{ secret "NAME" }}` becomes the value, as it is.

    FILE may be `-` for standard input. If a secret is missing, nothing is written. An existing file
    is replaced as a whole.
    """
    text = read_named(file, most_bytes=_MAX_BYTES)
    if len(text) > _MAX_BYTES:
        raise InvalidInput(
            f"{file} is longer than {_MAX_BYTES} bytes",
            hint="fill a smaller file, and include that",
        )
    names = places(text)
    values = read_values(names, scope=scope) if names else {}
    filled = fill(text, values)
    if target is None:
        sys.stdout.buffer.write(filled)
        sys.stdout.buffer.flush()
    else:
        replace_file(target, filled)
        words(f"wrote {target} with {len(values)} secret{'s' if len(values) != 1 else ''}")


def places(text: bytes) -> tuple[str, ...]:
    """Return the names of the secrets that a text asks for, each once, in order."""
    names: dict[str, None] = {}
    for opened in _OPENED.finditer(text):
        place = _PLACE.match(text, opened.start())
        name = None if place is None else place[1].decode("utf-8", "replace")
        if name is None or not is_secret_name(name):
            line = text.count(b"\n", 0, opened.start()) + 1
            what = (
                "is not closed or names nothing"
                if name is None
                else f"names {name!r}, which is no secret's name"
            )
            raise InvalidInput(
                f"line {line}: a place for a secret {what}",
                hint='write {{ secret "NAME" }}, the name in capitals',
            )
        names[name] = None
    return tuple(names)


def fill(text: bytes, values: Mapping[str, str | bytes]) -> bytes:
    """Return the text with each place filled."""
    return _PLACE.sub(lambda place: text_of(values[place[1].decode()]).encode(), text)
