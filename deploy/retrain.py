"""What a schedule calls every night: trains if there is new data, and otherwise says why not.

Data is new if it differs from the data of the last run that reached a decision, according to ML Metadata: one more
span, another version of a span, a withdrawn span, changed files, other corrections of labels. If a run was stopped,
failed or was killed, its data is still new, and the next call continues where it ended. After a run, files that are no
longer needed are removed.
"""

from __future__ import annotations

import contextlib
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.example_gen import spans
from components.example_gen.spans import UnfinishedFolder
from deploy import corrections, local, metadata_file
from deploy.data_folders import check_places, find_window, planned, resolve_tfds
from deploy.files import log_line
from deploy.notify import notify
from deploy.repair import repair_production
from deploy.root import CONFIG_FILE, EXIT_CODES, Root, RunActiveError, failure
from deploy.tracking import tracker
from pipeline.config import Config, dump_config
from schemas.corrections import with_corrections
from schemas.errors import BadInput
from schemas.json_records import to_json
from schemas.run_end import RunEnd, read_summary_file
from schemas.words import and_more

if TYPE_CHECKING:
    from schemas.summary import Summary

LOG_FILE = "retrain.jsonl"
# A refusal is not a fault. Several in a row need a person, and so does a version that cannot be repaired.
ALERT_CODE = 4
# Bytes kept free for the line that says how the call ended.
_ROOM_FOR_THE_LINE = 65_536
_SKIPPED, _STOPPED, _NOT_PUSHED, _FAILED, _RESTORED = "skipped", "stopped", "not_pushed", "failed", "restored"


@dataclass(frozen=True)
class RetrainResult:
    """How a call of `retrain` ended."""

    status: str
    """As in `summary.json`. `skipped` also if nothing ran; `restored`: nothing ran, but production was restored from an
    intact copy."""
    reason: str
    exit_code: int
    alert: str = ""
    """A message for the person on call; empty: nothing is wrong."""
    summary: Summary | None = None
    folder: Path | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What `warmstart retrain --json` prints."""
        told = {key: getattr(self, key) for key in ("status", "reason", "exit_code", "alert", "notes")}
        summary = {**to_json(self.summary), "alert": self.alert or None} if self.summary else None
        return {**told, "summary": summary}


def retrain(config: Config, root: Root, display: local.Display) -> RetrainResult:
    """Runs the pipeline if there is new data to train on; safe to call at any time.

    First it checks that the version that was pushed last is in production, and restores it if it is not. However the
    call ends, it adds a line to the log of the root, writes a page and notifies whoever is configured.

    Raises:
      BadInput: the configuration, the data or the root are wrong. Every other end is in the result.
    """
    try:
        check_places(config, root)
        root.prepare(config.name)
        root.refuse_local_run()
    except BadInput as error:  # the root belongs to another pipeline; nothing is written there
        raise _told(config, root, None, error) from None
    room = None
    try:
        if root.is_active():
            done = RetrainResult(_SKIPPED, f"another run is active in {root.folder}", 0)
        else:
            with contextlib.suppress(OSError):  # the disk is full already: the call says so
                room = local.Reserve(root.folder, _ROOM_FOR_THE_LINE)
            done = _look_and_run(config, root, display)
    except BadInput as error:
        summary = _write_report(config, root, _STOPPED, str(error))
        _log(root, RetrainResult(_STOPPED, str(error), EXIT_CODES[_STOPPED], summary=summary), room)
        raise _told(config, root, summary, error) from None
    except Exception as error:  # whatever it is, somebody must hear of it
        traceback.print_exc()
        done = _failed(config, root, failure(error, root))
    problem = _log(root, done, room)
    return replace(done, notes=(*done.notes, problem)) if problem else done


def _look_and_run(config: Config, root: Root, display: local.Display) -> RetrainResult:
    repaired = repair_production(root)
    # The person on call has not heard of them: a killed run notifies nobody.
    killed = [folder.name for folder in root.runs_without_summary(except_for="")]
    why_not = _nothing_to_do(config, root)
    if not why_not:
        said = [repaired.text] if repaired else []
        said += [f"{and_more(killed, 3)} {'was' if len(killed) == 1 else 'were'} killed"] if killed else []
        done = _run(config, root, display, said)
        damaged = repaired is not None and not repaired.done
        return replace(done, exit_code=done.exit_code or ALERT_CODE) if damaged else done
    if repaired is None:
        return RetrainResult(_SKIPPED, why_not, 0)
    status = _RESTORED if repaired.done else _FAILED
    reason = f"{repaired.text}; {why_not}"
    alert = f"{config.name}: {repaired.text}"
    notes = (tracker.follow_production(root), _notify(config, root, None, status, reason, alert))
    code = EXIT_CODES[status] if repaired.done else ALERT_CODE
    return RetrainResult(status, reason, code, alert, notes=tuple(note for note in notes if note))


def _failed(config: Config, root: Root, reason: str) -> RetrainResult:
    summary = _write_report(config, root, _FAILED, reason)
    alert = f"{config.name}: retrain failed: {reason}"
    note = _notify(config, root, summary, _FAILED, reason, alert)
    return RetrainResult(_FAILED, reason, EXIT_CODES[_FAILED], alert, notes=(note,) if note else ())


def _told(config: Config, root: Root, summary: Summary | None, error: BadInput) -> BadInput:
    """Notifies of an error and returns it, with a sentence added if the notifier failed."""
    alert = f"{config.name}: retrain was stopped: {error}"
    problem = _notify(config, root, summary, _STOPPED, str(error), alert)
    return BadInput(f"{error}; {problem}") if problem else error


def _notify(config: Config, root: Root, summary: Summary | None, status: str, reason: str, alert: str) -> str | None:
    """Notifies of a call, with its summary if there is one; returns what went wrong with that."""
    if summary is None:
        content = {"run_id": None, "status": status, "reason": reason, "alert": alert}
        return notify(config.notify, content, root.reports)
    return notify(config.notify, {**to_json(summary), "alert": alert}, root.reports / summary.run_id)


def _write_report(config: Config, root: Root, status: str, reason: str) -> Summary | None:
    summary = None
    try:
        run_id = root.new_run_id()
        folder = root.reports / run_id
        folder.mkdir()
        (folder / CONFIG_FILE).write_text(dump_config(config), encoding="utf-8")
        from deploy import run_summary

        ended = run_summary.Run(run_id, root, config, before=root.production_version())
        summary = run_summary.summarise(ended, status, reason)
        run_summary.write_results(summary, folder)
    except Exception:  # the disk is full, say: the reason itself is what counts
        traceback.print_exc()
    return summary


def _nothing_to_do(config: Config, root: Root) -> str:
    """Why there is nothing to train on; empty: there is.

    Raises:
      BadInput: the data folders are wrong, or ML Metadata is damaged.
    """
    now, waiting = _data_now(config)
    metadata_file.refuse_damaged(root.metadata)
    if not root.metadata.exists():
        return ""
    from deploy.metadata_address import connect
    from pipeline.run_record import has_pushed, last_trained

    store = connect(root.metadata_address)
    if last_trained(store, config.name) != now:
        return ""
    if root.production_version() is None and has_pushed(store, config.name):
        return ""  # the pushed version and its manifest are lost: a run pushes it again
    what = "spans" if config.data.window is not None else "photos"
    return f"nothing is new: the model has already been trained on these {what}" + "".join(
        f"; {one.folder} is not read yet: it {one.reason}" for one in waiting
    )


def _data_now(config: Config) -> tuple[list[str], tuple[UnfinishedFolder, ...]]:
    """What a run would train on, in the form of `last_trained`, and newer spans that are not complete yet.

    Raises:
      BadInput: the data folders are wrong.
    """
    data, corrected = config.data, corrections.fingerprint(config)
    if data.window is not None:
        window, further, found = find_window(config)
        return planned(window, further, data.success_file, corrected), found.unfinished
    span = spans.resolve_sources(resolve_tfds(config, data.sources), data.span, **data.completeness)
    return [with_corrections(spans.fingerprint(span, data.success_file), corrected)], span.passed_over


def _run(config: Config, root: Root, display: local.Display, said: list[str]) -> RetrainResult:
    """Runs the pipeline; `said` has what else the alert must mention."""
    try:
        result = local.run(config, root, display)
    except RunActiveError as error:  # it began a moment ago
        return RetrainResult(_SKIPPED, str(error), 0)
    summary = result.summary
    status, reason, code = summary.status, summary.reason, result.exit_code
    in_a_row = _refusals_in_a_row(root) if status == _NOT_PUSHED else 0
    if status in (_STOPPED, _FAILED):
        said = [*said, f"the run was {status}: {reason}"]
    elif in_a_row >= config.notify.alert_after_refusals:
        code = ALERT_CODE
        refused = f"{in_a_row} models in a row were refused, and production stays as it is; the last one: {reason}"
        said = [*said, refused]
    alert = f"{config.name}: {'; '.join(said)}" if said else ""
    told = notify(config.notify, {**to_json(summary), "alert": alert or None}, result.folder)
    notes = [note for note in (*result.notes, told, _clean(config, root)) if note]
    return RetrainResult(status, reason, code, alert, summary, result.folder, tuple(notes))


def _clean(config: Config, root: Root) -> str:
    """Removes files that are no longer needed; returns what went wrong, or an empty string."""
    from deploy.housekeeping import clean_root

    try:
        cleaned = clean_root(root, config.retention.days)
    except (BadInput, OSError) as error:
        return f"nothing was cleaned: {error}"
    what, problem = next(iter(cleaned.not_removed.items()), ("", ""))
    if not what:
        return ""
    failed, all_of_it = len(cleaned.not_removed), len(cleaned.removed)
    return f"{failed} of {all_of_it} could not be removed, first {what} ({problem})"


def _refusals_in_a_row(root: Root) -> int:
    """How many of the newest runs were refused by a gate; runs that did not reach one are not counted."""
    refused = 0
    for folder in sorted(root.reports.iterdir(), reverse=True):
        try:
            status = read_summary_file(RunEnd, folder).status
        except (OSError, ValueError):
            continue
        if status == _NOT_PUSHED:
            refused += 1
        elif status == "pushed":
            break
    return refused


def _log(root: Root, done: RetrainResult, room: local.Reserve | None) -> str:
    """Logs the call, so that nights in which nothing happened are on record too.

    Args:
      room: kept on the disk for the line, whatever the run and its page took; None: nothing was kept.

    Returns:
      what went wrong; empty: nothing.
    """
    line = {
        "status": done.status,
        "reason": done.reason,
        "exit_code": done.exit_code,
        "run_id": done.summary.run_id if done.summary else None,
    }
    if room:
        room.release()
    try:
        log_line(root.folder / LOG_FILE, line)
    except OSError as error:
        return f"{root.folder / LOG_FILE} cannot be written ({error.strerror})"
    return ""
