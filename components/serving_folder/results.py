"""The results of looking at a serving folder, and of pushing to it."""

from __future__ import annotations

from dataclasses import dataclass

PUSHED, ALREADY_IN_PRODUCTION, PRODUCTION_CHANGED, ROLLED_BACK = (
    "pushed",
    "already_in_production",
    "production_changed",
    "rolled_back",
)
PRODUCTION, KEPT, REMOVED, DAMAGED, GONE = "production", "kept", "removed", "damaged", "gone"


@dataclass(frozen=True)
class PushResult:
    """The result of a push."""

    outcome: str
    """`pushed`, `already_in_production`, `production_changed` (the model was compared with another version) or
    `rolled_back` (production was rolled back from this model)."""
    version: int | None
    reason: str


@dataclass(frozen=True)
class Standing:
    """Whether production reads what was pushed."""

    version: int | None
    """The newest version ever pushed, which production should read; None if there never was one."""
    state: str = PRODUCTION
    """`production`, `damaged` (files are missing or changed) or `gone` (its folder does not exist, so production reads
    an older version or none)."""
    problem: str = ""
    """What is wrong, as the rest of a sentence that begins with "version 7"; empty if nothing is."""

    @property
    def sentence(self) -> str:
        """The problem as a sentence; empty if there is none."""
        return f"version {self.version} {self.problem}" if self.problem else ""
