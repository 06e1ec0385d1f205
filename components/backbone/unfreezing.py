"""Which variables of a backbone the strategy `top` unfreezes, as the configuration says it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Unfreezing(BaseModel):
    """The keyword arguments of `freezing.learning_variables` by these names; at most one is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pattern: str | None = None
    blocks: tuple[str, ...] | None = None
    last: int | None = None
    fraction: float | None = None
    default_pattern: str | None = None
