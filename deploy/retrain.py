"""What a schedule calls every night: trains if there are new data, and otherwise says why not.

New are data that differ from those of the last run that came to a decision, as ML Metadata has it: a span more,
another version of one, one that was withdrawn, files that changed. A run that was stopped, failed or killed leaves its
data to be trained on, and the next call goes on where it ended. After a run, what nobody needs any more is removed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from components.example_gen import spans
from components.example_gen.spans import Unfinished
from deploy import local
from deploy.root import EXIT_CODES, SUMMARY_FILE, Root, RunActiveError
from deploy.window import find_window, planned
from pipeline.config import Config
from schemas.errors import BadInput

LOG_FILE = "retrain.jsonl"
# A refusal is no fault; several in a row are somebody's business.
ALERT_CODE = 4
_SKIPPED, _STOPPED, _NOT_PUSHED = "skipped", "stopped", "not_pushed"


@dataclass(frozen=True)
class Retrained:
    """status, reason: as in `summary.json`; `skipped` also where nothing ran. exit_code: of the command line. alert: a
    message for whoever is called when something is wrong; empty: nothing is. summary, folder: of the run; None: none
    ran. notes: what else is to be said, such as a notifier that failed.
    """

    status: str
    reason: str
    exit_code: int
    alert: str = ""
    summary: Mapping[str, Any] | None = None
    folder: Path | None = None
    notes: tuple[str, ...] = ()


def retrain(config: Config, root: Root, display: local.Display) -> Retrained:
    """Runs the pipeline if there is something new to train on; safe to call from anywhere at any time.

    Raises:
      BadInput: the configuration, the data or the root are wrong. Everything else is in what is returned.
    """
    try:
        local.check_places(config, root)
        root.prepare(config.name)
        root.refuse_local_run()
    except BadInput as error:  # the root is another's; nothing is noted down there
        raise _told(config, root, error) from None
    try:
        why_not = _nothing_to_do(config, root)
        done = Retrained(_SKIPPED, why_not, 0) if why_not else _run(config, root, display)
    except BadInput as error:
        _log(root, Retrained(_STOPPED, str(error), EXIT_CODES[_STOPPED]))
        raise _told(config, root, error) from None
    _log(root, done)
    return done


def _told(config: Config, root: Root, error: BadInput) -> BadInput:
    """The error, of which the notifier was told; it says so if that went wrong."""
    from deploy.notify import notify

    alert = f"{config.name}: retrain was stopped: {error}"
    summary = {"run_id": None, "status": _STOPPED, "reason": str(error), "alert": alert}
    problem = notify(config.notify, summary, root.reports)
    return BadInput(f"{error}; {problem}") if problem else error


def _nothing_to_do(config: Config, root: Root) -> str:
    """Why there is nothing to train on, or an empty string."""
    if root.is_active():
        return f"another run is active on {root.folder}"
    now, waiting = _data_now(config)
    if not root.metadata.exists():
        return ""
    from deploy.metadata_address import connect
    from pipeline.last_trained import last_trained

    before = last_trained(connect(f"sqlite://{root.metadata}"), config.name)
    if before != now:
        return ""
    what = "spans" if config.data.window is not None else "photos"
    return f"nothing is new: these {what} were trained on already" + "".join(
        f"; {one.folder} is not read yet: it {one.reason}" for one in waiting
    )


def _data_now(config: Config) -> tuple[list[str], tuple[Unfinished, ...]]:
    """What would be trained on, as `last_trained` says it; and what is newer, but not complete.

    Raises:
      BadInput: the data folders are wrong.
    """
    data = config.data
    if data.window is not None:
        window, further, found = find_window(config)
        return planned(window, further, data.success_file), found.unfinished
    span = spans.resolve_sources(local.resolve_tfds(config, data.sources), data.span, **data.completeness)
    return [spans.fingerprint(span, data.success_file)], span.passed_over


def _run(config: Config, root: Root, display: local.Display) -> Retrained:
    from deploy.notify import notify

    try:
        result = local.run(config, root, display)
    except RunActiveError as error:  # it began a moment ago
        return Retrained(_SKIPPED, str(error), 0)
    summary = result.summary
    status, reason, code, alert = summary["status"], summary["reason"], result.exit_code, ""
    in_a_row = _refusals_in_a_row(root) if status == _NOT_PUSHED else 0
    limit = config.notify.alert_after_refusals
    if status in (_STOPPED, "failed"):
        alert = f"{config.name}: the run was {status}: {reason}"
    elif in_a_row >= limit:
        code = ALERT_CODE
        alert = f"{config.name}: {in_a_row} models in a row were refused, production stays as it is; the last: {reason}"
    summary = {**summary, "alert": alert or None}
    notes = [note for note in (notify(config.notify, summary, result.folder), _clean(config, root)) if note]
    return Retrained(status, reason, code, alert, summary, result.folder, tuple(notes))


def _clean(config: Config, root: Root) -> str:
    """Removes what nobody needs any more; what went wrong with it, or an empty string."""
    from deploy.housekeeping import clean_root

    try:
        cleaned = clean_root(root, config.retention.days)
    except (BadInput, OSError) as error:
        return f"nothing was cleaned: {error}"
    what, problem = next(iter(cleaned.not_removed.items()), ("", ""))
    if not what:
        return ""
    failed, all_of_it = len(cleaned.not_removed), len(cleaned.removed)
    return f"{failed} of {all_of_it} could not be cleaned, the first was {what} ({problem})"


def _refusals_in_a_row(root: Root) -> int:
    """How many of the newest runs pushed nothing by verdict; runs that came to none are passed over."""
    refused = 0
    for folder in sorted(root.reports.iterdir(), reverse=True):
        try:
            status = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))["status"]
        except (OSError, ValueError, KeyError):
            continue
        if status == _NOT_PUSHED:
            refused += 1
        elif status == "pushed":
            break
    return refused


def _log(root: Root, done: Retrained) -> None:
    """A line for every call, so that the nights in which nothing happened are accounted for too."""
    line = {
        "at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "status": done.status,
        "reason": done.reason,
        "exit_code": done.exit_code,
        "run_id": done.summary["run_id"] if done.summary else None,
    }
    with (root.folder / LOG_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
