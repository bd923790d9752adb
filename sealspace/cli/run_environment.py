"""The environment of the child of `sealspace run`: the caller's, without our own variables, with the secrets.

Whoever may write to the owner's secrets must not thereby decide which code the owner's machine runs, so the names that
do that for common programs are refused unless the owner allows each by name.
"""

from collections.abc import Collection, Mapping
from typing import Final

from ..errors import InvalidInput
from .secret_values import Value

# Of the loader, of shells, of git's and npm's configuration, of folders with configuration, and ours.
_PREFIXES: Final = ("LD_", "DYLD_", "BASH_", "GIT_CONFIG", "GIT_SSH", "NPM_CONFIG_", "XDG_", "SEALSPACE_")
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
"""Longest `NAME=value` that the kernel hands to a program (MAX_ARG_STRLEN, without the zero byte)."""


def child_environment(
    inherited: Mapping[bytes, bytes], values: Mapping[str, Value], *, allowed: Collection[str]
) -> dict[bytes, bytes]:
    """Return the whole environment of the child.

    Args:
        inherited: the caller's. Its `SEALSPACE_*`, which may hold credentials, are left out.
        values: secrets by name; one replaces an inherited variable of its name.
        allowed: names that may be set although programs take orders from them.

    Raises:
        InvalidInput: a name that is not allowed, or a value that no variable can hold.
    """
    refused = sorted(name for name in values if directs_programs(name) and name not in allowed)
    if refused:
        raise InvalidInput(
            f"programs take orders from the variable {refused[0]}, so the secret {refused[0]} is not handed over",
            hint=f"name the secrets you need: --only A,B; or trust that one: --allow-override {','.join(refused)}",
        )
    environment = {name: text for name, text in inherited.items() if not name.startswith(b"SEALSPACE_")}
    return environment | {name.encode(): _held(name, value) for name, value in values.items()}


def directs_programs(name: str) -> bool:
    """Whether a variable of this name decides which code runs, or whom connections trust."""
    is_pythons = name.startswith("PYTHON") and not name.startswith("PYTHON_")  # PYTHONPATH, not PYTHON_API_KEY
    return name in _NAMES or name.startswith(_PREFIXES) or is_pythons


def _held(name: str, value: Value) -> bytes:
    data = value.text.encode()
    if b"\0" in data:
        raise InvalidInput(
            f"the secret {name} has a zero byte, which no environment variable can hold",
            hint="leave it out with --only, and have the program read it by `sealspace secret get`",
        )
    if len(name) + 1 + len(data) > _LONGEST_BYTES:
        raise InvalidInput(
            f"the secret {name} is longer than an environment variable may be",
            hint="leave it out with --only, and have the program read it by `sealspace secret get`",
        )
    return data
