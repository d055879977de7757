"""Images that are files of a data set on the Hugging Face hub: hf://datasets/ORG/NAME[@REVISION]/FOLDER.

``HF_TOKEN`` gives access to private data sets, ``HF_ENDPOINT`` names another hub; huggingface_hub reads both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeVar

from vd100k.stores.urls import OutOfReach, StoreError

FORM = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.*))?")
TIMEOUT_S = 30
SHOWN = 300  # characters of the hub's words
Answer = TypeVar("Answer")


class Place(NamedTuple):
    """A file or folder of a data set."""

    repository: str
    revision: str | None
    path: str


def parts(url: str) -> Place:
    """The data set, its revision (None: the newest) and the path in it.

    Raises:
        StoreError: the URL has another form.
    """
    found = FORM.fullmatch(url)
    if found is None:
        raise StoreError("a folder on the hub is written hf://datasets/ORG/NAME/FOLDER")
    return Place(found[1], found[2], (found[3] or "").strip("/"))


def listed(url: str) -> Iterator[tuple[str, str]]:
    """The path relative to ``url`` and the ETag of every file below it, page by page.

    Raises:
        StoreError: they cannot be listed.
    """
    place = parts(url)
    start = len(place.path) + 1 if place.path else 0
    found = iter(_answered(lambda: _tree(place)))
    while (entry := _answered(lambda: next(found, None))) is not None:
        if hasattr(entry, "blob_id"):  # a file
            yield entry.path[start:], entry.lfs.sha256 if entry.lfs else entry.blob_id


def read(url: str) -> tuple[bytes, str]:
    """The content of a file and its ETag.

    Raises:
        StoreError: there is no such file, or it cannot be read.
    """
    answer = _answered(lambda: _request("GET", parts(url)))
    return answer.content, _etag(answer)


def version(url: str) -> str:
    """The ETag of a file.

    Raises:
        StoreError: there is no such file, or it cannot be reached.
    """
    return _etag(_answered(lambda: _request("HEAD", parts(url))))


def _tree(place: Place) -> Any:
    from huggingface_hub import HfApi

    return HfApi().list_repo_tree(
        place.repository, place.path or None, recursive=True, revision=place.revision, repo_type="dataset"
    )


def _request(method: Literal["GET", "HEAD"], place: Place) -> Any:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils._headers import build_hf_headers
    from huggingface_hub.utils._http import hf_raise_for_status, http_backoff

    url = hf_hub_url(place.repository, place.path, repo_type="dataset", revision=place.revision)
    follow = method == "GET"  # a large file is elsewhere, with another ETag
    answer = http_backoff(method, url, headers=build_hf_headers(), timeout=TIMEOUT_S, follow_redirects=follow)
    if answer.status_code >= 400:
        hf_raise_for_status(answer)
    return answer


def _etag(answer: Any) -> str:
    """The ETag of a file: for a large one the hash of its content, which the first of several answers has."""
    first = (answer.history or [answer])[0].headers
    return str(first.get("x-linked-etag") or first.get("etag") or "").removeprefix("W/").strip('"')


def _answered(ask: Callable[[], Answer]) -> Answer:
    import httpx
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError

    try:
        return ask()
    except EntryNotFoundError:
        raise StoreError("there is no such file or folder in the data set") from None
    except RepositoryNotFoundError:
        raise StoreError("the hub has no such data set, or HF_TOKEN in the environment gives no access to it") from None
    except HfHubHTTPError as error:
        raise StoreError(" ".join(str(error).split())[:SHOWN]) from error
    except (httpx.HTTPError, OSError) as error:
        raise OutOfReach(f"the hub cannot be reached: {error or type(error).__name__}") from error
