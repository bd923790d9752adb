"""Settings: one typed tree from defaults, a settings file, the environment and flags, the later over the earlier.

Rules kept here (spec/operations/running.md):
- A settings file is one that somebody named, or `sealspace.toml` in a data folder that somebody named: what lies in the
  folder in which a command is started decides nothing.
- An unknown setting refuses to start; the message names its path and where it stands.
- A variable `SEALSPACE_HTTP__PORT` is the setting `http.port`: `__` separates levels. Lists are separated by commas.
- Nothing else in the project reads the environment.

Example:
    config = load_config(flags={"http.port": 0})
    config.http.port
"""

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, get_args, get_origin
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Meta, Struct

from .errors import ConfigurationError

ENVIRONMENT_PREFIX = "SEALSPACE_"
CONFIG_FILE_NAME = "sealspace.toml"
_CONFIG_FILE_VARIABLE = "SEALSPACE_CONFIG"
_DATA_VARIABLE = "SEALSPACE_STORE__DATA"
# A settings file is a page of text; more is not one.
_MAX_FILE_BYTES = 1 << 20

HostingMode = Literal["auto", "listed", "explicit", "permit"]
CollateralEdition = Literal["standard", "early"]
AttestationMode = Literal["delegates", "everyone", "off"]
LogLevel = Literal["debug", "info", "warning", "error"]
PlatformSource = Literal["none", "tsm", "dstack", "tappd"]
Value: TypeAlias = bool | int | float | str | Sequence[str] | None
_Flat: TypeAlias = dict[str, object]  # dotted path -> value

_HINT = "sealspace doctor --settings"
_PASSWORDS = frozenset({"password", "sslpassword"})
_LEAST_DAYS = {"receipts_days": 90, "audit_days": 365}
_STANDARD_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "blobs.key_id",
    "AWS_SECRET_ACCESS_KEY": "blobs.secret_key",
    "AWS_SESSION_TOKEN": "blobs.session_token",
}


class Http(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The listener and the bounds of one request."""

    host: Annotated[str, Meta(description="Address to listen on.", min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(description="Port to listen on; 0 takes any free one.", ge=0, le=65535)] = 8000
    workers: Annotated[int, Meta(description="Worker processes; 0 means one for each core.", ge=0, le=256)] = 0
    cors: Annotated[bool, Meta(description="Let pages of any origin call this node, `/admin` apart.")] = True
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(description="Addresses or networks of proxies whose forwarded headers are believed."),
    ] = ()
    plain_text_off_loopback: Annotated[
        bool,
        Meta(description="Serve unencrypted HTTP on an address other than loopback without a trusted proxy."),
    ] = False
    max_body_bytes: Annotated[int, Meta(description="Largest value, or batch of values, that one may put.", ge=0)] = (
        1_000_000_000
    )
    max_header_line_bytes: Annotated[
        int, Meta(description="Longest value of one request header; tokens travel there.", ge=8192, le=1 << 20)
    ] = 393_216
    keep_alive_s: Annotated[float, Meta(description="Seconds after which an idle connection is closed.", gt=0)] = 75.0
    idle_body_s: Annotated[
        float, Meta(description="Seconds without a byte after which an upload is given up.", gt=0, le=3600)
    ] = 60.0
    head_s: Annotated[
        float, Meta(description="Seconds within which a request's head has to come, once it has begun.", gt=0, le=3600)
    ] = 30.0
    unread_answer_s: Annotated[
        float,
        Meta(description="Seconds for which a client may take nothing of its answer before it is given up.", gt=0),
    ] = 60.0
    max_connections: Annotated[
        int,
        Meta(
            description="Open connections in each worker, fewer where the process may open few files; one more is "
            "closed as it comes.",
            ge=1,
        ),
    ] = 4096
    connections_per_client: Annotated[
        int,
        Meta(
            description="Those of one client address; loopback and `http.trusted_proxies` are not counted. 0: no "
            "bound.",
            ge=0,
        ),
    ] = 128
    drain_s: Annotated[
        float, Meta(description="Seconds that requests under way get to finish after SIGTERM.", ge=0, le=3600)
    ] = 10.0


class Store(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where everything is kept."""

    data: Annotated[str, Meta(description="Folder of the store, the root secret and the blobs.", min_length=1)] = "data"
    url: Annotated[str | None, Meta(description="Another store than LMDB in the data folder: `postgresql://…`.")] = None
    max_bytes: Annotated[
        int, Meta(description="Bytes of rows, and of values in files, beyond which puts are answered 507.", ge=1 << 20)
    ] = 1 << 40
    retry_s: Annotated[
        float, Meta(description="Seconds for which a refused commit is tried again before 503.", gt=0, le=30)
    ] = 2.0
    delegation_cache_bytes: Annotated[int, Meta(description="Memory for decoded delegations in each worker.", ge=0)] = (
        64 << 20
    )

    def __repr__(self) -> str:
        """Show whether a database is named, never its address: a password may stand in it."""
        return f"Store(data={self.data!r}, url={'…' if self.url else None!r}, max_bytes={self.max_bytes})"


class Blobs(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where large values lie; without an address in the folder `blobs` of the data folder."""

    url: Annotated[str | None, Meta(description="Bucket for large values: `s3://bucket/prefix`.")] = None
    endpoint: Annotated[
        str | None, Meta(description="Address of an S3-compatible server, like `https://s3.example`; none: Amazon's.")
    ] = None
    region: Annotated[str, Meta(description="Region of the bucket.", min_length=1)] = "us-east-1"
    key_id: Annotated[
        str | None, Meta(description="Public part of the bucket's credentials; none: `AWS_ACCESS_KEY_ID`.")
    ] = None
    secret_key: Annotated[
        str | None,
        Meta(description="Secret part, only from the environment; none: `AWS_SECRET_ACCESS_KEY`."),
    ] = None
    secret_key_file: Annotated[
        str | None, Meta(description="File with the secret part; blanks around it do not belong to it.")
    ] = None
    session_token: Annotated[
        str | None,
        Meta(description="What temporary credentials carry besides, only from the environment; `AWS_SESSION_TOKEN`."),
    ] = None

    def __repr__(self) -> str:
        """Show where the bodies lie, never the credentials."""
        return f"Blobs(url={self.url!r}, endpoint={self.endpoint!r}, region={self.region!r})"


class Hosting(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which spaces this node hosts, and within which bounds."""

    mode: Annotated[
        HostingMode,
        Meta(
            description="`auto`: anybody's spaces, when their owner signs in; `explicit`: anybody's too, each by its "
            "owner's host grant; `listed`: only those of the DIDs in `listed`; `permit`: only those of owners whom "
            "`sealspace admin owners add` admitted. Bounds hold in every mode."
        ),
    ] = "auto"
    listed: Annotated[tuple[str, ...], Meta(description="DIDs whose spaces alone are hosted in mode `listed`.")] = ()
    spaces_per_grant: Annotated[int, Meta(description="Spaces that one grant may activate.", ge=1, le=64)] = 16
    spaces_per_owner: Annotated[int, Meta(description="Spaces that one owner may have.", ge=1)] = 32
    spaces_total: Annotated[int, Meta(description="Spaces on this node.", ge=1)] = 1_000_000
    new_owners_per_hour: Annotated[
        int, Meta(description="New owners per client address and hour; loopback is not counted.", ge=0)
    ] = 60
    default_quota_bytes: Annotated[
        int, Meta(description="Quota of a space that has none of its own; 0: no limit.", ge=0)
    ] = 1 << 30


class Release(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When the node opens a key."""

    attestation: Annotated[
        AttestationMode,
        Meta(
            description="`delegates`: everybody but the owner in person proves what code they are; `everyone`: the "
            "owner too; `off`: nobody, for development."
        ),
    ] = "delegates"
    trust_root: Annotated[
        str | None,
        Meta(description="File with the root certificate (PEM or DER) to trust instead of Intel's."),
    ] = None
    collateral: Annotated[str | None, Meta(description="Folder of collateral files to load at start.")] = None
    key_providers: Annotated[
        tuple[str, ...],
        Meta(
            description="Who may have given an application its keys: `kms`, `tpm`, or with an id in hex like "
            "`kms:3059…`; `local-sgx` only with its id. Evidence without an event log, which tells of nobody, is taken "
            "only where `kms` and `tpm` stand without an id."
        ),
    ] = ("kms", "tpm")
    node_policy_suffices: Annotated[
        bool, Meta(description="Let the node's own list of measurements stand for an owner's.")
    ] = False
    challenge_s: Annotated[int, Meta(description="Seconds for which a challenge is valid.", ge=10, le=3600)] = 120
    evidence_s: Annotated[
        int, Meta(description="Seconds for which evidence stands; never past its collateral.", ge=60, le=86_400)
    ] = 600


class Collateral(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where Intel's documents about platforms are fetched from, and how old they may get."""

    service_url: Annotated[
        str | None,
        Meta(
            description="Service to fetch from: `https://api.trustedservices.intel.com` or a mirror of it; none: "
            "documents are imported, never fetched."
        ),
    ] = None
    root_crl_url: Annotated[
        str | None,
        Meta(description="Address of the root's revocation list; none: where the service named above has it."),
    ] = None
    update: Annotated[
        CollateralEdition,
        Meta(description="Edition that is fetched: the `standard` one, or `early` each newer one at once."),
    ] = "standard"
    check_numbers: Annotated[
        bool,
        Meta(
            description="Fetch the signed list of editions too, and refuse a document of one that was replaced; a "
            "mirror may not have that list."
        ),
    ] = True
    timeout_s: Annotated[float, Meta(description="Seconds for fetching one document.", gt=0, le=25)] = 10.0
    refresh_s: Annotated[int, Meta(description="Seconds after which a document is fetched again.", ge=3600)] = 86_400
    lead_s: Annotated[
        int, Meta(description="Seconds before its end when a document is fetched at the latest.", ge=3600)
    ] = 604_800
    retry_s: Annotated[int, Meta(description="Longest wait between two tries, in seconds.", ge=60)] = 3600
    stale_s: Annotated[
        int, Meta(description="Seconds after its issue from when on a document is stale, and the log says so.", ge=3600)
    ] = 604_800
    grace_s: Annotated[
        int,
        Meta(
            description="Seconds for which a stale document still judges quotes; its signed windows end it sooner.",
            ge=0,
        ),
    ] = 2_592_000


class Platform(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The trust domain that the node itself runs in, if it runs in one."""

    source: Annotated[
        PlatformSource,
        Meta(
            description="Where the node's own quotes come from: `tsm`, the kernel's report interface; `dstack` or the "
            "older `tappd`, a guest agent; `none`: the node runs in no trust domain."
        ),
    ] = "none"
    socket: Annotated[
        str | None, Meta(description="Unix socket of the guest agent; none: looked for where agents put it.")
    ] = None
    quote_s: Annotated[
        float, Meta(description="Seconds that a request waits for the node's own quote.", gt=0, le=60)
    ] = 10.0
    quotes_waiting: Annotated[
        int, Meta(description="Requests for the node's own quote that may wait in one worker.", ge=1, le=1000)
    ] = 16
    quotes_per_minute: Annotated[
        int, Meta(description="The node's own quotes per client address and minute, in each worker.", ge=1)
    ] = 30


class Invocation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds of one invocation."""

    max_lifetime_s: Annotated[
        int, Meta(description="Longest time between now and the expiry of an invocation.", ge=1, le=86_400)
    ] = 300


class PublicSpaces(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Spaces named `public`, which everybody may read."""

    storage_limit_bytes: Annotated[int, Meta(description="Quota of each space named `public`.", ge=1)] = 10 << 20
    requests_per_minute: Annotated[
        int, Meta(description="Public reads per client address and minute, in each worker; 0 counts nothing.", ge=0)
    ] = 60
    burst: Annotated[int, Meta(description="Public reads that a quiet client may make at once, beyond that.", ge=0)] = (
        10
    )


class Admin(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The operator's routes below `/admin`; without a secret they answer 503."""

    secret: Annotated[
        str | None, Meta(description="What the operator sends as `Bearer` token; only from the environment.")
    ] = None
    secret_file: Annotated[
        str | None, Meta(description="File with that secret; blanks around it do not belong to it.")
    ] = None

    def __repr__(self) -> str:
        """Show where the secret comes from, never the secret."""
        return f"Admin(secret={'…' if self.secret else None!r}, secret_file={self.secret_file!r})"


class Limits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What keeps one caller from taking everything."""

    ready_s: Annotated[float, Meta(description="Seconds that the canary write of /readyz may take.", gt=0, le=60)] = 2.0
    challenges_per_minute: Annotated[
        int, Meta(description="Attestation challenges and sessions per client address and minute.", ge=1)
    ] = 60
    strangers_per_minute: Annotated[
        int,
        Meta(
            description="Refused tokens, further cids, first delegations and networks of unknown signers, per client "
            "address and minute, in each worker; 0 counts nothing.",
            ge=0,
        ),
    ] = 3000
    delegations_per_signer: Annotated[
        int,
        Meta(
            description="Delegations of one signer that are kept; one leaves 30 days after it expired. 0: no bound.",
            ge=0,
        ),
    ] = 100_000
    delegation_bytes_per_signer: Annotated[
        int,
        Meta(description="Bytes of kept delegations of one signer who hosts a space here. 0: no bound.", ge=0),
    ] = 512 << 20
    delegation_bytes_per_address: Annotated[
        int,
        Meta(description="Bytes of kept delegations of such signers from one client address. 0: no bound.", ge=0),
    ] = 16 << 30
    stranger_bytes_per_signer: Annotated[
        int,
        Meta(description="Bytes of kept delegations of one signer who hosts no space here. 0: no bound.", ge=0),
    ] = 16 << 20
    stranger_bytes_per_address: Annotated[
        int,
        Meta(description="Bytes of kept delegations of such signers from one client address. 0: no bound.", ge=0),
    ] = 1 << 30
    quotes_waiting: Annotated[
        int, Meta(description="Quotes that may wait for verification in one worker.", ge=1, le=10_000)
    ] = 64


class Retention(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long what is written about the past is kept."""

    receipts_days: Annotated[
        int,
        Meta(
            description="Days for which receipts, and the documents that they name, are kept; 90 or more. 0: for ever.",
            ge=0,
            le=36_500,
        ),
    ] = 1095
    audit_days: Annotated[
        int,
        Meta(
            description="Days after which sealed audit records are removed, up to a signed head; 365 or more. 0: none.",
            ge=0,
            le=36_500,
        ),
    ] = 0
    audit_unexported: Annotated[
        bool, Meta(description="Remove audit records then that no export is known to hold; see `sealspace audit kept`.")
    ] = False


class Log(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is written to standard error."""

    level: Annotated[LogLevel, Meta(description="Least severe level that is written.")] = "info"


class Metrics(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Numbers about the node for whoever operates it; without an address nothing is counted."""

    listen: Annotated[
        str | None,
        Meta(description="Address and port at which metrics are served, like `127.0.0.1:9464`; none: nowhere."),
    ] = None
    off_loopback: Annotated[
        bool, Meta(description="Serve them on an address other than loopback, to everybody who can reach it.")
    ] = False

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port of `listen`, which is set.

        Raises:
            ValueError: it is no such address.
        """
        host, _, port = (self.listen or "").rpartition(":")
        host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
        if not host or not port.isdecimal() or not port.isascii() or int(port) > 65535:
            raise ValueError("not a host and a port")
        return host, int(port)


class Secret(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the root secret comes from; without any of it, it is made in the data folder on first start."""

    file: Annotated[str | None, Meta(description="File with the root secret as raw bytes, 32 or more.")] = None
    value: Annotated[
        str | None,
        Meta(description="The root secret as unpadded base64url; only from the environment."),
    ] = None
    platform: Annotated[
        bool,
        Meta(description="Take the root secret from the key service of the guest agent, unless one of the two is set."),
    ] = False
    platform_path: Annotated[
        str, Meta(description="Name under which the key service is asked for it.", min_length=1, max_length=256)
    ] = "tinycloud/keys/primary"

    def __repr__(self) -> str:
        """Show where the secret comes from, never the secret."""
        return f"Secret(file={self.file!r}, value={'…' if self.value else None!r}, platform={self.platform!r})"


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every setting of the node."""

    http: Http = Http()
    store: Store = Store()
    blobs: Blobs = Blobs()
    hosting: Hosting = Hosting()
    release: Release = Release()
    collateral: Collateral = Collateral()
    platform: Platform = Platform()
    invocation: Invocation = Invocation()
    public_spaces: PublicSpaces = PublicSpaces()
    admin: Admin = Admin()
    limits: Limits = Limits()
    retention: Retention = Retention()
    log: Log = Log()
    metrics: Metrics = Metrics()
    secret: Secret = Secret()

    @property
    def data(self) -> Path:
        """Return the data folder as an absolute path."""
        return Path(self.store.data).absolute()


def load_config(
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Value] | None = None,
) -> Config:
    """Read all sources and return the settings in force.

    Args:
        file: settings file; None takes the one that the environment names, else `sealspace.toml` in the data folder
            that a flag or the environment names, where it exists.
        environment: variables; None takes the process's.
        flags: dotted path to value; None values are left out.

    Returns:
        Settings that are well typed, inside their bounds and free of contradictions.

    Raises:
        ConfigurationError: anything unknown, ill typed, out of bounds or unreadable, with path and source.
    """
    variables = os.environ if environment is None else environment
    path = file or _file_of(variables, flags or {})
    settings: _Flat = {}
    if path is not None:
        settings |= _from_file(path)
    settings |= _from_environment(variables)
    given = _checked({name: value for name, value in (flags or {}).items() if value is not None}, source="flags")
    _refuse_password(given.get("store.url"), source="flags")
    settings |= given
    if settings.get("blobs.url") is not None:
        settings = _standard_credentials(variables, settings) | settings
    config = msgspec.convert(_nested(settings), Config)
    _refuse_contradictions(config)
    return config


def child_environment() -> dict[str, str]:
    """Return the process's variables without ours: a child gets its settings from its parent, not by inheritance."""
    return {name: text for name, text in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}


@cache
def setting_types() -> Mapping[str, object]:
    """Return the annotated type of every setting by its dotted path, in the order of the tree."""
    return {
        f"{section.name}.{field.name}": field.type
        for section in msgspec.structs.fields(Config)
        for field in msgspec.structs.fields(section.type)
    }


def _file_of(variables: Mapping[str, str], flags: Mapping[str, Value]) -> Path | None:
    if named := variables.get(_CONFIG_FILE_VARIABLE):
        return Path(named)
    # Not the default folder `data`: it lies wherever the command is started, and so may somebody else's file.
    folder = flags.get("store.data") or variables.get(_DATA_VARIABLE)
    beside = Path(str(folder)) / CONFIG_FILE_NAME
    return beside if folder and beside.is_file() else None


def _from_file(path: Path) -> _Flat:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise ConfigurationError(f"cannot read the settings file {path}: {reason}", hint=f"ls -l {path}") from None
    if len(data) > _MAX_FILE_BYTES:
        raise ConfigurationError(f"the settings file {path} is longer than {_MAX_FILE_BYTES} bytes", hint=_HINT)
    try:
        leaves = dict(_leaves(tomllib.loads(data.decode("utf-8"))))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"the settings file {path} is not TOML: {error}", hint=f"edit {path}") from None
    settings = _checked(leaves, source=str(path))
    if "secret.value" in settings:
        # A settings file is copied, backed up and committed; the root secret has a file of its own.
        raise ConfigurationError(
            f"secret.value in {path}: the root secret does not belong in a settings file",
            hint="put the raw bytes into a file with mode 0600 and set secret.file",
        )
    if "admin.secret" in settings:
        raise ConfigurationError(
            f"admin.secret in {path}: the operator's secret does not belong in a settings file",
            hint="put it into a file with mode 0600 and set admin.secret_file",
        )
    for name in ("blobs.secret_key", "blobs.session_token"):
        if name in settings:
            raise ConfigurationError(
                f"{name} in {path}: a credential does not belong in a settings file",
                hint="put it into a file with mode 0600 and set blobs.secret_key_file, or into the environment",
            )
    _refuse_password(settings.get("store.url"), source=str(path))
    return settings


def _refuse_password(url: object, *, source: str) -> None:
    """Refuse a database's password where others read it: in a settings file, or in the arguments of a process."""
    if not isinstance(url, str):
        return
    try:
        parts = urlsplit(url)
        has_password = bool(parts.password) or not _PASSWORDS.isdisjoint(parse_qs(parts.query))
    except ValueError:
        raise ConfigurationError(f"setting store.url ({source}) is not an address", hint=_HINT) from None
    if has_password:
        raise ConfigurationError(
            f"store.url ({source}): a password does not belong there",
            hint="put it into ~/.pgpass, or the whole address into SEALSPACE_STORE__URL",
        )


def _from_environment(variables: Mapping[str, str]) -> _Flat:
    settings: _Flat = {}
    for name in sorted(variables):
        if not name.startswith(ENVIRONMENT_PREFIX) or name == _CONFIG_FILE_VARIABLE:
            continue
        path = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
        text: object = variables[name]
        if not _is_unicode(variables[name]):
            raise ConfigurationError(f"environment variable {name} is no Unicode text", hint=_HINT)
        if path in setting_types() and _is_list(setting_types()[path]):
            text = [part.strip() for part in variables[name].split(",") if part.strip()]
        settings |= _checked({path: text}, source=f"environment variable {name}", strict=False)
    return settings


def _standard_credentials(variables: Mapping[str, str], settings: _Flat) -> _Flat:
    """Return the credentials in the variables that every S3 client knows; none of them beside any of ours."""
    if any(name in settings for name in ("blobs.key_id", "blobs.secret_key", "blobs.secret_key_file")):
        return {}
    return {path: variables[name] for name, path in _STANDARD_CREDENTIALS.items() if variables.get(name)}


def _checked(settings: _Flat, *, source: str, strict: bool = True) -> _Flat:
    """Return the settings as their types, or refuse by path and source what is unknown or ill typed."""
    known = setting_types()
    result: _Flat = {}
    for path, value in settings.items():
        if path not in known:
            raise ConfigurationError(f"unknown setting {path} ({source})", hint=_HINT)
        try:
            result[path] = msgspec.convert(value, known[path], strict=strict)
        except msgspec.ValidationError as error:
            # The message names types and bounds; msgspec puts no value into it.
            raise ConfigurationError(f"setting {path} ({source}): {error}", hint=_HINT) from None
    return result


def _leaves(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _nested(settings: _Flat) -> dict[str, _Flat]:
    tree: dict[str, _Flat] = {}
    for path, value in settings.items():
        section, _, name = path.partition(".")
        tree.setdefault(section, {})[name] = value
    return tree


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_list(kind: object) -> bool:
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return get_origin(bare) is tuple


def _refuse_contradictions(config: Config) -> None:
    if config.hosting.mode == "listed" and not config.hosting.listed:
        raise ConfigurationError(
            "hosting.mode is `listed` but hosting.listed names nobody", hint="set hosting.listed to one DID or more"
        )
    if config.store.url is not None and not config.store.url.startswith(("postgresql://", "postgres://")):
        raise ConfigurationError(
            "store.url names no database that this version knows", hint="write it like postgresql://user@host/database"
        )
    _refuse_torn_address(config.store.url)
    if config.blobs.secret_key and config.blobs.secret_key_file is not None:
        raise ConfigurationError("blobs.secret_key and blobs.secret_key_file are both set", hint="unset one of them")
    if config.secret.file is not None and config.secret.value is not None:
        raise ConfigurationError("secret.file and secret.value are both set", hint="unset one of them")
    _refuse_no_agent(config)
    if config.admin.secret_file is not None and config.admin.secret:
        raise ConfigurationError("admin.secret and admin.secret_file are both set", hint="unset one of them")
    for name in ("service_url", "root_crl_url"):
        _refuse_bad_service(f"collateral.{name}", getattr(config.collateral, name))
    for network in config.http.trusted_proxies:
        _refuse_bad_network(network)
    _refuse_short_memory(config.retention)
    _refuse_open_plain_text(config)
    _refuse_open_metrics(config.metrics, config.http.port)


def _refuse_torn_address(url: str | None) -> None:
    """Refuse a database's address that a sign in its password tears: what reads it next would quote a part of that."""
    try:
        hosts = "" if url is None else urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        hosts = ":"
    for host in filter(None, hosts.split(",")):
        _, separator, port = host.rpartition("]")[2].rpartition(":")
        if separator and not (port.isascii() and port.isdigit()):
            raise ConfigurationError(
                "store.url is not an address", hint="write :, /, ?, # and @ in a password as %3A, %2F, %3F, %23 and %40"
            )


def _refuse_short_memory(retention: Retention) -> None:
    for name, least in _LEAST_DAYS.items():
        if 0 < getattr(retention, name) < least:
            raise ConfigurationError(
                f"retention.{name} is shorter than {least} days",
                hint=f"set it to {least} or more, or to 0 to keep everything",
            )


def _refuse_no_agent(config: Config) -> None:
    if config.platform.source in ("dstack", "tappd"):
        return
    if config.secret.platform:
        raise ConfigurationError(
            f"secret.platform is set, and platform.source {config.platform.source} has no key service",
            hint="set platform.source to dstack or tappd, or unset secret.platform",
        )
    if config.platform.socket is not None:
        raise ConfigurationError(
            f"platform.socket is set, and platform.source {config.platform.source} has no socket",
            hint="set platform.source to dstack or tappd, or unset platform.socket",
        )


def _refuse_bad_service(name: str, url: str | None) -> None:
    """Refuse what is no plain web address: it is shown to whoever asks where a document came from."""
    if url is not None and not _is_plain_address(url):
        raise ConfigurationError(
            f"{name} is not an address without credentials and query", hint="write it like https://pccs.example"
        )


def _is_plain_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return is_address and "@" not in parts.netloc and not parts.query and not parts.fragment


def _refuse_bad_network(network: str) -> None:
    try:
        ip_network(network, strict=False)
    except ValueError:
        raise ConfigurationError(
            f"http.trusted_proxies: {network} is neither an address nor a network",
            hint="write it like 10.0.0.7 or 10.0.0.0/24",
        ) from None


def _refuse_open_plain_text(config: Config) -> None:
    # Off loopback only behind a proxy that ends TLS: tokens travel in a header (spec/operations/running.md).
    http = config.http
    if is_loopback(http.host) or http.trusted_proxies or http.plain_text_off_loopback:
        return
    raise ConfigurationError(
        f"http.host {http.host} is not loopback, and no proxy that ends TLS is named",
        hint="set http.trusted_proxies to the proxy's address, or http.plain_text_off_loopback = true for a test",
    )


def _refuse_open_metrics(metrics: Metrics, requests_port: int) -> None:
    # Whoever reads them learns how busy the node is, and with what: nobody is asked for a name there.
    if metrics.listen is None:
        return
    try:
        host, port = metrics.address
    except ValueError:
        raise ConfigurationError(
            "metrics.listen is not an address with a port", hint="write it like 127.0.0.1:9464 or [::1]:9464"
        ) from None
    if port and port == requests_port:  # the kernel binds both, and requests would come to the metrics
        raise ConfigurationError("metrics.listen has the port of http.port", hint="choose another metrics.listen")
    if not is_loopback(host) and not metrics.off_loopback:
        raise ConfigurationError(
            f"metrics.listen {host} is not loopback, and metrics are served to whoever asks",
            hint="use 127.0.0.1, or set metrics.off_loopback = true where only your own machines reach that address",
        )


def is_loopback(host: str) -> bool:
    """Return whether a listening address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
