"""The start of `run` and `retrain`: which configuration, and in which root folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.config_choice import choose_config
from deploy.data_folders import default_root
from deploy.display import ConsoleDisplay
from deploy.installed import version_of
from deploy.root import Root
from pipeline.config import Config
from schemas.errors import BadInput


@dataclass(frozen=True)
class Session:
    """A configuration, the root folder to run it in, and a display."""

    config: Config
    root: Root
    display: ConsoleDisplay


def begin(
    data: Sequence[str], config_name: str | None, root: str | None, overrides: Sequence[str], display: ConsoleDisplay
) -> Session:
    """Loads the configuration and shows its name.

    Args:
      config_name: name or file of a configuration; None: the one that fits the photos.
      root: the root folder; None: the one that is named after the photos.

    Raises:
      BadInput: the configuration is wrong, or it is needed because there are several folders of photos.
    """
    notes: list[str] = []
    _, config = choose_config(config_name, data, overrides, notes.append)
    display.heading(version_of("warmstart") or "", config.name)
    for note in notes:
        display.note(note)
    return Session(config, Root(root) if root else default_root(config), display)


def forced(reason: str | None) -> str:
    """The reason for a forced push, without blanks around it; empty: none is forced.

    Raises:
      BadInput: a push was to be forced without a reason.
    """
    if reason is not None and not reason.strip():
        raise BadInput("--force-push was given without a reason; say in words why the model must be pushed")
    return (reason or "").strip()
