"""Asking OpenAI-compatible endpoints: which one, how often, and what a refusal means."""

from __future__ import annotations

import contextlib
import email.utils
import json
import os
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import openai
import tenacity

from vd100k import replies
from vd100k.config import Generate, Model
from vd100k.errors import ServerError
from vd100k.prompts import Message

BACKOFF_S = 0.5  # first wait, doubled each time, with jitter
LONGEST_WAIT_S = 60.0
ENDS_THE_RUN = {401: "the key is not accepted", 403: "access is denied", 404: "the model or path is not there"}
AGAIN = {408, 409, 429}  # and 5xx
NO_CREDIT = "insufficient_quota"  # OpenAI says it with a 429, but waiting does not help


@dataclass(frozen=True)
class Answer:
    fields: dict[str, Any]
    finish_reason: str | None
    attempts: int


class Refused(Exception):
    """No answer for this one prompt; ``reason`` is a word, the message the server's own."""

    def __init__(self, reason: str, detail: str, attempts: int) -> None:
        super().__init__(detail)
        self.reason, self.attempts = reason, attempts


class Unusable(Exception):
    """A reply without the promised content: worth asking again."""

    def __init__(self, detail: str, reason: str = "empty_answer") -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass
class Endpoint:
    url: str
    client: openai.AsyncOpenAI
    in_flight: int = 0


class Client:
    """One model behind any number of equal endpoints, each image sent to the least loaded.

    The OpenAI client's own retries are off, so that every attempt is counted once.
    """

    def __init__(self, urls: list[str], model: Model, served_name: str, stage: Generate) -> None:
        timeout = openai.Timeout(stage.timeout_s, connect=stage.connect_timeout_s)
        self._name, self._attempts, self.requests = served_name, stage.max_retries + 1, 0
        self.prompt_tokens = self.completion_tokens = 0  # of all replies, also those that were asked for again
        key = _api_key(model)
        self._endpoints = [
            Endpoint(url, openai.AsyncOpenAI(base_url=url, api_key=key, timeout=timeout, max_retries=0)) for url in urls
        ]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for endpoint in self._endpoints:
            await endpoint.client.close()

    async def ask(self, messages: list[Message], sampling: dict[str, Any], reader: str) -> Answer:
        """The model's answer, as the ``reader`` finds it in the reply.

        Raises:
            Refused: not for this prompt, after retries where those could help.
            ServerError: not for any (401, 403, 404, nobody there).
        """
        endpoint = min(self._endpoints, key=lambda e: e.in_flight)
        endpoint.in_flight += 1
        attempts = 0
        try:
            async for attempt in tenacity.AsyncRetrying(
                stop=tenacity.stop_after_attempt(self._attempts),
                wait=_wait,
                retry=tenacity.retry_if_exception(_worth_retrying),
                reraise=True,
            ):
                with attempt:
                    attempts += 1
                    self.requests += 1
                    return await self._once(endpoint, messages, sampling, reader, attempts)
        except openai.APIStatusError as error:
            detail = _words(error)
            if error.status_code in ENDS_THE_RUN:
                raise ServerError(_no_use(endpoint.url, self._name, error.status_code, detail)) from error
            if error.code == NO_CREDIT:
                raise ServerError(f"{endpoint.url}: {detail}\nWhat was answered is kept.") from error
            raise Refused(f"http_{error.status_code}", detail, attempts) from error
        except openai.APIConnectionError as error:
            if isinstance(error, openai.APITimeoutError) and not _never_connected(error):
                raise Refused("timeout", "no answer in time (stage.timeout_s)", attempts) from error
            raise ServerError(
                f"{endpoint.url} cannot be reached ({error.__cause__ or error}), tried {attempts} times. "
                "Is the server up? What was answered is kept: run the same command again."
            ) from error
        except Unusable as error:
            raise Refused(error.reason, str(error), attempts) from error
        finally:
            endpoint.in_flight -= 1
        raise AssertionError("the retry loop returns or raises")

    async def _once(
        self, endpoint: Endpoint, messages: list[Message], sampling: dict[str, Any], reader: str, attempts: int
    ) -> Answer:
        try:
            reply = await endpoint.client.chat.completions.create(
                model=self._name,
                messages=messages,  # type: ignore[arg-type]
                extra_body=sampling,  # servers know more of it than the SDK: top_k, repetition_penalty
            )
        except (json.JSONDecodeError, openai.APIResponseValidationError) as error:
            raise Unusable(f"not a chat completion: {error}") from error
        try:
            choice = reply.choices[0]
            text = choice.message.content
        except (AttributeError, IndexError, TypeError) as error:  # the SDK takes any JSON for a reply
            raise Unusable(f"not a chat completion: {error}") from error
        # Servers leave any of it out.
        self.prompt_tokens += _count(reply.usage, "prompt_tokens")
        self.completion_tokens += _count(reply.usage, "completion_tokens")
        if not isinstance(text, str) or not text.strip():
            raise Unusable(f"an empty answer (finish_reason {choice.finish_reason})")
        try:
            fields = replies.read(reader, text, whole=choice.finish_reason != "length")
        except replies.Unread as error:
            raise Unusable(f"{error}: {text[:200]}", "not_as_asked") from error
        return Answer(fields, choice.finish_reason, attempts)


def _count(usage: Any, name: str) -> int:
    count = getattr(usage, name, None)
    return count if isinstance(count, int) else 0


def _api_key(model: Model) -> str:
    """The key from the environment; local servers want none, but the SDK wants something."""
    if not model.api_key_env:
        return "none"
    key = os.environ.get(model.api_key_env)
    if not key:
        raise ServerError(
            f"model={model.name} needs a key: export {model.api_key_env}=…, or set model.api_key_env=NAME."
        )
    return key


def may_pass(reason: str) -> bool:
    """Whether a later run may get an answer where this reason was given: the server was the trouble."""
    kind, _, code = reason.partition("_")
    return reason in ("timeout", "empty_answer") or (kind == "http" and (int(code) in AGAIN or int(code) >= 500))


def _never_connected(error: BaseException) -> bool:
    return "Connect" in type(error.__cause__).__name__


def _worth_retrying(error: BaseException) -> bool:
    if isinstance(error, openai.APIStatusError):
        return error.code != NO_CREDIT and (error.status_code in AGAIN or error.status_code >= 500)
    return isinstance(error, (openai.APIConnectionError, Unusable))


_backoff = tenacity.wait_random_exponential(multiplier=BACKOFF_S, max=LONGEST_WAIT_S)


def _wait(state: tenacity.RetryCallState) -> float:
    """Exponential with jitter, or what the server asked for in ``Retry-After``."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, openai.APIStatusError) and (after := error.response.headers.get("retry-after")):
        try:
            return min(float(after), LONGEST_WAIT_S)
        except ValueError:
            with contextlib.suppress(ValueError):
                when = email.utils.parsedate_to_datetime(after)
                return min(max(0.0, when.timestamp() - time.time()), LONGEST_WAIT_S)
    return _backoff(state)


def _words(error: openai.APIStatusError) -> str:
    """The server's own words, not the SDK's wrapping of them."""
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        body = inner.get("message", inner) if isinstance(inner, dict) else inner
    return str(body or error)[:500]


def _no_use(url: str, name: str, code: int, detail: str) -> str:
    remedy = {
        401: "Check the key in the variable that model.api_key_env names.",
        403: "Check that this key may use the model.",
        404: f"Check model.served_name={name}; {url}/models lists what is served.",
    }[code]
    return f"{url} says {code}, {ENDS_THE_RUN[code]}: {detail}\n{remedy} What was answered is kept."
