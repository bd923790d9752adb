"""Settings that contradict each other, or that would open the node to more than the settings
say."""

import re
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from sealspace.cli.command_errors import ConfigurationError

from .tree import Config, Http, Metrics

_LEAST_DAYS: Final = {"receipts_days": 90, "audit_days": 365}

_MAX_ORIGIN_CHARS: Final = 253
_MAX_PORT: Final = 65535
# CN6. A source of a policy: each character is one that separates nothing there. Browsers match no
# IPv6 address, and of IPv4 none but this one; a name ends with a letter's label, so that it is no
# address.
_LABEL: Final = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_RUNNER: Final = re.compile(
    rf"(?:https://(?:{_LABEL}[.])*(?=[a-z]){_LABEL}|https?://(?:127[.]0[.]0[.]1|localhost))(?::([1-9][0-9]{{0,4}}))?"
)


def refuse_contradictions(config: Config) -> None:
    """Check settings against each other.

    Args:
        config: well typed, each setting inside its bounds.

    Raises:
        ConfigurationError: two settings contradict each other, or a text is not what its setting
            accepts.

    Does not check:
        That files, addresses and services which settings name exist.
    """
    if config.store.url is not None and not config.store.url.startswith(
        ("postgresql://", "postgres://")
    ):
        raise ConfigurationError(
            "store.url names no database that this version knows",
            hint="write it like postgresql://user@host/database",
        )
    _refuse_torn_address(config.store.url)
    if config.objects.secret_key and config.objects.secret_key_file is not None:
        raise ConfigurationError(
            "objects.secret_key and objects.secret_key_file are both set", hint="unset one of them"
        )
    if config.secret.file is not None and config.secret.value is not None:
        raise ConfigurationError(
            "secret.file and secret.value are both set", hint="unset one of them"
        )
    _refuse_no_agent(config)
    if config.admin.secret_file is not None and config.admin.secret:
        raise ConfigurationError(
            "admin.secret and admin.secret_file are both set", hint="unset one of them"
        )
    for name in ("service_url", "root_crl_url"):
        url = getattr(config.collateral, name)
        if url is not None and not _is_plain_address(url):
            raise ConfigurationError(
                f"collateral.{name} is not an address without credentials and query",
                hint="write it like https://pccs.example",
            )
    _refuse_bad_runner(config.http.console_runner)
    for network in config.http.trusted_proxies:
        try:
            ip_network(network, strict=False)
        except ValueError:
            raise ConfigurationError(
                f"http.trusted_proxies: {network} is neither an address nor a network",
                hint="write it like 10.0.0.7 or 10.0.0.0/24",
            ) from None
    for name, least in _LEAST_DAYS.items():
        if 0 < getattr(config.retention, name) < least:
            raise ConfigurationError(
                f"retention.{name} is shorter than {least} days",
                hint=f"set it to {least} or more, or to 0 to keep everything",
            )
    _refuse_open_plain_text(config)
    _refuse_open_metrics(config.metrics, config.http.port)
    if config.log.requests != "off" and config.log.level not in ("debug", "info"):
        raise ConfigurationError(
            f"log.requests is {config.log.requests}, and log.level {config.log.level} hides its"
            " lines",
            hint="set log.level to info, or log.requests to off",
        )


def _refuse_torn_address(url: str | None) -> None:
    """Refuse a database's address that a character in its password splits: its next parser would
    quote a part of it."""
    try:
        hosts = "" if url is None else urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        hosts = ":"
    for host in filter(None, hosts.split(",")):
        _, separator, port = host.rpartition("]")[2].rpartition(":")
        if separator and not (port.isascii() and port.isdigit()):
            raise ConfigurationError(
                "store.url is not an address",
                hint="write :, /, ?, # and @ in a password as %3A, %2F, %3F, %23 and %40",
            )


def _refuse_no_agent(config: Config) -> None:
    if config.platform.source in ("dstack", "tappd"):
        return
    if config.secret.platform:
        raise ConfigurationError(
            f"secret.platform is set, and platform.source {config.platform.source} has no key"
            " service",
            hint="set platform.source to dstack or tappd, or unset secret.platform",
        )
    if config.platform.socket is not None:
        raise ConfigurationError(
            f"platform.socket is set, and platform.source {config.platform.source} has no socket",
            hint="set platform.source to dstack or tappd, or unset platform.socket",
        )


def _is_plain_address(url: str) -> bool:
    """Return whether an address has no credentials and no query: it is shown to clients."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return is_address and "@" not in parts.netloc and not parts.query and not parts.fragment


def _refuse_bad_runner(origin: str | None) -> None:
    """Refuse anything but an origin in its one spelling: it becomes a part of the console's policy
    (CN6)."""
    if origin is None:
        return
    found = _RUNNER.fullmatch(origin)
    if found is None or len(origin) > _MAX_ORIGIN_CHARS or int(found[1] or 1) > _MAX_PORT:
        raise ConfigurationError(
            "http.console_runner is not an origin that the console may call",
            hint=(
                "write it like https://runner.example or http://127.0.0.1:8700, in small letters,"
                " without a path"
            ),
        )


def _refuse_open_plain_text(config: Config) -> None:
    # Off loopback only behind a proxy that ends TLS: tokens travel in a header
    # (spec/operations/running.md).
    http = config.http
    if is_loopback(http.host) or http.trusted_proxies or http.plain_text_off_loopback:
        return
    raise ConfigurationError(
        f"http.host {http.host} is not loopback, and no proxy that ends TLS is named",
        hint=(
            "set http.trusted_proxies to the proxy's address, or http.plain_text_off_loopback ="
            " true for a test"
        ),
    )


def _refuse_open_metrics(metrics: Metrics, requests_port: int) -> None:
    # A client that reads them learns how busy the node is, and with what: no authentication is
    # required there.
    if metrics.listen is None:
        return
    try:
        host, port = metrics.address
    except ValueError:
        raise ConfigurationError(
            "metrics.listen is not an address with a port",
            hint="write it like 127.0.0.1:9464 or [::1]:9464",
        ) from None
    # the kernel binds both, and requests would arrive at the metrics
    if port and port == requests_port:
        raise ConfigurationError(
            "metrics.listen has the port of http.port", hint="choose another metrics.listen"
        )
    if not is_loopback(host) and not metrics.off_loopback:
        raise ConfigurationError(
            f"metrics.listen {host} is not loopback, and metrics are served to whoever asks",
            hint=(
                "use 127.0.0.1, or set metrics.off_loopback = true where only your own machines"
                " reach that address"
            ),
        )


def serves_console(http: Http) -> bool:
    """Return whether the node serves the console: as the setting says, else where no other machine
    reaches the node."""
    return (
        is_loopback(http.host) and not http.trusted_proxies
        if http.console is None
        else http.console
    )


def is_loopback(host: str) -> bool:
    """Return whether a listening address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
