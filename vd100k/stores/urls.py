"""The URLs of images in object storage and on the Hugging Face hub."""

from __future__ import annotations

import os

OBJECTS = ("s3://", "gs://", "az://")
HUB = "hf://"
SCHEMES = (*OBJECTS, HUB)
# How the names of environment variables with credentials and addresses begin; other ones of Google's and Hugging Face's
# are paths of a machine.
VARIABLES = {
    "s3://": ("AWS_",),
    "gs://": ("GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_SKIP_SIGNATURE"),
    "az://": ("AZURE_",),
    "hf://": ("HF_TOKEN", "HF_ENDPOINT"),
}


class StoreError(OSError):
    """An image cannot be listed or read where it is stored; the message says why, and what to do."""


class OutOfReach(StoreError):
    """A server cannot be reached, or does not answer: nothing else that it has can be read at the moment."""


def is_url(text: str) -> bool:
    """Whether a text names a place in object storage or on the hub."""
    return text.startswith(SCHEMES)


def credentials(*places: str | None) -> dict[str, str]:
    """The environment variables that other machines need to read from these places."""
    read = [scheme for scheme in SCHEMES for place in places if place and place.startswith(scheme)]
    beginnings = tuple(beginning for scheme in read for beginning in VARIABLES[scheme])
    return {name: value for name, value in os.environ.items() if beginnings and name.startswith(beginnings)}


def below(folder: str, name: str) -> str | None:
    """The URL of an object that is given by its URL or relative to that of its folder; None if it is not below it."""
    if not is_url(folder):
        return None
    base = folder.rstrip("/")
    url = name if "://" in name else f"{base}/{name}"
    rest = url[len(base) + 1 :]
    is_inside = url.startswith(f"{base}/") and rest and not {"..", ".", ""} & set(rest.split("/"))
    return url if is_inside else None
