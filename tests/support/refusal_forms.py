"""The node's table of refusals and its error classes, for tests."""

import importlib
import pkgutil
from collections.abc import Iterator
from itertools import chain
from types import ModuleType
from typing import get_args

import capabilities
import encryption_network
import node
import spaces
import tee_backend
from capabilities.capability_errors import CHAIN_TEXTS, ChainError
from encryption_network.network_errors import TEXTS, EncryptionError, RequestError
from node.http.messages.error_answers import wire_form
from node.http.messages.refusals import TABLE, code_of
from node.refusal import REFUSALS, Refusal


def on_route(error: EncryptionError) -> tuple[int, str | None]:
    """Return status and text on the routes of encryption networks; None as text means a problem."""
    return wire_form(error, TABLE[code_of(error)])


def on_invoke(error: EncryptionError) -> tuple[int, str | None]:
    """Return status and text on `/invoke`."""
    return wire_form(error, TABLE[code_of(error)], "invoked-decrypt")


def error_classes() -> set[type[Exception]]:
    """Return every error class of the node and the packages below the command line."""
    packages = (capabilities, encryption_network, spaces, tee_backend, node)
    found: set[type[Exception]] = set()
    for module in chain.from_iterable(map(_modules, packages)):
        for thing in vars(module).values():
            if not (isinstance(thing, type) and issubclass(thing, Exception)):
                continue
            if thing.__module__ == module.__name__:
                found.add(thing)
    return found


def codes_of(kind: type[Exception]) -> tuple[str, ...]:
    """Return the codes of an error class: its own, or those that its constructor accepts."""
    texts = {RequestError: TEXTS, ChainError: CHAIN_TEXTS, Refusal: REFUSALS}
    if kind in texts:
        return tuple(texts[kind])
    if "code" in vars(kind):
        return (vars(kind)["code"],)
    return get_args(kind.__init__.__annotations__.get("code")) if "__init__" in vars(kind) else ()


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for entry in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        yield importlib.import_module(entry.name)
