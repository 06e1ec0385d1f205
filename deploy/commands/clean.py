"""The command `warmstart clean`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from deploy import output
from deploy.commands.options import json_option, root_option
from deploy.production import columns
from deploy.root import find_root
from schemas.errors import BadInput

if TYPE_CHECKING:
    from deploy.housekeeping import CleaningResult


@click.command()
@root_option
@click.option(
    "--days",
    type=click.IntRange(min=0),
    metavar="DAYS",
    help="Remove what has not been used for this many days.  [default: retention.days of the newest run]",
)
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and change nothing.")
@click.option(
    "--metadata",
    default="",
    metavar="ADDRESS",
    help="ML Metadata of a root on Kubeflow: grpc://HOST:PORT or mysql://...",
)
@json_option
def clean(root: str | None, days: int | None, dry_run: bool, metadata: str, as_json: bool) -> None:
    """Remove what is no longer needed: artifacts of old runs and spans, leftovers of failed steps, vectors and logs.

    Some things are kept however old they are: what the next run starts from, the models behind serving/, the pinned
    versions and their verdicts, and the summary, page and configuration of every run. How many versions stay in
    serving/ is decided by serving.keep_versions. ML Metadata is updated first, so that no cache entry points at a
    missing file. What was removed is recorded in ROOT/.removed.jsonl.

    \b
    Examples:
      warmstart clean --dry-run
      warmstart clean --dry-run --json
      warmstart clean --root runs/cats_vs_dogs --days 90
      warmstart clean --root /warmstart/runs/cats_vs_dogs --metadata grpc://warmstart-metadata:8080
    """
    from deploy import housekeeping  # it imports ML Metadata

    place = find_root(root)
    try:
        cleaned = housekeeping.clean_root(place, days, metadata, dry_run)
    except OSError as error:
        raise BadInput(
            f"the root folder {place.folder} cannot be cleaned ({error.strerror}: {error.filename}); run this as the "
            "user that runs the pipeline"
        ) from None
    if as_json:
        output.document(_for_programs(cleaned))
    else:
        click.echo(_for_people(cleaned))
    if cleaned.not_removed:
        what, problem = next(iter(cleaned.not_removed.items()))
        raise BadInput(
            f"{len(cleaned.not_removed)} of {len(cleaned.removed)} could not be removed, first {what} ({problem}); run "
            "this again as a user who is allowed to"
        )


def _for_programs(cleaned: CleaningResult) -> dict[str, Any]:
    return {
        "dry_run": cleaned.dry_run,
        "days": cleaned.days,
        "removed": [{"what": one.what, "why": one.why, "bytes": one.bytes} for one in cleaned.removed],
        "bytes": cleaned.bytes,
        "not_removed": cleaned.not_removed,
        "left_alone": cleaned.left_alone,
    }


def _for_people(cleaned: CleaningResult) -> str:
    lines = []
    if cleaned.removed:
        rows = [[one.what, one.why, _size(one.bytes)] for one in cleaned.removed]
        lines += [*columns([["what", "why", "size"], *rows]), ""]
    lines += [f"{place}: artifacts there are left alone; clean them there" for place in cleaned.left_alone]
    said = "would be removed" if cleaned.dry_run else "removed"
    if cleaned.removed:
        lines.append(f"{len(cleaned.removed)} {said}, {_size(cleaned.bytes)} on disk")
    else:
        lines.append(f"nothing to remove: everything is needed, or was used less than {cleaned.days:g} days ago")
    return "\n".join(lines)


def _size(size: float) -> str:
    if size < 1000:
        return f"{size} B"
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} GB"
