"""Parsing of the HTTP headers that set preconditions and limits (I9, wire 4.4.5)."""

import re
from collections.abc import Container, Mapping

from capabilities.frozen_struct import AcyclicStruct

from ...refusal import Refusal

OPTION_HEADERS = (
    "If-Match",
    "If-None-Match",
    "x-sealspace-purge",
    "x-sealspace-version",
    "x-tinycloud-cursor",
    "x-tinycloud-limit",
    "x-tinycloud-max-response-bytes",
)
"""The supported option headers."""
MAX_LIST_LIMIT = 1000
_HEX64 = re.compile(r"[0-9a-fA-F]{64}")
_POSITIVE = re.compile(r"\+?0{0,64}[1-9][0-9]{0,18}")


class Options(AcyclicStruct):
    """The preconditions and limits of one request."""

    create_only: bool = False
    replace_etag: str | None = None
    if_none_match: str | None = None
    max_response_bytes: int | None = None
    list_limit: int | None = None
    list_cursor: str | None = None
    version: int | None = None  # 0: all
    is_purge: bool = False


NO_OPTIONS = Options()
"""The options of a call without option headers, which most calls are."""


def asks(headers: Container[str]) -> bool:
    """Return whether a request has precondition or limit headers.

    Header names are compared without regard to case.
    """
    # The names are tested one by one because this runs for every call, and few calls have one.
    return (
        "if-match" in headers
        or "if-none-match" in headers
        or "x-sealspace-purge" in headers
        or "x-sealspace-version" in headers
        or "x-tinycloud-cursor" in headers
        or "x-tinycloud-expected-version" in headers
        or "x-tinycloud-limit" in headers
        or "x-tinycloud-max-response-bytes" in headers
    )


def parse_options(
    headers: Mapping[str, str],
    *,
    reads: int,
    puts: int,
    deletes: int,
    is_form: bool,
    metadata_reads: int = 0,
) -> Options:
    """Parse the headers that set preconditions and limits.

    The meaning of a condition depends on how many operations of each kind the token requests, and
    on whether the body is a form.

    Args:
        headers: untrusted, keyed by lower-case name.
        reads, puts, deletes, metadata_reads: number of operations of each kind that the token
            requests.
        is_form: whether the body is `multipart/form-data`.

    Raises:
        Refusal: `bad-option`, a header is malformed or does not apply to this call.
    """
    if "x-tinycloud-expected-version" in headers:
        raise Refusal(
            "bad-option",
            "x-tinycloud-expected-version is not a production precondition; use If-Match",
        )
    unless, only_if = headers.get("if-none-match"), headers.get("if-match")
    if unless is not None and only_if is not None:
        raise Refusal("bad-option", "KV preconditions cannot be combined")
    # with several writes it would be ambiguous which value the condition is about
    writes_one = puts + deletes == 1 and not is_form
    create_only, replace_etag, if_none_match = False, None, None
    if unless is not None:
        if puts + deletes == 0 and reads == 1:  # the versions that the caller has cached (4.4.1)
            if_none_match = unless
        elif unless.strip() != "*":
            raise Refusal("bad-option", "If-None-Match only supports * for KV create")
        elif not writes_one or not puts:
            raise Refusal(
                "bad-option", "If-None-Match: * requires exactly one non-multipart KV put"
            )
        else:
            create_only = True
    if only_if is not None:
        replace_etag = _strong_tag(only_if.strip())
        if not writes_one:
            raise Refusal(
                "bad-option", "If-Match requires exactly one non-multipart KV put or delete"
            )
    max_response_bytes, list_limit = [
        _positive(headers, name) for name in ("x-tinycloud-max-response-bytes", "x-tinycloud-limit")
    ]
    if list_limit is not None and list_limit > MAX_LIST_LIMIT:
        raise Refusal("bad-option", f"x-tinycloud-limit must be between 1 and {MAX_LIST_LIMIT}")
    version, counts = headers.get("x-sealspace-version"), (reads + metadata_reads, puts + deletes)
    if version is not None and counts != (1, 0):
        raise Refusal("bad-option", "x-sealspace-version requires exactly one KV get or metadata")
    is_purge = "x-sealspace-purge" in headers
    if is_purge and (headers["x-sealspace-purge"] != "true" or counts != (0, 1) or puts):
        raise Refusal("bad-option", "x-sealspace-purge requires exactly one KV delete, and true")
    return Options(
        create_only,
        replace_etag,
        if_none_match,
        max_response_bytes,
        list_limit,
        headers.get("x-tinycloud-cursor"),
        0 if version == "all" and metadata_reads else _positive(headers, "x-sealspace-version"),
        is_purge,
    )


def matches_weakly(header: str | None, etag: str) -> bool:
    """Return whether an `If-None-Match` header matches an entity tag.

    Tags are compared weakly (RFC 9110).
    """
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags


def _strong_tag(value: str) -> str:
    inner = value.removeprefix('"blake3-').removesuffix('"')
    if len(inner) + len('"blake3-"') != len(value):
        raise Refusal(
            "bad-option", 'If-Match must be a strong TinyCloud ETag: "blake3-<64 hex characters>"'
        )
    if len(inner) != 64:
        raise Refusal("bad-option", "If-Match must contain a 32-byte BLAKE3 digest")
    if _HEX64.fullmatch(inner) is None:
        raise Refusal("bad-option", "If-Match BLAKE3 digest must be hexadecimal")
    return inner.lower()


def _positive(headers: Mapping[str, str], name: str) -> int | None:
    value = headers.get(name)
    if value is None:
        return None
    if _POSITIVE.fullmatch(value.strip()) is None:
        raise Refusal("bad-option", f"{name} must be a positive integer")
    return int(value)
