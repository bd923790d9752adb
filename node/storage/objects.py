"""Where large values lie, as the settings say: files in the data folder, or a bucket that several
machines share.

The bucket's client is imported only where one is named: a node without it starts quicker.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from sealspace.cli.command_errors import ConfigurationError, StoreMisused
from sealspace.private_files import read_setting
from spaces.identity import recorded_identity
from spaces.space_errors import BodiesElsewhere
from spaces.store.contract import Store
from spaces.values.object_folder import ObjectFolder
from spaces.values.object_place import FOLDER, claim_place
from spaces.values.object_store import ObjectStore

from ..config.tree import Config, Objects

if TYPE_CHECKING:
    from spaces.values.object_bucket import ObjectBucket

_FOLDER_NAME: Final = "blobs"
_MAX_SECRET_BYTES: Final = 4096


def open_objects(config: Config) -> ObjectStore:
    """Return the place of the bodies; nothing is asked of it yet."""
    return open_folder(config) if config.objects.url is None else open_bucket(config)


def open_folder(config: Config) -> ObjectFolder:
    """Return the folder of the bodies in the data folder, whatever the settings name."""
    return ObjectFolder(config.data / _FOLDER_NAME, max_bytes=config.store.max_bytes)


def open_bucket(config: Config) -> "ObjectBucket":
    """Return the bucket that the settings name; nothing is asked of it yet."""
    from spaces.values.object_bucket import MAX_BODY_BYTES, BucketAccess, BucketPlace, ObjectBucket

    objects = config.objects
    bucket, prefix = _bucket_of(objects)
    if config.http.max_body_bytes > MAX_BODY_BYTES:
        raise ConfigurationError(
            f"http.max_body_bytes is more than a bucket copies at once: {MAX_BODY_BYTES}",
            hint="set it lower",
        )
    if not objects.key_id:
        raise ConfigurationError(
            "objects.url names a bucket, and there are no credentials for it",
            hint=(
                "set objects.key_id and objects.secret_key_file, or AWS_ACCESS_KEY_ID and"
                " AWS_SECRET_ACCESS_KEY"
            ),
        )
    access = BucketAccess(
        key_id=objects.key_id,
        secret_key=_secret_key(objects),
        session_token=objects.session_token or None,
        region=objects.region,
        endpoint=_endpoint(objects),
    )
    return ObjectBucket(BucketPlace(bucket, prefix), access, max_bytes=config.store.max_bytes)


async def claim_objects(
    config: Config, store: Store, objects: ObjectStore, *, store_id: bytes
) -> None:
    """Compare the place of the bodies with what the store says, and the bucket with the store."""
    try:
        await claim_place(store, place_text(config))
        if config.objects.url is not None:
            from spaces.values.object_bucket import ObjectBucket

            assert isinstance(objects, ObjectBucket)  # what is no folder is a bucket
            await objects.claim(store_id)
    except BodiesElsewhere as error:
        raise StoreMisused(
            str(error),
            hint="name that place (objects.url), or move them: sealspace admin migrate-objects",
        ) from None


async def stored_objects(config: Config, store: Store) -> ObjectStore:
    """Return the place of the bodies of a store, for a command that reads all of them."""
    objects = open_objects(config)
    await claim_objects(config, store, objects, store_id=await started_id(store))
    return objects


async def started_id(store: Store) -> bytes:
    """Return the id of a store on which a node was started."""
    identity = await recorded_identity(store)
    if identity is None:
        raise StoreMisused("no node was started on this store yet", hint="sealspace serve")
    return identity.store_id


def place_text(config: Config) -> str:
    """Return the place of the bodies as the store records it; the same for every spelling of an
    address."""
    if config.objects.url is None:
        return FOLDER
    bucket, prefix = _bucket_of(config.objects)
    return f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"


def _bucket_of(objects: Objects) -> tuple[str, str]:
    parts = _split(objects.url)
    if (
        parts.scheme != "s3"
        or not parts.netloc
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise ConfigurationError(
            "objects.url names no bucket that this version knows",
            hint="write objects.url like s3://bucket/prefix",
        )
    prefix = parts.path.strip("/")
    if "incoming" in prefix.split("/"):
        raise ConfigurationError(
            "objects.url has a folder called incoming, of which each store has one for what is on"
            " its way",
            hint="choose another prefix",
        )
    return parts.netloc, prefix


def _endpoint(objects: Objects) -> str | None:
    if objects.endpoint is None:
        return None
    parts = _split(objects.endpoint)
    if (
        parts.scheme not in ("http", "https")
        or not parts.netloc
        or "@" in parts.netloc
        or parts.path.strip("/")
    ):
        raise ConfigurationError(
            "objects.endpoint is not the address of a server",
            hint="write it like https://s3.example",
        )
    return f"{parts.scheme}://{parts.netloc}"


def _split(address: str | None) -> SplitResult:
    """Return the parts of an address, all of them empty for a text that is none."""
    try:
        return urlsplit(address or "")
    except ValueError:
        return urlsplit("")


def _secret_key(objects: Objects) -> str:
    if objects.secret_key:
        return objects.secret_key
    if objects.secret_key_file is None:
        raise ConfigurationError(
            "objects.key_id has no secret part", hint="set objects.secret_key_file"
        )
    path = Path(objects.secret_key_file)
    data = read_setting(
        path, "objects.secret_key_file", ConfigurationError, most_bytes=_MAX_SECRET_BYTES
    )
    text = data.decode("ascii", "ignore").strip()
    if not text or not data.isascii() or len(data) > _MAX_SECRET_BYTES:
        raise ConfigurationError(
            f"objects.secret_key_file: {path} holds no such secret", hint=f"ls -l {path}"
        )
    return text
