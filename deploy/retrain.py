"""What a schedule calls every night: trains if there are new data, and otherwise says why not.

New are data that differ from those of the last run that came to a decision, as ML Metadata has it: a span more,
another version of one, one that was withdrawn, files that changed. A run that was stopped, failed or killed leaves its
data to be trained on, and the next call goes on where it ended. After a run, what nobody needs any more is removed.
"""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.example_gen import spans
from components.example_gen.spans import UnfinishedFolder
from deploy import local, metadata_file
from deploy.data_folders import check_places, resolve_tfds
from deploy.notify import notify
from deploy.repair import repair_production
from deploy.root import CONFIG_FILE, EXIT_CODES, Root, RunActiveError, failure
from deploy.window import find_window, planned
from pipeline.config import Config, dump_config
from schemas.errors import BadInput
from schemas.json_records import to_json
from schemas.run_end import RunEnd, read_summary_file
from schemas.words import and_more

if TYPE_CHECKING:
    from schemas.summary import Summary

LOG_FILE = "retrain.jsonl"
# A refusal is no fault; several in a row are somebody's business, and so is a version that is damaged for good.
ALERT_CODE = 4
_SKIPPED, _STOPPED, _NOT_PUSHED, _FAILED, _RESTORED = "skipped", "stopped", "not_pushed", "failed", "restored"


@dataclass(frozen=True)
class Retrained:
    """status, reason: as in `summary.json`; `skipped` also where nothing ran; `restored`: nothing ran, but a whole copy
    of production's content was put in its place. exit_code: of the command line. alert: a message for whoever is called
    when something is wrong; empty: nothing is. summary, folder: of the run; None: none ran. notes: what else is to be
    said, such as a notifier that failed.
    """

    status: str
    reason: str
    exit_code: int
    alert: str = ""
    summary: Summary | None = None
    folder: Path | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What `warmstart retrain --json` prints."""
        told = {key: getattr(self, key) for key in ("status", "reason", "exit_code", "alert", "notes")}
        summary = {**to_json(self.summary), "alert": self.alert or None} if self.summary else None
        return {**told, "summary": summary}


def retrain(config: Config, root: Root, display: local.Display) -> Retrained:
    """Runs the pipeline if there is something new to train on; safe to call from anywhere at any time.

    First it looks whether production reads what was pushed, and puts a whole copy in its place where it does not.
    However the call ends, there is a line in the log of the root, a page, and whoever is to be told is told.

    Raises:
      BadInput: the configuration, the data or the root are wrong. Everything else is in what is returned.
    """
    try:
        check_places(config, root)
        root.prepare(config.name)
        root.refuse_local_run()
    except BadInput as error:  # the root is another's; nothing is noted down there
        raise _told(config, root, None, error) from None
    try:
        if root.is_active():
            done = Retrained(_SKIPPED, f"another run is active on {root.folder}", 0)
        else:
            done = _look_and_run(config, root, display)
    except BadInput as error:
        summary = _write_report(config, root, _STOPPED, str(error))
        _log(root, Retrained(_STOPPED, str(error), EXIT_CODES[_STOPPED], summary=summary))
        raise _told(config, root, summary, error) from None
    except Exception as error:  # whatever it is, somebody has to hear of it
        traceback.print_exc()
        done = _failed(config, root, failure(error, root))
    problem = _log(root, done)
    return replace(done, notes=(*done.notes, problem)) if problem else done


def _look_and_run(config: Config, root: Root, display: local.Display) -> Retrained:
    repaired = repair_production(root)
    # Whoever is on call has not heard of them: they could tell nobody.
    killed = [folder.name for folder in root.runs_without_summary(except_for="")]
    why_not = _nothing_to_do(config, root)
    if not why_not:
        said = [repaired.text] if repaired else []
        said += [f"{and_more(killed, 3)} {'was' if len(killed) == 1 else 'were'} killed"] if killed else []
        done = _run(config, root, display, said)
        damaged = repaired is not None and not repaired.done
        return replace(done, exit_code=done.exit_code or ALERT_CODE) if damaged else done
    if repaired is None:
        return Retrained(_SKIPPED, why_not, 0)
    status = _RESTORED if repaired.done else _FAILED
    reason = f"{repaired.text}; {why_not}"
    alert = f"{config.name}: {repaired.text}"
    note = _notify(config, root, None, status, reason, alert)
    code = EXIT_CODES[status] if repaired.done else ALERT_CODE
    return Retrained(status, reason, code, alert, notes=(note,) if note else ())


def _failed(config: Config, root: Root, reason: str) -> Retrained:
    """An end that no run could write down."""
    summary = _write_report(config, root, _FAILED, reason)
    alert = f"{config.name}: retrain failed: {reason}"
    note = _notify(config, root, summary, _FAILED, reason, alert)
    return Retrained(_FAILED, reason, EXIT_CODES[_FAILED], alert, notes=(note,) if note else ())


def _told(config: Config, root: Root, summary: Summary | None, error: BadInput) -> BadInput:
    """The error, of which the notifier was told; it says so if that went wrong."""
    alert = f"{config.name}: retrain was stopped: {error}"
    problem = _notify(config, root, summary, _STOPPED, str(error), alert)
    return BadInput(f"{error}; {problem}") if problem else error


def _notify(config: Config, root: Root, summary: Summary | None, status: str, reason: str, alert: str) -> str | None:
    """Tells whoever is to be told of a call, with its summary if there is one; what went wrong with that."""
    if summary is None:
        content = {"run_id": None, "status": status, "reason": reason, "alert": alert}
        return notify(config.notify, content, root.reports)
    return notify(config.notify, {**to_json(summary), "alert": alert}, root.reports / summary.run_id)


def _write_report(config: Config, root: Root, status: str, reason: str) -> Summary | None:
    """The summary of a call that ended before a run began, and its page, as far as they can be written."""
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
    """Why there is nothing to train on, or an empty string.

    Raises:
      BadInput: the data folders are wrong, or ML Metadata is damaged.
    """
    now, waiting = _data_now(config)
    metadata_file.refuse_damaged(root.metadata)
    if not root.metadata.exists():
        return ""
    from deploy.metadata_address import connect
    from pipeline.last_trained import has_pushed, last_trained

    store = connect(f"sqlite://{root.metadata}")
    if last_trained(store, config.name) != now:
        return ""
    if root.production_version() is None and has_pushed(store, config.name):
        return ""  # what was pushed is lost, and everything that is known of it: a run pushes it again
    what = "spans" if config.data.window is not None else "photos"
    return f"nothing is new: these {what} were trained on already" + "".join(
        f"; {one.folder} is not read yet: it {one.reason}" for one in waiting
    )


def _data_now(config: Config) -> tuple[list[str], tuple[UnfinishedFolder, ...]]:
    """What would be trained on, as `last_trained` says it; and what is newer, but not complete.

    Raises:
      BadInput: the data folders are wrong.
    """
    data = config.data
    if data.window is not None:
        window, further, found = find_window(config)
        return planned(window, further, data.success_file), found.unfinished
    span = spans.resolve_sources(resolve_tfds(config, data.sources), data.span, **data.completeness)
    return [spans.fingerprint(span, data.success_file)], span.passed_over


def _run(config: Config, root: Root, display: local.Display, said: list[str]) -> Retrained:
    """Runs the pipeline; `said`: what whoever is on call is to hear besides."""
    try:
        result = local.run(config, root, display)
    except RunActiveError as error:  # it began a moment ago
        return Retrained(_SKIPPED, str(error), 0)
    summary = result.summary
    status, reason, code = summary.status, summary.reason, result.exit_code
    in_a_row = _refusals_in_a_row(root) if status == _NOT_PUSHED else 0
    if status in (_STOPPED, _FAILED):
        said = [*said, f"the run was {status}: {reason}"]
    elif in_a_row >= config.notify.alert_after_refusals:
        code = ALERT_CODE
        refused = f"{in_a_row} models in a row were refused, production stays as it is; the last: {reason}"
        said = [*said, refused]
    alert = f"{config.name}: {'; '.join(said)}" if said else ""
    told = notify(config.notify, {**to_json(summary), "alert": alert or None}, result.folder)
    notes = [note for note in (told, _clean(config, root)) if note]
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
            status = read_summary_file(RunEnd, folder).status
        except (OSError, ValueError):
            continue
        if status == _NOT_PUSHED:
            refused += 1
        elif status == "pushed":
            break
    return refused


def _log(root: Root, done: Retrained) -> str:
    """A line for every call, so that the nights in which nothing happened are accounted for too; what went wrong with
    it, or an empty string.
    """
    line = {
        "at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "status": done.status,
        "reason": done.reason,
        "exit_code": done.exit_code,
        "run_id": done.summary.run_id if done.summary else None,
    }
    try:
        with (root.folder / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    except OSError as error:
        return f"no line was added to {root.folder / LOG_FILE} ({error.strerror})"
    return ""
