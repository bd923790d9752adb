"""What routes read from requests and write into answers: tokens, bodies, queries, answers, problems.

No decision about authority is made here.

Modules:
    answers: answers as text, JSON or bytes.
    clients: the network address of a client, behind proxies too.
    invocation_answers: results of `/invoke`, as answers.
    invocation_messages: what a request of `/invoke` states beside its token.
    multipart: `multipart/form-data`, read from a stream.
    pages: bodies of errors before a route runs.
    partial: conditional requests and ranges.
    problems: from an error to an answer.
    queries: members of a URL's query.
    refusals: the table of codes: status, title and hint of each.
    request_bodies: request bodies, within their bounds.
    request_ids: the id of a request.
    request_log: one line of the log for each request.
    route: one row of the route table.
    shown_types: content types that are safe to show in a browser.
    token_header: the token of a request.
    unauthenticated: what a client without authority may cost.
    value_answers: values in one piece or as a stream.
"""
