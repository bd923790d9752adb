"""Values: written, read, listed, deleted, in batches and under conditions."""

import base64
import json
from collections.abc import Mapping, Sequence

from sealspace_conformance.encodings import etag
from sealspace_conformance.expectations import (
    Expectation,
    data,
    empty,
    is_same_json,
    json_body,
    members,
    problem,
    status,
    text,
)
from sealspace_conformance.keys import new_key
from sealspace_conformance.run import Owner, Run, fresh_name
from sealspace_conformance.tokens import Token, plain
from sealspace_conformance.transport import Answer

_HELLO = b"hello"
_OTHER = b"other bytes"
_BOUNDARY = "conformanceboundary"


async def values(run: Run) -> None:
    """Check single values."""
    run.hosted_owner()
    folder = fresh_name()
    path = f"{folder}/hello.txt"
    stored = {"content-type": "text/plain", "x-tinycloud-meta-color": "green"}
    await run.invoke(
        "4.4.3",
        "put a value",
        empty(200, {"etag": etag(_HELLO)}),
        run.kv_call("put", path),
        body=_HELLO,
        headers=stored,
    )
    read = {
        "etag": etag(_HELLO),
        "cache-control": "private, no-cache",
        "content-length": "5",
        **stored,
    }
    await run.invoke("4.4.1", "get it", data(_HELLO, headers=read), run.kv_call("get", path))
    await run.invoke(
        "4.4.1",
        "get it if it changed",
        status(304),
        run.kv_call("get", path),
        headers={"if-none-match": f"W/{etag(_HELLO)}"},
    )
    described = empty(200, {"etag": etag(_HELLO), **stored})
    if run.is_sealspace:
        described = described.and_that(
            "a time of storing", lambda answer: "last-modified" in answer.headers
        )
    await run.invoke("4.4.2", "read its metadata", described, run.kv_call("metadata", path))
    await run.invoke(
        "4.4.1",
        "get it with a bound of 4 bytes",
        text(413, "KV response is 5 bytes, exceeding the requested limit of 4 bytes"),
        run.kv_call("get", path),
        headers={"x-tinycloud-max-response-bytes": "4"},
    )
    await _conditions(run, path)
    await _replacing(run, path)
    await _odd_values(run, folder)
    await _deleting(run, path, f"{folder}/never")
    await _options(run, path)


async def _conditions(run: Run, path: str) -> None:
    lost = text(412, "KV precondition failed")
    await run.invoke(
        "4.4.5",
        "create it although it exists",
        lost,
        run.kv_call("put", path),
        body=_OTHER,
        headers={"if-none-match": "*"},
    )
    await run.invoke(
        "4.4.5",
        "replace another value than the one that is there",
        lost,
        run.kv_call("put", path),
        body=_OTHER,
        headers={"if-match": etag(_OTHER)},
    )
    await run.invoke("M3", "get it after both", data(_HELLO), run.kv_call("get", path))


async def _replacing(run: Run, path: str) -> None:
    await run.invoke(
        "4.4.5",
        "replace the value that is there",
        empty(200, {"etag": etag(_OTHER)}),
        run.kv_call("put", path),
        body=_OTHER,
        headers={"if-match": etag(_HELLO)},
    )
    without = {"content-type": "", "x-tinycloud-meta-color": ""}
    await run.invoke(
        "M2", "get it: no old metadata", data(_OTHER, headers=without), run.kv_call("get", path)
    )


async def _odd_values(run: Run, folder: str) -> None:
    escaped = f"{folder}/a%2Fb"
    await run.invoke(
        "4.4.3",
        "put an empty value",
        empty(200, {"etag": etag(b"")}),
        run.kv_call("put", escaped),
        body=b"",
    )
    await run.invoke(
        "U13",
        "list it: the key as it was signed",
        json_body([escaped]),
        run.kv_call("list", escaped),
    )
    await run.invoke(
        "U13", "get the decoded key", problem(404), run.kv_call("get", f"{folder}/a/b")
    )
    await run.invoke(
        "4.4.1",
        "get the empty value",
        empty(200, {"content-length": "0", "content-type": ""}),
        run.kv_call("get", escaped),
    )


async def _deleting(run: Run, path: str, never: str) -> None:
    await run.invoke(
        "4.4.8", "delete the value", empty(200, {"etag": etag(_OTHER)}), run.kv_call("del", path)
    )
    await run.invoke("M31", "get it", problem(404), run.kv_call("get", path))
    await run.invoke(
        "4.4.8", "delete it again", empty(200, {"etag": ""}), run.kv_call("delete", path)
    )
    await run.invoke(
        "4.4.8",
        "delete a key that was never written",
        text(404, f"No Such Key: {never}"),
        run.kv_call("del", never),
    )
    await run.invoke(
        "M30",
        "create it anew",
        empty(200),
        run.kv_call("put", path),
        body=_HELLO,
        headers={"if-none-match": "*"},
    )


async def _options(run: Run, path: str) -> None:
    for name, header, value, words in (
        ("list", "x-tinycloud-limit", "0", "x-tinycloud-limit must be a positive integer"),
        ("list", "x-tinycloud-limit", "1001", "x-tinycloud-limit must be between 1 and 1000"),
        ("list", "x-tinycloud-cursor", "AAAA", "Invalid KV list cursor"),
        ("put", "if-none-match", '"x"', "If-None-Match only supports * for KV create"),
        (
            "put",
            "if-match",
            "5",
            'If-Match must be a strong TinyCloud ETag: "blake3-<64 hex characters>"',
        ),
        (
            "get",
            "x-tinycloud-max-response-bytes",
            "many",
            "x-tinycloud-max-response-bytes must be a positive integer",
        ),
    ):
        sent = {header: value}
        if header == "x-tinycloud-cursor":
            sent["x-tinycloud-limit"] = "1"
        await run.invoke(
            "4.4.5" if header != "x-tinycloud-cursor" else "4.4.4",
            f"{name} with {header}: {value}",
            text(400, words),
            run.kv_call(name, path),
            body=b"" if name == "put" else None,
            headers=sent,
        )


async def listings(run: Run) -> None:
    """Check lists and their pages."""
    run.hosted_owner()
    folder = fresh_name()
    keys = [f"{folder}/{name}" for name in ("B", "a", "a.b", "b")]
    for key in reversed(keys):
        await run.prepare("a value", run.kv_call("put", key), body=_HELLO)
    await run.prepare("a value beside", run.kv_call("put", f"{folder}2/x"), body=_HELLO)
    whole = json_body(keys).and_that(
        "x-tinycloud-truncated: false",
        lambda answer: answer.headers.get("x-tinycloud-truncated") == "false",
    )
    await run.invoke(
        "4.4.4", "list a folder, in byte order", whole, run.kv_call("list", f"{folder}/")
    )
    await run.invoke(
        "M61",
        "list by whole segments: a key alone, not those that begin with its text",
        json_body(keys[1:2]),
        run.kv_call("list", f"{folder}/a"),
    )
    page = json_body(keys[:3]).and_that(
        "x-tinycloud-truncated: true, and a cursor",
        lambda answer: (
            answer.headers.get("x-tinycloud-truncated") == "true"
            and bool(answer.headers.get("x-tinycloud-next-cursor"))
        ),
    )
    limited = {"x-tinycloud-limit": "3"}
    first = await run.invoke(
        "4.4.4",
        "list a page of three",
        page,
        run.kv_call("list", f"{folder}/"),
        headers=limited,
    )
    cursor = first.headers.get("x-tinycloud-next-cursor", "")
    await run.invoke(
        "Q1",
        "the next page",
        json_body(keys[3:]),
        run.kv_call("list", f"{folder}/"),
        headers={**limited, "x-tinycloud-cursor": cursor},
    )
    await run.invoke(
        "Q1",
        "the cursor under another prefix",
        text(400, "Invalid KV list cursor"),
        run.kv_call("list", folder),
        headers={**limited, "x-tinycloud-cursor": cursor},
    )
    await run.prepare("a delete", run.kv_call("del", keys[0]), body=b"")
    await run.invoke(
        "M31", "list after a delete", json_body(keys[1:]), run.kv_call("list", f"{folder}/")
    )


async def batches(run: Run) -> None:
    """Check several values in one token."""
    owner = run.hosted_owner()
    folder = fresh_name()
    one, two, three = (f"{folder}/{name}" for name in ("one", "two", "three"))
    form = {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"}
    await run.invoke(
        "4.4.6",
        "put two values in one form",
        json_body({"written": [one, two], "count": 2}),
        _several(run, owner, "put", [one, two]),
        body=_form({two: b"second", one: b"first"}),
        headers=form,
    )
    await run.invoke(
        "4.4.6",
        "a form with a part that was not signed",
        status(400).and_that("a text that names it", lambda a: "is not authorized" in a.text),
        _several(run, owner, "put", [one]),
        body=_form({one: b"third", three: b"third"}),
        headers=form,
    )
    await run.invoke(
        "4.4.6",
        "a form without a part that was signed",
        text(400, f"Missing multipart KV parts for signed paths: {three}"),
        _several(run, owner, "put", [one, three]),
        body=_form({one: b"third"}),
        headers=form,
    )
    await run.invoke(
        "M5",
        "get two values after the refused forms",
        _read_together([(one, b"first"), (two, b"second")]),
        _several(run, owner, "get", [one, two]),
    )
    await run.invoke(
        "Q22",
        "get a value and one that is absent",
        _read_together([(one, b"first"), (three, None)]),
        _several(run, owner, "get", [one, three]),
    )
    await run.invoke(
        "4.4.6",
        "put two values without a form",
        text(400, "KV batch put requires multipart/form-data"),
        _several(run, owner, "put", [one, two]),
        body=_HELLO,
    )
    mixed = run.call(
        owner.session,
        {f"{owner.space()}/kv/{one}": plain("tinycloud.kv/del", "tinycloud.kv/get")},
        proofs=[owner.sign_in],
    )
    await run.invoke(
        "Q3",
        "get and delete in one token",
        text(400, "Multiple invocation outcomes require a homogeneous KV get or metadata batch"),
        mixed,
    )
    await run.invoke(
        "Q4",
        "delete a value and one that was never written",
        status(404).and_that("No Such Key", lambda answer: answer.text == f"No Such Key: {three}"),
        _several(run, owner, "del", [one, three]),
    )
    await run.invoke("Q4", "get it: nothing was deleted", data(b"first"), run.kv_call("get", one))
    await run.invoke("Q4", "delete two values", empty(200), _several(run, owner, "del", [one, two]))
    await run.invoke("Q4", "get one of them", problem(404), run.kv_call("get", two))


def _several(run: Run, owner: Owner, name: str, paths: Sequence[str]) -> Token:
    grants = {f"{owner.space()}/kv/{path}": plain(f"tinycloud.kv/{name}") for path in paths}
    return run.call(owner.session, grants, proofs=[owner.sign_in])


def _form(parts: Mapping[str, bytes]) -> bytes:
    lines = b""
    for name, value in parts.items():
        quoted = name.replace("/", "%2F")
        lines += f"--{_BOUNDARY}\r\n".encode()
        lines += f'Content-Disposition: form-data; name="{quoted}"\r\n\r\n'.encode()
        lines += value + b"\r\n"
    return lines + f"--{_BOUNDARY}--\r\n".encode()


def _read_together(wanted: Sequence[tuple[str, bytes | None]]) -> Expectation:
    expected = sorted(wanted)

    def fits(answer: Answer) -> bool:
        results = answer.object.get("results")
        if not isinstance(results, list) or len(results) != len(expected):
            return False
        for result, (key, value) in zip(results, expected, strict=True):
            if not isinstance(result, dict) or result.get("key") != key:
                return False
            if not is_same_json(result.get("ok"), value is not None):
                return False
            if value is not None:
                encoded = base64.b64encode(value).decode("ascii")
                if result.get("dataBase64") != encoded:
                    return False
        return True

    words = json.dumps({key: value and value.decode() for key, value in expected})
    return status(200).and_that(f"results for {words}", fits)


async def spaces(run: Run) -> None:
    """Check spaces: their list, those that are not hosted, public ones and owners with a key."""
    owner = run.hosted_owner()

    def space_call(ability: str, path: str) -> Token:
        grants = {f"{owner.space()}/space{path}": plain(f"tinycloud.space/{ability}")}
        return run.call(owner.session, grants, proofs=[owner.sign_in])

    names = {owner.space(name) for name in ("default", "public", "secrets")}
    listed = status(200).and_that("the three spaces", lambda a: _ids(a) == names)
    await run.invoke("4.7", "list the owner's spaces", listed, space_call("list", ""))
    described = members({"id": owner.space(), "name": "default", "type": "owned"})
    await run.invoke("4.7", "describe one", described, space_call("info", "/default"))
    await run.invoke(
        "4.7",
        "describe one that does not exist",
        text(404, "Space not found"),
        space_call("info", "/nothere"),
    )
    unhosted = new_key()
    resource = f"tinycloud:{unhosted.did.removeprefix('did:')}:default/kv/x"
    await run.invoke(
        "M60",
        "get from a space that is not hosted",
        text(404, "Space not found"),
        run.call(unhosted, {resource: plain("tinycloud.kv/get")}),
    )
    grants = {f"{owner.space()}/anything/x": plain("conformance.test/do")}
    await run.invoke(
        "I34",
        "an ability that was not granted",
        text(
            401,
            f"Unauthorized Action: {owner.space()}/anything/x / conformance.test/do",
        ),
        run.call(owner.session, grants, proofs=[owner.sign_in]),
    )
    await _public(run, owner)


def _ids(answer: Answer) -> set[str]:
    listed = answer.json
    if isinstance(listed, dict):
        listed = listed.get("spaces")
    if not isinstance(listed, list):
        return set()
    return {str(space.get("id")) for space in listed if isinstance(space, dict)}


async def _public(run: Run, owner: Owner) -> None:
    key = fresh_name()
    page = b"<script>1</script>"
    await run.prepare(
        "a public page",
        run.kv_call("put", key, space="public"),
        body=page,
        headers={"content-type": "text/html"},
    )
    shown = data(page, headers={"content-type": "application/octet-stream", "etag": etag(page)})
    path = f"/public/{owner.space('public')}/kv/{key}"
    await run.ask("5.11", "a public page without a token, as bytes", shown, "GET", path)
    await run.ask(
        "U8",
        "a value of a space that is not public",
        text(403, "Not a public space"),
        "GET",
        f"/public/{owner.space()}/kv/{key}",
    )
    await run.ask(
        "5.11",
        "a public value that is absent",
        text(404, "Key not found"),
        "GET",
        f"/public/{owner.space('public')}/kv/{fresh_name()}",
    )


async def signed_urls(run: Run) -> None:
    """Check URLs with which a value is read without a token."""
    owner = run.hosted_owner()
    path = fresh_name()
    await run.prepare("a value", run.kv_call("put", path), body=_HELLO)
    body = json.dumps({"space": owner.space(), "path": path}).encode()
    sent = {"content-type": "application/json"}
    made = status(200).and_that(
        "a url below /signed/kv/", lambda a: str(a.object.get("url", "")).startswith("/signed/kv/")
    )
    token = run.kv_call("get", path)
    answer = await run.ask(
        "5.10", "make a URL", made, "POST", "/signed/kv", token=token, body=body, headers=sent
    )
    await run.invoke(
        "I23",
        "use the same token for a call",
        text(409, "duplicate invocation"),
        token,
    )
    url = str(answer.object.get("url", "/signed/kv/none"))
    await run.ask("5.10", "read it", data(_HELLO), "GET", url)
    part = data(b"el", number=206, headers={"content-range": "bytes 1-2/5"})
    await run.ask("5.10", "read a part", part, "GET", url, headers={"range": "bytes=1-2"})
    await run.ask(
        "5.10",
        "a ticket that was never made",
        text(401, "signed URL ticket not found"),
        "GET",
        f"/signed/kv/{'A' * 43}",
    )
    await run.ask(
        "5.10",
        "make a URL for another value than the token names",
        text(403, "signed URL scope is not authorized"),
        "POST",
        "/signed/kv",
        token=run.kv_call("get", f"{path}2"),
        body=body,
        headers=sent,
    )
    await run.prepare("another value", run.kv_call("put", path), body=_OTHER)
    await run.ask(
        "5.10",
        "read it after the value changed",
        text(412, "signed URL content hash does not match"),
        "GET",
        url,
    )
