"""One request to an OpenAI-compatible endpoint, and the meaning of its reply or failure.

The OpenAI client is correct but too slow for this loop: for each request, it takes about six times the
CPU time of this module, and thirteen times that of a plain aiohttp call. So requests are built as bytes
(``prompts.body``), sent with aiohttp, and replies are read without a typed object for each.
"""

from __future__ import annotations

import contextlib
import email.utils
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp
import orjson
import yarl

from vd100k.config.run import Model
from vd100k.config.stages import Generate
from vd100k.errors import ServerError
from vd100k.io.redaction import redact
from vd100k.llm import logprobs
from vd100k.llm.proxy import proxy_for

BACKOFF_S, MAX_WAIT_S = 0.5, 60.0
IDLE_S = 4.0  # uvicorn, and therefore vLLM, closes a connection after five idle seconds
PROBE_S = 5.0
MAX_MESSAGE, LONGEST_MESSAGE = 500, 4_000  # characters kept, and examined, of a server's message
DENIED = 403
FATAL = {
    401: ("the key is not accepted", "Check the key in the variable that model.api_key_env names."),
    DENIED: ("access is denied", "Check that this key may use the model."),
    404: ("the model or path does not exist", "Check model.served_name={name}; {url}/models lists what is served."),
}
RETRYABLE = {408, 409, 429}  # and 5xx
OVERLOADED = {429, 503, 529}
NO_CREDIT = "insufficient_quota"  # OpenAI sends it with a 429, but waiting does not help

# What a reply says about its endpoint: it answered, is overloaded, failed, or nothing.
Outcome = Literal["answered", "overloaded", "failed", "neutral"]


@dataclass(slots=True)
class Usage:
    """The requests sent, and the tokens of all replies, including replies that were not usable."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """The text of a completion; ``completion_tokens`` is 0 if the server does not report it.

    ``system_fingerprint`` identifies the version of the model and its settings, for servers that report it.
    ``logprobs`` are those of the last tokens, for requests that ask for them (``llm.logprobs``).
    """

    text: str
    finish_reason: str | None
    completion_tokens: int
    system_fingerprint: str | None
    logprobs: list[dict[str, float]] | None = None


class RequestError(Exception):
    """A request got no usable answer.

    ``reason`` is one word, the message is the server's own. ``retryable`` says whether a retry may
    succeed, ``next_run`` whether one in a later run may (by default, if one in this run may), ``outcome``
    what it means for the endpoint, ``after_s`` how long the server asked to wait.
    """

    def __init__(
        self,
        reason: str,
        detail: str,
        retryable: bool,
        outcome: Outcome = "neutral",
        after_s: float | None = None,
        next_run: bool | None = None,
    ) -> None:
        super().__init__(detail)
        self.reason, self.retryable, self.outcome, self.after_s = reason, retryable, outcome, after_s
        self.next_run = retryable if next_run is None else next_run


class Unreachable(RequestError):
    """The request never reached the server, so it does not count as an attempt."""


class AccessDenied(ServerError):
    """403: the key may not use the model; or moderation, or a firewall, refused this request alone.

    ``detail`` is the server's own message.
    """

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(message)
        self.detail = detail


class Client:
    """Sends requests for one model, with its key; ``direct``: never through a proxy.

    ``usage`` counts the requests; ``accepted`` says whether any of them was answered with a completion.
    """

    def __init__(self, model: Model, served_name: str, settings: Generate, usage: Usage, direct: bool = False) -> None:
        self.usage, self.accepted = usage, False
        self._name, self._direct = served_name, direct
        key = api_key(model)
        headers = {"Content-Type": "application/json", "User-Agent": "vd100k"}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S),  # the pool limits them
            timeout=aiohttp.ClientTimeout(settings.timeout_s, sock_connect=settings.connect_timeout_s),
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
            RequestError: this request got no usable answer.
            ServerError: no request will get one (401, 404, no credit).
            AccessDenied: probably no request will get one (403).
        """
        self.usage.requests += 1
        try:
            address, proxy = self._route(url)
            # A redirect could lead to another host, which must get neither the key nor the image.
            async with self._session.post(address, data=body, proxy=proxy, allow_redirects=False) as response:
                content = await response.read()
        except aiohttp.ClientConnectorError as error:
            detail = f"{redact(url)} cannot be reached: {error.strerror or error}"
            raise Unreachable("connection", detail, True, "failed") from error
        except aiohttp.ConnectionTimeoutError as error:
            detail = f"{redact(url)}: no connection within connect_timeout_s"
            raise Unreachable("connection", detail, True, "failed") from error
        except TimeoutError as error:
            raise RequestError("timeout", "no answer within timeout_s", True, "failed") from error
        except aiohttp.ClientError as error:
            raise RequestError("connection", redact(f"{url} closed the connection: {error}"), True, "failed") from error
        if response.status != 200:
            raise self._error(url, response.status, content, response.headers)
        return self._read(content)

    async def models(self, url: str) -> list[str] | None:
        """The names of the models served at ``url``; None if the server does not list them."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
            _, content = await self._list_models(url)
            return [str(model["id"]) for model in orjson.loads(content)["data"]]
        return None

    async def loaded_from(self, url: str) -> str | None:
        """The name of the folder, or the hub name, that a vLLM server loaded the model from; None if it is unknown."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError, AttributeError):
            _, content = await self._list_models(url)
            served = {model["id"]: model.get("root") for model in orjson.loads(content)["data"]}
            return str(served[self._name]).rstrip("/").rpartition("/")[2] if served[self._name] else None
        return None

    async def is_back(self, url: str) -> bool:
        """Whether a server answers at ``url`` without a server error."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            status, _ = await self._list_models(url)
            return status < 500
        return False

    async def _list_models(self, url: str) -> tuple[int, bytes]:
        timeout = aiohttp.ClientTimeout(PROBE_S)
        proxy = self._route(url)[1]
        async with self._session.get(f"{url}/models", timeout=timeout, proxy=proxy, allow_redirects=False) as response:
            return response.status, await response.read()

    def _route(self, url: str) -> tuple[yarl.URL, str | None]:
        """The URL for chat requests, and the proxy to reach it through."""
        if url not in self._routes:
            address = yarl.URL(f"{url.rstrip('/')}/chat/completions")
            self._routes[url] = address, None if self._direct else proxy_for(address)
        return self._routes[url]

    def _read(self, content: bytes) -> Reply:
        try:
            reply = orjson.loads(content)
            choice = reply["choices"][0]
            text, finish_reason = choice["message"]["content"], choice.get("finish_reason")
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError) as error:
            shown = _shown(content[:LONGEST_MESSAGE].decode(errors="replace"))
            raise RequestError("malformed", f"not a chat completion: {shown}", True) from error
        self.accepted = True
        usage = reply.get("usage")
        self.usage.prompt_tokens += _count(usage, "prompt_tokens")  # servers may leave out any of these
        tokens = _count(usage, "completion_tokens")
        self.usage.completion_tokens += tokens
        if not isinstance(text, str) or not text.strip():
            raise RequestError("empty_answer", f"an empty answer (finish_reason {finish_reason})", True)
        version = reply.get("system_fingerprint")
        return Reply(text, _text(finish_reason), tokens, _text(version), logprobs.of_last_tokens(choice))

    def _error(self, url: str, status: int, content: bytes, headers: Mapping[str, str]) -> Exception:
        """The exception for a reply with an error status."""
        detail, code = _error_message(content)
        url = redact(url)
        if status in FATAL:
            meaning, remedy = FATAL[status]
            remedy = remedy.format(name=self._name, url=url)
            message = f"{url} answers {status}, {meaning}: {detail}\n{remedy} All earlier answers are kept."
            return AccessDenied(message, detail) if status == DENIED else ServerError(message)
        if 300 <= status < 400:
            there = redact(headers.get("Location", "another address"))
            return ServerError(f"{url} redirects to {there}: set hardware.urls to that server if you trust it.")
        if code == NO_CREDIT:
            return ServerError(
                f"{url}: {detail}\nAdd credit to the account of the key, then run the same command again. All "
                "earlier answers are kept."
            )
        outcome: Outcome = "overloaded" if status in OVERLOADED else "failed" if status >= 500 else "neutral"
        retryable = status in RETRYABLE or status >= 500
        return RequestError(f"http_{status}", detail, retryable, outcome, _seconds(headers.get("Retry-After")))


def wait_s(attempts: int, after_s: float | None) -> float:
    """Seconds to wait before a retry: what the server asked for, else exponential backoff with full jitter.

    Source: M. Brooker, Exponential Backoff And Jitter (AWS Architecture Blog, 2015).
    """
    if after_s is not None:
        return after_s
    return random.uniform(0, min(MAX_WAIT_S, BACKOFF_S * 2**attempts))


def api_key(model: Model) -> str | None:
    """The key from the environment; None if the model needs none.

    Raises:
        ServerError: the variable is not set.
    """
    if not model.api_key_env:
        return None
    key = os.environ.get(model.api_key_env)
    if not key:
        raise ServerError(
            f"model={model.name} needs a key: export {model.api_key_env}=…, or set model.api_key_env=NAME."
        )
    return key


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _count(usage: Any, name: str) -> int:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) else 0


def _error_message(content: bytes) -> tuple[str, str | None]:
    """The message in the body of an error reply, and the server's code for it."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return _shown(content[:LONGEST_MESSAGE].decode(errors="replace").strip()), None
    inner = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(inner, dict):
        return _shown(str(inner)), None
    return _shown(str(inner.get("message", inner))), inner.get("code")


def _shown(message: str) -> str:
    """The beginning of a message. Secrets are removed first, because half of one would not be recognised."""
    return str(redact(message[:LONGEST_MESSAGE]))[:MAX_MESSAGE]


def _seconds(retry_after: str | None) -> float | None:
    """The seconds in ``Retry-After``, which may also be a date."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(0.0, seconds), MAX_WAIT_S)
