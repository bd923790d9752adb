"""Checks for contradictory and unsafe settings."""

import re
from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from operator import attrgetter
from urllib.parse import urlsplit

from sealspace.service.command_errors import ConfigurationError

from .faults import Faults
from .tree import Collateral, Config, Http, Listening, Log, Metrics, Retention

_LEAST_DAYS = {"receipts_days": 90, "audit_days": 365}
_EITHER = (
    ("objects.secret_key", "objects.secret_key_file"),
    ("secret.value", "secret.file"),
    ("admin.secret", "admin.secret_file"),
)
"""Settings with a secret, and those with its file."""

_MAX_ORIGIN_CHARS = 253
_MAX_PORT = 65535
# The origin becomes a source in the console's Content-Security-Policy, so it must not contain a
# character that separates sources there (CN6). Browsers match no IPv6 address in a policy and only
# this IPv4 address. The last label begins with a letter, so that a name cannot be an address.
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_RUNNER = re.compile(
    rf"(?:https://(?:{_LABEL}[.])*(?=[a-z]){_LABEL}|https?://(?:127[.]0[.]0[.]1|localhost))(?::(?P<port>[1-9][0-9]{{0,4}}))?"
)


def refuse_contradictions(config: Config) -> None:
    """Reject settings that contradict each other.

    Args:
        config: Settings whose types and bounds are valid.

    Raises:
        ConfigurationError: Two settings contradict each other, or a setting's text is malformed.
            The message has all such faults.

    Does not check:
        That the files, addresses and services named by settings exist.
    """
    checks: tuple[Callable[[], None], ...] = (
        lambda: _refuse_other_database(config.store.url),
        lambda: _refuse_split_address(config.store.url),
        lambda: _refuse_secret_given_twice(config),
        lambda: _refuse_no_agent(config),
        lambda: _refuse_bad_service_addresses(config.collateral),
        lambda: _refuse_bad_runner(config.http.console_runner),
        lambda: _refuse_bad_manage_url(config.hosting.manage_url),
        lambda: _refuse_bad_proxies(config.http.trusted_proxies),
        lambda: _refuse_short_retention(config.retention),
        lambda: _refuse_open_plain_text(config.http, "http.host", config.http.host),
        lambda: _refuse_open_sms(config),
        lambda: _refuse_open_metrics(config.metrics, config.http.port),
        lambda: _refuse_suppressed_requests(config.log),
    )
    faults = Faults()
    for check in checks:
        with faults.noting():
            check()
    faults.require_none()


def _refuse_other_database(url: str | None) -> None:
    if url is not None and not url.startswith(("postgresql://", "postgres://")):
        raise ConfigurationError(
            "store.url is not the address of a PostgreSQL database",
            hint="use the form postgresql://user@host/database",
        )


def _refuse_split_address(url: str | None) -> None:
    """Reject a database URL with unescaped characters in its password."""
    # The driver would take part of the password for a host or port and quote it in its error.
    if url is not None and not _has_valid_ports(url):
        raise ConfigurationError(
            "store.url is not a valid address",
            hint="if its password contains : / ? # or @, write them as %3A %2F %3F %23 %40",
        )


def _has_valid_ports(url: str) -> bool:
    """Return whether each host in a database URL has a number as its port, or no port."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    _, _, hosts = parts.netloc.rpartition("@")
    for host in hosts.split(","):
        _, _, after_address = host.rpartition("]")  # an IPv6 address contains colons, too
        _, colon, port = after_address.rpartition(":")
        if colon and not (port.isascii() and port.isdigit()):
            return False
    return True


def _refuse_secret_given_twice(config: Config) -> None:
    for value_name, file_name in _EITHER:
        value = attrgetter(value_name)(config)
        file = attrgetter(file_name)(config)
        if value and file is not None:
            raise ConfigurationError(
                f"{value_name} and {file_name} are both set", hint="unset one of them"
            )


def _refuse_no_agent(config: Config) -> None:
    if config.platform.source in ("dstack", "tappd"):
        return
    if config.secret.platform:
        raise ConfigurationError(
            f"secret.platform needs a key service, but platform.source"
            f" {config.platform.source} has no key service",
            hint="set platform.source to dstack or tappd, or unset secret.platform",
        )
    if config.platform.socket is not None:
        raise ConfigurationError(
            f"platform.socket is set, but platform.source {config.platform.source} uses no socket",
            hint="set platform.source to dstack or tappd, or unset platform.socket",
        )


def _refuse_bad_service_addresses(collateral: Collateral) -> None:
    for name in ("service_url", "root_crl_url"):
        url = getattr(collateral, name)
        if url is not None and not _is_plain_address(url):
            raise ConfigurationError(
                f"collateral.{name} must be an http or https address without credentials or query",
                hint="use the form https://pccs.example",
            )


def _is_plain_address(url: str) -> bool:
    """Return whether a URL is HTTP, without credentials, query or fragment."""
    # The address is shown to clients, so it must not contain a secret.
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return is_address and "@" not in parts.netloc and not parts.query and not parts.fragment


def _refuse_bad_runner(origin: str | None) -> None:
    """Check that `http.console_runner` is a canonical origin (CN6)."""
    if origin is None:
        return
    match = _RUNNER.fullmatch(origin)
    is_canonical = (
        match is not None
        and len(origin) <= _MAX_ORIGIN_CHARS
        and (match["port"] is None or int(match["port"]) <= _MAX_PORT)
    )
    if not is_canonical:
        raise ConfigurationError(
            "http.console_runner must be an https origin, or an http origin on this machine",
            hint="use the form https://runner.example or http://127.0.0.1:8700, in lower case and"
            " without a path",
        )


def _refuse_bad_manage_url(url: str | None) -> None:
    """Check that `hosting.manage_url` is an https address, as clients require (Q36)."""
    if url is not None and not (url.startswith("https://") and _is_plain_address(url)):
        raise ConfigurationError(
            "hosting.manage_url must be an https address without credentials or query",
            hint="use the form https://node.example/console/",
        )


def _refuse_bad_proxies(proxies: Iterable[str]) -> None:
    for network in proxies:
        try:
            ip_network(network, strict=False)
        except ValueError:
            raise ConfigurationError(
                f"http.trusted_proxies: {network} is not an IP address or network",
                hint="use an address such as 10.0.0.7, or a network such as 10.0.0.0/24",
            ) from None


def _refuse_short_retention(retention: Retention) -> None:
    for name, least in _LEAST_DAYS.items():
        if 0 < getattr(retention, name) < least:
            raise ConfigurationError(
                f"retention.{name} must be 0 or at least {least} days",
                hint=f"set retention.{name} to {least} or more, or to 0 to keep everything",
            )


def _refuse_open_plain_text(http: Http, setting: str, host: str | None) -> None:
    # Tokens are sent in a header: without TLS, anyone on the network path could read and use them.
    # The node does not speak TLS itself, so a proxy has to (spec/operations/running.md).
    if host is None or is_loopback(host) or http.trusted_proxies or http.plain_text_off_loopback:
        return
    raise ConfigurationError(
        f"{setting} {host} is not loopback, and no TLS proxy is configured",
        hint="set http.trusted_proxies to the proxy's address, or http.plain_text_off_loopback ="
        " true for a test",
    )


def _host_of(section: str, listening: Listening, requests_port: int) -> str | None:
    """Check the address of a service, and return its host; None if the service is off."""
    if listening.listen is None:
        return None
    try:
        host, port = listening.address
    except ValueError:
        raise ConfigurationError(
            f"{section}.listen is not an address with a port",
            hint="use the form 127.0.0.1:9464 or [::1]:9464",
        ) from None
    # The kernel accepts the same port on two different addresses, and requests could then reach the
    # wrong listener. Port 0 picks any free port, so two of them never clash.
    if port and port == requests_port:
        raise ConfigurationError(
            f"{section}.listen uses the same port as http.port",
            hint=f"choose another port for {section}.listen",
        )
    return host


def _refuse_open_sms(config: Config) -> None:
    host = _host_of("sms", config.sms, config.http.port)
    _refuse_open_plain_text(config.http, "sms.listen", host)


def _refuse_open_metrics(metrics: Metrics, requests_port: int) -> None:
    # Metrics are served without authentication, and they show how busy the node is and with what.
    host = _host_of("metrics", metrics, requests_port)
    if host is not None and not is_loopback(host) and not metrics.off_loopback:
        raise ConfigurationError(
            f"metrics.listen {host} is not a loopback address, and metrics are served without"
            " authentication",
            hint="use 127.0.0.1, or set metrics.off_loopback = true if only your own machines can"
            " reach that address",
        )


def _refuse_suppressed_requests(log: Log) -> None:
    if log.requests != "off" and log.level not in ("debug", "info"):
        raise ConfigurationError(
            f"log.requests = {log.requests} has no effect, because log.level ="
            f" {log.level} suppresses the request lines",
            hint="set log.level to info, or log.requests to off",
        )


def serves_console(http: Http) -> bool:
    """Return whether the node serves the web console.

    By default, a node does so only on a loopback address and without a proxy.
    """
    return is_local(http) if http.console is None else http.console


def is_local(http: Http) -> bool:
    """Return whether only this machine can reach the node.

    A proxy may forward requests of other machines.
    """
    return is_loopback(http.host) and not http.trusted_proxies


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a listening address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
