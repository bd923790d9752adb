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
from .faults import Faults
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
_OWN_CREDENTIALS = {"objects.key_id", "objects.secret_key", "objects.secret_key_file"}
# Variables that other programs use, too. They give these settings if none of the above is set.
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
    """Load and check the settings of a node.

    Raises:
        ConfigurationError: a setting is faulty. The message has every faulty setting. Settings that
            contradict each other are found only when all of them are valid alone.
    """
    variables = os.environ if environment is None else environment
    flags = flags or {}
    settings_file = file or settings_file_of(variables, flags)
    faults = Faults()
    settings = _from_environment(variables, faults)
    if settings_file is not None:
        with faults.noting():
            settings = _from_file(settings_file, flags) | settings
    flag_settings: _Flat = {}
    with faults.noting():
        flag_settings = _checked(
            {name: value for name, value in flags.items() if value is not None}, source="flags"
        )
        refuse_password(flag_settings.get("store.url"), source="flags")
    faults.require_none()
    settings |= flag_settings
    has_credentials = bool(settings.keys() & _OWN_CREDENTIALS)
    if settings.get("objects.url") is not None and not has_credentials:
        standard: _Flat = {
            path: variables[name]
            for name, path in _STANDARD_CREDENTIALS.items()
            if variables.get(name)
        }
        settings = standard | settings
    # A default does not open a store to everyone that was served in another mode (ST18).
    settings["hosting.is_mode_stated"] = "hosting.mode" in settings
    tree: dict[str, _Flat] = {}
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


def settings_file_of(variables: Mapping[str, str], flags: Mapping[str, Value]) -> Path | None:
    """Return the settings file that is read if no option names one."""
    if file_name := variables.get(_CONFIG_FILE_VARIABLE):
        return Path(file_name)
    # The default folder `data` is relative to the current folder, which may be another user's. A
    # settings file there could change the node of anyone who starts it in that folder.
    folder = flags.get("store.data") or variables.get(_DATA_VARIABLE)
    beside = Path(str(folder)) / CONFIG_FILE_NAME
    return beside if folder and beside.is_file() else None


def _from_file(path: Path, flags: Mapping[str, Value]) -> _Flat:
    data = read_setting(path, "settings file", ConfigurationError, most_bytes=_MAX_FILE_BYTES)
    if len(data) > _MAX_FILE_BYTES:  # of a longer file, one byte more than the limit was read
        raise ConfigurationError(
            f"the settings file {path} has more than {_MAX_FILE_BYTES} bytes", hint=_HINT
        )
    try:
        leaves = dict(_leaves(tomllib.loads(data.decode("utf-8"))))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(
            f"the settings file {path} is not TOML: {error}", hint=f"edit {path}"
        ) from None
    # The errors that follow have the file's format, if the command has the flag `--log-format` and
    # the flag was not given. Then its value is None.
    is_flag_unset = "log.format" in flags and flags["log.format"] is None
    if leaves.get("log.format") == "json" and is_flag_unset:
        configure_logs("info", is_json=True)
    faults = Faults()
    settings: _Flat = {}
    with faults.noting():
        # Before the types are checked: a secret must not be in a file, whatever its type.
        refuse_secrets(leaves, source=str(path))
    with faults.noting():
        settings = _checked(leaves, source=str(path))
    faults.require_none()
    return settings


def _from_environment(variables: Mapping[str, str], faults: Faults) -> _Flat:
    settings: _Flat = {}
    for name in sorted(variables):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in _NOT_SETTINGS:
            continue
        path = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
        text = variables[name]
        try:
            text.encode()
        except UnicodeEncodeError:
            fault = ConfigurationError(
                f"environment variable {name} is not Unicode text", hint=_HINT
            )
            faults.append(fault)
            continue
        value: object = text
        if _is_list(path):
            value = [part.strip() for part in text.split(",") if part.strip()]
        # Not strict: a variable is a text, also for a setting that is a number or a boolean.
        with faults.noting():
            settings |= _checked({path: value}, source=f"environment variable {name}", strict=False)
    return settings


def _is_list(path: str) -> bool:
    """Return whether there is a setting with this path, and it is a list."""
    annotated = setting_types().get(path)
    if annotated is None:
        return False
    kind = get_args(annotated)[0]
    return get_origin(kind) is tuple


def _checked(settings: _Flat, *, source: str, strict: bool = True) -> _Flat:
    """Convert settings to their types.

    Unknown settings and wrong types are errors, which are raised together.
    """
    result: _Flat = {}
    faults = Faults()
    for path, value in settings.items():
        with faults.noting():
            result[path] = _converted(path, value, source=source, strict=strict)
    faults.require_none()
    return result


def _converted(path: str, value: object, *, source: str, strict: bool) -> object:
    """Convert one setting to its type."""
    types = setting_types()
    if path not in types:
        message = f"unknown setting {path} ({source})"
        near = " or ".join(get_close_matches(path, types, n=2))
        if near:
            message += f"; did you mean {near}?"
        raise ConfigurationError(message, hint=_HINT)
    try:
        converted: object = msgspec.convert(value, types[path], strict=strict)
    except msgspec.ValidationError as error:
        # The message may be shown, although the value may be a secret: msgspec names only types
        # and bounds. Of a setting with choices, which is no secret, the value is quoted here.
        kind = get_args(types[path])[0]
        fault = str(error)
        if get_origin(kind) is Literal:
            fault = f"{value!r} is not one of {', '.join(get_args(kind))}"
        raise ConfigurationError(f"setting {path} ({source}): {fault}", hint=_HINT) from None
    return converted


def _leaves(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the dotted path and the value of each setting in a TOML document."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
