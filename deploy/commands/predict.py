"""The command `warmstart predict`."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import click

from deploy import output, production
from deploy.commands.options import root_option
from deploy.mask_files import MaskWriter, refuse_same_stem
from deploy.output import quiet_libraries
from deploy.overlap import refuse_overlap
from schemas.errors import BadInput


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@root_option
@click.option("--version", type=int, metavar="VERSION", help="A version of the root folder.  [default: in production]")
@click.option("--model", metavar="FOLDER", help="A model's folder, instead of a root folder.")
@click.option("--csv", "csv_file", metavar="FILE", help="Also write the answers into a CSV file, one row a photo.")
@click.option("--collect", metavar="DIR", help="Copy photos that the model is not sure of there, to be labelled.")
@click.option(
    "--masks", metavar="DIR", type=click.Path(path_type=Path), help="Where masks go, of a model that gives them."
)
@click.option("--overlays", is_flag=True, help="With --masks: also each photo with its mask drawn over it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with all probabilities.")
def predict(
    images: tuple[str, ...],
    root: str | None,
    version: int | None,
    model: str | None,
    csv_file: str | None,
    collect: str | None,
    masks: Path | None,
    overlays: bool,
    as_json: bool,
) -> None:
    """Ask the model in production about photos. A folder stands for every photo in it.

    A model trained with `task.kind: segmentation` gives a class for each pixel: the shares of the classes are printed,
    and with --masks DIR each mask is written to DIR/<name of the photo>.mask.png, a PNG of class ids whose palette
    shows them.

    A file that cannot be answered is named with the reason. The other files are answered, and the exit code is 2.

    \b
    Examples:
      warmstart predict cat.jpg dog.png
      warmstart predict holiday/ --json
      warmstart predict holiday/ --version 1790000001
      warmstart predict cat.jpg --model exported/model
      warmstart predict holiday/ --csv answers.csv --collect unsure/
      warmstart predict holiday/ --masks masks/ --overlays
    """
    if overlays and masks is None:
        raise BadInput("--overlays was given without --masks; expected --masks DIR, the folder for both")
    folder = production.find_model(model, root, version)
    files = production.find_files(images, output.note)
    if csv_file is not None and not Path(csv_file).absolute().parent.is_dir():
        raise BadInput(f"--csv is {csv_file}, and there is no folder for it; expected the name of a file")
    if masks is not None:
        refuse_overlap({f"the photos in {name}": name for name in images if Path(name).is_dir()}, {"the masks": masks})
        refuse_same_stem(files, masks)

    if not (csv_file or collect or masks):
        _refuse_absent(files, as_json)

    quiet_libraries()
    with output.waiting("loading the model"):
        from components.whole_file import write_whole
        from deploy import prediction
        from deploy.collection import Collection, CollectionLimits

        loaded = prediction.Model(folder)
    writer = None
    if loaded.gives_masks and (csv_file or collect):
        raise BadInput(
            f"{'--csv' if csv_file else '--collect'} was given, but the model in {folder} gives masks and no class for "
            "each photo; leave it out, or choose a model trained with task.kind: classification"
        )
    if masks is not None:
        if not loaded.gives_masks:
            raise BadInput(
                f"--masks was given, but the model in {folder} gives a class for each photo and no masks; leave out "
                "--masks, or choose a model trained with task.kind: segmentation"
            )
        writer = MaskWriter(masks, loaded.labels, loaded.rules, overlays)

    show = output.counter(len(files), "photos answered")
    shown = show if len(files) > prediction.BATCH_SIZE else lambda done: None
    collection = Collection(Path(collect), CollectionLimits()) if collect else None
    answers, documents = [], []
    for found in prediction.predict(loaded, files, shown):
        answer, written = writer.write(found) if writer else (prediction.without_mask(found), {})
        answers.append(answer)
        documents.append({**prediction.for_programs(answer), **written})
    if csv_file is not None:
        write_whole(Path(csv_file).absolute(), prediction.for_spreadsheets(answers, loaded.labels))
    if collection is not None:
        kept, unsure = prediction.collect(answers, collection, loaded.version)
        output.note(f"{kept} of {unsure} photos that the model is not sure of were copied to {collect}")
    if as_json:
        output.document(documents)
    else:
        click.echo(prediction.for_people(answers), nl=False)
    failed = [answer for answer in answers if answer.error]
    if loaded.gives_masks and writer is None and len(failed) < len(answers):
        output.note("only the shares of the classes are shown; --masks DIR writes the masks")
    for answer in failed:
        click.echo(f"error: {answer.error}", err=True)
    if failed:
        click.echo(f"{len(answers) - len(failed)} of {len(answers)} files were answered", err=True)
        sys.exit(2)


def _refuse_absent(files: list[str], as_json: bool) -> None:
    """Ends the command if none of the files exists, with what `prediction.predict` says of them, but at once."""
    if any(os.path.lexists(file) for file in files):
        return
    errors = [f"{file} cannot be read: {os.strerror(errno.ENOENT)}." for file in files]
    if as_json:
        found = zip(files, errors, strict=True)
        output.document([{"file": file, "reason": "unreadable", "error": error} for file, error in found])
    for error in errors:
        click.echo(f"error: {error}", err=True)
    click.echo(f"0 of {len(files)} files were answered", err=True)
    sys.exit(2)
