"""The command `warmstart report`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from components.report.comparison_page import write_comparison
from components.report.page import PAGE_FILE, write_page
from deploy import output
from deploy.commands.options import json_option, root_option
from deploy.root import CONFIG_FILE, SUMMARY_FILE, Root, find_root, shown
from schemas.errors import BadInput
from schemas.json_records import from_json
from schemas.summary import Summary
from schemas.words import on_one_line


@click.command()
@click.argument("run", metavar="[RUN]", required=False)
@root_option
@click.option("--compare", nargs=2, metavar="RUN RUN", help="Write a page that shows two runs side by side.")
@click.option("--no-open", is_flag=True, help="Only print the path.")
@json_option
def report(run: str | None, root: str | None, compare: tuple[str, str] | None, no_open: bool, as_json: bool) -> None:
    """Print the path of a run's page, and open it on a desktop.

    RUN is the name of its folder below ROOT/reports, or the beginning of it if no other run starts the same. The
    default is the newest run. A lost page is written again from the run's summary.json, without photos and curves.

    \b
    Examples:
      warmstart report
      warmstart report 2026-11-25T13-22
      warmstart report --root runs/cats_vs_dogs --no-open
      warmstart report --compare 2026-11-25T13-22 2026-11-26
    """
    if run is not None and compare is not None:
        raise BadInput(
            f"the run {run!r} was given in addition to --compare; expected either one run, or two after --compare"
        )
    place = find_root(root)
    folders = [find_run(place, name) for name in compare or (run,)]
    if compare is not None:
        # The name of the page is made of these.
        first, second = (replace(read_summary(folder), run_id=folder.name) for folder in folders)
        page = _written(place, lambda: write_comparison(first, second, place.reports))
    else:
        (folder,) = folders
        page = folder / PAGE_FILE
        if not page.is_file():
            summary = read_summary(folder)
            page = _written(place, lambda: write_page(summary, folder))
    if as_json:
        output.document({"page": shown(page), "runs": [folder.name for folder in folders]})
    else:
        open_page(page, not no_open)


def find_run(root: Root, name: str | None) -> Path:
    """The folder of a run.

    Args:
      name: of the run, or its beginning; None: the newest run.

    Raises:
      BadInput: there is none, or the names of several start with `name`.
    """
    began = {
        folder.name: min(file.stat().st_mtime for file in files)
        for folder in (root.reports.iterdir() if root.reports.is_dir() else ())
        if (files := [folder / file for file in (CONFIG_FILE, SUMMARY_FILE) if (folder / file).is_file()])
    }
    if not began:
        raise BadInput(f"there are no runs in {shown(root.reports)} yet; start one with `warmstart run`")
    newest_first = sorted(began, key=lambda run: (began[run], run), reverse=True)
    if name is None:
        return root.reports / newest_first[0]
    if name in began:
        return root.reports / name
    fitting = [run for run in newest_first if name and run.startswith(name)]
    if len(fitting) != 1:
        what = f"{len(fitting)} runs in {shown(root.reports)} start with {name!r}" if fitting else None
        known = ", ".join((fitting or newest_first)[:5])
        raise BadInput(f"{what or f'there is no run {name!r} in {shown(root.reports)}'}; choose one, such as {known}")
    return root.reports / fitting[0]


def read_summary(folder: Path) -> Summary:
    """The summary of a run.

    Raises:
      BadInput: it has no `summary.json`, or one that cannot be read.
    """
    file = folder / SUMMARY_FILE
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(
            f"the run {folder.name} has no {shown(file)}: it is still running, or it was killed and the next run will "
            "write it; choose another run"
        ) from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{shown(file)} cannot be read ({on_one_line(error, most=None)}); choose another run") from None
    if not isinstance(found, dict) or "schema_version" not in found:
        raise BadInput(f"{shown(file)} is not the summary of a run (it has no schema_version); choose another run")
    try:
        return from_json(Summary, found)
    except ValueError as error:
        raise BadInput(f"{shown(file)} was written by another version ({error}); choose another run") from None


def open_page(page: Path, opens: bool = True) -> None:
    """Prints the path of a page, and opens it on a desktop."""
    click.echo(shown(page))
    if opens and _on_a_desktop():
        click.launch(page.as_uri())


def _on_a_desktop() -> bool:
    screen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(screen) and sys.stdout.isatty()


def _written(root: Root, write: Callable[[], Path]) -> Path:
    try:
        return write()
    except OSError as error:
        raise BadInput(f"{root.reports} cannot be written ({error.strerror}); change its permissions") from None
