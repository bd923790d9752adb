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
_TAG_START = '"blake3-'
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

    @property
    def has_write_condition(self) -> bool:
        """Whether a write depends on the present value."""
        return self.create_only or self.replace_etag is not None


NO_OPTIONS = Options()
"""The options of a call without option headers, which most calls are."""


def has_option_headers(headers: Container[str]) -> bool:
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
    if "if-none-match" in headers and "if-match" in headers:
        raise Refusal("bad-option", "KV preconditions cannot be combined")
    writes = puts + deletes
    # With several writes it would be ambiguous which value the condition is about.
    writes_one = writes == 1 and not is_form
    unless = headers.get("if-none-match")
    if_none_match = None
    create_only = False
    if unless is not None:
        if writes == 0 and reads == 1:
            # A read states the versions that the caller has cached (4.4.1).
            if_none_match = unless
        else:
            _check_create_only(unless, puts_one=writes_one and puts == 1)
            create_only = True
    replace_etag = _replaced_etag(headers, writes_one=writes_one)
    max_response_bytes = _positive(headers, "x-tinycloud-max-response-bytes")
    list_limit = _list_limit(headers)
    all_reads = reads + metadata_reads
    reads_one = all_reads == 1 and writes == 0
    if "x-sealspace-version" in headers and not reads_one:
        raise Refusal("bad-option", "x-sealspace-version requires exactly one KV get or metadata")
    # A refused purge is reported before a malformed version.
    deletes_one = deletes == 1 and puts == 0 and all_reads == 0
    is_purge = _is_purge(headers, deletes_one=deletes_one)
    return Options(
        create_only=create_only,
        replace_etag=replace_etag,
        if_none_match=if_none_match,
        max_response_bytes=max_response_bytes,
        list_limit=list_limit,
        list_cursor=headers.get("x-tinycloud-cursor"),
        version=_version(headers, may_be_all=metadata_reads > 0),
        is_purge=is_purge,
    )


def _check_create_only(unless: str, *, puts_one: bool) -> None:
    """Check an `If-None-Match` header that makes a write depend on the absence of a value."""
    if unless.strip() != "*":
        raise Refusal("bad-option", "If-None-Match only supports * for KV create")
    if not puts_one:
        raise Refusal("bad-option", "If-None-Match: * requires exactly one non-multipart KV put")


def _replaced_etag(headers: Mapping[str, str], *, writes_one: bool) -> str | None:
    """Return the version that a write replaces or deletes, by its ETag in `If-Match`."""
    only_if = headers.get("if-match")
    if only_if is None:
        return None
    etag = _strong_tag(only_if.strip())
    if not writes_one:
        raise Refusal("bad-option", "If-Match requires exactly one non-multipart KV put or delete")
    return etag


def _list_limit(headers: Mapping[str, str]) -> int | None:
    limit = _positive(headers, "x-tinycloud-limit")
    if limit is not None and limit > MAX_LIST_LIMIT:
        raise Refusal("bad-option", f"x-tinycloud-limit must be between 1 and {MAX_LIST_LIMIT}")
    return limit


def _is_purge(headers: Mapping[str, str], *, deletes_one: bool) -> bool:
    """Return whether the request deletes a value with all of its versions."""
    asked = headers.get("x-sealspace-purge")
    if asked is None:
        return False
    if asked != "true" or not deletes_one:
        raise Refusal("bad-option", "x-sealspace-purge requires exactly one KV delete, and true")
    return True


def _version(headers: Mapping[str, str], *, may_be_all: bool) -> int | None:
    """Return the number of the requested version; 0 means all of them."""
    if may_be_all and headers.get("x-sealspace-version") == "all":
        return 0
    return _positive(headers, "x-sealspace-version")


def matches_weakly(header: str | None, etag: str) -> bool:
    """Return whether an `If-None-Match` header matches an entity tag.

    Tags are compared weakly (RFC 9110).
    """
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags


def _strong_tag(value: str) -> str:
    """Return the digest in an entity tag, as lower-case hexadecimal digits."""
    if not value.startswith(_TAG_START) or not value.endswith('"'):
        raise Refusal(
            "bad-option", 'If-Match must be a strong TinyCloud ETag: "blake3-<64 hex characters>"'
        )
    inner = value.removeprefix(_TAG_START).removesuffix('"')
    if len(inner) != 64:
        raise Refusal("bad-option", "If-Match must contain a 32-byte BLAKE3 digest")
    if _HEX64.fullmatch(inner) is None:
        raise Refusal("bad-option", "If-Match BLAKE3 digest must be hexadecimal")
    return inner.lower()


def _positive(headers: Mapping[str, str], name: str) -> int | None:
    """Return the positive integer in a header, or None without the header."""
    value = headers.get(name)
    if value is None:
        return None
    digits = value.strip()  # `int` would not remove all characters that `strip` does
    if _POSITIVE.fullmatch(digits) is None:
        raise Refusal("bad-option", f"{name} must be a positive integer")
    return int(digits)
