"""The command `warmstart explain`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from deploy import output
from deploy.overlap import refuse_overlap
from schemas.errors import BadInput

METHODS = ("grad-cam", "integrated-gradients", "occlusion")


@click.command()
@click.argument("images", nargs=-1, metavar="IMAGE...")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="WHICH",
    help="production, feature_extraction, fine_tuned, or a model's folder; may be repeated.  [default: the two that a "
    "run trained]",
)
@click.option("--root", metavar="DIR", help="The root folder.  [default: the only one below runs/]")
@click.option("--run", "run_id", metavar="RUN", help="Whose two models.  [default: the newest run that has both]")
@click.option(
    "--method", type=click.Choice(METHODS), help="Of the heat maps.  [default: the first that the model allows]"
)
@click.option("--layers", metavar="REGEX", help="Whose feature maps.  [default: five activations, evenly spaced]")
@click.option("--list-layers", is_flag=True, help="Prints the layers that can be reached, and does nothing else.")
@click.option("--filters", metavar="LAYER", help="Draws what excites eight channels of this layer; takes a minute.")
@click.option(
    "--out", type=click.Path(path_type=Path), default="explanations", show_default=True, help="Where the pictures go."
)
@click.option("--json", "as_json", is_flag=True, help="The same for programs.")
def explain(
    images: tuple[str, ...],
    models: tuple[str, ...],
    root: str | None,
    run_id: str | None,
    method: str | None,
    layers: str | None,
    list_layers: bool,
    filters: str | None,
    out: Path,
    as_json: bool,
) -> None:
    """Draws what in a photo speaks for a model's answer and for the runner-up, and what the model's layers make of it.

    Heat maps are by Grad-CAM where the model's layers can be reached, by integrated gradients where a gradient can be
    had, and by occlusion otherwise; what was used, and why, is said here and on a page beside the pictures. A folder
    stands for every file in it. A file that cannot be explained is named with its reason, and the others are explained;
    the exit code is then 2.

    \b
    Examples:
      warmstart explain cat.jpg
      warmstart explain holiday/ --model production --out why
      warmstart explain cat.jpg --model exported/model --method occlusion
      warmstart explain --list-layers
      warmstart explain cat.jpg --layers "block[56].*_add"
      warmstart explain --filters block5a_expand_activation --model fine_tuned
    """
    if not images and not list_layers and not filters:
        raise BadInput("no photo was given; expected IMAGE..., --list-layers or --filters LAYER")

    from deploy import production
    from deploy.quiet import quiet_libraries

    folders = {f"the photos in {name}": name for name in images if Path(name).is_dir()}
    refuse_overlap(folders, {"the pictures": out})
    files = production.find_files(images, output.note) if images else []
    quiet_libraries()
    from deploy import explanation

    loaded = explanation.load_models(explanation.find_models(models, root, run_id))
    if list_layers:
        click.echo(explanation.layers_as_json(loaded) if as_json else explanation.layers_text(loaded))
        return

    def show(done: int, total: int, what: str) -> None:
        if sys.stderr.isatty() and total > 1:
            click.echo(f"\r{done} of {total} {what}", nl=done == total, err=True)

    found = explanation.explain(loaded, files, out, method, layers, filters, show)
    click.echo(explanation.for_programs(found) if as_json else explanation.for_people(found), nl=False)
    for error in found.errors:
        click.echo(f"error: {error}", err=True)
    if found.errors:
        click.echo(f"{len(files) - len(found.errors)} of {len(files)} photos were explained", err=True)
        sys.exit(2)
