"""Secrets are removed from settings, command lines and messages; everything else stays."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vd100k.io.redaction import REDACTED, redact, redact_argument

NAMES = ["api_key", "HF_TOKEN", "client_secret", "PGPASSWORD", "passwd", "passphrase", "credentials", "Authorization"]
secrets = st.text("ABCDEFGHIJ", min_size=8)  # longer than any text in json_values
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=7),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["limit", "name", *NAMES]), inner),
    max_leaves=10,
)


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in leaves(inner)]
    return [leaf for inner in value for leaf in leaves(inner)] if isinstance(value, list) else [value]


@given(json_values, secrets, st.sampled_from(NAMES))
def test_a_secret_is_removed_at_any_depth(value: Any, secret: str, name: str) -> None:
    assume(secret not in str(value))
    for setting in ({name: secret}, {name: [secret]}, f"https://me:{secret}@host/v1", f"https://h/v1?api_key={secret}"):
        assert secret not in str(redact({"outer": [value, setting]}))


@given(json_values)
def test_redacting_twice_changes_nothing_more(value: Any) -> None:
    assert redact(redact(value)) == redact(value)


@given(json_values)
def test_the_structure_stays(value: Any) -> None:
    assert len(leaves(redact(value))) == len(leaves(value))


def test_values_that_are_not_secrets_stay() -> None:
    settings = {"max_tokens": 5, "api_key_env": "OPENAI_API_KEY", "use_auth": True, "api_key": None, "a": "b:c@d"}
    assert redact(settings) == settings
    assert redact({"api_key": 7}) == {"api_key": REDACTED}


@pytest.mark.parametrize(
    ("argument", "redacted"),
    [
        ("stage.env.HF_TOKEN=abc", f"stage.env.HF_TOKEN={REDACTED}"),
        ("hardware.engine.env={HF_TOKEN:abc,X:1}", f"hardware.engine.env={{HF_TOKEN:{REDACTED},X:1}}"),
        ("hardware.urls=[http://me:abc@h/v1]", "hardware.urls=[http://h/v1]"),
        ("hardware.urls=['https://h/v1?key=abc&x=1']", f"hardware.urls=['https://h/v1?key={REDACTED}&x=1']"),
        ("model.api_key_env=OPENAI_API_KEY", "model.api_key_env=OPENAI_API_KEY"),
        ("--multirun", "--multirun"),
    ],
)
def test_an_argument_of_the_command_line_is_redacted(argument: str, redacted: str) -> None:
    assert redact_argument(argument) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "Basic information about the basic knowledge of a monkey: brown, donkey = 4",
        "the special token: <image>, the next token = the",
        'an answer {"token": "dog", "key": "C major"}',
        "http://host:8000/v1/users/joe@example.com and http://127.0.0.1:8000/v1,model@teacher=x",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "text", ["://" + ":" * 4000, "http://h:1/" * 400, "a.b-" * 1000, "token" * 800, "api_key" * 600, "Bearer " * 600]
)
def test_odd_text_takes_no_time(text: str) -> None:
    began = time.process_time()
    redact(text)
    assert time.process_time() - began < 0.5
