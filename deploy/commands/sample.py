"""The command `warmstart sample`."""

from __future__ import annotations

from pathlib import Path

import click

from deploy import output
from deploy.commands.options import json_option
from samples.sample_photos import write_sample_photos
from schemas.errors import BadInput


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--photos", default=480, show_default=True, help="Photos for cats_vs_dogs; Oxford gets half as many.")
@click.option("--seed", default=7, show_default=True, help="The same seed draws the same photos.")
@json_option
def sample(folder: Path, photos: int, seed: int, as_json: bool) -> None:
    """Draw sample photos of cats and dogs, in the layouts of Cats vs Dogs and of Oxford-IIIT Pets.

    A few files are odd or broken, in the ways real ones are.

    \b
    Examples:
      warmstart sample sample
      warmstart run sample/cats_vs_dogs
    """

    def show(done: int, total: int) -> None:
        output.counter(total, "photos drawn")(done)

    try:
        summary = write_sample_photos(folder, photos=photos, seed=seed, on_progress=show)
    except FileExistsError as error:
        raise BadInput(str(error)) from None
    except OSError as error:
        raise BadInput(f"{folder} cannot be written ({error.strerror}); choose another folder") from None
    drawn = {
        "cats_vs_dogs": (summary.cats_vs_dogs_photos, "photos in cat/ and dog/"),
        "oxford_iiit_pet": (summary.oxford_iiit_pet_photos, "photos of 6 breeds, with trimaps"),
    }
    odd = len(summary.odd_files) + len(summary.broken_files)
    if as_json:
        datasets = {name: {"folder": str(folder / name), "photos": count} for name, (count, _) in drawn.items()}
        output.document({**datasets, "odd_or_broken_files": odd})
        return
    for name, (count, what) in drawn.items():
        click.echo(f"{folder / name}: {count} {what}")
    click.echo(f"and {odd} files that are odd or broken in the ways real ones are")
