"""What is in production, what was, and what every run did, for `history`, `rollback`, `pin` and `predict`.

Imports neither TensorFlow nor TFX: a rollback must not keep anybody waiting.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from components.example_gen.photo_folder import EmptyFolder, PhotoFolder
from components.report.history import History, PastRun
from components.serving_folder.manifest import ROLLBACK, PastVersion
from deploy.root import Root, find_root, shown
from schemas.errors import BadInput
from schemas.run_end import SUMMARY_FILE, read_summary_file
from schemas.words import spelled, with_kind

UNREADABLE, UNFINISHED, RUNNING = "unreadable", "unfinished", "running"


def history(root: Root) -> History:
    """The versions and runs of a root folder, oldest first."""
    serving = root.serving_folder()
    standing = serving.standing()
    folders = sorted(root.reports.iterdir()) if root.reports.is_dir() else []
    active = root.active_run()
    return History(
        production=serving.production(),
        problem=standing.sentence,
        versions=serving.history(standing),
        runs=[_read_run(folder, active) for folder in folders if folder.is_dir()],
    )


def _read_run(folder: Path, active: str) -> PastRun:
    """A run by its `summary.json`; `active` is the name of the run in progress."""
    from schemas.summary import Summary  # too slow to import for `rollback`

    try:
        summary = read_summary_file(Summary, folder)
        winner, verdict, models = summary.winner, summary.verdict, summary.models or {}
        return PastRun(
            run_id=folder.name,
            status=summary.status,
            reason=summary.reason,
            winner=winner,
            accuracy=models[winner].accuracy if winner in models else None,
            mean_iou=models[winner].mean_iou if winner in models else None,
            difference=verdict.difference if verdict else None,
            interval=verdict.interval if verdict else None,
            verdict=verdict.text if verdict else None,
            production_before=_number(summary.production.before),
            production_after=_number(summary.production.after),
            duration_seconds=summary.duration_seconds,
        )
    except FileNotFoundError:
        status, reason = UNFINISHED, "it was killed; the next run reports how far it got"
        if folder.name == active:
            status, reason = RUNNING, "it is in progress"
    except (OSError, ValueError) as error:
        status, reason = UNREADABLE, f"{folder / SUMMARY_FILE} cannot be read ({with_kind(error, most=None)})"
    return PastRun(run_id=folder.name, status=status, reason=reason)


def _number(version: str | None) -> int | None:
    return None if version is None else int(version)


def history_text(found: History, root: Root) -> str:
    """The history as text: a table of the versions, a table of the runs, and what is in production."""
    lines = [f"versions in {shown(root.serving)}"]
    rows = [
        [
            str(version.version),
            _minutes(version.pushed_at),
            _what(version),
            spelled(version.winner or ""),
            _score(version),
            version.state + (", pinned" if version.pinned else ""),
        ]
        for version in found.versions
    ]
    masks = any((version.metrics or {}).get("mean_iou") for version in found.versions)
    header = ["version", "UTC", "what", "winner", f"{'mean IoU' if masks else 'accuracy'} on test", "state"]
    lines += _table(header, rows, [version.reason for version in found.versions]) if rows else ["  none yet"]

    lines += ["", f"runs in {shown(root.reports)}"]
    rows = [
        [
            run.run_id,
            run.status,
            spelled(run.winner or ""),
            _points(run.difference, run.interval),
            _change(run.production_before, run.production_after),
        ]
        for run in found.runs
    ]
    header = ["run", "status", "winner", "fine tuned gains", "production"]
    lines += _table(header, rows, [run.reason for run in found.runs]) if rows else ["  none yet"]

    where = "" if found.production is None else shown(root.serving / str(found.production))
    lines += ["", f"in production: {where}" if where else "nothing is in production"]
    if found.problem:
        lines.append(f"{found.problem}; `warmstart repair` restores it from an intact copy")
    return "\n".join(lines)


def _table(header: list[str], rows: list[list[str]], reasons: list[str | None]) -> list[str]:
    lines = columns([header, *rows])
    table = [lines[0]]
    for line, reason in zip(lines[1:], reasons, strict=True):
        table += [line, *([f"    {reason}"] if reason else [])]
    return [f"  {line}" for line in table]


def columns(rows: list[list[str]]) -> list[str]:
    """One line for each row, with columns as wide as their longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _what(version: PastVersion) -> str:
    if version.restores is not None:
        return f"{'rollback to' if version.kind == ROLLBACK else 'restored copy of'} {version.restores}"
    return "forced push" if version.forced else version.kind or "unreadable"


def _minutes(time: str | None) -> str:
    return time[:16].replace("T", " ") if time else ""


def _score(version: PastVersion) -> str:
    """The mean IoU of masks, with the number of classes, else the accuracy."""
    metrics = version.metrics or {}
    reached = metrics.get("mean_iou") or metrics.get("accuracy")
    if reached is None:
        return ""
    classes = f" of {len(version.labels)} classes" if metrics.get("mean_iou") and version.labels else ""
    return f"{reached.value:.1%} ({100 * reached.low:.1f} to {100 * reached.high:.1f}){classes}"


def _points(difference: float | None, interval: list[float] | None) -> str:
    if difference is None or interval is None:
        return ""
    low, high = interval
    return f"{100 * difference:+.1f} points ({100 * low:.1f} to {100 * high:.1f})"


def _change(before: int | None, after: int | None) -> str:
    if before == after:
        return "" if after is None else f"{after} stays"
    return f"{'none' if before is None else before} -> {'none' if after is None else after}"


def rollback(root: Root, version: int | None, reason: str) -> str:
    """Rolls production back.

    Args:
      version: the version to go back to; None: the one that was in production before.
      reason: for the manifest of the new version.

    Returns:
      what was done, in a few sentences.

    Raises:
      BadInput: there is nothing to roll back to, or the folder cannot be written.
    """
    serving = root.serving_folder()
    with _disk_errors_as_sentences(root):
        new = serving.rollback(version, reason)
    manifest = serving.manifest(new)
    assert manifest is not None
    return (
        f"version {new}, a copy of version {manifest.restores}, replaces version {manifest.replaced} in production: "
        f"{shown(root.serving / str(new))}\n"
        "TensorFlow Serving picks up the highest version the next time it looks, every second by default; a server "
        "with the version policy `specific` needs a new configuration"
    )


def pin(root: Root, version: int, remove: bool) -> str:
    """Pins or unpins a version, and returns what was done as a sentence.

    Raises:
      BadInput: there is no such version or pin, or the folder cannot be written.
    """
    with _disk_errors_as_sentences(root):
        if remove:
            root.serving_folder().unpin(version)
            return f"version {version} is no longer pinned; a later push removes it once it is old enough"
        root.serving_folder().pin(version)
    return f"version {version} is pinned; no push will remove it"


def find_model(model: str | None, root: str | None, version: int | None) -> Path:
    """The folder of a model to ask.

    Args:
      model: its folder; None: a version in a root folder.
      root: the root folder; None: the only one below `runs/`.
      version: its number; None: the one in production.

    Raises:
      BadInput: both were given, or there is no such root or version.
    """
    if model is None:
        return model_folder(find_root(root), version)
    if root is not None or version is not None:
        raise BadInput(
            "--model was given with --root or --version; expected either the folder of a model or a version in a root"
        )
    return Path(model)


def model_folder(root: Root, version: int | None) -> Path:
    """The folder of a version; None: of the one in production.

    Raises:
      BadInput: there is no such version, or nothing is in production.
    """
    serving = root.serving_folder()
    versions = serving.versions()
    if not versions:
        raise BadInput(f"nothing is in production in {root.serving}; push a model with `warmstart run`")
    if version is not None and version not in versions:
        raise BadInput(
            f"there is no version {version} in {root.serving}; choose one of {', '.join(map(str, versions))}"
        )
    return root.serving / str(serving.production() if version is None else version)


def find_files(names: tuple[str, ...], said: Callable[[str], None] = lambda text: None) -> list[str]:
    """Photos by name: the files themselves, and in folders the files that a run would read.

    Args:
      said: called with a sentence about the files of a folder that are left out.

    Raises:
      BadInput: a folder cannot be read, or the folders hold no photo.
    """
    found: list[str] = []
    for name in names:
        if not Path(name).is_dir():
            found.append(name)
            continue
        try:
            folder = PhotoFolder(name)
        except EmptyFolder:
            continue
        found += [str(Path(name, path)) for path in folder.meant]
        if folder.left_out:
            first = folder.left_out[0].file_name
            said(f"{name}: left out {len(folder.left_out)} files whose names are not those of photos ({first}, ...)")
    if not found:
        raise BadInput(f"no photos found in {', '.join(names)}; expected files such as cat.jpg")
    return found


@contextlib.contextmanager
def _disk_errors_as_sentences(root: Root) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"{root.serving} cannot be written ({error.strerror}); production stays as it is") from None
