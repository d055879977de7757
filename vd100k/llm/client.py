"""One request to an OpenAI-compatible endpoint, and what its reply, or none, means.

The OpenAI client is right in what it promises and too slow here: building, sending and reading a
request costs it about six times the processor time of a plain aiohttp call. So requests are made as
bytes (``prompts.body``), sent with aiohttp, and replies read without a type for each field.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import os
import random
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
import yarl

from vd100k.config.run import Model
from vd100k.config.stages import Generate
from vd100k.errors import ServerError
from vd100k.llm.pool import Outcome

BACKOFF_S, LONGEST_WAIT_S = 0.5, 60.0
IDLE_S = 4.0  # uvicorn, and so vLLM, closes a connection that was idle for five
PROBE_S = 5.0
WORDS = 500  # characters kept of a server's own
ENDS_THE_RUN = {
    401: ("the key is not accepted", "Check the key in the variable that model.api_key_env names."),
    403: ("access is denied", "Check that this key may use the model."),
    404: ("the model or path is not there", "Check model.served_name={name}; {url}/models lists what is served."),
}
AGAIN = {408, 409, 429}  # and 5xx
OVERLOAD = {429, 503, 529}
NO_CREDIT = "insufficient_quota"  # OpenAI says it with a 429, but waiting does not help


@dataclass(slots=True)
class Spent:
    """Requests sent, and the tokens of all replies, also of those that were asked for again."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    finish_reason: str | None
    completion_tokens: int  # 0 where the server does not say


class Refused(Exception):
    """No answer this time. ``reason`` is a word, the message the server's own; ``again`` if asking again may help.

    ``outcome`` says what it means for the endpoint, ``after_s`` how long the server wants to be left alone.
    """

    def __init__(
        self, reason: str, detail: str, again: bool, outcome: Outcome = "neither", after_s: float | None = None
    ) -> None:
        super().__init__(detail)
        self.reason, self.again, self.outcome, self.after_s = reason, again, outcome, after_s


class Unreachable(Refused):
    """The request never got there: the endpoint's trouble, not the image's."""


class Client:
    """Requests for one model, with its key; ``spent`` counts them."""

    def __init__(self, model: Model, served_name: str, stage: Generate, spent: Spent) -> None:
        self.spent = spent
        self._name = served_name
        self._key = key = _api_key(model)
        headers = {"Content-Type": "application/json", "User-Agent": "vd100k"}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S),  # the pool limits
            timeout=aiohttp.ClientTimeout(stage.timeout_s, sock_connect=stage.connect_timeout_s),
            headers=headers | ({"Authorization": f"Bearer {key}"} if key else {}),
        )
        self._routes: dict[str, tuple[yarl.URL, str | None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self._session.close()

    async def ask(self, url: str, body: bytes) -> Reply:
        """The endpoint's reply to a chat request.

        Raises:
            Refused: there is none to this request.
            ServerError: there will be none to any (401, 403, 404, no credit).
        """
        self.spent.requests += 1
        try:
            address, proxy = self._route(url)
            async with self._session.post(address, data=body, proxy=proxy) as response:
                content = await response.read()
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(
                "connection", f"{url} cannot be reached: {error.strerror or error}", True, "broken"
            ) from error
        except aiohttp.ConnectionTimeoutError as error:
            raise Unreachable(
                "connection", f"{url}: no connection in time (connect_timeout_s)", True, "broken"
            ) from error
        except TimeoutError as error:
            raise Refused("timeout", "no answer in time (timeout_s)", True, "broken") from error
        except aiohttp.ClientError as error:
            raise Refused("connection", f"{url} broke off: {error}", True, "broken") from error
        if response.status != 200:
            raise self._refusal(url, response.status, content, response.headers.get("Retry-After"))
        return self._read(content)

    async def models(self, url: str) -> list[str] | None:
        """The names of the models served at ``url``; None when it does not say."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
            _, content = await self._list_models(url)
            return [str(model["id"]) for model in orjson.loads(content)["data"]]
        return None

    async def is_back(self, url: str) -> bool:
        """Whether there is somebody at ``url`` who is not in trouble."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            status, _ = await self._list_models(url)
            return status < 500
        return False

    async def _list_models(self, url: str) -> tuple[int, bytes]:
        timeout = aiohttp.ClientTimeout(PROBE_S)
        async with self._session.get(f"{url}/models", timeout=timeout, proxy=self._route(url)[1]) as response:
            return response.status, await response.read()

    def _route(self, url: str) -> tuple[yarl.URL, str | None]:
        """Where chat requests go, and by which proxy."""
        if url not in self._routes:
            address = yarl.URL(f"{url.rstrip('/')}/chat/completions")
            self._routes[url] = address, _proxy(address)
        return self._routes[url]

    def _read(self, content: bytes) -> Reply:
        try:
            reply = orjson.loads(content)
            choice = reply["choices"][0]
            text, finish_reason = choice["message"]["content"], choice.get("finish_reason")
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError) as error:
            shown = self._hide(content[:WORDS].decode(errors="replace"))
            raise Refused("malformed", f"not a chat completion: {shown}", True) from error
        usage = reply.get("usage")
        self.spent.prompt_tokens += _count(usage, "prompt_tokens")  # servers leave any of it out
        tokens = _count(usage, "completion_tokens")
        self.spent.completion_tokens += tokens
        if not isinstance(text, str) or not text.strip():
            raise Refused("empty_answer", f"an empty answer (finish_reason {finish_reason})", True)
        return Reply(text, finish_reason if isinstance(finish_reason, str) else None, tokens)

    def _hide(self, words: str) -> str:
        """Servers are known to repeat the key that they do not like."""
        return words.replace(self._key, "[the key]") if self._key else words

    def _refusal(self, url: str, status: int, content: bytes, retry_after: str | None) -> Exception:
        detail, code = _words(content)
        detail = self._hide(detail)
        if status in ENDS_THE_RUN:
            meaning, remedy = ENDS_THE_RUN[status]
            remedy = remedy.format(name=self._name, url=url)
            return ServerError(f"{url} says {status}, {meaning}: {detail}\n{remedy} What was answered is kept.")
        if code == NO_CREDIT:
            return ServerError(f"{url}: {detail}\nWhat was answered is kept.")
        again = status in AGAIN or status >= 500
        outcome: Outcome = "overloaded" if status in OVERLOAD else "broken" if status >= 500 else "neither"
        return Refused(f"http_{status}", detail, again, outcome, _seconds(retry_after))


def may_pass(reason: str) -> bool:
    """Whether a later run may get an answer where this reason was given: the server was the trouble."""
    kind, _, code = reason.partition("_")
    if kind == "http":
        return int(code) in AGAIN or int(code) >= 500
    return reason in ("timeout", "connection", "malformed", "empty_answer")


def wait_s(attempts: int, after_s: float | None) -> float:
    """Before asking again after so many attempts: what the server wants, else exponential with full jitter.

    Source: M. Brooker, Exponential Backoff And Jitter (AWS Architecture Blog, 2015).
    """
    if after_s is not None:
        return after_s
    return random.uniform(0, min(LONGEST_WAIT_S, BACKOFF_S * 2**attempts))


async def check(client: Client, url: str, name: str, body: bytes, attempts: int) -> None:
    """Send one tiny request to see that the endpoint is there, takes the key, serves the model and takes images.

    Raises:
        ServerError: it does not; with what it says, and the models it serves if it has not this one.
    """
    for attempt in range(1, attempts + 1):
        try:
            await client.ask(url, body)
            return
        except Refused as error:
            refused = error
        except ServerError as error:
            raise ServerError(f"{error}{await _served(client, url, name)}") from None
        if refused.reason in ("empty_answer", "malformed") or not refused.again:
            break
        if attempt < attempts:
            await asyncio.sleep(wait_s(attempt, refused.after_s))
    if refused.reason == "empty_answer":
        return  # to a request for one token, that is an answer
    tried = f" (tried {attempts} times)" if refused.again else ""
    raise ServerError(
        f"{url} does not answer a tiny request with an image{tried}: {refused.reason}, {refused}"
        f"{await _served(client, url, name)}\nIs it the right server, up, and for images? check=false skips this test."
    )


async def _served(client: Client, url: str, name: str) -> str:
    """The models at ``url``, if it has others than this one."""
    served = await client.models(url)
    return (
        "" if served is None or name in served else f"\nIt serves {', '.join(served[:20]) or 'no model'}, not {name}."
    )


def _api_key(model: Model) -> str | None:
    """The key from the environment; local servers want none."""
    if not model.api_key_env:
        return None
    key = os.environ.get(model.api_key_env)
    if not key:
        raise ServerError(
            f"model={model.name} needs a key: export {model.api_key_env}=…, or set model.api_key_env=NAME."
        )
    return key


def _proxy(address: yarl.URL) -> str | None:
    """That of HTTPS_PROXY and its kin; aiohttp's own ``trust_env`` looks it up, and a netrc, at every request."""
    import urllib.request

    host = address.host or ""
    proxies = urllib.request.getproxies()
    return None if urllib.request.proxy_bypass(host) else proxies.get(address.scheme)


def _count(usage: Any, name: str) -> int:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) else 0


def _words(content: bytes) -> tuple[str, str | None]:
    """The server's own words in an error's body, and its code for it."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return content[:WORDS].decode(errors="replace").strip(), None
    inner = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(inner, dict):
        return str(inner)[:WORDS], None
    return str(inner.get("message", inner))[:WORDS], inner.get("code")


def _seconds(retry_after: str | None) -> float | None:
    """``Retry-After`` in seconds; it may also be a date."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(0.0, seconds), LONGEST_WAIT_S)
