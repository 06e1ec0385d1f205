"""The command `warmstart clean`. Imports nothing slow until it is called."""

from __future__ import annotations

import click

from deploy import output
from schemas.errors import BadInput


@click.command(short_help="Removes artifacts, vectors and logs that nobody needs any more.")
@click.option("--root", metavar="DIR", help="The root folder.  [default: the only one below runs/]")
@click.option(
    "--days",
    type=click.IntRange(min=0),
    help="What nothing has used for so long goes.  [default: retention.days of the newest run]",
)
@click.option("--dry-run", is_flag=True, help="Shows what would be removed, and changes nothing.")
@click.option(
    "--metadata",
    default="",
    metavar="ADDRESS",
    help="ML Metadata of a root on Kubeflow: grpc://HOST:PORT, or mysql://.",
)
@click.option("--json", "as_json", is_flag=True, help="The same for programs.")
def clean(root: str | None, days: int | None, dry_run: bool, metadata: str, as_json: bool) -> None:
    """Removes what nobody needs any more: artifacts of old runs and spans, what failed steps left, vectors and logs.

    Kept, however old: what the next run goes on from, the models behind serving/ and the pinned versions with their
    verdicts, and of every run the summary, the page and the configuration. Versions in serving/ leave by
    serving.keep_versions. ML Metadata is told first, so that no cache entry points at nothing; what was removed is
    written to <root>/.removed.jsonl.

    \b
    Examples:
      warmstart clean --dry-run
      warmstart clean --dry-run --json
      warmstart clean --root runs/cats_vs_dogs --days 90
      warmstart clean --root /warmstart/runs/cats_vs_dogs --metadata grpc://metadata-grpc-service.kubeflow:8080
    """
    from deploy import housekeeping
    from deploy.root import find_root

    place = find_root(root)
    try:
        cleaned = housekeeping.clean_root(place, days, metadata, dry_run)
    except OSError as error:
        raise BadInput(
            f"the root folder {place.folder} cannot be cleaned ({error.strerror}: {error.filename}); call it as the "
            "user that runs the pipeline"
        ) from None
    if as_json:
        output.document(_for_programs(cleaned))
    else:
        click.echo(_for_people(cleaned))
    if cleaned.not_removed:
        what, problem = next(iter(cleaned.not_removed.items()))
        raise BadInput(
            f"{len(cleaned.not_removed)} of {len(cleaned.removed)} could not be removed, the first was {what} "
            f"({problem}); call it again as a user that may"
        )


def _for_programs(cleaned) -> dict:
    return {
        "dry_run": cleaned.dry_run,
        "days": cleaned.days,
        "removed": [{"what": one.what, "why": one.why, "bytes": one.bytes} for one in cleaned.removed],
        "bytes": cleaned.bytes,
        "not_removed": cleaned.not_removed,
        "left_alone": cleaned.left_alone,
    }


def _for_people(cleaned) -> str:
    from deploy.production import columns

    lines = []
    if cleaned.removed:
        rows = [[one.what, one.why, _size(one.bytes)] for one in cleaned.removed]
        lines += [*columns([["what", "why", "size"], *rows]), ""]
    lines += [f"{place}: artifacts there are left alone; clean them where they lie" for place in cleaned.left_alone]
    said = "would be removed" if cleaned.dry_run else "removed"
    if cleaned.removed:
        lines.append(f"{len(cleaned.removed)} {said}, {_size(cleaned.bytes)} on disk")
    else:
        lines.append(f"nothing to remove: what is there is needed, or was used less than {cleaned.days:g} days ago")
    return "\n".join(lines)


def _size(size: float) -> str:
    if size < 1000:
        return f"{size} B"
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} GB"
