"""The definitions of all settings."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from .redaction import Section

HostingMode = Literal["auto", "explicit", "permit"]
CollateralEdition = Literal["standard", "early"]
AttestationMode = Literal["delegates", "everyone", "off"]
LogFormat = Literal["mixed", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
RequestLines = Literal["off", "hashed", "plain"]
PlatformSource = Literal["none", "tsm", "dstack", "tappd"]
_MAX_PORT = 65535
# The name of a space, the beginning of a path, and a number up to 100.
_VERSIONS = r"^[A-Za-z0-9_-]{1,64}/[^,\x00-\x1f]{0,400}=(100|[1-9]?[0-9])$"


def about(description: str, **bounds: Any) -> Meta:
    """Return the description and the bounds of a setting as msgspec metadata."""
    return Meta(description=description, **bounds)


class Http(Section):
    """The HTTP listener and its limits."""

    host: Annotated[str, about("Address to listen on.", min_length=1)] = "127.0.0.1"
    port: Annotated[int, about("Port to listen on; 0 picks any free port.", ge=0, le=65535)] = 8000
    workers: Annotated[
        int, about("Number of worker processes; 0 means one per core.", ge=0, le=256)
    ] = 0
    cors: Annotated[
        bool, about("Let web pages of any origin call this node, except the routes below `/admin`.")
    ] = True
    console: Annotated[
        bool | None,
        about(
            "Serve the console, a web page for owners, at `/console/`. If unset, it"
            " is served only if `http.host` is loopback and no proxy is trusted."
        ),
    ] = None
    console_runner: Annotated[
        str | None,
        about(
            "Origin of the runner on which the console manages API keys and generates"
            " secrets, like `https://runner.example` or `http://127.0.0.1:8700`."
        ),
    ] = None
    trusted_proxies: Annotated[
        tuple[str, ...],
        about("Addresses or networks of proxies whose forwarded headers are trusted."),
    ] = ()
    plain_text_off_loopback: Annotated[
        bool,
        about("Allow unencrypted HTTP on an address other than loopback without a trusted proxy."),
    ] = False
    max_body_bytes: Annotated[
        int, about("Largest value, or batch of values, that a client may put.", ge=0)
    ] = 1_000_000_000
    max_header_line_bytes: Annotated[
        int,
        about(
            "Longest value of one request header. Tokens are sent in headers.", ge=8192, le=1 << 20
        ),
    ] = 393_216
    keep_alive_s: Annotated[
        float, about("Seconds after which an idle connection is closed.", gt=0)
    ] = 75.0
    idle_body_s: Annotated[
        float, about("Seconds without data after which an upload is aborted.", gt=0, le=3600)
    ] = 60.0
    head_s: Annotated[
        float,
        about(
            "Seconds within which a request's headers must arrive, counted from the first byte.",
            gt=0,
            le=3600,
        ),
    ] = 30.0
    unread_answer_s: Annotated[
        float,
        about(
            "Seconds after which a client that reads nothing of its answer is disconnected.", gt=0
        ),
    ] = 60.0
    max_connections: Annotated[
        int,
        about(
            "Open connections in each worker, or fewer if the process may open few"
            " files. Further connections are closed at once.",
            ge=1,
        ),
    ] = 4096
    connections_per_client: Annotated[
        int,
        about(
            "Open connections of one client address in each worker. Loopback and"
            " `http.trusted_proxies` are not counted. 0 means no limit.",
            ge=0,
        ),
    ] = 128
    drain_s: Annotated[
        float, about("Seconds that running requests get to finish after SIGTERM.", ge=0, le=3600)
    ] = 10.0


class Store(Section):
    """The key-value store of the node."""

    data: Annotated[
        str, about("Data folder: the store, the root secret and large values.", min_length=1)
    ] = "data"
    url: Annotated[
        str | None, about("Database to use instead of LMDB in the data folder: `postgresql://…`.")
    ] = None
    max_bytes: Annotated[
        int,
        about(
            "Limit in bytes of rows, and separately of large values. Beyond it, puts"
            " are answered 507.",
            ge=1 << 20,
        ),
    ] = 1 << 40
    retry_s: Annotated[
        float,
        about(
            "Seconds for which a commit that conflicts with others is retried before"
            " the answer 503.",
            gt=0,
            le=30,
        ),
    ] = 2.0
    delegation_cache_bytes: Annotated[
        int, about("Memory in each worker for decoded delegations.", ge=0)
    ] = 64 << 20
    versions: Annotated[
        tuple[Annotated[str, Meta(pattern=_VERSIONS)], ...],
        about(
            "How many former values of a key are kept: `space/prefix=number` for the keys with that"
            " prefix in every space of that name. At most 100; 0 means none.",
            max_length=16,
        ),
    ] = ("secrets/vault/secrets/=10",)


class Objects(Section):
    """An S3 bucket for large values, used instead of the data folder."""

    url: Annotated[str | None, about("Bucket for large values: `s3://bucket/prefix`.")] = None
    endpoint: Annotated[
        str | None,
        about("Address of an S3-compatible server, like `https://s3.example`; Amazon's if unset."),
    ] = None
    region: Annotated[str, about("Region of the bucket.", min_length=1)] = "us-east-1"
    key_id: Annotated[
        str | None, about("Access key id of the bucket; `AWS_ACCESS_KEY_ID` if unset.")
    ] = None
    secret_key: Annotated[
        str | None,
        about("Secret access key, only from the environment; `AWS_SECRET_ACCESS_KEY` if unset."),
    ] = None
    secret_key_file: Annotated[
        str | None, about("File with the secret access key. White space around it is ignored.")
    ] = None
    session_token: Annotated[
        str | None,
        about(
            "Session token of temporary credentials, only from the environment;"
            " `AWS_SESSION_TOKEN` if unset."
        ),
    ] = None


class Hosting(Section):
    """The spaces that this node hosts, and their limits."""

    mode: Annotated[
        HostingMode,
        about(
            "Whose spaces are hosted. `auto`: those of every owner, at sign-in."
            " `explicit`: those of every owner, each by a host grant. `permit`: only"
            " those of the owners in `listed` and of those admitted by `sealspace"
            " admin owners add`. The limits below apply in every mode."
        ),
    ] = "auto"
    is_mode_stated: bool = False  # not a setting: whether `mode` is from a file, variable or flag
    listed: Annotated[
        tuple[str, ...], about("DIDs of the owners admitted in mode `permit`; read at each start.")
    ] = ()
    spaces_per_grant: Annotated[
        int, about("Number of spaces that one grant may activate.", ge=1, le=64)
    ] = 16
    spaces_per_owner: Annotated[int, about("Number of spaces that one owner may have.", ge=1)] = 32
    spaces_total: Annotated[int, about("Number of spaces on this node.", ge=1)] = 1_000_000
    new_owners_per_hour: Annotated[
        int, about("New owners per client address and hour; loopback is not counted.", ge=0)
    ] = 60
    default_quota_bytes: Annotated[
        int, about("Quota in bytes of a space without a quota of its own; 0 means no limit.", ge=0)
    ] = 1 << 30
    manage_url: Annotated[
        str | None,
        about(
            "Page where owners free or order space, like `https://node.example/console/`."
            " Applications send owners of full spaces there."
        ),
    ] = None


class Sql(Section):
    """The limits of SQL databases."""

    read_s: Annotated[
        float, about("Seconds that a request which only reads may run.", gt=0, le=60)
    ] = 2.0
    write_s: Annotated[
        float, about("Seconds that a request which writes may wait and run.", gt=0, le=60)
    ] = 10.0
    processes: Annotated[
        int,
        about(
            "Processes that run statements, at most. Each may use 256 MiB of memory.", ge=4, le=1024
        ),
    ] = 32


class Release(Section):
    """The conditions under which the node releases a key."""

    attestation: Annotated[
        AttestationMode,
        about(
            "Callers that must prove which code they run. `delegates`: all except the owner."
            " `everyone`: the owner too. `off`: none, for development."
        ),
    ] = "delegates"
    trust_root: Annotated[
        str | None,
        about("File with the root certificate (PEM or DER) to trust instead of Intel's."),
    ] = None
    collateral: Annotated[str | None, about("Folder of collateral files to load at start.")] = None
    key_providers: Annotated[
        tuple[str, ...],
        about(
            "Key providers whose applications are accepted: `kms`, `tpm`, or one with its id in"
            " hex like `kms:3059…`; `local-sgx` needs an id. Evidence without an event log names"
            " no key provider. It is accepted only if `kms` and `tpm` are listed without an id."
        ),
    ] = ("kms", "tpm")
    node_policy_suffices: Annotated[
        bool, about("Accept the node's own list of measurements where the owner states none.")
    ] = False
    challenge_s: Annotated[
        int, about("Seconds for which a challenge is valid.", ge=10, le=3600)
    ] = 120
    evidence_s: Annotated[
        int,
        about(
            "Seconds for which evidence is valid, but never longer than its collateral.",
            ge=60,
            le=86_400,
        ),
    ] = 600


class Collateral(Section):
    """The source and the maximum age of Intel's platform collateral."""

    service_url: Annotated[
        str | None,
        about(
            "Service to fetch from: `https://api.trustedservices.intel.com` or a"
            " mirror. If unset, documents are imported by hand and never fetched."
        ),
    ] = None
    root_crl_url: Annotated[
        str | None,
        about(
            "Address of the root certificate's revocation list. If unset, it is"
            " fetched from the service above."
        ),
    ] = None
    update: Annotated[
        CollateralEdition,
        about("Edition to fetch: `standard`, or `early`, which has every update at once."),
    ] = "standard"
    check_numbers: Annotated[
        bool,
        about(
            "Also fetch the signed list of editions, and refuse a document whose"
            " edition was replaced. A mirror may not have that list."
        ),
    ] = True
    timeout_s: Annotated[
        float, about("Seconds that fetching one document may take.", gt=0, le=25)
    ] = 10.0
    refresh_s: Annotated[
        int, about("Seconds after which a document is fetched again.", ge=3600)
    ] = 86_400
    lead_s: Annotated[
        int,
        about("Seconds before its expiry at which a document is fetched at the latest.", ge=3600),
    ] = 604_800
    retry_s: Annotated[
        int, about("Longest wait between two attempts to fetch, in seconds.", ge=60)
    ] = 3600
    stale_s: Annotated[
        int,
        about(
            "Seconds after its issue at which a document counts as stale, which is logged.", ge=3600
        ),
    ] = 604_800
    grace_s: Annotated[
        int,
        about(
            "Seconds for which a stale document is still used to verify quotes,"
            " unless its signed validity ends sooner.",
            ge=0,
        ),
    ] = 2_592_000


class Platform(Section):
    """The trusted execution environment of the node, if any."""

    source: Annotated[
        PlatformSource,
        about(
            "Source of the node's own quotes. `tsm`: the kernel's report interface. `dstack` or"
            " the older `tappd`: a guest agent. `none`: the node does not run in a trust domain."
        ),
    ] = "none"
    socket: Annotated[
        str | None, about("Unix socket of the guest agent. If unset, the usual places are tried.")
    ] = None
    quote_s: Annotated[
        float, about("Seconds that a request waits for the node's own quote.", gt=0, le=60)
    ] = 10.0
    quotes_waiting: Annotated[
        int, about("Requests in one worker that may wait for the node's own quote.", ge=1, le=1000)
    ] = 16
    quotes_per_minute: Annotated[
        int,
        about(
            "Requests for the node's own quote per client address and minute, in each worker.", ge=1
        ),
    ] = 30


class Invocation(Section):
    """Limits of a single invocation."""

    max_lifetime_s: Annotated[
        int, about("Longest time in seconds from now until an invocation expires.", ge=1, le=86_400)
    ] = 300


class PublicSpaces(Section):
    """The limits of the world-readable spaces named `public`."""

    storage_limit_bytes: Annotated[
        int, about("Quota of each space named `public`, in bytes.", ge=1)
    ] = 256 << 20
    requests_per_minute: Annotated[
        int,
        about(
            "Public reads per client address and minute, in each worker; 0 means no limit.", ge=0
        ),
    ] = 60
    burst: Annotated[
        int, about("Additional public reads that an idle client may make at once.", ge=0)
    ] = 10


class Admin(Section):
    """The operator's HTTP routes below `/admin`.

    Without an operator secret, they answer 503.
    """

    secret: Annotated[
        str | None,
        about("Secret that the operator sends as `Bearer` token; only from the environment."),
    ] = None
    secret_file: Annotated[
        str | None, about("File with that secret. White space around it is ignored.")
    ] = None


class Limits(Section):
    """Limits that prevent a single client from exhausting the node."""

    ready_s: Annotated[
        float, about("Seconds that the test write of /readyz may take.", gt=0, le=60)
    ] = 2.0
    challenges_per_minute: Annotated[
        int,
        about(
            "Attestation challenges and sessions per client address and minute, in each worker.",
            ge=1,
        ),
    ] = 60
    unauthenticated_per_minute: Annotated[
        int,
        about(
            "Requests per client address and minute, in each worker, that are refused or store"
            " something for an unknown key: refused tokens, first delegations of a signer, further"
            " cids of a delegation, networks made without a proof. 0 means no limit.",
            ge=0,
        ),
    ] = 3000
    delegations_per_signer: Annotated[
        int,
        about(
            "Delegations stored for one signer; each is removed 30 days after it"
            " expires. 0 means no limit.",
            ge=0,
        ),
    ] = 100_000
    exchanged_per_trust: Annotated[
        int,
        about(
            "Machine tokens that the node made for jobs under one trust and that have not ended."
            " 0 means no limit.",
            ge=0,
        ),
    ] = 1000
    delegation_bytes_per_signer: Annotated[
        int,
        about(
            "Bytes of delegations stored for one signer who hosts a space here. 0 means no limit.",
            ge=0,
        ),
    ] = 512 << 20
    delegation_bytes_per_address: Annotated[
        int,
        about(
            "Bytes of delegations stored for all such signers of one client address."
            " 0 means no limit.",
            ge=0,
        ),
    ] = 16 << 30
    unhosted_bytes_per_signer: Annotated[
        int,
        about(
            "Bytes of delegations stored for one signer who hosts no space here. 0 means no limit.",
            ge=0,
        ),
    ] = 16 << 20
    unhosted_bytes_per_address: Annotated[
        int,
        about(
            "Bytes of delegations stored for all such signers of one client address."
            " 0 means no limit.",
            ge=0,
        ),
    ] = 1 << 30
    quotes_waiting: Annotated[
        int, about("Quotes in one worker that may wait for verification.", ge=1, le=10_000)
    ] = 64
    feed_waits: Annotated[
        int,
        about(
            "Calls of the change feed in one worker that may wait for a change, up to half of"
            " `http.max_connections`. 0 means that none may.",
            ge=0,
        ),
    ] = 1024
    feed_waits_per_owner: Annotated[
        int,
        about("Calls that may wait in one worker for changes in the spaces of one owner.", ge=1),
    ] = 256


class Retention(Section):
    """The retention periods of old records."""

    receipts_days: Annotated[
        int,
        about(
            "Days for which receipts and the documents they refer to are kept; 90 or"
            " more. 0 means for ever.",
            ge=0,
            le=36_500,
        ),
    ] = 1095
    audit_days: Annotated[
        int,
        about(
            "Days after which sealed audit records are removed, up to a signed head;"
            " 365 or more. 0 means never.",
            ge=0,
            le=36_500,
        ),
    ] = 0
    audit_unexported: Annotated[
        bool,
        about(
            "Remove old audit records even if no export is known to contain them; see"
            " `sealspace admin audit kept`."
        ),
    ] = False


class Log(Section):
    """The log that the node writes to standard error."""

    level: Annotated[LogLevel, about("Lowest level that is logged.")] = "info"
    format: Annotated[
        LogFormat,
        about(
            "`json`: every line on standard error is JSON. `mixed`: log lines are JSON,"
            " messages to the operator are text."
        ),
    ] = "mixed"
    requests: Annotated[
        RequestLines,
        about(
            "How to log each request, at level `info`. `off`: not at all. `hashed`: with keyed"
            " hashes of the path and the client address. `plain`: with the path and the client"
            " address in plain text."
        ),
    ] = "off"


class ListenAddress(NamedTuple):
    """The address of a listener. An IPv6 address has no brackets."""

    host: str
    port: int


class Listening(Section):
    """A service that is off unless an address is set."""

    listen: str | None = None

    @property
    def address(self) -> ListenAddress:
        """Return the host and the port of the listener.

        Raises:
            ValueError: `listen` is empty, or is not a host and a port.
        """
        host, _, port = (self.listen or "").rpartition(":")
        if host.startswith("["):  # an IPv6 address
            host = host.removeprefix("[").removesuffix("]")
        is_number = port.isascii() and port.isdecimal()
        if not host or not is_number or int(port) > _MAX_PORT:
            raise ValueError("not a host and a port")
        return ListenAddress(host=host, port=int(port))


class Metrics(Listening):
    """The Prometheus metrics of the node.

    Metrics are recorded only if an address is set.
    """

    listen: Annotated[
        str | None,
        about(
            "Address and port on which metrics are served, like `127.0.0.1:9464`. If"
            " unset, metrics are off."
        ),
    ] = None
    off_loopback: Annotated[
        bool,
        about("Serve metrics on an address other than loopback, to everyone who can reach it."),
    ] = False


class Sms(Listening):
    """The service that stores secrets pushed by iExec's clients."""

    listen: Annotated[
        str | None,
        about(
            "Address and port on which iExec's clients push secrets, like `127.0.0.1:13300`. If"
            " unset, the service is off."
        ),
    ] = None


class Oidc(Section):
    """The issuers whose ID tokens CI jobs exchange."""

    issuers: Annotated[
        tuple[str, ...],
        about(
            "Issuers, like `https://gitlab.example`, that may be at addresses that are not public."
            " The keys of every other issuer are fetched from public addresses only."
        ),
    ] = ()


class Secret(Section):
    """The source of the node's root secret.

    By default, this is a file that the node creates in the data folder.
    """

    file: Annotated[str | None, about("File with the root secret as raw bytes, 32 or more.")] = None
    value: Annotated[
        str | None, about("Root secret as unpadded base64url; only from the environment.")
    ] = None
    platform: Annotated[
        bool,
        about(
            "Take the root secret from the guest agent's key service, unless"
            " `secret.file` or `secret.value` is set."
        ),
    ] = False
    platform_path: Annotated[
        str,
        about(
            "Name under which the key service keeps the root secret.", min_length=1, max_length=256
        ),
    ] = "tinycloud/keys/primary"


class Config(Section):
    """All settings of a node."""

    http: Http = Http()
    store: Store = Store()
    objects: Objects = Objects()
    hosting: Hosting = Hosting()
    sql: Sql = Sql()
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
    sms: Sms = Sms()
    oidc: Oidc = Oidc()
    secret: Secret = Secret()

    @property
    def is_shared(self) -> bool:
        """Return whether the store is a database server.

        Every process writes to the database directly.
        """
        return self.store.url is not None

    @property
    def data(self) -> Path:
        """Return the absolute path of the data folder."""
        return Path(self.store.data).absolute()


@cache
def setting_types() -> Mapping[str, object]:
    """Return the type of each setting by its dotted path.

    The settings are in the order of their definition.
    """
    types: dict[str, object] = {}
    for section in msgspec.structs.fields(Config):
        for field in msgspec.structs.fields(section.type):
            if field.name == "is_mode_stated":  # a field of `Hosting` that is not a setting
                continue
            types[f"{section.name}.{field.name}"] = field.type
    return types
