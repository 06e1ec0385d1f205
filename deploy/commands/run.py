"""The command `warmstart run`."""

from __future__ import annotations

import sys

import click

from deploy import local, output
from deploy.commands.options import config_options, required_folder_argument
from deploy.commands.session import begin
from deploy.session import forced
from schemas.json_records import to_json


@click.command()
@config_options
@click.option("--from", "from_node", metavar="STEP", help="Start at this step and take over earlier results.")
@click.option("--to", "to_node", metavar="STEP", help="Stop after this step.")
@click.option(
    "--force-push",
    metavar="REASON",
    help="Push even if ReleaseGate refuses (floors, comparison with production) or production was rolled back from "
    "this model. Never overrides DataGate or ServableCheck. The reason is recorded.",
)
@click.option("--json", "as_json", is_flag=True, help="Print summary.json instead of words; progress goes to stderr.")
@required_folder_argument
def run(
    config_name: str | None,
    data: tuple[str, ...],
    root: str | None,
    overrides: tuple[str, ...],
    from_node: str | None,
    to_node: str | None,
    force_push: str | None,
    as_json: bool,
    folder: str | None,
) -> None:
    """Train a classifier on the photos in DIR, and push it if it passes every gate.

    DIR holds one folder for each class, or any layout that `warmstart inspect DIR` understands. Known data sets are
    recognised: Cats vs Dogs (cat/ and dog/, or cat.0.jpg ...) and Oxford-IIIT Pets (images/ and annotations/).
    Finished steps are not run again, and the same command resumes a run that was killed.

    \b
    Examples:
      warmstart run photos
      warmstart run photos --set image.size=224
      warmstart run photos --set training.fine_tuning.strategy=auto
      warmstart run photos --set training.augmentation.mode=views
      warmstart run photos --from Evaluator
      warmstart run "photos/span-{SPAN}"
      warmstart run tfds:oxford_iiit_pet
      warmstart run --config pets.yaml --data photos
      warmstart run --config species --data cats_vs_dogs=A --data oxford_iiit_pet=B
      warmstart run photos --force-push "new camera: the old test photos are of no use"
      warmstart --quiet run photos --json

    Known configurations: image_folder, image_masks, cats_vs_dogs, oxford_iiit_pet, oxford_iiit_pet_masks, species.
    """
    reason = forced(force_push)
    session = begin(folder, config_name, data, root, overrides, as_json)
    result = local.run(session.config, session.root, session.display, from_node, to_node, reason)
    if as_json:
        output.document(to_json(result.summary))
    else:
        session.display.closing(result.summary, result.folder)
    for note in result.notes:
        click.echo(f"note: {note}", err=True)
    sys.exit(result.exit_code)
