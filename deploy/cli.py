"""The command `warmstart`. Imports nothing slow until a command needs it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from schemas.errors import BadInput

VERSION = "0.1.0"


class _Commands(click.Group):
    """Shows a user's error as one sentence, without a traceback."""

    def invoke(self, ctx: click.Context):
        try:
            return super().invoke(ctx)
        except BadInput as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, package_name="warmstart")
def main() -> None:
    """From folders of labelled photos to a model in production that is better than the last one, or a refusal with
    a reason.

    \b
    Try it on drawn photos:
      warmstart sample sample
      warmstart run --config cats_vs_dogs --data sample/cats_vs_dogs

    \b
    Exit codes:
      0  pushed, or nothing to do
      1  a step failed
      2  the input is wrong: configuration, paths, or data refused at the gate
      3  the run finished and pushed nothing, by verdict
    """


@main.command()
@click.option(
    "--config", "config_name", required=True, metavar="NAME|FILE", help="A known configuration or a YAML file."
)
@click.option(
    "--data", multiple=True, metavar="[DATASET=]DIR", help="Folder of photos; repeat it for several data sets."
)
@click.option("--root", metavar="DIR", help="Where everything is kept.  [default: runs/<configuration>]")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Overrides one key; may be repeated.")
@click.option("--from", "from_node", metavar="STEP", help="Runs from this step on; earlier results are taken over.")
@click.option("--to", "to_node", metavar="STEP", help="Runs up to this step.")
def run(config_name, data, root, overrides, from_node, to_node) -> None:
    """Runs the pipeline here, step by step; finished steps are never done twice.

    \b
    Examples:
      warmstart run --config cats_vs_dogs --data ~/photos/PetImages
      warmstart run --config oxford_iiit_pet --data tfds:oxford_iiit_pet
      warmstart run --config species --data cats_vs_dogs=A --data oxford_iiit_pet=B
      warmstart run --config image_folder --data ~/flowers --set image.size=224
      warmstart run --config cats_vs_dogs --data A --from Evaluator

    Known configurations: cats_vs_dogs, oxford_iiit_pet, species, image_folder. A killed run is taken up again by the
    same command.
    """
    from pipeline.config import load_config

    config = load_config(config_name, list(overrides), list(data))

    from deploy import local
    from deploy.display import ConsoleDisplay
    from deploy.root import Root

    display = ConsoleDisplay(local.terminal_stream())
    display.console.print(f"[bold]warmstart[/] {VERSION}  {config.name}")
    place = Root(root or Path("runs") / config.name)
    try:
        result = local.run(config, place, display, from_node, to_node)
    except OSError as error:  # the disk may be too full even for the summary
        click.echo(f"error: {local.failure(error, place)}", err=True)
        sys.exit(local.FAILED_CODE)
    display.closing(result.summary, result.folder)
    sys.exit(result.exit_code)


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--photos", default=480, show_default=True, help="Photos of cats_vs_dogs; Oxford gets half as many.")
@click.option("--seed", default=7, show_default=True, help="The same seed draws the same photos.")
def sample(folder: Path, photos: int, seed: int) -> None:
    """Draws sample photos of cats and dogs in both official layouts, a few files broken as real ones are.

    \b
    Example:
      warmstart sample sample
    """
    from schemas.sample_photos import write_sample_photos

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r{done} of {total} photos drawn", nl=done == total, err=True)

    try:
        summary = write_sample_photos(folder, photos=photos, seed=seed, on_progress=show)
    except FileExistsError as error:
        raise BadInput(str(error)) from None
    except OSError as error:
        raise BadInput(f"{folder} cannot be written ({error.strerror}); give another folder") from None
    odd = len(summary.odd_files) + len(summary.broken_files)
    click.echo(f"{folder / 'cats_vs_dogs'}: {summary.cats_vs_dogs_photos} photos in cat/ and dog/")
    click.echo(f"{folder / 'oxford_iiit_pet'}: {summary.oxford_iiit_pet_photos} photos of 6 breeds")
    click.echo(f"and {odd} files that are odd or broken in the ways real ones are")


@main.group()
def backbone() -> None:
    """Image feature vectors to build on."""


@backbone.command("list")
def backbone_list() -> None:
    """Lists the built-in backbones; a TF-Hub URL, a folder or a .tar.gz works in their place."""
    from components.backbone.registry import BACKBONES

    for known in BACKBONES.values():
        click.echo(
            f"{known.name}  {known.input_size} px  width {known.width}  {known.parameters / 1e6:.1f} M parameters  "
            f"{known.licence}  {known.origin}"
        )


if __name__ == "__main__":
    main()
