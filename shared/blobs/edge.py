"""The edge to obstore: opening a store by URL, and foreign errors as ours.

obstore raises ``FileNotFoundError``, other ``OSError``s and ``BaseError``s; nothing outside this folder sees them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore, S3Store

from shared.errors import Internal, NotFound, Unavailable

_S3_RETRIES = 4
_S3_RETRY_SECONDS = 30.0


def open_store(url: str) -> tuple[ObjectStore, Path | None]:
    """The object store behind ``url`` and, for ``file://``, its directory. Raises Internal for any other scheme."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        root = Path(unquote(parts.path))
        with foreign_errors(f"directory {root}"):
            return LocalStore(root, mkdir=True), root
    if parts.scheme == "s3":
        with foreign_errors("object store"):
            return _open_s3(url), None
    raise Internal("blob.bad_url", f"blob store URL must start with file:// or s3://, not {parts.scheme!r}")


def _open_s3(url: str) -> ObjectStore:
    """Credentials, region and endpoint come from the AWS variables, which obstore reads itself; the scheme of
    ``AWS_ENDPOINT`` decides about TLS."""
    return S3Store.from_url(
        url,
        client_options={
            "timeout": timedelta(seconds=60),
            "connect_timeout": timedelta(seconds=5),
            "allow_http": True,
        },
        retry_config={"max_retries": _S3_RETRIES, "retry_timeout": timedelta(seconds=_S3_RETRY_SECONDS)},
    )


@contextmanager
def foreign_errors(subject: str) -> Iterator[None]:
    """NotFound(``blob.not_found``) for a missing object, Unavailable(``blob.unavailable``) for everything else."""
    try:
        yield
    except (FileNotFoundError, NotFoundError) as error:
        raise NotFound("blob.not_found", f"{subject} is not in the blob store") from error
    except (BaseError, OSError) as error:
        raise Unavailable("blob.unavailable", "the blob store cannot be used at the moment") from error


async def created(store: ObjectStore, path: str, data: bytes) -> bool:
    """False when there is an object of this path already; it stays as it is. Errors as ``foreign_errors``."""
    with foreign_errors(path):
        try:
            await obstore.put_async(store, path, data, mode="create")
        except AlreadyExistsError:
            return False
    return True
