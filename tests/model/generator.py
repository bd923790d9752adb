"""A generator of random steps, most of which are valid and many have a small fault.

It reads the model to find usable grants, so that chains get deep and values are read. It does not
predict whether a step succeeds.
"""

import math
from collections.abc import Sequence
from random import Random

from model.rules import Model, contains, plain
from model.steps import (
    HOST,
    KEYS,
    KV,
    OWNERS,
    PEOPLE,
    REVOKE,
    WALLETS,
    Again,
    Call,
    Grant,
    Revoke,
    Row,
    Rows,
    Step,
    Wait,
)

DEEPEST = 5
FAR_S = 1_000_000
# Neighbours by text, by segment and by slash; an escape, an empty path and one that begins with a
# slash.
PATHS = (
    "photos",
    "photos/",
    "photos/a",
    "photos/a/x",
    "photos/b",
    "photos2",
    "p",
    "notes/1",
    "notes/%C3%A9",
    "",
    "/l",
)
_ABILITIES = ("get", "put", "list", "del", "delete", "metadata", "*")
# Which of the abilities held are used more than others.
_WEIGHTS = {KV + "put": 6, KV + "get": 3, KV + "list": 3}
_SMALL_WAITS = (0.5, 0.5, 1, 1, 3, 8)
_LONG_WAITS = (20, 45, 130, 400)


class Generator:
    """Draws steps from a seeded random source."""

    def __init__(self, seed: str, model: Model) -> None:
        self._random = Random(seed)
        self._model = model
        self._tokens: list[int] = []
        self._grants: list[int] = []
        self._revocations: list[int] = []

    def draw(self, label: int) -> Step:
        """Return the next step, which has this label."""
        if len(self._model.grants) < 3 or (kind := self._random.random()) < 0.20:
            return self._grant(label)
        if kind < 0.27 and self._grants:
            return Again(label, self._often_last(self._grants))
        if kind < 0.34:
            return self._revoke(label)
        if kind < 0.36 and self._revocations:
            return Again(label, self._random.choice(self._revocations))
        if kind < 0.42 and self._tokens:
            return Again(label, self._often_last(self._tokens))
        if kind < 0.49:
            return Wait(label, self._pause())
        return self._call(label)

    def _pause(self) -> float:
        """Return a waiting time, often until the very end of a grant."""
        now = self._model.now
        ends = [
            g["ends"]
            for g in self._model.grants.values()
            if g["ends"] is not None and now < g["ends"] < now + 60
        ]
        if ends and self._chance(0.4):
            return float(self._random.choice(ends) - now)
        return self._random.choice(_LONG_WAITS if self._chance(0.12) else _SMALL_WAITS)

    # --- small choices ----------------------------------------------------------------------------

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _often_last(self, labels: Sequence[int]) -> int:
        return self._random.choice(labels[-8:] if self._chance(0.5) else labels)

    def _some_grant(self, holders: Sequence[str], *, deepest: int = DEEPEST) -> int | None:
        """Return a registered grant, mostly one that works for one of these people."""
        model = self._model
        fits = [one for one in model.grants if model.depth(one) <= deepest]
        if self._chance(0.92):
            fits = [one for one in fits if model.grants[one]["audience"] in holders]
        if self._chance(0.85):
            fits = [one for one in fits if model.is_live(one)]
        if not fits:
            return None
        deepest_first = sorted(fits, key=model.depth, reverse=True)
        return self._random.choice(deepest_first[:5] if self._chance(0.5) else fits)

    def _narrower(self, row: Row) -> Row:
        """Return a capability at or below the path of a grant's row, sometimes outside of it."""
        path, ability = row.path, row.ability
        if row.service == "kv":
            below = [p for p in PATHS if path is None or (p.startswith(path) and p != path)]
            if self._chance(0.04):
                path = self._random.choice((*PATHS, None))
            elif below and self._chance(0.35):
                path = self._random.choice(below)
            if ability in (KV + "del", KV + "delete"):
                ability = KV + self._random.choice(("del", "delete"))
            elif self._chance(0.02):
                ability = KV + self._random.choice(_ABILITIES)
        space = self._random.choice(tuple(OWNERS)) if self._chance(0.01) else row.space
        return Row(space, row.service, path, ability)

    # --- delegations ------------------------------------------------------------------------------

    def _grant(self, label: int) -> Step:
        self._grants.append(label)
        signers = PEOPLE if self._chance(0.7) else WALLETS
        parent = self._some_grant(signers, deepest=DEEPEST - 1) if self._chance(0.75) else None
        return self._root_grant(label) if parent is None else self._sub_grant(label, parent)

    def _root_grant(self, label: int) -> Grant:
        space = self._random.choice("AABBC")
        signer = OWNERS[space] if self._chance(0.93) else self._random.choice(PEOPLE)
        path = self._random.choice((None, None, "photos", "photos/", "", "notes/1", "p"))
        rows = {
            Row(space, "kv", path, KV + one)
            for one in self._random.sample(_ABILITIES, self._random.randint(2, 6))
        }
        if self._chance(0.3):
            rows.add(Row(space, "delegation", None, REVOKE))
        if self._chance(0.15):
            rows.add(Row(space, "space", None, HOST))
        if self._chance(0.1):
            rows.add(Row(self._random.choice("ABC"), "kv", "photos", KV + "get"))
        ends = self._end(signer, None)
        return self._signed_grant(label, signer, rows, (), self._beginning(None), ends)

    def _sub_grant(self, label: int, parent: int) -> Grant:
        above = self._model.grants[parent]
        signer = above["audience"] if self._chance(0.95) else self._random.choice(PEOPLE)
        rows = {self._narrower(row) for row in above["rows"] if self._chance(0.85)} or set(
            above["rows"][:1]
        )
        parents: tuple[int, ...] = (parent,)
        other = self._some_grant((signer,), deepest=DEEPEST - 1) if self._chance(0.2) else None
        if other is not None:
            parents = (parent, other) if self._chance(0.5) else (other, parent)
            rows |= {self._narrower(row) for row in self._model.grants[other]["rows"][:2]}
        elif self._chance(0.03) and self._grants[:-1]:
            parents = (parent, self._random.choice(self._grants[:-1]))
        return self._signed_grant(
            label,
            signer,
            rows,
            parents,
            self._beginning(above["begins"]),
            self._end(signer, above["ends"]),
        )

    def _signed_grant(
        self,
        label: int,
        signer: str,
        rows: set[Row],
        parents: tuple[int, ...],
        begins: int | None,
        ends: int | None,
    ) -> Grant:
        audience = self._random.choice(PEOPLE if self._chance(0.5) else KEYS)
        terminal = signer not in WALLETS and self._chance(0.12)
        return Grant(label, signer, audience, _ordered(rows), parents, begins, ends, terminal)

    def _beginning(self, above: int | None) -> int | None:
        now = math.floor(self._model.now)
        if above is not None and self._chance(0.9):
            return above if self._chance(0.6) else above + self._random.randint(0, 2)
        return self._random.choice((now - 1, now, now + 1)) if self._chance(0.15) else None

    def _end(self, signer: str, above: int | None) -> int | None:
        now = math.floor(self._model.now)
        if above is not None and self._chance(0.9):
            return above - self._random.choice((0, 0, 0, 1, 5))
        if self._chance(0.75):
            return None if signer in WALLETS else FAR_S
        return now + self._random.choice((0, 2, 10, 40, 150))

    # --- revocations ------------------------------------------------------------------------------

    def _revoke(self, label: int) -> Step:
        self._revocations.append(label)
        model = self._model
        target = (
            self._often_last(list(model.grants))
            if self._chance(0.94)
            else self._random.choice(self._grants)
        )
        proofs: tuple[int, ...] = ()
        if target in model.grants and self._chance(0.75):
            grant = model.grants[target]
            sayers = [
                grant["signer"],
                grant["audience"],
                *(OWNERS[row.space] for row in grant["rows"]),
            ]
            signer = self._random.choice(sayers)
        else:
            signer = self._random.choice(PEOPLE)
        if self._chance(0.35):
            holding = [
                one
                for one, g in model.grants.items()
                if any(row.ability == REVOKE for row in g["rows"])
            ]
            proof = self._random.choice(holding) if holding else self._some_grant(KEYS)
            if proof is not None and model.grants[proof]["audience"] in KEYS:
                signer = (
                    model.grants[proof]["audience"]
                    if self._chance(0.9)
                    else self._random.choice(KEYS)
                )
                proofs = (proof,)
        return Revoke(label, signer, target, proofs, self._random.choice((1, 5, 60, 300)))

    # --- calls ------------------------------------------------------------------------------------

    def _call(self, label: int) -> Step:
        self._tokens.append(label)
        model = self._model
        if model.cursors and self._chance(0.1):
            return self._next_page(label)
        is_owner = self._chance(0.15)
        proof = None if is_owner else self._some_grant(KEYS)
        if proof is None:
            signer = "K0" if self._chance(0.9) else self._random.choice(PEOPLE)
            held: Rows = tuple(
                Row("C", "kv", self._random.choice(PATHS), KV + one) for one in _ABILITIES
            )
            proofs: tuple[int, ...] = ()
        else:
            signer = (
                model.grants[proof]["audience"] if self._chance(0.95) else self._random.choice(KEYS)
            )
            held, proofs = model.grants[proof]["rows"], (proof,)
        if self._chance(0.1) and (other := self._some_grant((signer,))) is not None:
            proofs = (*proofs, other)
            held = (*held, *model.grants[other]["rows"])
        rows = self._asked(held)
        return self._with_options(
            Call(label, signer, rows, proofs, self._call_end(), self._random.randint(0, 12))
        )

    def _call_end(self) -> int:
        if self._chance(0.9):
            return self._random.choice((60, 120, 300))
        return self._random.choice((-1, 0, 1, 300, 301))

    def _asked(self, held: Rows) -> Rows:
        weights = [_WEIGHTS.get(row.ability, 1) for row in held]
        row = self._narrower(self._random.choices(held, weights)[0])
        row = self._executable(self._stored(row) if self._chance(0.7) else row)
        if self._chance(0.9):
            return (row,)
        if self._chance(0.8):  # several of one kind
            others = {
                self._executable(Row(row.space, row.service, path, row.ability))
                for path in PATHS[:4]
            }
            if row.ability in (KV + "get", KV + "del", KV + "metadata"):
                return _ordered({row, *self._random.sample(sorted(others, key=repr), 2)})
        return _ordered({row, self._executable(self._random.choice(held))})

    def _stored(self, row: Row) -> Row:
        """Return the path of an existing or deleted value below the row's path."""
        stored = self._model.values[row.space]
        paths = [path for path in stored if contains(row.path, path)]
        if row.service != "kv" or not paths or row.ability in (KV + "list", KV + "put"):
            return row
        live = [path for path in paths if stored[path] is not None]
        path = self._random.choice(live if live and self._chance(0.8) else paths)
        return Row(row.space, "kv", path, row.ability)

    def _executable(self, row: Row) -> Row:
        """Return a capability on a single value, mostly, if the grant covers a whole service."""
        if row.service == "kv" and row.path is None and self._chance(0.95):
            return Row(row.space, "kv", self._random.choice(PATHS), row.ability)
        return row

    def _with_options(self, call: Call) -> Call:
        abilities = {plain(row.ability) for row in call.rows}
        if len(abilities) > 1:
            return call  # which of two mistakes is told first is not fixed
        condition, limit, most = None, None, None
        if self._chance(0.4) and abilities & {KV + "put", KV + "del"}:
            create = ("if-none-match", "*") if KV + "put" in abilities else ("if-match", "v1")
            condition = self._random.choice((("if-match", self._tag(call)), create))
        elif self._chance(0.3) and KV + "get" in abilities:
            condition = ("if-none-match", self._tag(call))
        elif self._chance(0.03):
            condition = self._random.choice(
                (("if-match", "*"), ("if-none-match", "v1"), ("if-match", "v1"))
            )
        elif self._chance(0.15) and KV + "get" in abilities and len(call.rows) == 1:
            most = self._random.choice((1, 10, 40))
        if self._chance(0.75) and KV + "list" in abilities:
            limit = self._random.choice(
                (1, 1, 2, 2, 3, 1000, 1001, 0) if self._chance(0.3) else (1, 2, 3)
            )
        return Call(
            call.label,
            call.signer,
            call.rows,
            call.proofs,
            call.ends,
            call.body,
            condition,
            limit,
            None,
            most,
        )

    def _tag(self, call: Call) -> str:
        row = call.rows[0]
        found = self._model.values[row.space].get(row.path or "")
        if found is None or self._chance(0.4):
            return f"v{self._random.randint(0, 12)}"
        return f"v{found}"

    def _next_page(self, label: int) -> Step:
        """Return the next page of a listing, mostly for the same caller."""
        model = self._model
        cursor = self._random.choice(list(model.cursors))
        signer, space, path, limit, _ = model.cursors[cursor]
        path = path if self._chance(0.93) else self._random.choice(PATHS)
        row = Row(str(space), "kv", str(path), KV + "list")
        signer = str(signer) if self._chance(0.93) else self._random.choice(KEYS)
        limit = limit if self._chance(0.93) else self._random.choice((None, 4))
        proofs: tuple[int, ...] = ()
        if OWNERS[row.space] != signer:
            fits = [
                one
                for one, grant in model.grants.items()
                if grant["audience"] == signer
                and any(held.ability == row.ability for held in grant["rows"])
            ]
            proofs = (self._random.choice(fits),) if fits else ()
        assert limit is None or isinstance(limit, int)
        return Call(label, signer, (row,), proofs, 60, limit=limit, cursor=cursor)


def _ordered(rows: set[Row]) -> Rows:
    return tuple(sorted(rows, key=repr))
