"""One tiny request to an endpoint before the first image: a wrong server is noticed before anything is paid for."""

from __future__ import annotations

import asyncio

from vd100k.errors import ServerError
from vd100k.io.redaction import redact
from vd100k.llm.client import Client, RequestError, wait_s


async def check_endpoint(client: Client, url: str, name: str, body: bytes, attempts: int, stage_key: str) -> None:
    """Send one tiny request, to see that the server is up, accepts the key and images, and serves the model.

    Raises:
        ServerError: it does not; with the server's message, and its models if ``name`` is not one of them.
    """
    for attempt in range(1, attempts + 1):
        try:
            await client.ask(url, body)
            return
        except RequestError as raised:
            error = raised
        except ServerError as raised:
            raise ServerError(f"{raised}{await _other_models(client, url, name)}") from None
        if error.reason in ("empty_answer", "malformed") or not error.retryable:
            break
        if attempt < attempts:
            await asyncio.sleep(wait_s(attempt, error.after_s))
    if error.reason == "empty_answer":
        return  # for a request of one token, that is an answer
    tried = f" (tried {attempt} times)" if attempt > 1 else ""
    raise ServerError(
        f"{redact(url)} does not answer a tiny request with an image{tried}: {error.reason}, {error}"
        f"{await _other_models(client, url, name)}\n"
        f"Is it the right server, is it up, and does it accept images? {stage_key}.check=false skips this test."
    )


async def _other_models(client: Client, url: str, name: str) -> str:
    """A line with the models at ``url``, if ``name`` is not one of them."""
    served = await client.models(url)
    if served is None or name in served:
        return ""
    return f"\nIt serves {', '.join(served[:20]) or 'no model'}, not {name}."
