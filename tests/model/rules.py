"""A model of the rules for delegations and values, with plain dictionaries and loops.

It is written from spec/capabilities.md and spec/wire.md alone and imports nothing of the product.
The model contains the grants with their parents, paths, abilities, windows and marks, and the
values by space and path. It returns the expected answer for each step. Limits on sizes and numbers,
caveats and other spellings are left out, because no trace contains them.
"""

import base64
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from blake3 import blake3
from model.steps import HOST, KV, OWNERS, REVOKE, WALLETS, Call, Grant, Revoke, Row, resource_in

LIFETIME_S = 300
_NO_PARENT = "Cannot find parent delegation"
_OUTSIDE = "Delegation expired or not yet valid"
_VERBS = {
    KV + "get": "get",
    KV + "metadata": "metadata",
    KV + "put": "put",
    KV + "list": "list",
} | {
    KV + "del": "delete",
    KV + "delete": "delete",
}


@dataclass(frozen=True, slots=True)
class Expected:
    """An expected answer.

    A `body` of None matches any text (H2). A value of None in `headers` means that the
    header is absent. `has_cursor` says whether there is a cursor, whose text the node chooses.
    """

    status: int
    body: bytes | None = b""
    headers: Mapping[str, str | None] = field(default_factory=dict)
    has_cursor: bool = False


class Refusal(Exception):
    """An exception that ends a step with a status and one of several texts.

    Without texts, any text is accepted (H2).
    """

    def __init__(self, status: int, *texts: str) -> None:
        super().__init__(status, *texts)
        self.status, self.texts = status, texts


def body_of(number: int) -> bytes:
    """Return the value for a number; different numbers give different values and lengths."""
    return b"value %d " % number * (number % 5)


def etag_of(number: int) -> str:
    """Return the entity tag of a value (4.4.1)."""
    return f'"blake3-{blake3(body_of(number)).hexdigest()}"'


def type_of(number: int) -> str:
    """Return the content type that is stored with a value."""
    return f"text/v{number}"


def contains(parent: str | None, child: str | None) -> bool:
    """Return whether a path contains another one (X2 to X4)."""
    if parent is None:
        return True  # X2
    if child is None:
        return False  # X4
    if not child.startswith(parent):
        return False
    return parent.endswith("/") or child == parent or child[len(parent)] == "/"  # X3


def plain(ability: str) -> str:
    """Return an ability with its alias resolved (A3)."""
    return KV + "del" if ability == KV + "delete" else ability


def covers(held: Row, asked: Row) -> bool:
    """Return whether one capability covers another one (X1, A5)."""
    same_place = (held.space, held.service) == (asked.space, asked.service)
    return (
        same_place
        and contains(held.path, asked.path)
        and plain(held.ability) == plain(asked.ability)
    )


class Model:
    """The expected state of a node, and its expected answers.

    `names` contains the DID of each person and the text of each space.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names
        self.start = 0.0  # epoch seconds
        self.now = 0.0  # since the start
        self.stored_at: dict[tuple[str, str], float] = {}
        self.grants: dict[int, dict[str, Any]] = {}
        self.hosted: set[str] = set()
        self.values: dict[str, dict[str, int | None]] = {space: {} for space in OWNERS}
        self.used: set[int] = set()
        self.cursors: dict[int, tuple[object, ...]] = {}

    # --- questions --------------------------------------------------------------------------------

    def text_of(self, row: Row) -> str:
        """Return the resource of a capability as text."""
        return resource_in(self.names[row.space], row)

    def in_order(self, rows: Iterable[Row]) -> list[Row]:
        """Return capabilities sorted by resource, then by ability (T7)."""
        return sorted(rows, key=lambda row: (self.text_of(row), row.ability))

    def ancestors(self, label: int) -> set[int]:
        """Return all ancestors of a grant."""
        above: set[int] = set()
        for parent in self.grants[label]["parents"]:
            above |= {parent} | self.ancestors(parent)
        return above

    def depth(self, label: int) -> int:
        """Return the number of grants on the longest path from a grant to its root."""
        return 1 + max((self.depth(parent) for parent in self.grants[label]["parents"]), default=0)

    def is_inside(self, grant: Mapping[str, Any]) -> bool:
        """Return whether a grant is inside its own window (C8, T4)."""
        begins, ends = grant["begins"], grant["ends"]
        if begins is not None and (
            self.now <= begins if grant["signer"] in WALLETS else self.now < begins
        ):
            return False
        return ends is None or self.now <= ends

    def is_live(self, label: int) -> bool:
        """Return whether a grant and its ancestors are neither revoked nor expired (I32, I33)."""
        line = [self.grants[one] for one in {label} | self.ancestors(label)]
        return not any(
            g["revoked"] or (g["ends"] is not None and self.now >= g["ends"]) for g in line
        )

    def _revoked_above(self, label: int) -> list[int]:
        return sorted(one for one in self.ancestors(label) if self.grants[one]["revoked"])

    def _dependent(self, signer: str, rows: Iterable[Row]) -> list[Row]:
        return [row for row in self.in_order(rows) if OWNERS[row.space] != signer]  # R1

    def _require_registered(self, labels: tuple[int, ...]) -> None:
        if any(label not in self.grants for label in labels) or len(set(labels)) < len(labels):
            raise Refusal(401, _NO_PARENT)  # D22, I30, I31

    # --- delegations ------------------------------------------------------------------------------

    def delegate(self, step: Grant, cid: str) -> Expected:
        """Register a grant, for the first time or again."""
        known = self.grants.get(step.label)
        if known is not None:  # D4, Q6
            if known["revoked"]:
                raise Refusal(401, f"delegation-revoked: {cid}")
            if above := self._revoked_above(step.label):  # not live either
                found = "delegation-ancestor-revoked: ancestor={} parent={}".format
                raise Refusal(401, *(found(self.grants[one]["cid"], cid) for one in above))
            if not self.is_inside(known):
                raise Refusal(401, _OUTSIDE)
            return self._registered(step, cid)
        grant = {
            "signer": step.signer,
            "audience": step.audience,
            "rows": step.rows,
            "parents": step.parents,
            "begins": step.begins,
            "ends": step.ends,
            "terminal": step.terminal,
            "revoked": False,
            "cid": cid,
        }
        if not self.is_inside(grant):
            raise Refusal(401, _OUTSIDE)  # D6
        self._judge_chain(step)
        self.grants[step.label] = grant
        for row in step.rows:
            is_own = not step.parents and OWNERS[row.space] == step.signer  # store 6
            if is_own or (row.service, row.path, row.ability) == ("space", None, HOST):  # D40
                self.hosted.add(row.space)
        return self._registered(step, cid)

    def _registered(self, step: Grant, cid: str) -> Expected:
        mentioned = list(dict.fromkeys(self.names[row.space] for row in self.in_order(step.rows)))
        hosted = {self.names[space] for space in self.hosted}
        answer = {
            "cid": cid,
            "activated": [space for space in mentioned if space in hosted],
            "skipped": [space for space in mentioned if space not in hosted],
        }
        return Expected(200, json.dumps(answer).encode())

    def _judge_chain(self, step: Grant) -> None:
        dependent = self._dependent(step.signer, step.rows)
        if dependent and not step.parents:
            raise Refusal(401, _NO_PARENT)  # D21
        self._require_registered(step.parents)
        parents = [self.grants[label] for label in step.parents]
        if dependent and any(parent["audience"] != step.signer for parent in parents):
            raise Refusal(401, f"Unauthorized Delegator: {self.names[step.signer]}")  # D22
        for label, parent in zip(step.parents, parents, strict=True):  # D23
            if parent["revoked"]:
                raise Refusal(401, f"delegation-parent-revoked: {parent['cid']}")
            if above := self._revoked_above(label):
                found = "delegation-ancestor-revoked: ancestor={} parent={}".format
                raise Refusal(
                    401, *(found(self.grants[one]["cid"], parent["cid"]) for one in above)
                )
        if not dependent:
            return  # D20
        if any(parent["terminal"] for parent in parents):
            raise Refusal(401, "terminal-parent-cannot-redelegate")  # D24
        left = self._within_windows(step, parents)
        for row in dependent:  # D27
            if not any(covers(held, row) for parent in left for held in parent["rows"]):
                raise Refusal(401, f"Unauthorized Capability: {self.text_of(row)}, {row.ability}")

    def _within_windows(self, step: Grant, parents: list[dict[str, Any]]) -> list[dict[str, Any]]:
        def outlives(parent: Mapping[str, Any]) -> bool:
            return parent["ends"] is not None and (step.ends is None or step.ends > parent["ends"])

        def precedes(parent: Mapping[str, Any]) -> bool:
            return parent["begins"] is not None and (
                step.begins is None or step.begins < parent["begins"]
            )

        # D25
        left = [parent for parent in parents if not outlives(parent) and not precedes(parent)]
        if left:
            return left
        if any(outlives(parent) for parent in parents):
            raise Refusal(401, "Child delegation expiry exceeds parent expiry")
        raise Refusal(401, "Child delegation not_before precedes parent not_before")

    # --- revocations ------------------------------------------------------------------------------

    def revoke(self, step: Revoke, target_cid: str) -> Expected:
        """Revoke a grant (5.5)."""
        if self.now > step.ends:
            raise Refusal(403)
        acting = self._acting(step)
        if step.target not in self.grants:
            raise Refusal(403, *(() if step.proofs else (_NO_PARENT,)))  # W20
        target = self.grants[step.target]
        if acting is None:
            raise Refusal(403)  # W21
        owners = {OWNERS[row.space] for row in target["rows"]}
        if acting not in {target["signer"], target["audience"]} | owners:
            raise Refusal(403, "Unauthorized Revoker")  # W22
        target["revoked"] = True
        return Expected(200, json.dumps({"revoked": True, "cid": target_cid}).encode())

    def _acting(self, step: Revoke) -> str | None:
        """Return the principal that a revocation acts for, or None (W21, W23)."""
        if not step.proofs:
            return step.signer
        if len(step.proofs) != 1 or step.proofs[0] not in self.grants:
            return None
        label = step.proofs[0]
        proof = self.grants[label]
        holds = any(
            (row.service, row.path, row.ability) == ("delegation", None, REVOKE)
            and OWNERS[row.space] == proof["signer"]
            for row in proof["rows"]
        )
        # The window of a proof ends here as that of a call's chain does (I33): a little earlier
        # than T4 says.
        if proof["audience"] != step.signer or not self.is_live(label) or not holds:
            return None
        return str(proof["signer"])

    # --- calls ------------------------------------------------------------------------------------

    def call(self, step: Call) -> Expected:
        """Use an invocation, for the first time or again."""
        if step.signer in WALLETS:
            raise Refusal(401)  # I1: a CACAO is no invocation
        if self.now > step.ends:
            raise Refusal(401, "Invocation expired or not yet valid")  # I2
        if step.ends > math.floor(self.now) + LIFETIME_S:
            raise Refusal(401, "Invocation lifetime exceeds server maximum")  # I4
        work = self._plan(step)  # I9, I15
        if step.label in self.used:
            raise Refusal(409, "duplicate invocation")  # I12
        self.used.add(step.label)
        self._authorise(step)
        self._require_hosted(step, work)
        return self._run(step, work)

    def _plan(self, step: Call) -> list[tuple[str, Row]]:
        rows = [
            row for row in self.in_order(step.rows) if row.service == "kv" and row.path is not None
        ]
        work = [(_VERBS[row.ability], row) for row in rows if row.ability in _VERBS]
        verbs = [verb for verb, _ in work]
        self._judge_options(step, verbs)
        if verbs.count("put") > 1:
            raise Refusal(400, "KV batch put requires multipart/form-data")
        if len(work) > 1 and set(verbs) not in ({"get"}, {"metadata"}, {"delete"}):
            raise Refusal(
                400, "Multiple invocation outcomes require a homogeneous KV get or metadata batch"
            )
        if verbs == ["list"] and step.cursor is not None:
            bound = (step.signer, rows[0].space, rows[0].path, step.limit)
            if step.limit is None or self.cursors[step.cursor][:-1] != bound:
                raise Refusal(400, "Invalid KV list cursor")
        return work

    def _judge_options(self, step: Call, verbs: list[str]) -> None:
        found = [*_misplaced(step, verbs)]
        if step.limit is not None and step.limit < 1:
            found.append("x-tinycloud-limit must be a positive integer")
        if step.limit is not None and step.limit > 1000:
            found.append("x-tinycloud-limit must be between 1 and 1000")
        if found:
            raise Refusal(400, *found)  # 4.4.5 does not say which of several comes first

    def _authorise(self, step: Call) -> None:
        dependent = self._dependent(step.signer, step.rows)
        if dependent and not step.proofs:
            raise Refusal(401, _NO_PARENT)  # I31
        self._require_registered(step.proofs)
        if not dependent:
            return  # I30
        cited = [self.grants[label] for label in step.proofs]
        if any(grant["audience"] != step.signer for grant in cited):
            raise Refusal(401, "Unauthorized Invoker")  # I32
        for label, grant in zip(step.proofs, cited, strict=True):
            if grant["revoked"]:
                raise Refusal(401, f"delegation-revoked: {grant['cid']}")
            if above := self._revoked_above(label):
                found = "delegation-ancestor-revoked: ancestor={} invoked={}".format
                raise Refusal(401, *(found(self.grants[one]["cid"], grant["cid"]) for one in above))
        missing = [] if all(self.is_live(label) for label in step.proofs) else dependent[:1]  # I33
        held = [row for grant in cited for row in grant["rows"]]
        missing += [row for row in dependent if not any(covers(one, row) for one in held)]  # I34
        if missing:
            raise Refusal(
                401, f"Unauthorized Action: {self.text_of(missing[0])} / {missing[0].ability}"
            )

    def _require_hosted(self, step: Call, work: list[tuple[str, Row]]) -> None:
        unhosted = {row.space for row in step.rows} - self.hosted
        for verb, row in work:
            if verb == "put" and OWNERS[row.space] == step.signer:
                unhosted.discard(row.space)  # store 6: hosted by this put, if it comes to pass
        if unhosted:
            raise Refusal(404, "Space not found")  # I37

    def _run(self, step: Call, work: list[tuple[str, Row]]) -> Expected:
        if not work:
            return Expected(200)  # 4.4
        if len(work) > 1:
            return self._delete_all(work) if work[0][0] == "delete" else self._read_all(work)
        verb, row = work[0]
        path = row.path or ""
        if verb == "list":
            return self._list(step, row)
        found = self.values[row.space].get(path)
        if verb in ("get", "metadata"):
            return self._read(step, row, found, with_body=verb == "get")
        self._judge_condition(step, found)
        if verb == "put":
            self.hosted.add(row.space)
            self.values[row.space][path] = step.body
            self.stored_at[row.space, path] = self.now
            return Expected(200, b"", {"etag": etag_of(step.body)})
        if path not in self.values[row.space]:
            raise Refusal(404, f"No Such Key: {path}")  # 4.4.8
        self.values[row.space][path] = None
        return Expected(200, b"", {"etag": None if found is None else etag_of(found)})

    def _judge_condition(self, step: Call, found: int | None) -> None:
        if step.condition is None:
            return
        header, value = step.condition
        holds = (
            found is None
            if header == "if-none-match"
            else found is not None and etag_of(found) == tag_of(value)
        )
        if not holds:
            raise Refusal(412, "KV precondition failed")  # 4.4.5

    def _last_modified(self, row: Row) -> dict[str, str]:
        at = int(self.start + self.stored_at[row.space, row.path or ""])
        return {"last-modified": formatdate(at, usegmt=True)}  # 4.4.2

    def _read(self, step: Call, row: Row, found: int | None, *, with_body: bool) -> Expected:
        if found is None:
            raise Refusal(404)
        if (
            with_body
            and step.condition is not None
            and tag_of(step.condition[1]) in ("*", etag_of(found))
        ):
            return Expected(304, b"")
        size = len(body_of(found))
        if with_body and step.most_bytes is not None and size > step.most_bytes:
            text = (
                f"KV response is {size} bytes, exceeding the requested limit of {step.most_bytes}"
                " bytes"
            )
            raise Refusal(413, text)
        headers = {"etag": etag_of(found), "content-type": type_of(found)}
        if not with_body:
            headers |= self._last_modified(row)
        return Expected(200, body_of(found) if with_body else b"", headers)

    def _list(self, step: Call, row: Row) -> Expected:
        prefix = row.path or ""
        keys = [
            key
            for key, value in self.values[row.space].items()
            if value is not None and _is_listed(key, prefix)
        ]
        keys = sorted(keys, key=str.encode)  # Q32
        if OWNERS[row.space] != step.signer:  # Q15
            held = [
                one
                for label in step.proofs
                for one in self.grants[label]["rows"]
                if covers(one, row)
            ]
            keys = [key for key in keys if any(contains(one.path, key) for one in held)]
        if step.cursor is not None:
            last = self.cursors[step.cursor][-1]
            keys = [key for key in keys if key.encode() > str(last).encode()]  # Q1
        page = keys if step.limit is None else keys[: step.limit]
        has_more = len(keys) > len(page)
        if has_more:
            self.cursors[step.label] = (step.signer, row.space, row.path, step.limit, page[-1])
        headers = {"x-tinycloud-truncated": "true" if has_more else "false"}
        return Expected(200, json.dumps(page).encode(), headers, has_cursor=has_more)

    def _delete_all(self, work: list[tuple[str, Row]]) -> Expected:
        places = [(row.space, row.path or "") for _, row in work]
        for space, path in places:
            if path not in self.values[space]:
                raise Refusal(404, f"No Such Key: {path}")  # 4.4.7
        for space, path in places:
            self.values[space][path] = None
        return Expected(200, b"", {"etag": None})  # Q4

    def _read_all(self, work: list[tuple[str, Row]]) -> Expected:
        results: list[dict[str, Any]] = []
        for verb, row in work:  # Q22
            path = row.path or ""
            found = self.values[row.space].get(path)
            if found is None:
                error = {"code": "KV_NOT_FOUND", "message": f"Key not found: {path}"}
                results.append({"key": path, "ok": False, "error": error})
                continue
            headers = {"etag": etag_of(found), "content-type": type_of(found)}
            result: dict[str, Any] = {"key": path, "ok": True, "headers": headers}
            if verb == "get":
                headers["content-length"] = str(len(body_of(found)))
                result["dataBase64"] = base64.b64encode(body_of(found)).decode()
            else:
                headers |= self._last_modified(row)
            results.append(result)
        return Expected(200, json.dumps({"results": results}).encode())


def _misplaced(step: Call, verbs: list[str]) -> Iterable[str]:
    """Yield the faults in the condition of a call (4.4.5)."""
    if step.condition is None:
        return
    header, value = step.condition
    gets, puts, deletes = verbs.count("get"), verbs.count("put"), verbs.count("delete")
    if header == "if-none-match" and gets != 1:
        if value != "*":
            yield "If-None-Match only supports * for KV create"
        if puts != 1:
            yield "If-None-Match: * requires exactly one non-multipart KV put"
    if header == "if-match":
        if (puts, deletes) not in ((1, 0), (0, 1)):
            yield "If-Match requires exactly one non-multipart KV put or delete"
        if value == "*":
            yield 'If-Match must be a strong TinyCloud ETag: "blake3-<64 hex characters>"'


def tag_of(value: str) -> str:
    """Return the entity tag that a condition's value stands for."""
    return etag_of(int(value[1:])) if value.startswith("v") else value


def _is_listed(key: str, prefix: str) -> bool:
    """Return whether a list by a prefix has a key: by whole segments (M61)."""
    return not prefix or key == prefix or key.startswith(f"{prefix.removesuffix('/')}/")
