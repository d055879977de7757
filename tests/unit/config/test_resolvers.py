"""The functions that configuration files call."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from vd100k.config import resolvers

resolvers.register()


def resolve(expression: str, **values: Any) -> Any:
    """The value of an expression in a configuration with these values."""
    return OmegaConf.to_container(OmegaConf.create({**values, "result": expression}), resolve=True)["result"]


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("${or_else:${null},b}", "b"),
        ("${or_else:a,b}", "a"),
        ("${or_else:'',b}", "b"),
        ("${or_else:${null},[1,2]}", [1, 2]),
        ("${when:${null},v}", None),
        ("${when:${zero},v}", "v"),
        ("${joined:a,${null},2}", "a-2"),
        ("${joined:${null}}", ""),
        ("${listed:${names},', ','all'}", "a, b c"),
        ("${listed:[],', ','all'}", "all"),
        ("${pick:one,${mapping}}", 1),
        ("${pick:two,${mapping}}", None),
        ("${product:2,3}", 6),
        ("${product:5,0.5}", 2),
        ("${product:1,0.5}", 1),
    ],
)
def test_each_resolver_gives_the_documented_value(expression: str, result: Any) -> None:
    assert resolve(expression, null=None, zero=0, mapping={"one": 1}, names=["a", "b c"]) == result


@given(st.lists(st.integers(1, 1000) | st.floats(0, 1), max_size=4))
def test_a_product_is_always_a_positive_integer(numbers: list[float]) -> None:
    result = resolvers.product(*numbers)
    assert isinstance(result, int)
    assert result >= 1
