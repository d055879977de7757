"""Renders a page as one HTML file that loads nothing, and in which only this package's script may run."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

HERE = Path(__file__).parent


def render(template: str, **values: Any) -> bytes:
    """The page as bytes. All texts in ``values`` are escaped, and the policy of the page names its script by hash."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vd100k.pages", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    environment.globals["zip"] = zip
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    html = environment.get_template(template).render(
        # Both are files of this package, without a character that ends their element.
        style=Markup(style),
        script=Markup(script),
        policy=Markup(policy),
        **values,
    )
    return html.encode(errors="backslashreplace")


def number(value: object) -> str:
    """A number to read: thousands are separated, fractions have four digits."""
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else "" if value is None else str(value)


def duration(seconds: float) -> str:
    """A duration to read: 40 s, 4 min, 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
