"""The probabilities of tokens that a reply reports, for requests that ask for them (``logprobs``)."""

from __future__ import annotations

from typing import Any

LAST = 12  # tokens whose probabilities are kept: a verdict is at the end of a reply


def of_last_tokens(choice: dict[str, Any]) -> list[dict[str, float]] | None:
    """For each of the last tokens, the logarithm of its probability, and then those of the alternatives.

    None if the server sends none, or in another form than OpenAI's.
    """
    try:
        tokens = choice["logprobs"]["content"][-LAST:]
        return [
            {str(one["token"]): float(one["logprob"]) for one in (token, *(token.get("top_logprobs") or ()))}
            for token in tokens
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
