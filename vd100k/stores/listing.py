"""The names of everything below a URL."""

from __future__ import annotations

from collections.abc import Iterator

from vd100k.stores import urls


def below(url: str) -> Iterator[str]:
    """The path relative to ``url`` of everything below it; the list is read as it is needed.

    Raises:
        StoreError: it cannot be listed.
    """
    return (name for name, _ in versions(url))


def versions(url: str) -> Iterator[tuple[str, str]]:
    """The same paths, each with the ETag of what is there.

    Raises:
        StoreError: it cannot be listed.
    """
    if url.startswith(urls.HUB):
        from vd100k.stores import hub

        return hub.listed(url)
    from vd100k.stores import objects

    return objects.listed(url)
