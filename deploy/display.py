"""What a person sees of a run: a line a step, progress inside long steps, and the closing tables."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table

from deploy.output import Loudness, colours
from deploy.root import shown
from schemas.words import and_more, spelled

if TYPE_CHECKING:
    from schemas.release import Interval
    from schemas.summary import DataSummary, ModelSummary, Summary, TrainingSummary, WindowSummary

# State of a step -> what is written of it, and its colour.
_WORDS = {
    "complete": ("done", "green"),
    "cached": ("cached", "cyan"),
    "skipped": ("skipped", "cyan"),
    "failed": ("failed", "red"),
    "stopped": ("stopped", "yellow"),
}
# A file or a log gets a line of progress this often, a terminal ten times a second.
_LINE_EVERY_SECONDS = 15.0
# Of what is written to no terminal: no table is cut off, and no line broken.
_WIDTH_OF_A_FILE = 200
# Classes of the pixels that are listed, and of those that are not counted.
_MOST_CLASSES, _MOST_IGNORED = 8, 3


def make_console(stream: TextIO) -> Console:
    """Writes text with rich's marks: in colour where colours may be, and no sign of control to anything but a terminal.

    rich alone would write them to files too, where FORCE_COLOR or TTY_COMPATIBLE is set, and pictures into a notebook.
    """
    terminal = stream.isatty()
    return Console(
        file=stream,
        highlight=False,
        soft_wrap=not terminal,
        width=None if terminal else _WIDTH_OF_A_FILE,
        force_terminal=terminal,
        force_jupyter=False,
        color_system="auto" if colours(stream) else None,
    )


class ConsoleDisplay:
    """Writes to one stream. On a terminal the current step is shown live; a file gets a line a step, and one now and
    then inside a long one.
    """

    def __init__(self, stream: TextIO, loudness: Loudness = "normal"):
        """
        Args:
          loudness: `quiet`: only how the run ended; `verbose`: nothing is shown live, since the libraries' log comes
            between the lines.
        """
        self.console = make_console(stream)
        self._quiet = loudness == "quiet"
        self._live = loudness == "normal" and self.console.is_terminal and not self.console.is_dumb_terminal
        self._status: Live | None = None
        self._spinner = Spinner("dots")
        self._node, self._detail = "", ""
        self._last_line = 0.0

    def heading(self, version: str, name: str) -> None:
        """What is run."""
        if not self._quiet:
            self.console.print(f"[bold]warmstart[/] {version}  {escape(name)}")

    def node_started(self, node_id: str) -> None:
        self._node, self._detail, self._last_line = node_id, "", time.monotonic()
        if self._live:
            self._spinner = Spinner("dots", escape(node_id))
            # What libraries print belongs in the log, and rich would show it here.
            self._status = Live(
                self._spinner, console=self.console, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._status.start()

    def node_progress(self, what: str, done: int, total: int) -> None:
        of = f" of {total}" if total else ""
        self._detail = f"{done}{of} {what}"
        if self._status:
            self._spinner.update(text=escape(f"{self._node}: {self._detail}"))
        elif not self._quiet and time.monotonic() - self._last_line > _LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            self.console.print(escape(f"  {self._node:<28} {self._detail} ..."))

    def note(self, text: str) -> None:
        """A sentence between the steps."""
        if not self._quiet:
            self.console.print(escape(f"  {text}"))

    def node_ended(self, node_id: str, state: str, seconds: float) -> None:
        self._stop_live()
        if self._quiet:
            return
        detail = f"  {self._detail}" if self._detail and state == "complete" else ""
        word, colour = _WORDS.get(state, (state, "default"))
        mark = f"[{colour}]{word}[/]{' ' * (7 - len(word))}"
        self.console.print(f"  {escape(node_id):<28} {mark} {seconds:6.1f} s{escape(detail)}")

    def _stop_live(self) -> None:
        if self._status:
            self._status.stop()
            self._status = None

    def closing(self, summary: Summary, folder: Path) -> None:
        """The run in a screenful: photos, models, verdict, and where the model lies."""
        self._stop_live()  # the start itself may have failed
        if not self._quiet:
            self._results(summary)
        self.status(summary.status, summary.reason)
        out = self.console
        if version := summary.production.after:
            out.print(f"[bold]model[/]    {escape(shown(Path(summary.production.folder, version)))}")
        out.print(f"[bold]report[/]   {escape(shown(folder / 'index.html'))}")
        out.print(f"[bold]summary[/]  {escape(shown(folder / 'summary.json'))}  ({summary.duration_seconds:.0f} s)")
        if summary.status == "failed":
            out.print(f"[bold]log[/]      {escape(shown(folder / 'run.log'))}")
        for step in () if self._quiet else summary.next_steps:
            out.print(f"[bold]next[/]     {escape(step.action)}")
            out.print(f"         {escape(step.reason)}")

    def _results(self, summary: Summary) -> None:
        out = self.console
        out.print()
        if data := summary.data:
            out.print(f"[bold]photos[/]   {_photos(data)}")
        if summary.vectors and (dropped := summary.vectors.dropped_as_damaged):
            out.print(f"         {dropped} stored vectors were damaged; they were dropped and computed anew")
        if window := summary.window:
            out.print(f"[bold]window[/]   {escape(_window(window))}")
        for counts in (data, window.data if window else None):
            for note in counts.notes if counts else ():
                out.print(f"         {escape(note)}")
        if (drift := summary.drift) and drift.action != "go":
            out.print(f"[bold]drift[/]    {escape(drift.text)}")
        if models := summary.models:
            out.print()
            of_all = window.data if window and window.data else data
            out.print(_models_table(models, summary.winner, of_all.ignored_classes if of_all else None))
            if classes := _classes(models, summary.winner):
                out.print(f"[bold]classes[/]  {escape(classes)}")
            if training := models["fine_tuned"].training:
                out.print(f"[bold]tuning[/]   {escape(_fine_tuning(training))}")
        if further := summary.further:
            out.print(f"[bold]further[/]  {escape(_further(further.models, summary.winner))}")
        verdicts = {"verdict": summary.verdict, "release": summary.release, "servable": summary.servable}
        for name, verdict in verdicts.items():
            if verdict:
                out.print(f"[bold]{name:<8}[/] {escape(verdict.text)}")

    def status(self, status: str, reason: str) -> None:
        """The one line that everybody reads."""
        colour = {"pushed": "green", "restored": "green", "skipped": "cyan", "not_pushed": "yellow"}.get(status, "red")
        self.console.print(f"[bold]status: [{colour}]{status}[/][/]  {escape(reason)}")


def _photos(data: DataSummary) -> str:
    accepted = ", ".join(f"{count} {split}" for split, count in data.accepted.items())
    rejected = sum(data.rejected.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in data.rejected.items())
    formats = ", ".join(f"{count} {image_format}" for image_format, count in data.converted.items())
    return (
        f"{sum(data.accepted.values())} accepted ({accepted}), "
        + (f"{sum(data.converted.values())} converted ({formats}), " if data.converted else "")
        + f"{rejected} rejected"
        + (f" ({reasons})" if rejected else "")
    )


def _window(window: WindowSummary) -> str:
    left_out = "".join(f"; span {span} is left out: {reason}" for span, reason in window.left_out.items())
    photos = f": {_photos(window.data)}" if window.data else ""
    return f"spans {', '.join(window.spans)}{photos}{left_out}"


def _fine_tuning(training: TrainingSummary) -> str:
    """What was trained in phase two, and where it started; the page has the details."""
    reason = f": {training.strategy_reason}" if training.strategy_reason else ""
    text = f"{training.trainable_parameters:,} parameters (strategy {spelled(training.strategy or '')}{reason})"
    return text + (f", starting from {training.warm_start.source}" if training.warm_start else "")


def _further(models: dict[str, ModelSummary], winner: str | None) -> str:
    name = winner or next(iter(models))
    datasets = models[name].slices["dataset"].items()
    reached = (f"{100 * part.score.value:.1f}% on {part.examples} photos of {d}" for d, part in datasets)
    return f"{spelled(name)}: accuracy {', '.join(reached)}"


def _models_table(models: dict[str, ModelSummary], winner: str | None, ignored: list[str] | None) -> Table:
    first = next(iter(models.values()))
    title = f"the models on {first.examples} test photos"
    names = ["accuracy", "log loss", "calibration"]
    if first.mean_iou:
        without = f" without {and_more(ignored, _MOST_IGNORED)}" if ignored else ""
        title += f", the mean IoU over {len(first.per_class)} classes{escape(without)}"
        names = ["mean IoU", "pixel accuracy", "log loss", "calibration"]
    table = Table(box=None, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in ("model", *names, "epoch", ""):
        table.add_column(column, no_wrap=True)
    for name, model in models.items():
        training = model.training
        table.add_row(
            spelled(name),
            _share(model.score),
            *([_share(model.accuracy)] if model.mean_iou else []),
            f"{model.loss.value:.3f}" if model.loss else "",
            f"{model.calibration_error.value:.3f}" if model.calibration_error else "",
            f"{training.best_epoch} of {training.epochs}" if training else "",
            "wins" if name == winner else "",
        )
    return table


def _share(measured: Interval) -> str:
    return f"{100 * measured.value:.1f}% ({100 * measured.low:.1f} to {100 * measured.high:.1f})"


def _classes(models: dict[str, ModelSummary], winner: str | None) -> str:
    """The IoU of each class with the winner, the lowest first; empty where whole photos are classified."""
    name = winner or next(iter(models))
    known = {label: found.iou.value for label, found in models[name].per_class.items() if found.iou}
    shown = [f"{label} {100 * known[label]:.1f}%" for label in sorted(known, key=lambda label: known[label])]
    return f"IoU of {spelled(name)}: {and_more(shown, _MOST_CLASSES)}" if shown else ""
