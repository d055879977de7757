"""What all parts of the schema share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Options = dict[str, Any]  # options of another tool, passed on unchanged
Inherits = dict[str, bool | None]  # names or patterns of environment variables, and whether to pass them on
Share = Annotated[float, Field(ge=0, lt=1)]


class Part(BaseModel):
    """A frozen part of the configuration that accepts only its own keys."""

    # Building the validators only when the first run is parsed halves the import time.
    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), coerce_numbers_to_str=True, defer_build=True
    )
