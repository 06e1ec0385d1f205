"""A check of `warmstart doctor`: what it found, and what to do about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.markup import escape

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One check and its result."""

    name: str
    state: State
    found: str
    todo: str = ""
    """What to do about it; empty: nothing."""


def exit_code(checks: Sequence[Check]) -> int:
    """2 if a check fails, otherwise 0."""
    return 2 if any(check.state == "fail" for check in checks) else 0


def line(check: Check) -> str:
    """The check as a line for people, with rich's markup."""
    colour = {"ok": "green", "warn": "yellow", "fail": "red"}[check.state]
    todo = f"; [bold]{escape(check.todo)}[/]" if check.todo else ""
    return f"[{colour}]{check.state:<4}[/]  {check.name:<23}  {escape(check.found)}{todo}"


def for_programs(checks: Sequence[Check]) -> dict[str, object]:
    """The checks in JSON's types."""
    return {"ok": exit_code(checks) == 0, "checks": [dataclasses.asdict(check) for check in checks]}
