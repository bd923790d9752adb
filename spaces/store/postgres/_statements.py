"""The SQL statements and tables of the PostgreSQL engine.

    sealspace_map       k key, s stamp, v value, w bytes added to counter a, n counter,
                        d minute of the deletion, q position in a sequence, o (see below)
    sealspace_claims    k minute4 ‖ id16, s the 16 bytes of the read that wrote the replay record
    sealspace_schema    name, value: the version of these tables, whether a move fills them, the
                        last housekeeping, the present history of sequences

A row has a value (v), is a counter (n) or is a tombstone (d). The column `o` is never stored. It
carries the stamp of the row that a write replaces into the upsert, which compares it with the row
that it finds. So no write replaces a row that was not checked, however strong the database's locks
are. A row that appeared meanwhile collides by the primary key.

The row of a sequence has its number in `n` and its histories in `v` (`sequences`). A commit locks
it before it takes the next number, until the commit is visible. So no reader sees a number before
all lower ones (ST24).

Everything is in one table, because CockroachDB allows one upsert of a table in a statement, not
two. All statements use only features that CockroachDB and YugabyteDB document: no functions,
advisory locks, enumerations or `serial`.

All statements run at READ COMMITTED. A locking read there waits and then returns the current row,
which makes revocation markers and stamps exact. An absent row is made exact by the primary key
alone, at this level and at any other.
"""

from functools import cache
from typing import Literal

from ..contract import LIVE_MARK, MAX_PAGE_BYTES, MAX_PAGE_SCAN
from ..sequences import HISTORY_BYTES, MAX_HISTORIES, NUMBER_BYTES

# The expectations of a put, as bytes of the column `e`. A stamp has 16 bytes.
EXPECT_UNWRITTEN = b"-"  # no row and no tombstone either
EXPECT_ABSENT = b"~"

ADD_POSITIONS = (
    "alter table sealspace_map add column if not exists q bytea",
    "create index if not exists sealspace_map_position on sealspace_map (q, k) where q is not null",
)
CREATE = (
    (
        "create table if not exists sealspace_map (k bytea primary key, s bytea not null, v bytea,"
        " w bigint not null, a bytea, n bigint, d bigint, o bytea, q bytea)"
    ),
    "create index if not exists sealspace_map_deleted on sealspace_map (d) where d is not null",
    ADD_POSITIONS[1],
    "create table if not exists sealspace_claims (k bytea primary key, s bytea not null)",
    (
        "create table if not exists sealspace_schema (name varchar(32) primary key, value bigint"
        " not null)"
    ),
)
RECORD_VERSION = (
    "insert into sealspace_schema (name, value) values ('version', $1)"
    " on conflict (name) do nothing"
)
RECORD_POSITIONS = (
    "insert into sealspace_schema (name, value) values ('positions', 1)"
    " on conflict (name) do nothing"
)
READ_SCHEMA = "select name, value from sealspace_schema"

_LIVE = f"'\\x{LIVE_MARK.hex()}'::bytea"
_ABSENT = f"'\\x{EXPECT_ABSENT.hex()}'::bytea"
_UNWRITTEN = f"'\\x{EXPECT_UNWRITTEN.hex()}'::bytea"

_KEPT_HISTORIES_BYTES = (MAX_HISTORIES - 1) * (NUMBER_BYTES + HISTORY_BYTES)
# The present history of sequences, as 8 bytes. Each server that takes over has another
# (`HISTORY_OF_SERVER`).
_HISTORY = (
    "decode(lpad(to_hex((select value from sealspace_schema where name = 'history')), 16, '0'),"
    " 'hex')"
)
# The rows of sequences are locked before their numbers are read, and until the commit is visible.
# A sequence without a row cannot be locked. If another commit takes its first number at the same
# time, `_IS_SEQUENCE_SOUND` rolls this one back.
_NUMBERED = f""", turn as (
    select k, n, v from sealspace_map where k = any($20::bytea[]) order by k for update
), numbers as (
    select t.k, coalesce(turn.n, 0) + 1 as n, coalesce(turn.v, ''::bytea) as v,
        decode(lpad(to_hex(coalesce(turn.n, 0) + 1), 16, '0'), 'hex') as n8, {_HISTORY} as h
    from unnest($20::bytea[]) as t (k) left join turn on turn.k = t.k
)"""  # noqa: S608  # only fixed words of ours
_NUMBER_OF_PUT = "select n8 from numbers where numbers.k = p.q"
# `n` is what the upsert adds. The oldest histories beyond the limit are cut off.
_SEQUENCE_ROWS = f"""
    union all select k, $14::bytea,
        case when octet_length(v) > 0 and substr(v, octet_length(v) - {HISTORY_BYTES - 1}) = h
            then v
            else substr(v, greatest(1, octet_length(v) - {_KEPT_HISTORIES_BYTES - 1})) || n8 || h
            end,
        0, null, 1, null, null, null from numbers"""  # noqa: S608  # only numbers of ours
_IS_SEQUENCE_SOUND = """
        when exists (select 1 from written join numbers on numbers.k = written.k
            where written.n <> numbers.n) then 0"""


# The verdict on a commit. Its cases, in their order:
#   an earlier attempt has written the row that proves the outcome: ALREADY_APPLIED
#   the replay records of the token's minute were deleted: REFUSED, like all that follow
#   a condition fails
#   a put does not find what it expects
#   a counter would exceed its bound
#   none of them: COMMITTED
_JUDGED = f""", held as (
    select k, s, v = {_LIVE} as live, d from sealspace_map
        where k = any($8::bytea[]) order by k for share
), old as (
    select k, s, v, w, a, d from sealspace_map where k = any($1::bytea[]) order by k for update
), seen as (
    select k, s, live, d from held union all select k, s, v = {_LIVE}, d from old
), c as (
    select k, cast(sum(n) as bigint) as n, min(m) as m, min(b) as b from (
        select k, n, m, case when m is null then 1 else 0 end as b
            from unnest($11::bytea[], $12::bigint[], $13::bigint[]) as t (k, n, m)
        union all select a, -w, null, 1 from old where a is not null and w <> 0
    ) as changes group by k
), bounded as (
    select k, n from sealspace_map
        where k = any(array(select k from c where m is not null)) order by k for update
), judged as (
    select case
        when exists (select 1 from old where k = $15::bytea and s = $16::bytea) then 2
        when exists (select 1 from sealspace_map where k = $17::bytea and v > $18::bytea) then 0
        when exists (
            select 1 from unnest($9::bytea[], $10::bytea[]) as r (k, s)
            left join seen on seen.k = r.k
            where not coalesce(case
                when r.s is null then seen.live
                when r.s = {_ABSENT} then seen.k is null or seen.d is not null
                else seen.s = r.s end, false)
        ) then 0
        when exists (
            select 1 from p left join old on old.k = p.k
            where p.e is not null and not (case
                when p.e = {_ABSENT} then old.k is null or old.d is not null
                when p.e = {_UNWRITTEN} then old.k is null
                else coalesce(old.s = p.e, false) end)
        ) then 0
        when exists (
            select 1 from c left join bounded on bounded.k = c.k
            where c.m is not null and coalesce(bounded.n, 0) + c.n > c.m
        ) then 0
        else 1 end as verdict
)"""  # noqa: S608  # only fixed words of ours


# Parameters of a commit (`CommitParameters`):
#   $1-$7   puts: key, value, stamp, weight, account, minute of the deletion, expectation
#           (null: any)
#   $8      keys of conditions that are not put, to be locked
#   $9, $10 conditions: key, stamp (null: the row is a live mark; there may have to be no row)
#   $11-$13 counters: key, change, bound (null: none)
#   $14     stamp of the counters
#   $15-$18 the row that proves the outcome: its key and its stamp; then the key of the floor of
#           replay records, and the value that it must not exceed
#   $19, $20 only with sequences: the sequence of each put (null: none), and their different keys
#
# Its common tables, each of which can use those before it:
#   p       the puts
#   held    the rows of conditions that are not put, locked against writes
#   old     the rows that the puts replace, locked
#   seen    both of them
#   c       counters: n the sum of the changes, m the lowest bound, b 0 if there is a bound
#   bounded the counters with a bound, locked
#   judged  the verdict: REFUSED, COMMITTED or ALREADY_APPLIED
#   turn, numbers  only with sequences: their rows, locked; and their next numbers
#   rows    all rows to be written
#   written the rows that were written; none unless the verdict is COMMITTED
#   sound   0 if a row or a counter appeared between the statement's snapshot and its locks, else 1
def _commit_statement(*, in_sequence: bool) -> str:
    """Return the SQL statement of a commit.

    With `in_sequence`, it takes the next numbers of sequences.
    """
    put_columns = "k, v, s, w, a, d, e"
    put_types = ""
    numbered = ""
    position = "cast(null as bytea)"
    sequence_rows = ""
    is_sequence_sound = ""
    if in_sequence:
        put_columns = "k, v, s, w, a, d, e, q"
        put_types = ", $19::bytea[]"
        numbered = _NUMBERED
        position = "case when p.q is not null then p.q || (" + _NUMBER_OF_PUT + ") end"
        sequence_rows = _SEQUENCE_ROWS
        is_sequence_sound = _IS_SEQUENCE_SOUND
    return f"""
with p as (
    select * from unnest(
        $1::bytea[], $2::bytea[], $3::bytea[], $4::bigint[], $5::bytea[], $6::bigint[],
        $7::bytea[]{put_types}
    ) as p ({put_columns})
){_JUDGED}{numbered}, rows as (
    select p.k, p.s, p.v, p.w, p.a, cast(null as bigint) as n, p.d, old.s as o, {position} as q
    from p left join old on old.k = p.k
    union all select k, $14::bytea, null, 0, null, n, null, null, null from c
        where n <> 0 or b = 0{sequence_rows}
), written as (
    insert into sealspace_map (k, s, v, w, a, n, d, o, q)
    select k, s, v, w, a, n, d, o, q from rows where (select verdict from judged) = 1 order by k
    on conflict (k) do update set
        s = case when excluded.n = 0 then sealspace_map.s else excluded.s end,
        v = excluded.v, w = excluded.w, a = excluded.a, d = excluded.d, o = null,
        q = excluded.q,
        n = case when excluded.n is null then null
            else coalesce(sealspace_map.n, 0) + excluded.n end
    where excluded.n is not null or sealspace_map.s = excluded.o
    returning k, n
), sound as (
    select case
        when (select verdict from judged) <> 1 then 1
        when (select count(*) from written) <> (select count(*) from rows) then 0
        when exists (select 1 from written join c on c.k = written.k where written.n > c.m)
            then 0{is_sequence_sound}
        else 1 end as whole
)
select judged.verdict / sound.whole as verdict from judged cross join sound
"""  # noqa: S608  # only fixed words of ours


COMMIT = _commit_statement(in_sequence=False)
COMMIT_IN_SEQUENCE = _commit_statement(in_sequence=True)
"""The same with two more parameters: the sequences of the puts, and their different keys."""
# Division by zero rolls back the whole statement, because a row or a counter appeared between its
# snapshot and its locks.
OVERTAKEN_STATE = "22012"
REFUSED = 0
COMMITTED = 1
ALREADY_APPLIED = 2

_WRITE_REPLAY_RECORDS = """with claimed as (
    insert into sealspace_claims (k, s)
    select k, s from unnest($2::bytea[], $3::bytea[]) as t (k, s) order by k
    on conflict (k) do update set s = excluded.s where sealspace_claims.s = excluded.s
    returning k
)
"""
# The rows whose keys end with the values of other rows. Those other rows are among $1 too.
_FOLLOWED_ROWS = """
union all select 0, k, s, v, n, 0, q from sealspace_map
    where k = any(array(
        select ${prefix}::bytea || v from sealspace_map where k = any(${keys}::bytea[])
    ))"""
_ROWS = "select 0 as part, k, s, v, n, 0 as place, q from sealspace_map where k = any($1::bytea[])"
_WRITTEN_REPLAY_RECORDS = "\nunion all select 1, k, null, null, null, 0, null from claimed"
# The numbers of the parts in the answer to a read. Part 0 has the rows of keys. Each range has a
# part of its own.
REPLAY_RECORD_PART = 1
FIRST_PAGE_PART = 2
PARAMETERS_OF_A_RANGE = 3
PARAMETERS_BY_NUMBER = 4


RangeKind = Literal["rows", "keys", "by number"]


@cache
def read_statement(
    *, with_replay_records: bool, with_follow: bool, ranges: tuple[RangeKind, ...]
) -> str:
    """Return the SQL statement for a batch of reads.

    Args:
        with_replay_records: whether replay records are written too. The statement returns those
            that it wrote, or that a lost attempt of the same read wrote.
        with_follow: whether the values of some rows lead to other rows.
        ranges: the kind of each range.
    """
    if with_replay_records:
        parts = [_WRITE_REPLAY_RECORDS, _ROWS, _WRITTEN_REPLAY_RECORDS]
        next_parameter = 4  # after the keys in $1, and the records in $2 and $3
    else:
        parts = [_ROWS]
        next_parameter = 2
    if with_follow:
        parts.append(_FOLLOWED_ROWS.format(keys=next_parameter, prefix=next_parameter + 1))
        next_parameter += 2
    for number, kind in enumerate(ranges):
        if kind == "by number":
            parts.append(_page_by_number(number, next_parameter))
            next_parameter += PARAMETERS_BY_NUMBER
        else:
            parts.append(_page(number, next_parameter, keys_only=kind == "keys"))
            next_parameter += PARAMETERS_OF_A_RANGE
    return "".join(parts)


def _page(range_number: int, parameter: int, *, keys_only: bool) -> str:
    """Return the SQL that reads one range of rows.

    `parameter` is the number of its first parameter. Its parameters are the start key, the end key
    and the number of rows.

    The SQL limits the rows examined, the bytes and the live rows. The last row examined is returned
    even if it is a tombstone, so that the reader knows where to continue.
    """
    value = "case when d is null then ''::bytea end" if keys_only else "v"
    number = "null::bigint as n" if keys_only else "n"
    size = "octet_length(k)" if keys_only else "octet_length(k) + coalesce(octet_length(v), 8)"
    return f"""
union all select {FIRST_PAGE_PART + range_number}, k, s, v, n, place, q from (
    select k, s, v, n, place, q from (
        select k, s, {value} as v, {number}, d, q,
            cast(row_number() over (order by k) as int) as place,
            sum(case when d is null then {size} else 0 end) over (order by k
                rows between unbounded preceding and 1 preceding) as before
        from (
            select k, s, v, n, d, q from sealspace_map
            where k >= ${parameter}::bytea and k < ${parameter + 1}::bytea
            order by k limit {MAX_PAGE_SCAN}
        ) as looked_at
    ) as measured
    where (d is null or place = {MAX_PAGE_SCAN}) and coalesce(before, 0) < {MAX_PAGE_BYTES}
    order by k limit ${parameter + 2}::bigint
) as page{range_number}"""  # noqa: S608  # only numbers of ours and fixed words


def _page_by_number(range_number: int, parameter: int) -> str:
    """Return the SQL that reads the rows of a sequence in the order of their numbers.

    `parameter` is the number of its first parameter. Its parameters are the position and the key
    after which the page begins, the end of the positions and the number of rows.
    """
    return f"""
union all select {FIRST_PAGE_PART + range_number}, k, ''::bytea, ''::bytea, null, 0, q from (
    select k, q from sealspace_map
    where (q, k) > (${parameter}::bytea, ${parameter + 1}::bytea) and q < ${parameter + 2}::bytea
    order by q, k limit ${parameter + 3}::bigint
) as page{range_number}"""  # noqa: S608  # only numbers of ours and fixed words


# Numbers that readers saw may be lost when another server takes over, or one starts again with
# older contents. So the first connection to each started server begins a new history (ST24). A
# database without this function begins one with every connection.
START_OF_SERVER = "select cast(extract(epoch from pg_postmaster_start_time()) * 1000000 as bigint)"
HISTORY_OF_SERVER = "select value from sealspace_schema where name = 'history-of-server'"
DO_NOT_WAIT = "set local synchronous_commit = off"
BEGIN_HISTORY = """
insert into sealspace_schema (name, value) values ('history', $1), ('history-of-server', $2)
on conflict (name) do update set value = excluded.value
"""


# The current moment, not the beginning of the transaction. The name has no schema, so that tests
# can replace the function.
DATABASE_TIME = "select cast(extract(epoch from clock_timestamp()) as double precision)"
TURN_OF_HOUSEKEEPING = """
insert into sealspace_schema (name, value)
values ('housekeeping', cast(floor(extract(epoch from clock_timestamp())) as bigint))
on conflict (name) do update set value = excluded.value
where sealspace_schema.value <= excluded.value - $1::bigint
    or sealspace_schema.value > excluded.value
returning value
"""
RAISE_FLOOR = """
insert into sealspace_map (k, s, v, w) values ($1, $2, $3, 0)
on conflict (k) do update set v = excluded.v, s = excluded.s where sealspace_map.v < excluded.v
"""
LOWER_FLOOR = "update sealspace_map set v = $3, s = $2 where k = $1 and v = $4"
# The time since which a floor is known to be ahead of the clock. Each floor has its own name.
NOTE_STUCK_FLOOR = """
insert into sealspace_schema (name, value) values ($1, $2)
on conflict (name) do update set value = least(sealspace_schema.value, excluded.value)
returning value
"""
FORGET_STUCK_FLOORS = "delete from sealspace_schema where name like 'floor-ahead-%'"
READ_VALUE = "select v from sealspace_map where k = $1"


def sweep_statement(table: str) -> str:
    """Return an SQL statement that deletes a range of rows.

    It deletes at most $3 rows with $1 <= key < $2.
    """
    return (
        f"delete from {table} where k in (select k from {table}"  # noqa: S608  # only fixed words
        " where k >= $1::bytea and k < $2::bytea order by k limit $3::bigint) returning k"
    )


# The outer condition is evaluated on the current row, so a row that was put again meanwhile stays.
SWEEP_TOMBSTONES = """
delete from sealspace_map
where d < $1 and k in (select k from sealspace_map where d < $1 limit $2::bigint) returning k
"""


IS_EMPTY = (
    "select not exists (select 1 from sealspace_map)"
    " and not exists (select 1 from sealspace_claims)"
)
BEGIN_MIGRATION = (
    "insert into sealspace_schema (name, value) values ('migrating', 1) on conflict (name) do"
    " nothing"
)
END_MIGRATION = "delete from sealspace_schema where name = 'migrating'"
# A move leaves these behind: the place that the store was moved to, another version, and tables
# that refuse new rows from any process that has them open.
CREATE_PLACE = "create table if not exists sealspace_moved (place varchar(1024) primary key)"
RECORD_PLACE = "insert into sealspace_moved (place) values ($1) on conflict (place) do nothing"
PLACE_OF_MOVE = "select place from sealspace_moved limit 1"
FORGET_PLACE = "delete from sealspace_moved"
CHANGE_VERSION = "update sealspace_schema set value = $1 where name = 'version'"
FREEZE = (
    "alter table sealspace_map add constraint sealspace_map_moved check (false) not valid",
    "alter table sealspace_claims add constraint sealspace_claims_moved check (false) not valid",
)
THAW = (
    "alter table sealspace_map drop constraint if exists sealspace_map_moved",
    "alter table sealspace_claims drop constraint if exists sealspace_claims_moved",
)
COPY_IN = """
insert into sealspace_map (k, s, v, w, a, n, d, q) select * from
unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bigint[], $5::bytea[], $6::bigint[], $7::bigint[],
$8::bytea[])
"""
COPY_ROWS_OUT = "select k, s, v, w, a, n, d, q from sealspace_map where d is null order by k"
COPY_TOMBSTONES_OUT = (
    "select k, s, v, w, a, n, d, q from sealspace_map where d is not null order by k"
)
COPY_REPLAY_RECORDS_IN = """
insert into sealspace_claims (k, s) select * from unnest($1::bytea[], $2::bytea[])
on conflict (k) do nothing
"""
COPY_REPLAY_RECORDS_OUT = "select k from sealspace_claims"
CLEAR = ("delete from sealspace_map", "delete from sealspace_claims")
# Readers of bodies keep this row locked. The collector tests whether it is locked (BK2).
HOLD_BODIES = "select value from sealspace_schema where name = 'version' for share"
ARE_BODIES_FREE = "select 1 from sealspace_schema where name = 'version' for update skip locked"
