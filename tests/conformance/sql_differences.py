"""Recorded requests for databases that this node answers differently on purpose.

The rules are those of spec/sql.md and spec/sql-caveats.md; see `differences` for the form.
"""

from conformance.differences import Difference, several
from conformance.sql_caveat_differences import SQL_CAVEAT_DIFFERENCES

SQL_DIFFERENCES: dict[str, Difference] = {
    **SQL_CAVEAT_DIFFERENCES,
    **several(
        Difference(
            "SQ5: one text for all lists",
            400,
            "a list in the parameters must contain bytes, from 0 to 255",
        ),
        "sql.param-bad-blob-real",
        "sql.param-bad-blob-text",
    ),
    "sql.param-bad-object": Difference(
        "SQ5: the SDK sends bytes in this form",
        200,
        '{"columns":["typeof(?1)","?1"],"rowCount":1,"rows":[["blob",[1,2]]]}',
    ),
    **several(
        Difference("SQ4: the text of the own parser", 400, "not a JSON object"),
        "sql.param-bad-lone-surrogate",
        "sql.body-not-json",
        "sql.body-null",
        "sql.body-trailing",
    ),
    "sql.value-text-bad-utf8": Difference(
        "SQ5: the database goes on working", 400, "SQLite error: text is not UTF-8"
    ),
    "sql.body-array": Difference("SQ4: the body is an object", 400, "not a JSON object but a list"),
    "sql.body-no-action": Difference("SQ4: the text of the own parser", 400, "$.action is missing"),
    **several(
        Difference("SQ4: the text of the own parser", 400, "$.action has an invalid value"),
        "sql.body-action-unknown",
        "sql.body-action-upper",
    ),
    "sql.body-action-sdk-name": Difference(
        "SQ4: the spelling of TinyCloud's SDK is known too",
        400,
        "Invalid statement: Statement 'a' not found",
    ),
    "sql.body-action-number": Difference(
        "SQ4: the text of the own parser", 400, "$.action must be str"
    ),
    "sql.body-no-sql": Difference("SQ4: the text of the own parser", 400, "$.sql is missing"),
    "sql.body-sql-number": Difference("SQ4: the text of the own parser", 400, "$.sql must be str"),
    "sql.body-params-null": Difference(
        "SQ4: the text of the own parser", 400, "$.params must be array"
    ),
    "sql.body-twice-sql": Difference(
        "SQ4: the text of the own parser", 400, "a JSON object repeats a member"
    ),
    "sql.body-batch-no-statements": Difference(
        "SQ4: the text of the own parser", 400, "$.statements is missing"
    ),
    "sql.body-named-no-name": Difference(
        "SQ4: the text of the own parser", 400, "$.name is missing"
    ),
    "sql.body-over-1mb": Difference(
        "SQ4: a long body is not cut", 413, "SQL request exceeds 1000000 bytes"
    ),
    "sql.max-rows-negative": Difference(
        "SQ6: one text for every limit",
        400,
        "Invalid statement: maxRows must be between 1 and 1000",
    ),
    "sql.max-rows-text": Difference(
        "SQ4: the text of the own parser", 400, "$.maxRows must be int | null"
    ),
    "sql.response-over-10mib": Difference(
        "SQ16: a value has at most 10,000,000 bytes", 400, "SQLite error: string or blob too big"
    ),
    **several(
        Difference(
            "SQ11: a request that fails leaves nothing",
            200,
            '{"columns":["count(*)"],"rowCount":1,"rows":[[3]]}',
        ),
        "sql.execute-returning-applied",
        "sql.batch-fails-first-part-stays",
    ),
    "sql.schema-fails": Difference(
        "SQ4: one text for every statement",
        400,
        "SQLite error: table notes already exists in CREATE TABLE notes (a) at offset 13",
    ),
    "sql.execute-ignored": Difference(
        "SQ5: nothing was inserted", 200, '{"changes":0,"lastInsertRowId":null}'
    ),
    **several(
        Difference("SQ5: definitions change no rows", 200, '{"changes":0,"lastInsertRowId":null}'),
        "sql.execute-ddl-changes",
        "sql.run-create-if-not-exists",
        "sql.run-add-column",
        "sql.run-rename-table",
        "sql.run-drop-column",
        "sql.run-index",
        "sql.run-partial-index",
        "sql.run-expression-index",
        "sql.run-view",
        "sql.run-strict",
        "sql.run-foreign-key",
        "sql.run-as-select",
        "sql.run-default-timestamp",
        "sql.run-default-expression",
        "sql.run-types",
        "sql.pragma-set-user-version",
        "sql.ability-write-create",
        "sql.ability-write-drop",
        "sql.ability-admin-create",
        "sql.ability-admin-drop",
        "sql.ability-all-create",
        "sql.schema-drop-column",
        "sql.schema-create-view",
        "sql.bob-write-drops",
    ),
    "sql.batch-blob-as-object": Difference(
        "SQ5: the SDK sends bytes in this form",
        200,
        '{"results":[{"changes":1,"lastInsertRowId":4}]}',
    ),
    "sql.transaction-begin": Difference(
        "SQ8: refused as written", 403, "Permission denied: Statement type not allowed: BEGIN"
    ),
    "sql.transaction-release": Difference(
        "SQ8: refused as written", 403, "Permission denied: Statement type not allowed: RELEASE a"
    ),
    "sql.transaction-end": Difference(
        "SQ8: refused as written", 403, "Permission denied: Statement type not allowed: END"
    ),
    "sql.query-vacuum": Difference(
        "SQ8: refused as written", 403, "Permission denied: Statement type not allowed: VACUUM"
    ),
    "sql.query-vacuum-into": Difference(
        "SQ8: refused as written",
        403,
        "Permission denied: Statement type not allowed: VACUUM INTO 'x.db'",
    ),
    "sql.query-analyze": Difference(
        "SQ8: a statement of SQLite", 200, '{"columns":[],"rowCount":0,"rows":[]}'
    ),
    "sql.query-reindex": Difference(
        "SQ8: refused as written", 403, "Permission denied: Statement type not allowed: REINDEX"
    ),
    "sql.query-match": Difference(
        "SQ8: SQLite's own error",
        400,
        "SQLite error: not authorized to use function: match in SELECT 1 FROM notes WHERE body"
        " MATCH 'a' at offset 31",
    ),
    "sql.query-window-lag": Difference(
        "SQ9: an innocuous function",
        200,
        '{"columns":["lag(id) OVER (ORDER BY id)"],"rowCount":3,"rows":[[null],[1],[2]]}',
    ),
    "sql.query-current-timestamp": Difference(
        "SQ9: an innocuous function",
        200,
        '{"columns":["typeof(CURRENT_TIMESTAMP)"],"rowCount":1,"rows":[["text"]]}',
    ),
    "sql.query-indexed-by": Difference(
        "SQ8: SQLite's own error", 400, "SQLite error: no such index: nosuch"
    ),
    "sql.function-total_changes": Difference(
        "SQ11: nothing of a request is visible to another one",
        400,
        "SQLite error: not authorized to use function: total_changes in SELECT"
        " typeof(total_changes()) at offset 14",
    ),
    "sql.function-unhex": Difference(
        "SQ9: an innocuous function",
        200,
        '{"columns":["typeof(unhex(\'00\'))"],"rowCount":1,"rows":[["blob"]]}',
    ),
    "sql.function-concat": Difference(
        "SQ9: an innocuous function",
        200,
        '{"columns":["typeof(concat(\'a\',\'b\'))"],"rowCount":1,"rows":[["text"]]}',
    ),
    "sql.function-string_agg": Difference(
        "SQ9: an innocuous function",
        200,
        '{"columns":["typeof(string_agg(\'a\',\',\'))"],"rowCount":1,"rows":[["text"]]}',
    ),
    "sql.function-octet_length": Difference(
        "SQ9: an innocuous function",
        200,
        '{"columns":["typeof(octet_length(\'a\'))"],"rowCount":1,"rows":[["integer"]]}',
    ),
    "sql.function-jsonb": Difference(
        "SQ9: an innocuous function",
        200,
        '{"columns":["typeof(jsonb(\'[1]\'))"],"rowCount":1,"rows":[["blob"]]}',
    ),
    "sql.function-json_pretty": Difference(
        "SQ9: an innocuous function",
        200,
        '{"columns":["typeof(json_pretty(\'[1]\'))"],"rowCount":1,"rows":[["text"]]}',
    ),
    "sql.function-json_error_position": Difference(
        "SQ9: an innocuous function",
        200,
        '{"columns":["typeof(json_error_position(\'[\'))"],"rowCount":1,"rows":[["integer"]]}',
    ),
    "sql.function-likelihood": Difference(
        "SQ9: an innocuous function",
        200,
        '{"columns":["typeof(likelihood(1,0.5))"],"rowCount":1,"rows":[["integer"]]}',
    ),
    "sql.function-subtype": Difference(
        "SQ9: an innocuous function",
        200,
        '{"columns":["typeof(subtype(\'a\'))"],"rowCount":1,"rows":[["integer"]]}',
    ),
    "sql.function-pi": Difference(
        "SQ9: an innocuous function",
        200,
        '{"columns":["typeof(pi())"],"rowCount":1,"rows":[["real"]]}',
    ),
    "sql.function-sqrt": Difference(
        "SQ9: an innocuous function",
        200,
        '{"columns":["typeof(sqrt(4))"],"rowCount":1,"rows":[["real"]]}',
    ),
    "sql.run-trigger": Difference(
        "SQ8: a statement of SQLite", 200, '{"changes":0,"lastInsertRowId":null}'
    ),
    "sql.run-temp-table": Difference(
        "SQ11: no temporary tables",
        403,
        "Permission denied: Statement type not allowed: CREATE TEMP TABLE tt (a)",
    ),
    "sql.run-create-schema": Difference(
        "SQ8: not a statement of SQLite",
        400,
        'Parse error: near "SCHEMA": syntax error in CREATE SCHEMA s at offset 7',
    ),
    "sql.run-grant": Difference(
        "SQ8: not a statement of SQLite",
        400,
        'Parse error: near "GRANT": syntax error in GRANT SELECT ON notes TO x at offset 0',
    ),
    "sql.run-truncate": Difference(
        "SQ8: not a statement of SQLite",
        400,
        'Parse error: near "TRUNCATE": syntax error in TRUNCATE TABLE notes at offset 0',
    ),
    "sql.run-drop-trigger": Difference(
        "SQ8: SQLite's own error", 400, "SQLite error: no such trigger: nosuch"
    ),
    "sql.run-cte-delete": Difference(
        "SQ8: a statement of SQLite", 200, '{"changes":1,"lastInsertRowId":null}'
    ),
    "sql.temp-table-lasts": Difference(
        "SQ11: no temporary tables", 400, "SQLite error: no such table: tt"
    ),
    "sql.pragma-page-count": Difference(
        "SQ14: one page more, to give space back",
        200,
        '{"columns":["page_count"],"rowCount":1,"rows":[[4]]}',
    ),
    "sql.pragma-journal-mode": Difference(
        "SQ12: a write-ahead log", 200, '{"columns":["journal_mode"],"rowCount":1,"rows":[["wal"]]}'
    ),
    "sql.pragma-database-list": Difference(
        "SQ9: it shows a path of the node",
        403,
        "Permission denied: Statement type not allowed: PRAGMA database_list",
    ),
    **several(
        Difference(
            "SQ7: one statement", 400, "Invalid statement: Exactly one SQL statement is required"
        ),
        "sql.pragma-then-statement",
        "sql.pragma-execute-then-statement",
    ),
    "sql.pragma-schema-then-statement-effect": Difference(
        "SQ7: one statement", 200, '{"columns":["count(*)"],"rowCount":1,"rows":[[3]]}'
    ),
    "sql.pragma-admin-beside-write": Difference(
        "SQ10: rights add up", 200, '{"columns":["user_version"],"rowCount":1,"rows":[[0]]}'
    ),
    "sql.ability-schema-and-read": Difference(
        "SQ10: rights add up",
        200,
        '{"columns":["body"],"rowCount":3,"rows":[["one"],["two"],["three"]]}',
    ),
    "sql.schema-as-select": Difference(
        "SQ10: the text of the missing right",
        403,
        "Permission denied: Schema ability only permits DDL operations",
    ),
    "sql.read-cte-insert": Difference(
        "SQ10: the text of the missing right", 403, "Read-only violation"
    ),
    **several(
        Difference(
            "SQ1: the whole path is the name", 400, "Invalid statement: the database has no name"
        ),
        "sql.db-empty-path",
        "sql.db-trailing-slash",
    ),
    "sql.db-last-segment-only": Difference(
        "SQ1: the whole path is the name", 400, "SQLite error: no such table: t"
    ),
    "sql.bob-own-folder-writes": Difference(
        "SQ1: the whole path is the name", 400, "SQLite error: no such table: private"
    ),
    "sql.kept-cte-insert": Difference(
        "SQ12: every acknowledged write is durable",
        200,
        '{"columns":["count(*)"],"rowCount":1,"rows":[[4]]}',
    ),
    "sql.kept-cte-update": Difference(
        "SQ12: every acknowledged write is durable",
        200,
        '{"columns":["max(body)"],"rowCount":1,"rows":[["zzz"]]}',
    ),
    "sql.kept-user-version": Difference(
        "SQ12: every acknowledged write is durable",
        200,
        '{"columns":["user_version"],"rowCount":1,"rows":[[7]]}',
    ),
    "sql.kept-half-batch-then-write": Difference(
        "SQ11: a request that fails leaves nothing",
        200,
        '{"columns":["count(*)"],"rowCount":1,"rows":[[4]]}',
    ),
    **several(
        Difference(
            "SQ14: a statement that needs no more pages runs in a full space",
            200,
            '{"changes":1,"lastInsertRowId":4}',
        ),
        "sql.quota-write",
        "sql.quota-named-cte",
    ),
}

# Requests on the way to an answer as recorded that are answered with another status.
SQL_SETUP_DIFFERENCES = {
    "sql.pragma-then-statement-effect": "SQ7: one statement",
    "sql.kept-temp-table": "SQ11: no temporary tables",
    **dict.fromkeys(
        (
            "sql.kept-insert",
            "sql.kept-user-version-then-write",
            "sql.kept-half-batch",
            "sql.kept-failed-returning",
            "sql.kept-crash-by-reader",
        ),
        "SQ5: the database goes on working",
    ),
}

# Faults of the recorded server that are answered as recorded, and why that is right here.
SQL_KEPT_FAULTS = {
    "sql.ability-admin-select": "SQ10: administration includes everything",
    "sql.kept-failed-returning": "SQ11: nothing of a failed request remains, at once",
    "sql.kept-half-batch": "SQ11: nothing of a failed request remains, at once",
    "sql.db-path-lent-ability": "SQ3: a capability without a path counts for the one with a path",
}
