"""Images in the object storage of Amazon (s3://), Google (gs://), Azure (az://), and of servers that speak S3.

The credentials, the region and the endpoint are those of the environment (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``,
``GOOGLE_APPLICATION_CREDENTIALS``, ``AZURE_STORAGE_ACCOUNT_NAME`` …), which obstore reads.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from vd100k.stores.urls import OutOfReach, StoreError

INSTALL = "pip install -e '.[cloud]'"
CONNECT_S, SILENT_S, REQUEST_S = 5, 10, 120  # to connect, without a single byte, and for a whole request
RETRIES, RETRY_S = 3, 20  # a request is repeated so often, as long as it began less than RETRY_S ago
PAGE = 1000  # objects in one answer of a server
SHOWN = 300  # characters of a server's words
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment (AWS_SKIP_SIGNATURE=true for a public "
    "bucket; AWS_REGION and AWS_ENDPOINT_URL say where it is)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS=FILE in the environment (GOOGLE_SKIP_SIGNATURE=true for a public bucket)",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY in the environment",
}
# In the words of obstore: a variable is missing, or it asked the address at which machines of a cloud get credentials.
NO_CREDENTIALS = re.compile(r"Missing|[Cc]redential|service account|token request|169\.254\.|metadata|Account must be")


def listed(url: str) -> Iterator[tuple[str, str]]:
    """The path relative to ``url`` and the ETag of every object below it, in the order of their names.

    Pages are asked for as they are needed, so neither the first object nor memory depends on their number.

    Raises:
        StoreError: they cannot be listed.
    """
    scheme, bucket, prefix = parts(url)
    start = len(prefix) + 1 if prefix else 0
    try:
        import obstore

        for page in obstore.list(_bucket(scheme, bucket), prefix=prefix or None, chunk_size=PAGE):
            for found in page:
                yield found["path"][start:], found["e_tag"] or ""
    except ImportError:
        raise _not_installed(url) from None
    except Exception as error:  # obstore's errors are of several types, some of them built in
        raise _explained(error, url) from error


def read(url: str) -> tuple[bytes, str]:
    """The content of an object and its ETag.

    Raises:
        StoreError: there is no such object, or it cannot be read.
    """
    content: tuple[bytes, str] = _asked(url, lambda obstore, store, key: _content(obstore.get(store, key)))
    return content


def version(url: str) -> str:
    """The ETag of an object.

    Raises:
        StoreError: there is no such object, or it cannot be reached.
    """
    return str(_asked(url, lambda obstore, store, key: obstore.head(store, key)["e_tag"] or ""))


def parts(url: str) -> tuple[str, str, str]:
    """The scheme, the bucket, and the key or prefix of a URL.

    Raises:
        StoreError: it names no bucket.
    """
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise StoreError(f"the bucket is missing: write {scheme}://BUCKET/PREFIX")
    return scheme, bucket, key.strip("/")


def _content(found: Any) -> tuple[bytes, str]:
    return bytes(found.bytes()), found.meta["e_tag"] or ""


def _asked(url: str, ask: Any) -> Any:
    scheme, bucket, key = parts(url)
    try:
        import obstore

        return ask(obstore, _bucket(scheme, bucket), key)
    except ImportError:
        raise _not_installed(url) from None
    except Exception as error:  # obstore's errors are of several types, some of them built in
        raise _explained(error, url) from error


@functools.lru_cache(64)
def _bucket(scheme: str, bucket: str) -> Any:
    from obstore.store import from_url

    endpoints = [value for name, value in os.environ.items() if name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT")]
    return from_url(
        f"{scheme}://{bucket}",
        client_options={
            "allow_http": any(endpoint.startswith("http://") for endpoint in endpoints),
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "read_timeout": timedelta(seconds=SILENT_S),
            "timeout": timedelta(seconds=REQUEST_S),
        },
        retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_S)},
    )


def _not_installed(url: str) -> StoreError:
    return StoreError(f"{url.partition('://')[0]}:// needs obstore, which is not installed: {INSTALL}")


def _explained(error: Exception, url: str) -> StoreError:
    """The error in our words; those of obstore have the server's answer on their first lines."""
    words = re.sub(r"\s+", " ", str(error).partition("Debug source:")[0]).strip()
    code = re.search(r"<Code>(\w+)</Code>", words)
    scheme, bucket, _ = parts(url)
    if code and code[1] == "NoSuchBucket":
        return StoreError(f"there is no bucket {bucket}")
    if isinstance(error, FileNotFoundError):
        return StoreError("there is no such object (any more)")
    if NO_CREDENTIALS.search(words):
        return StoreError(f"there are no credentials: set {CREDENTIALS[scheme]}")
    if re.search("status code: 40[13]|AccessDenied", words):
        reason = f" ({code[1]})" if code else ""
        return StoreError(f"access denied{reason}: check {CREDENTIALS[scheme]}")
    if "error sending request" in words or "timed out" in words:
        where = found[0] if (found := re.search(r"https?://[^/ ]+", words)) else "the server"
        return OutOfReach(
            f"{where} cannot be reached within {CONNECT_S} s, or is silent for {SILENT_S} s; the request was repeated"
        )
    return StoreError(words[:SHOWN])
