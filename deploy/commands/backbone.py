"""The commands `warmstart backbone ...`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import click
from rich.table import Table

from components.backbone.registry import (
    BACKBONES,
    KERAS_APPLICATIONS,
    converted_folder,
    on_disk,
    require_absent,
    require_exportable,
    require_keras_application,
)
from deploy import output
from deploy.commands.options import json_option
from deploy.display import make_console
from deploy.output import quiet_libraries

_STATES = {
    "converted": "converted",
    "weights_installed": "weights installed",
    "not_installed": "[yellow]not installed[/]",
}


@click.group()
def backbone() -> None:
    """Image feature vectors to build on.

    \b
    Examples:
      warmstart backbone list
      warmstart backbone export ResNet50 backbones/resnet50
      warmstart run photos --set backbone.handle=./backbones/resnet50
    """


@backbone.command("list")
@json_option
def backbone_list(as_json: bool) -> None:
    """List the built-in backbones, and what else can be used as one.

    \b
    Examples:
      warmstart backbone list
      warmstart backbone list --json
    """
    if as_json:
        listed = {
            "built_in": [
                {
                    "name": known.name,
                    "input_size": known.input_size,
                    "width": known.width,
                    "parameters": known.parameters,
                    "origin": known.origin,
                    "licence": known.licence,
                    "on_disk": on_disk(known),
                    "folder": str(converted_folder(known)),
                }
                for known in BACKBONES.values()
            ],
            "keras_applications": [dataclasses.asdict(application) for application in KERAS_APPLICATIONS.values()],
        }
        output.document(listed)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "images", "width", "parameters", "licence", "on disk"):
        table.add_column(column, no_wrap=True)
    table.add_column("origin")
    for known in BACKBONES.values():
        table.add_row(
            f"[bold]{known.name}[/]",
            f"{known.input_size} px",
            str(known.width),
            f"{known.parameters / 1e6:.1f} M",
            known.licence,
            _STATES[on_disk(known)],
            known.origin,
        )
    console = make_console(sys.stdout)
    console.width = 200  # at any width: a narrow terminal breaks the lines before the origin
    console.print(table)
    click.echo(f"\nKeras applications, after `warmstart backbone export`: {', '.join(KERAS_APPLICATIONS)}")
    click.echo("Any TF2 image feature vector: --set backbone.handle= a TF-Hub URL, a folder or a .tar.gz")


@backbone.command("export", short_help="Make a backbone from a Keras application.")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    metavar="imagenet|none|FILE",
    help="`imagenet` is downloaded by Keras; `none` is random; FILE is a .h5, .weights.h5 or .keras of that "
    "application.",
)
@click.option(
    "--pooling",
    type=click.Choice(["avg", "max", "flatten"]),
    default="avg",
    show_default=True,
    help="How the feature map becomes a vector.",
)
@click.option(
    "--size",
    type=int,
    metavar="PIXELS",
    help="The only image size that it will accept.  [default: any; with flatten, the application's own]",
)
@json_option
def backbone_export(name: str, folder: Path, weights: str, pooling: str, size: int | None, as_json: bool) -> None:
    """Make a backbone from a Keras application: VGG16, VGG19, InceptionV3, ResNet50, Xception or MobileNetV2.

    The application's preprocessing is built in, so that the backbone takes images like any other. The result is
    compared with the Keras model.

    \b
    Examples:
      warmstart backbone export ResNet50 backbones/resnet50
      warmstart backbone export vgg16 backbones/vgg16 --weights vgg16_notop.h5 --pooling flatten --size 160
    """
    application = require_keras_application(name)
    require_absent(folder)
    require_exportable(application, weights, pooling, size)
    output.note(f"{application.name}: starting TensorFlow ...")
    quiet_libraries()
    from components.backbone import keras_applications

    export = keras_applications.export(name, folder, weights, pooling, size)
    handle = str(folder if folder.is_absolute() else f"./{folder}")
    if as_json:
        facts = {key: getattr(export, key) for key in ("width", "parameters", "size", "difference")}
        output.document({"name": application.name, "handle": handle, "pooling": pooling, **facts})
        return
    sizes = f"{export.size} pixels" if export.size else f"any size from {application.minimum_size} pixels"
    click.echo(
        f"{application.name}: feature vector {export.width} wide ({pooling}), "
        f"{export.parameters / 1e6:.1f} M parameters, images of {sizes}"
    )
    click.echo(f"equal to the Keras model: the largest difference is {export.difference:.1e} of the largest feature")
    if weights == "none":
        click.echo("its weights are random, so it is only good for trying things out")
    set_size = f" --set image.size={export.size}" if export.size else ""
    click.echo(f"build on it: warmstart run ... --set backbone.handle={handle}{set_size}")
