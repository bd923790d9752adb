"""HTTPS requests of a program, in the form of the library `requests`.

The runner makes each request, if the program's manifest and the grants allow the host. Redirects
are not followed, cookies are not kept, and a body is not decompressed.

Example:
    response = requests.get("https://api.example.com/items", headers={"x-api-key": key})
    response.raise_for_status()
    items = response.json()
"""

import base64
import http
import json as _json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit

from componentize_py_types import Err
from wit_world.imports import client as _client

_Pairs = Mapping[str, Any] | Iterable[tuple[str, Any]]
_NEXT = {
    "HOST_REFUSED": "the program may not contact this host; next: add it to `hosts` in"
    " manifest.json, publish, and grant with --host",
    "REQUEST_INVALID": "the URL or a header is not valid; use https:// and port 443",
    "REQUESTS_EXHAUSTED": "the run has made all the requests that it may",
    "NAME_UNKNOWN": "the host's name has no address",
    "ADDRESS_REFUSED": "the host's name leads to an address that is not public",
    "CONNECTION_FAILED": "the connection failed, or ended before a response came",
    "CERTIFICATE_REFUSED": "the service's certificate is not valid for the host",
    "RESPONSE_INVALID": "the response is not valid HTTP, or ended too early",
    "RESPONSE_TOO_LARGE": "the response is longer than 1 MiB",
    "TIMED_OUT": "no complete response came within 30 s",
}
_MAX_BODY_BYTES = 1024 * 1024
_SAFE = "!#$%&'()*+,/:;=?@[]~"


class RequestException(OSError):
    """A request has no usable response."""

    def __init__(self, *about: object, response: "Response | None" = None) -> None:
        self.response = response
        super().__init__(*about)


class HTTPError(RequestException):
    """A response has a status of 400 or more (`Response.raise_for_status`)."""


class ConnectionError(RequestException):
    """No response came."""


class Timeout(RequestException):
    """No complete response came in time."""


class InvalidURL(RequestException, ValueError):
    """The URL or a header is not valid."""


class JSONDecodeError(RequestException, ValueError):
    """The body of a response is not JSON."""


class _Headers(dict[str, str]):
    """Headers by their names in lower case; repeated ones are joined by commas."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__()
        for name, value in pairs:
            self[name] = f"{self[name]}, {value}" if name in self else value

    def __setitem__(self, name: str, value: str) -> None:
        super().__setitem__(name.lower(), value)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a header, or `default`."""
        return super().get(name.lower(), default)


class Response:
    """The response to a request."""

    def __init__(self, url: str, status: int, headers: _Headers, content: bytes) -> None:
        self.url = url
        self.status_code = status
        self.headers = headers
        self.content = content
        self.encoding = _charset(headers.get("content-type", ""))

    def __repr__(self) -> str:
        return f"<Response [{self.status_code}]>"

    def __bool__(self) -> bool:
        return self.ok

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self.status_code < 400

    @property
    def reason(self) -> str:
        """The phrase of the status."""
        try:
            return http.HTTPStatus(self.status_code).phrase
        except ValueError:
            return ""

    @property
    def text(self) -> str:
        """The body as text."""
        try:
            return self.content.decode(self.encoding, "replace")
        except LookupError:
            return self.content.decode("utf-8", "replace")

    def json(self, **options: Any) -> Any:
        """Return the body as parsed JSON.

        Raises:
            JSONDecodeError: The body is not JSON.
        """
        try:
            return _json.loads(self.content, **options)
        except ValueError as exc:
            raise JSONDecodeError(f"the response is not JSON: {exc}", response=self) from exc

    def iter_lines(self) -> Iterator[bytes]:
        """Yield the lines of the body."""
        yield from self.content.splitlines()

    def raise_for_status(self) -> None:
        """Raise HTTPError if the status is 400 or more."""
        if not self.ok:
            host = urlsplit(self.url).hostname  # the rest of a URL may be secret
            raise HTTPError(
                f"{host} answered {self.status_code} {self.reason}".rstrip(), response=self
            )


class Session:
    """Headers and credentials that several requests share."""

    def __init__(self) -> None:
        self.headers = _Headers()
        self.params: dict[str, Any] = {}
        self.auth: tuple[str, str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: no connection is kept."""

    def request(
        self,
        method: str,
        url: str,
        params: _Pairs | None = None,
        data: _Pairs | str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        auth: tuple[str, str] | None = None,
        timeout: object = None,
        allow_redirects: bool = False,
    ) -> Response:
        """Send a request, and return the response whatever its status is.

        Args:
            method: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.
            url: Begins with https://.
            params: Pairs that are added to the query.
            data: Body; pairs are sent as a form.
            headers: Headers of this request.
            json: Body as JSON, if there is no `data`.
            auth: User and password, for basic authentication.
            timeout: Accepted for other libraries' sake; the runner waits for at most 30 s.
            allow_redirects: Redirects are never followed; the response has their status.

        Raises:
            RequestException: There is no response.
        """
        sent = _Headers([("accept", "*/*"), ("user-agent", "sealspace-python")])
        sent.update(self.headers)
        body, kind = _body(data, json)
        if kind:
            sent["content-type"] = kind
        user = auth or self.auth
        if user is not None:
            sent["authorization"] = "Basic " + base64.b64encode(":".join(user).encode()).decode()
        for name, value in (headers or {}).items():
            sent[name] = str(value)
        query = [*_pairs(self.params), *_pairs(params or {})]
        return _send(method.upper(), _url(url, query), sent, body)

    def get(self, url: str, params: _Pairs | None = None, **about: Any) -> Response:
        """Send a GET request."""
        return self.request("GET", url, params=params, **about)

    def head(self, url: str, **about: Any) -> Response:
        """Send a HEAD request."""
        return self.request("HEAD", url, **about)

    def options(self, url: str, **about: Any) -> Response:
        """Send an OPTIONS request."""
        return self.request("OPTIONS", url, **about)

    def post(self, url: str, data: Any = None, json: Any = None, **about: Any) -> Response:
        """Send a POST request."""
        return self.request("POST", url, data=data, json=json, **about)

    def put(self, url: str, data: Any = None, **about: Any) -> Response:
        """Send a PUT request."""
        return self.request("PUT", url, data=data, **about)

    def patch(self, url: str, data: Any = None, **about: Any) -> Response:
        """Send a PATCH request."""
        return self.request("PATCH", url, data=data, **about)

    def delete(self, url: str, **about: Any) -> Response:
        """Send a DELETE request."""
        return self.request("DELETE", url, **about)


def request(method: str, url: str, **about: Any) -> Response:
    """Send a request, as `Session.request`."""
    return Session().request(method, url, **about)


def get(url: str, params: _Pairs | None = None, **about: Any) -> Response:
    """Send a GET request, as `Session.request`."""
    return Session().get(url, params=params, **about)


def head(url: str, **about: Any) -> Response:
    """Send a HEAD request, as `Session.request`."""
    return Session().head(url, **about)


def options(url: str, **about: Any) -> Response:
    """Send an OPTIONS request, as `Session.request`."""
    return Session().options(url, **about)


def post(url: str, data: Any = None, json: Any = None, **about: Any) -> Response:
    """Send a POST request, as `Session.request`."""
    return Session().post(url, data=data, json=json, **about)


def put(url: str, data: Any = None, **about: Any) -> Response:
    """Send a PUT request, as `Session.request`."""
    return Session().put(url, data=data, **about)


def patch(url: str, data: Any = None, **about: Any) -> Response:
    """Send a PATCH request, as `Session.request`."""
    return Session().patch(url, data=data, **about)


def delete(url: str, **about: Any) -> Response:
    """Send a DELETE request, as `Session.request`."""
    return Session().delete(url, **about)


def _send(method: str, url: str, headers: _Headers, body: bytes) -> Response:
    host = urlsplit(url).hostname
    try:
        "".join([method, *headers, *headers.values()]).encode()
    except UnicodeEncodeError:  # it would end the run
        raise InvalidURL(f"{host}: {_NEXT['REQUEST_INVALID']}") from None
    if len(body) > _MAX_BODY_BYTES:  # it would end the run
        raise InvalidURL(f"{host}: the body is longer than 1 MiB")
    wanted = _client.Request(method, url, list(headers.items()), body)
    try:
        answer = _client.fetch(wanted)
    except Err as refused:
        name = refused.value.name
        raise _error(name)(f"{host}: {_NEXT[name]}") from None
    return Response(url, answer.status, _Headers(answer.headers), answer.body)


def _error(name: str) -> type[RequestException]:
    if name == "REQUEST_INVALID":
        return InvalidURL
    if name == "TIMED_OUT":
        return Timeout
    return ConnectionError


def _pairs(values: _Pairs) -> list[tuple[str, str]]:
    """Return pairs as texts; a list of values becomes several pairs, and None is left out."""
    found = []
    for name, value in values.items() if isinstance(values, Mapping) else values:
        several = value if isinstance(value, list | tuple) else [value]
        found += [(str(name), str(one)) for one in several if one is not None]
    return found


def _url(url: str, query: list[tuple[str, str]]) -> str:
    """Return a URL with a query added, and with what is not ASCII percent-encoded."""
    address = quote(url.partition("#")[0], safe=_SAFE)
    if query:
        address += ("&" if urlsplit(address).query else "?") + urlencode(query)
    if not urlsplit(address).path:
        before, mark, behind = address.partition("?")
        address = f"{before}/{mark}{behind}"
    return address


def _body(data: _Pairs | str | bytes | None, json: Any) -> tuple[bytes, str]:
    """Return a body and its media type, which is empty if it is not known."""
    if isinstance(data, bytes):
        return data, ""
    if isinstance(data, str):
        return data.encode(), ""
    if data is not None:
        return urlencode(_pairs(data)).encode(), "application/x-www-form-urlencoded"
    if json is not None:
        return _json.dumps(json, allow_nan=False).encode(), "application/json"
    return b"", ""


def _charset(content_type: str) -> str:
    """Return the encoding that a Content-Type header names."""
    for part in content_type.split(";")[1:]:
        name, _, value = part.strip().partition("=")
        if name.lower() == "charset":
            return value.strip("\"'")
    return "utf-8"
