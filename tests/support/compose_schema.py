"""The JSON schema of the Compose specification.

It is read from the file that the environment variable `COMPOSE_SCHEMA` names, or from an installed
check-jsonschema, which contains it. The repository has no copy.

Example:
    assert compose_faults(yaml.safe_load(text)) == []

Source: https://github.com/compose-spec/compose-spec, schema/compose-spec.json.
"""

import json
import os
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from jsonschema_rs import Draft7Validator

COMPOSE_SCHEMA_ABSENT = (
    "no schema of the Compose specification: set COMPOSE_SCHEMA, or pip install check-jsonschema"
)


def _schema() -> Any:
    """Return the schema, or None."""
    if named := os.environ.get("COMPOSE_SCHEMA"):
        with open(named, "rb") as stream:
            return json.load(stream)
    if find_spec("check_jsonschema") is None:
        return None
    vendored = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    return json.loads(vendored.read_bytes())


COMPOSE_SCHEMA = _schema()


def compose_faults(compose: Any) -> list[str]:
    """Return what in a compose file does not follow the schema."""
    found = Draft7Validator(COMPOSE_SCHEMA).iter_errors(compose)
    return [f"{fault.instance_path}: {fault.message}" for fault in found]
