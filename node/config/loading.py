"""Loading of settings from a file, the environment and flags.

The order of the sources is: defaults, settings file, environment, flags.

A later source overrides an earlier one. Rules (spec/operations/running.md):

- A settings file is read only if the user names it, or if it is `sealspace.toml` in a data folder
  that the user names. Files in the current folder have no effect.
- An unknown setting is an error; the message names its path and its source.
- The variable `SEALSPACE_HTTP__PORT` is the setting `http.port`: `__` separates levels. Lists are
  separated by commas.
- `SEALSPACE_NODE`, `SEALSPACE_HOME`, `SEALSPACE_KEYSTORE_PASSWORD` and `SEALSPACE_TOKEN` are not
  settings: the command line reads them (`sealspace.cli.root`). No other code reads settings from
  the environment.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, get_args, get_origin

import msgspec

from sealspace.private_files import read_setting
from sealspace.service.command_errors import ConfigurationError

from ..logs import configure_logs
from .checks import refuse_contradictions
from .redaction import refuse_password, refuse_secrets
from .tree import Config, setting_types

ENVIRONMENT_PREFIX = "SEALSPACE_"
CONFIG_FILE_NAME = "sealspace.toml"
_CONFIG_FILE_VARIABLE = "SEALSPACE_CONFIG"
_DATA_VARIABLE = "SEALSPACE_STORE__DATA"
_NOT_SETTINGS = frozenset(
    {
        _CONFIG_FILE_VARIABLE,
        "SEALSPACE_NODE",
        "SEALSPACE_HOME",
        "SEALSPACE_KEYSTORE_PASSWORD",
        "SEALSPACE_TOKEN",
    }
)
# A settings file is a page of text. The limit keeps a wrong path from filling memory.
_MAX_FILE_BYTES = 1 << 20

Value = bool | int | float | str | Sequence[str] | None
_Flat = dict[str, object]  # dotted path -> value

_HINT = "to show every setting, run: sealspace config init -"
_STANDARD_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "objects.key_id",
    "AWS_SECRET_ACCESS_KEY": "objects.secret_key",
    "AWS_SESSION_TOKEN": "objects.session_token",
}


def load_config(
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Value] | None = None,
) -> Config:
    """Load and check the settings of a node."""
    variables = os.environ if environment is None else environment
    named = file or _file_of(variables, flags or {})
    settings = _from_environment(variables)
    if named is not None:
        settings = _from_file(named, flags or {}) | settings
    given = _checked(
        {name: value for name, value in (flags or {}).items() if value is not None}, source="flags"
    )
    refuse_password(given.get("store.url"), source="flags")
    settings |= given
    if settings.get("objects.url") is not None and settings.keys().isdisjoint(
        ("objects.key_id", "objects.secret_key", "objects.secret_key_file")
    ):
        settings = {
            path: variables[name]
            for name, path in _STANDARD_CREDENTIALS.items()
            if variables.get(name)
        } | settings
    # A default does not open a store to everyone that was served in another mode (ST18).
    settings["hosting.is_mode_stated"] = "hosting.mode" in settings
    tree = dict[str, _Flat]()
    for path, value in settings.items():
        section, _, name = path.partition(".")
        tree.setdefault(section, {})[name] = value
    config = msgspec.convert(tree, Config)
    refuse_contradictions(config)
    return config


def variable_of(path: str) -> str:
    """Return the name of the environment variable for a setting."""
    return ENVIRONMENT_PREFIX + path.upper().replace(".", "__")


def child_environment() -> dict[str, str]:
    """Return the environment for a child process, without the node's settings."""
    # A child gets its settings from its parent, so inherited variables must not override them.
    return {
        name: text for name, text in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)
    }


def _file_of(variables: Mapping[str, str], flags: Mapping[str, Value]) -> Path | None:
    if named := variables.get(_CONFIG_FILE_VARIABLE):
        return Path(named)
    # The default folder `data` is relative to the current folder, which may be another user's. A
    # settings file there could change the node of anyone who starts it in that folder.
    folder = flags.get("store.data") or variables.get(_DATA_VARIABLE)
    beside = Path(str(folder)) / CONFIG_FILE_NAME
    return beside if folder and beside.is_file() else None


def _from_file(path: Path, flags: Mapping[str, Value]) -> _Flat:
    data = read_setting(path, "settings file", ConfigurationError, most_bytes=_MAX_FILE_BYTES)
    if len(data) > _MAX_FILE_BYTES:
        raise ConfigurationError(
            f"the settings file {path} has more than {_MAX_FILE_BYTES} bytes", hint=_HINT
        )
    try:
        leaves = dict(_leaves(tomllib.loads(data.decode("utf-8"))))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(
            f"the settings file {path} is not TOML: {error}", hint=f"edit {path}"
        ) from None
    # None: a command with the flag `--log-format`, which was not given. The errors that follow then
    # have the file's format.
    if leaves.get("log.format") == "json" and flags.get("log.format", "") is None:
        configure_logs("info", is_json=True)
    settings = _checked(leaves, source=str(path))
    refuse_secrets(settings, source=str(path))
    return settings


def _from_environment(variables: Mapping[str, str]) -> _Flat:
    settings: _Flat = {}
    for name in sorted(variables):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in _NOT_SETTINGS:
            continue
        path = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
        text: object = variables[name]
        try:
            variables[name].encode()
        except UnicodeEncodeError:
            raise ConfigurationError(
                f"environment variable {name} is not Unicode text", hint=_HINT
            ) from None
        if path in setting_types() and get_origin(get_args(setting_types()[path])[0]) is tuple:
            text = [part.strip() for part in variables[name].split(",") if part.strip()]
        settings |= _checked({path: text}, source=f"environment variable {name}", strict=False)
    return settings


def _checked(settings: _Flat, *, source: str, strict: bool = True) -> _Flat:
    """Convert settings to their types.

    Unknown settings and wrong types are errors.
    """
    known = setting_types()
    result: _Flat = {}
    for path, value in settings.items():
        if path not in known:
            near = " or ".join(get_close_matches(path, known, n=2))
            raise ConfigurationError(
                f"unknown setting {path} ({source}){near and f'; did you mean {near}?'}", hint=_HINT
            )
        try:
            result[path] = msgspec.convert(value, known[path], strict=strict)
        except msgspec.ValidationError as error:
            # Safe to show: msgspec names types and bounds. It quotes only a wrong choice.
            kind = get_args(known[path])[0]
            fault = str(error)
            if get_origin(kind) is Literal:
                fault = f"{value!r} is not one of {', '.join(get_args(kind))}"
            raise ConfigurationError(f"setting {path} ({source}): {fault}", hint=_HINT) from None
    return result


def _leaves(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
