"""Every setting: its section, its type and bounds, its default, and the sentence that describes
it."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .redaction import Section

HostingMode = Literal["auto", "explicit", "permit"]
CollateralEdition = Literal["standard", "early"]
AttestationMode = Literal["delegates", "everyone", "off"]
LogLevel = Literal["debug", "info", "warning", "error"]
RequestLines = Literal["off", "hashed", "plain"]
PlatformSource = Literal["none", "tsm", "dstack", "tappd"]


def about(description: str, **bounds: Any) -> Meta:
    """Describe a setting in a sentence, with the bounds of `msgspec.Meta`."""
    return Meta(description=description, **bounds)


class Http(Section, frozen=True):
    """The listener and the bounds of one request."""

    host: Annotated[str, about("Address to listen on.", min_length=1)] = "127.0.0.1"
    port: Annotated[int, about("Port to listen on; 0 takes any free one.", ge=0, le=65535)] = 8000
    workers: Annotated[int, about("Worker processes; 0 means one for each core.", ge=0, le=256)] = 0
    cors: Annotated[bool, about("Let pages of any origin call this node, `/admin` apart.")] = True
    console: Annotated[
        bool | None,
        about(
            "Serve the console, a page for owners, at `/console/`; unset: where `http.host` is"
            " loopback and no proxy is trusted."
        ),
    ] = None
    console_runner: Annotated[
        str | None,
        about(
            "Origin of the runner that the console manages API keys at and has secrets generated"
            " by: `https://NAME`, or `http://127.0.0.1:PORT`; unset: none."
        ),
    ] = None
    trusted_proxies: Annotated[
        tuple[str, ...],
        about("Addresses or networks of proxies whose forwarded headers are believed."),
    ] = ()
    plain_text_off_loopback: Annotated[
        bool,
        about("Serve unencrypted HTTP on an address other than loopback without a trusted proxy."),
    ] = False
    max_body_bytes: Annotated[
        int, about("Largest value, or batch of values, that one may put.", ge=0)
    ] = 1_000_000_000
    max_header_line_bytes: Annotated[
        int, about("Longest value of one request header; tokens travel there.", ge=8192, le=1 << 20)
    ] = 393_216
    keep_alive_s: Annotated[
        float, about("Seconds after which an idle connection is closed.", gt=0)
    ] = 75.0
    idle_body_s: Annotated[
        float, about("Seconds without a byte after which an upload is given up.", gt=0, le=3600)
    ] = 60.0
    head_s: Annotated[
        float,
        about(
            "Seconds within which a request's head has to come, once it has begun.", gt=0, le=3600
        ),
    ] = 30.0
    unread_answer_s: Annotated[
        float,
        about(
            "Seconds for which a client may take nothing of its answer before it is given up.", gt=0
        ),
    ] = 60.0
    max_connections: Annotated[
        int,
        about(
            "Open connections in each worker, fewer where the process may open few files; one more"
            " is closed as it comes.",
            ge=1,
        ),
    ] = 4096
    connections_per_client: Annotated[
        int,
        about(
            "Those of one client address; loopback and `http.trusted_proxies` are not counted. 0:"
            " no bound.",
            ge=0,
        ),
    ] = 128
    drain_s: Annotated[
        float, about("Seconds that requests under way get to finish after SIGTERM.", ge=0, le=3600)
    ] = 10.0


class Store(Section, frozen=True):
    """Where everything is stored."""

    data: Annotated[
        str, about("Folder of the store, the root secret, the objects.", min_length=1)
    ] = "data"
    url: Annotated[
        str | None, about("Another store than LMDB in the data folder: `postgresql://…`.")
    ] = None
    max_bytes: Annotated[
        int,
        about(
            "Bytes of rows, and of values in files, beyond which puts are answered 507.", ge=1 << 20
        ),
    ] = 1 << 40
    retry_s: Annotated[
        float, about("Seconds for which a refused commit is tried again before 503.", gt=0, le=30)
    ] = 2.0
    delegation_cache_bytes: Annotated[
        int, about("Memory for decoded delegations in each worker.", ge=0)
    ] = 64 << 20


class Objects(Section, frozen=True):
    """Where large values are stored; without an address, in the folder `blobs` of the data
    folder."""

    url: Annotated[str | None, about("Bucket for large values: `s3://bucket/prefix`.")] = None
    endpoint: Annotated[
        str | None,
        about("Address of an S3-compatible server, like `https://s3.example`; none: Amazon's."),
    ] = None
    region: Annotated[str, about("Region of the bucket.", min_length=1)] = "us-east-1"
    key_id: Annotated[
        str | None, about("Public part of the bucket's credentials; none: `AWS_ACCESS_KEY_ID`.")
    ] = None
    secret_key: Annotated[
        str | None, about("Secret part, only from the environment; none: `AWS_SECRET_ACCESS_KEY`.")
    ] = None
    secret_key_file: Annotated[
        str | None, about("File with the secret part; blanks around it do not belong to it.")
    ] = None
    session_token: Annotated[
        str | None,
        about(
            "What temporary credentials carry besides, only from the environment;"
            " `AWS_SESSION_TOKEN`."
        ),
    ] = None


class Hosting(Section, frozen=True):
    """Which spaces this node hosts, and within which bounds."""

    mode: Annotated[
        HostingMode,
        about(
            "`auto`: anybody's spaces, when their owner signs in; `explicit`: anybody's too, each"
            " by its owner's host grant; `permit`: only those of the DIDs in `listed`, and of"
            " owners whom `sealspace admin owners add` admitted. Bounds hold in every mode."
        ),
    ] = "auto"
    listed: Annotated[
        tuple[str, ...], about("DIDs that are admitted in mode `permit`; read at each start.")
    ] = ()
    spaces_per_grant: Annotated[int, about("Spaces that one grant may activate.", ge=1, le=64)] = 16
    spaces_per_owner: Annotated[int, about("Spaces that one owner may have.", ge=1)] = 32
    spaces_total: Annotated[int, about("Spaces on this node.", ge=1)] = 1_000_000
    new_owners_per_hour: Annotated[
        int, about("New owners per client address and hour; loopback is not counted.", ge=0)
    ] = 60
    default_quota_bytes: Annotated[
        int, about("Quota of a space that has none of its own; 0: no limit.", ge=0)
    ] = 1 << 30


class Release(Section, frozen=True):
    """When the node opens a key."""

    attestation: Annotated[
        AttestationMode,
        about(
            "`delegates`: everybody but the owner in person proves what code they are; `everyone`:"
            " the owner too; `off`: nobody, for development."
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
            "Who may have given an application its keys: `kms`, `tpm`, or with an id in hex like"
            " `kms:3059…`; `local-sgx` only with its id. Evidence without an event log, which tells"
            " of nobody, is taken only where `kms` and `tpm` stand without an id."
        ),
    ] = ("kms", "tpm")
    node_policy_suffices: Annotated[
        bool, about("Let the node's own list of measurements stand for an owner's.")
    ] = False
    challenge_s: Annotated[
        int, about("Seconds for which a challenge is valid.", ge=10, le=3600)
    ] = 120
    evidence_s: Annotated[
        int,
        about("Seconds for which evidence stands; never past its collateral.", ge=60, le=86_400),
    ] = 600


class Collateral(Section, frozen=True):
    """Where Intel's documents about platforms are fetched from, and how old they may get."""

    service_url: Annotated[
        str | None,
        about(
            "Service to fetch from: `https://api.trustedservices.intel.com` or a mirror of it;"
            " none: documents are imported, never fetched."
        ),
    ] = None
    root_crl_url: Annotated[
        str | None,
        about("Address of the root's revocation list; none: where the service named above has it."),
    ] = None
    update: Annotated[
        CollateralEdition,
        about("Edition that is fetched: the `standard` one, or `early` each newer one at once."),
    ] = "standard"
    check_numbers: Annotated[
        bool,
        about(
            "Fetch the signed list of editions too, and refuse a document of one that was replaced;"
            " a mirror may not have that list."
        ),
    ] = True
    timeout_s: Annotated[float, about("Seconds for fetching one document.", gt=0, le=25)] = 10.0
    refresh_s: Annotated[
        int, about("Seconds after which a document is fetched again.", ge=3600)
    ] = 86_400
    lead_s: Annotated[
        int, about("Seconds before its end when a document is fetched at the latest.", ge=3600)
    ] = 604_800
    retry_s: Annotated[int, about("Longest wait between two tries, in seconds.", ge=60)] = 3600
    stale_s: Annotated[
        int,
        about(
            "Seconds after its issue from when on a document is stale, and the log says so.",
            ge=3600,
        ),
    ] = 604_800
    grace_s: Annotated[
        int,
        about(
            "Seconds for which a stale document still judges quotes; its signed windows end it"
            " sooner.",
            ge=0,
        ),
    ] = 2_592_000


class Platform(Section, frozen=True):
    """The trust domain that the node itself runs in, if it runs in one."""

    source: Annotated[
        PlatformSource,
        about(
            "Where the node's own quotes come from: `tsm`, the kernel's report interface; `dstack`"
            " or the older `tappd`, a guest agent; `none`: the node runs in no trust domain."
        ),
    ] = "none"
    socket: Annotated[
        str | None, about("Unix socket of the guest agent; none: looked for where agents put it.")
    ] = None
    quote_s: Annotated[
        float, about("Seconds that a request waits for the node's own quote.", gt=0, le=60)
    ] = 10.0
    quotes_waiting: Annotated[
        int, about("Requests for the node's own quote that may wait in one worker.", ge=1, le=1000)
    ] = 16
    quotes_per_minute: Annotated[
        int, about("The node's own quotes per client address and minute, in each worker.", ge=1)
    ] = 30


class Invocation(Section, frozen=True):
    """Bounds of one invocation."""

    max_lifetime_s: Annotated[
        int, about("Longest time between now and the expiry of an invocation.", ge=1, le=86_400)
    ] = 300


class PublicSpaces(Section, frozen=True):
    """Spaces named `public`, which everybody may read."""

    storage_limit_bytes: Annotated[int, about("Quota of each space named `public`.", ge=1)] = (
        10 << 20
    )
    requests_per_minute: Annotated[
        int,
        about(
            "Public reads per client address and minute, in each worker; 0 counts nothing.", ge=0
        ),
    ] = 60
    burst: Annotated[
        int, about("Public reads that a quiet client may make at once, beyond that.", ge=0)
    ] = 10


class Admin(Section, frozen=True):
    """The operator's routes below `/admin`; without a secret they answer 503."""

    secret: Annotated[
        str | None, about("What the operator sends as `Bearer` token; only from the environment.")
    ] = None
    secret_file: Annotated[
        str | None, about("File with that secret; blanks around it do not belong to it.")
    ] = None


class Limits(Section, frozen=True):
    """Limits that prevent one caller from taking everything."""

    ready_s: Annotated[
        float, about("Seconds that the canary write of /readyz may take.", gt=0, le=60)
    ] = 2.0
    challenges_per_minute: Annotated[
        int, about("Attestation challenges and sessions per client address and minute.", ge=1)
    ] = 60
    unauthenticated_per_minute: Annotated[
        int,
        about(
            "Refused tokens, further cids, first delegations and networks of unknown signers, per"
            " client address and minute, in each worker; 0 counts nothing.",
            ge=0,
        ),
    ] = 3000
    delegations_per_signer: Annotated[
        int,
        about(
            "Delegations of one signer that are kept; one leaves 30 days after it expired. 0: no"
            " bound.",
            ge=0,
        ),
    ] = 100_000
    delegation_bytes_per_signer: Annotated[
        int,
        about("Bytes of kept delegations of one signer who hosts a space here. 0: no bound.", ge=0),
    ] = 512 << 20
    delegation_bytes_per_address: Annotated[
        int,
        about(
            "Bytes of kept delegations of such signers from one client address. 0: no bound.", ge=0
        ),
    ] = 16 << 30
    unhosted_bytes_per_signer: Annotated[
        int,
        about(
            "Bytes of kept delegations of one signer who hosts no space here. 0: no bound.", ge=0
        ),
    ] = 16 << 20
    unhosted_bytes_per_address: Annotated[
        int,
        about(
            "Bytes of kept delegations of such signers from one client address. 0: no bound.", ge=0
        ),
    ] = 1 << 30
    quotes_waiting: Annotated[
        int, about("Quotes that may wait for verification in one worker.", ge=1, le=10_000)
    ] = 64


class Retention(Section, frozen=True):
    """How long records of the past are kept."""

    receipts_days: Annotated[
        int,
        about(
            "Days for which receipts, and the documents that they name, are kept; 90 or more. 0:"
            " for ever.",
            ge=0,
            le=36_500,
        ),
    ] = 1095
    audit_days: Annotated[
        int,
        about(
            "Days after which sealed audit records are removed, up to a signed head; 365 or more."
            " 0: none.",
            ge=0,
            le=36_500,
        ),
    ] = 0
    audit_unexported: Annotated[
        bool,
        about(
            "Remove audit records then that no export is known to hold; see `sealspace admin audit"
            " kept`."
        ),
    ] = False


class Log(Section, frozen=True):
    """What is written to standard error."""

    level: Annotated[LogLevel, about("Least severe level that is written.")] = "info"
    requests: Annotated[
        RequestLines,
        about(
            "`hashed`: a line for each request, with paths and client addresses as keyed hashes;"
            " `plain`: with both as they are; `off`: none. Written at level `info`."
        ),
    ] = "off"


class Metrics(Section, frozen=True):
    """Numbers about the node for its operator; without an address nothing is counted."""

    listen: Annotated[
        str | None,
        about(
            "Address and port at which metrics are served, like `127.0.0.1:9464`; none: nowhere."
        ),
    ] = None
    off_loopback: Annotated[
        bool, about("Serve them on an address other than loopback, to everybody who can reach it.")
    ] = False

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port of `listen`, which is set."""
        host, _, port = (self.listen or "").rpartition(":")
        host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
        if not host or not port.isdecimal() or not port.isascii() or int(port) > 65535:
            raise ValueError("not a host and a port")
        return host, int(port)


class Secret(Section, frozen=True):
    """Where the root secret comes from; without any of it, it is made in the data folder on first
    start."""

    file: Annotated[str | None, about("File with the root secret as raw bytes, 32 or more.")] = None
    value: Annotated[
        str | None, about("The root secret as unpadded base64url; only from the environment.")
    ] = None
    platform: Annotated[
        bool,
        about(
            "Take the root secret from the key service of the guest agent, unless one of the two is"
            " set."
        ),
    ] = False
    platform_path: Annotated[
        str,
        about("Name under which the key service is asked for it.", min_length=1, max_length=256),
    ] = "tinycloud/keys/primary"


class Config(Section, frozen=True):
    """Every setting of the node."""

    http: Http = Http()
    store: Store = Store()
    objects: Objects = Objects()
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
    def is_shared(self) -> bool:
        """Return whether the store is a database; then no storekeeper runs, and each process writes
        by itself."""
        return self.store.url is not None

    @property
    def data(self) -> Path:
        """Return the data folder as an absolute path."""
        return Path(self.store.data).absolute()


@cache
def setting_types() -> Mapping[str, object]:
    """Return the annotated type of every setting by its dotted path, in the order of the tree."""
    return {
        f"{section.name}.{field.name}": field.type
        for section in msgspec.structs.fields(Config)
        for field in msgspec.structs.fields(section.type)
    }
