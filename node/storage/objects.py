"""The storage for large values, in files or in a bucket.

Files are in the data folder; several machines may share a bucket. The bucket client is imported
only if a bucket is configured, so that other nodes start faster.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from sealspace.private_files import read_setting
from sealspace.service.command_errors import ConfigurationError, StoreMisused
from spaces.identity import recorded_identity
from spaces.space_errors import AuthoritiesUnreadable, BodiesElsewhere
from spaces.store.contract import Store
from spaces.values.object_folder import ObjectFolder
from spaces.values.object_place import FOLDER, claim_location
from spaces.values.object_store import ObjectStore

from ..config.tree import Config, Objects

if TYPE_CHECKING:
    from spaces.values.object_bucket import ObjectBucket

_FOLDER_NAME = "blobs"
_MAX_SECRET_BYTES = 4096


def open_objects(config: Config) -> ObjectStore:
    """Return the configured folder or bucket for a store's large values.

    The folder or bucket is not accessed yet.
    """
    return open_folder(config) if config.objects.url is None else open_bucket(config)


def open_folder(config: Config) -> ObjectFolder:
    """Return the local folder for large values.

    A configured bucket is ignored.
    """
    return ObjectFolder(config.data / _FOLDER_NAME, max_bytes=config.store.max_bytes)


def open_bucket(config: Config) -> "ObjectBucket":
    """Return a client of the configured bucket.

    The bucket is not accessed yet.
    """
    from spaces.values.object_bucket import (
        MAX_BODY_BYTES,
        BucketAccess,
        BucketLocation,
        ObjectBucket,
    )

    objects = config.objects
    bucket, prefix = _bucket_of(objects)
    if config.http.max_body_bytes > MAX_BODY_BYTES:
        raise ConfigurationError(
            f"http.max_body_bytes must be at most {MAX_BODY_BYTES}, because one request cannot"
            " copy a larger object in a bucket",
            hint=f"set http.max_body_bytes to {MAX_BODY_BYTES} or less",
        )
    if not objects.key_id:
        raise ConfigurationError(
            "there are no credentials for the bucket in objects.url",
            hint="set objects.key_id and objects.secret_key_file, or AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY",
        )
    access = BucketAccess(
        key_id=objects.key_id,
        secret_key=_secret_key(objects),
        session_token=objects.session_token or None,
        region=objects.region,
        endpoint=_endpoint(objects),
    )
    location = BucketLocation(bucket, prefix)
    try:
        return ObjectBucket(location, access, max_bytes=config.store.max_bytes)
    except AuthoritiesUnreadable as unreadable:
        raise ConfigurationError(
            f"the bucket in objects.url cannot be used: {unreadable} ({_authorities_named()})",
            hint="install the package ca-certificates, or set SSL_CERT_FILE to a file of"
            " certificates in PEM that this user may read",
        ) from None


def _authorities_named() -> str:
    """Return where the environment says that certificate authorities are, in words."""
    named = [
        f"{name} is {os.environ[name]!r}"
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")
        if name in os.environ
    ]
    return " and ".join(named) or "SSL_CERT_FILE and SSL_CERT_DIR are not set"


async def claim_objects(
    config: Config, store: Store, objects: ObjectStore, *, store_id: bytes
) -> None:
    """Check that a store's large values are in the configured folder or bucket.

    The store records where its large values are; a bucket also records the id of its store.
    """
    try:
        await claim_location(store, location_text(config))
        if config.objects.url is not None:
            from spaces.values.object_bucket import ObjectBucket

            assert isinstance(objects, ObjectBucket)  # objects.url is set
            await objects.claim(store_id)
    except BodiesElsewhere as error:
        raise StoreMisused(
            str(error),
            hint="set objects.url to the location of this store's large values, or move the values:"
            " sealspace admin migrate-objects",
        ) from None


async def stored_objects(config: Config, store: Store) -> ObjectStore:
    """Open the folder or bucket that contains a store's large values.

    This checks that the configured folder or bucket belongs to the store.
    """
    objects = open_objects(config)
    await claim_objects(config, store, objects, store_id=await started_id(store))
    return objects


async def started_id(store: Store) -> bytes:
    """Return the id of a store.

    Raises StoreMisused if no node has used the store yet.
    """
    identity = await recorded_identity(store)
    if identity is None:
        raise StoreMisused(
            "no node has been started on this store yet", hint="start a node: sealspace serve"
        )
    return identity.store_id


def location_text(config: Config) -> str:
    """Return the location of large values, such as `s3://bucket/prefix`."""
    if config.objects.url is None:
        return FOLDER
    bucket, prefix = _bucket_of(config.objects)
    return f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"


def _bucket_of(objects: Objects) -> tuple[str, str]:
    """Return the name of the configured bucket, and the prefix in it."""
    parts = _split(objects.url)
    if (
        parts.scheme != "s3"
        or not parts.netloc
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise ConfigurationError(
            "objects.url is not the address of a bucket", hint="use the form s3://bucket/prefix"
        )
    prefix = parts.path.strip("/")
    if "incoming" in prefix.split("/"):
        raise ConfigurationError(
            "the prefix in objects.url contains a folder named incoming, which is reserved for"
            " unfinished uploads",
            hint="choose another prefix",
        )
    return parts.netloc, prefix


def _endpoint(objects: Objects) -> str | None:
    """Return the scheme and the host of the configured server, or None for Amazon's."""
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
            hint="set objects.endpoint to an address such as https://s3.example",
        )
    return f"{parts.scheme}://{parts.netloc}"


def _split(address: str | None) -> SplitResult:
    """Parse a URL.

    The result is empty for a malformed URL, and is then refused because it has no host.
    """
    try:
        return urlsplit(address or "")
    except ValueError:
        return urlsplit("")


def _secret_key(objects: Objects) -> str:
    if objects.secret_key:
        return objects.secret_key
    if objects.secret_key_file is None:
        raise ConfigurationError(
            "objects.key_id is set without its secret key", hint="set objects.secret_key_file"
        )
    path = Path(objects.secret_key_file)
    data = read_setting(
        path, "objects.secret_key_file", ConfigurationError, most_bytes=_MAX_SECRET_BYTES
    )
    text = data.decode("ascii", "ignore").strip()
    # Of a longer file, one byte more than the limit was read.
    if not text or not data.isascii() or len(data) > _MAX_SECRET_BYTES:
        raise ConfigurationError(
            f"objects.secret_key_file: {path} is empty, longer than {_MAX_SECRET_BYTES} bytes or"
            " not plain ASCII",
            hint=f"ls -l {path}",
        )
    return text
