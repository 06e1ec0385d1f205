"""The command `warmstart explain`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from deploy import output, production
from deploy.commands.options import json_option, root_option
from deploy.output import quiet_libraries
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
    help="production, feature_extraction, fine_tuned, or a model's folder. Repeatable.  [default: the two models that "
    "a run trained]",
)
@root_option
@click.option(
    "--run", "run_id", metavar="RUN", help="The run whose two models are used.  [default: the newest that has both]"
)
@click.option(
    "--method", type=click.Choice(METHODS), help="For the heat maps.  [default: the first that the model allows]"
)
@click.option(
    "--layers", metavar="REGEX", help="Layers to draw feature maps of.  [default: five activations, evenly spaced]"
)
@click.option("--list-layers", is_flag=True, help="Print the layers that can be reached, and do nothing else.")
@click.option("--filters", metavar="LAYER", help="Draw what excites eight channels of this layer. Takes a minute.")
@click.option(
    "--out", type=click.Path(path_type=Path), default="explanations", show_default=True, help="Where the pictures go."
)
@json_option
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
    """Draw which parts of a photo led to a model's answer and to the runner-up, and what its layers respond to.

    Heat maps come from Grad-CAM if the model's layers can be reached, from integrated gradients if there is a gradient,
    and from occlusion otherwise. The method and the reason for it are printed, and shown on a page with the pictures.
    A folder stands for every photo in it. A file that cannot be explained is named with the reason. The other files
    are explained, and the exit code is 2.

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
        raise BadInput("no photo was given; expected IMAGE, --list-layers or --filters LAYER")

    folders = {f"the photos in {name}": name for name in images if Path(name).is_dir()}
    refuse_overlap(folders, {"the pictures": out})
    files = production.find_files(images, output.note) if images else []
    quiet_libraries()
    from deploy import explanation

    loaded = explanation.load_models(explanation.find_models(models, root, run_id))
    if list_layers:
        if as_json:
            output.document(explanation.layers_for_programs(loaded))
        else:
            click.echo(explanation.layers_text(loaded))
        return

    def show(done: int, total: int, what: str) -> None:
        if sys.stderr.isatty() and total > 1:
            click.echo(f"\r{done} of {total} {what}", nl=done == total, err=True)

    found = explanation.explain(loaded, files, out, method, layers, filters, show)
    if as_json:
        output.document(explanation.for_programs(found))
    else:
        click.echo(explanation.for_people(found), nl=False)
    for error in found.errors:
        click.echo(f"error: {error}", err=True)
    if found.errors:
        click.echo(f"{len(files) - len(found.errors)} of {len(files)} photos were explained", err=True)
        sys.exit(2)
