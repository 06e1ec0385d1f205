"""Training, comparing and pushing a model from Python."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.display import ConsoleDisplay
    from schemas.summary import Summary


@dataclass(frozen=True)
class Run:
    """A run that has ended, well or not."""

    status: str
    """`pushed`: a new model is in production; `skipped`: there was nothing to do; `not_pushed`: the model was refused;
    `stopped`: the photos or settings were; `failed`: a step failed, or the run was interrupted."""
    reason: str
    """Why, as a sentence."""
    root: Path
    """The root folder, which `warmstart.load` takes."""
    page: Path
    """The page of the run, for a browser."""
    summary: Summary = field(repr=False)
    """Everything that the run did, as in its `summary.json`."""
    notes: tuple[str, ...] = ()
    """Sentences on what did not work beside the run, such as an MLflow server that did not answer."""

    @property
    def pushed(self) -> bool:
        """Whether it put a new model into production."""
        return self.status == "pushed"


def run(
    photos: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | None = None,
    *,
    config: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    from_step: str | None = None,
    to_step: str | None = None,
    force_push: str | None = None,
    progress: bool = True,
) -> Run:
    """Trains a model on photos and pushes it if it passes every gate, as `warmstart run` does.

    It takes minutes. Finished steps are not run again, and the same call resumes a run that was killed.

    Args:
      photos: folder with a folder of photos for each class, or any other layout that `warmstart inspect` understands;
        several data sets as `{"cats_vs_dogs": folder, ...}`; None: `config` names them.
      config: a known configuration or a YAML file; None: the one that fits the photos.
      root: where everything is kept; None: `runs/` and the name of the folder of photos, in the working directory.
      settings: keys of the configuration and their values, such as `{"image.size": 224}`.
      from_step: the first step to run, which takes over earlier results; None: from the start.
      to_step: the last step to run; None: to the end.
      force_push: why to push even a model that ReleaseGate refuses; None: do not.
      progress: prints what the command prints: a line a step, and the results.

    Returns:
      how the run ended. A run that failed, or was stopped because of the photos, is returned too.

    Raises:
      BadInput: nothing ran, because the input is wrong or another run is active in the root; a sentence says what is
        wrong and what to do.
    """
    from deploy import local, session

    reason = session.forced(force_push)
    with _display(progress) as display:
        begun = session.begin(
            _folders(photos),
            None if config is None else os.fspath(config),
            None if root is None else os.fspath(root),
            [f"{key}={json.dumps(value, default=str)}" for key, value in (settings or {}).items()],
            display,
        )
        ended = local.run(begun.config, begun.root, display, from_step, to_step, reason)
        display.closing(ended.summary, ended.folder)
    summary = ended.summary
    page = ended.folder / "index.html"
    return Run(summary.status, summary.reason, begun.root.folder, page, summary, ended.notes)


def _folders(photos: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | None) -> Sequence[str]:
    """The photos as `--data` takes them."""
    if photos is None:
        return []
    if isinstance(photos, Mapping):
        return [f"{dataset}={os.fspath(folder)}" for dataset, folder in photos.items()]
    return [os.fspath(photos)]


@contextlib.contextmanager
def _display(progress: bool) -> Iterator[ConsoleDisplay]:
    """Prints to standard output, wherever that leads: during a run the descriptor itself leads to the run's log."""
    from deploy import local
    from deploy.display import ConsoleDisplay

    if not progress:
        yield ConsoleDisplay(io.StringIO(), "quiet")
    elif sys.stdout is sys.__stdout__:
        with local.terminal_stream() as stream:
            yield ConsoleDisplay(stream)
    else:  # a notebook's output is an object, which no descriptor stands for
        yield ConsoleDisplay(sys.stdout)
