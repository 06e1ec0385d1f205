"""The command `warmstart serve`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from secrets import token_urlsafe as new_token
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from deploy import output
from deploy.commands.options import json_option, root_option
from deploy.output import quiet_libraries
from deploy.root import Root, find_root
from schemas.errors import BadInput

if TYPE_CHECKING:
    from deploy.collection import Collection
    from deploy.review.application import ReviewApplication
    from deploy.serve.application import Application, Limits

# What a client shows if the server is not for this machine alone; if it is not set, one is drawn.
TOKEN_VARIABLE = "WARMSTART_TOKEN"


@click.command()
@root_option
@click.option(
    "--model",
    metavar="FOLDER",
    help="A model's folder, or a folder of numbered versions of which the highest is served, instead of a root folder.",
)
@click.option("--name", metavar="NAME", help="The model's name in addresses.  [default: the pipeline's, or model]")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8501, show_default=True, help="0: any free port.")
@click.option(
    "--max-megabytes",
    type=click.IntRange(1, 1000),
    default=32,
    show_default=True,
    help="The largest body of a request.",
)
@click.option(
    "--max-queue",
    type=click.IntRange(1, 100_000),
    default=256,
    show_default=True,
    help="The most photos that may wait for an answer.",
)
@click.option(
    "--timeout",
    type=click.IntRange(1, 3600),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="The longest that a request may take.",
)
@click.option(
    "--collect", metavar="DIR", help="Keep photos that the model is not sure of.  [default: no photo is kept]"
)
@click.option(
    "--collect-photos", type=click.IntRange(1), default=1000, show_default=True, help="The most photos in that folder."
)
@click.option(
    "--collect-megabytes", type=click.IntRange(1), default=1000, show_default=True, help="The most in that folder."
)
@click.option(
    "--collect-share",
    type=click.FloatRange(0, 1),
    default=0,
    show_default=True,
    help="The share of photos that the model is sure of which are kept too.",
)
@click.option("--review", metavar="RUN", help="Review the photos of a run, or of the `latest`, instead of answering.")
@click.option(
    "--corrections",
    metavar="FILE",
    help="Where the decisions of a review go.  [default: data.corrections of the run, or ROOT/corrections.csv]",
)
@click.option("--who", metavar="NAME", help="The reviewer, written beside each decision.  [default: the user's name]")
@click.option("--into", metavar="DIR", help="A new folder for labelled photos.  [default: the next span]")
@json_option
def serve(
    root: str | None,
    model: str | None,
    name: str | None,
    host: str,
    port: int,
    max_megabytes: int,
    max_queue: int,
    timeout: int,
    collect: str | None,
    collect_photos: int,
    collect_megabytes: int,
    collect_share: float,
    review: str | None,
    corrections: str | None,
    who: str | None,
    into: str | None,
    as_json: bool,
) -> None:
    """Answer photos over HTTP with the model in production: a page, and TensorFlow Serving's REST protocol.

    A new version is taken up within seconds, and so is a rollback; no request is lost. The server ends on Ctrl-C or
    SIGTERM, when what was asked is answered.

    With --review it shows a page on which a person keeps, changes or drops the labels of the photos that a run found
    worth a look. With --collect too, the photos that were kept there are labelled and become a new span.

    \b
    Examples:
      warmstart serve
      warmstart serve --model exported/model --port 8080
      warmstart serve --model /mnt/serving --name cats_vs_dogs
      warmstart serve --collect unsure/
      warmstart serve --review latest
      warmstart serve --review latest --collect unsure/
      curl --data-binary @cat.jpg http://127.0.0.1:8501/answer
    """
    if model is not None and (root is not None or review is not None):
        raise BadInput("--model was given with --root or --review; expected a model's folder or a root folder")
    of_review = {"--corrections": corrections, "--who": who, "--into": into}
    if review is None and (given := [option for option, value in of_review.items() if value is not None]):
        raise BadInput(f"{given[0]} was given without --review; expected both")
    place = None if model is not None else find_root(root)

    if name is not None and not re.fullmatch(r"[\w.-]+", name):
        raise BadInput(f"--name is {name!r}; expected letters, digits, dots, hyphens and underscores")

    output.note("loading the model ..." if review is None else "reading the findings ...")
    quiet_libraries()
    from deploy.collection import Collection, CollectionLimits
    from deploy.serve.guard import is_loopback
    from deploy.serve.server import address, bind, listen, run

    with bind(host, port) as listener:
        on_loopback, url = is_loopback(listener.getsockname()[0]), f"{address(listener)}/"
        token = "" if on_loopback or not (review or collect) else os.environ.get(TOKEN_VARIABLE) or new_token()
        if token:
            url += f"?{urlencode({'token': token})}"
        kept = CollectionLimits(collect_photos, collect_megabytes * 1_000_000, collect_share)
        collection = Collection(Path(collect), kept) if collect else None
        application: ReviewApplication | Application
        if review is not None and place is not None:
            application, told, what = _review(place, review, corrections, who, collection, into, on_loopback, token)
        else:
            from deploy.serve.application import Limits
            from deploy.serve.batcher import BatchLimits

            limits = Limits(
                body_bytes=max_megabytes * 1_000_000,
                bodies_bytes=max(256, 4 * max_megabytes) * 1_000_000,
                timeout_seconds=timeout,
                batches=BatchLimits(queued_items=max_queue),
            )
            application, told, what = _model(place, model, name, limits, on_loopback, collection, token)
        listen(listener)
        if as_json:
            output.document({**told, "url": url})
        else:
            click.echo(f"{what}: {url}")
        run(application, listener)
    output.note("stopped")


def _review(
    place: Root,
    run_name: str,
    corrections: str | None,
    who: str | None,
    collection: Collection | None,
    into: str | None,
    on_loopback: bool,
    token: str,
) -> tuple[ReviewApplication, dict[str, Any], str]:
    from deploy.review.application import ReviewApplication
    from deploy.review.start import make_review

    reviewed = make_review(place, run_name, corrections, who, collection, into)
    told = {"run": reviewed.run_id, "corrections": str(reviewed.decisions.file)}
    return ReviewApplication(reviewed, on_loopback, token), told, f"review of {reviewed.run_id}"


def _model(
    place: Root | None,
    folder: str | None,
    name: str | None,
    limits: Limits,
    on_loopback: bool,
    collection: Collection | None,
    token: str,
) -> tuple[Application, dict[str, Any], str]:
    from components.serving_folder.folder import ServingFolder
    from deploy.serve.application import Application
    from deploy.serve.model import ServedModel

    if place is not None:
        served = ServedModel.of_production(name or place.pipeline_name(), place.serving_folder())
    elif (versions := ServingFolder(Path(str(folder)).absolute())).versions():
        served = ServedModel.of_production(name or "model", versions)
    else:
        served = ServedModel.of_folder(name or "model", Path(str(folder)))
    if collection is not None and "probabilities" not in served.current.outputs():
        raise BadInput(
            f"--collect was given, but the model in {served.current.folder} gives masks and no class for each photo; "
            "leave it out, or serve a model trained with task.kind: classification"
        )
    version = served.current.number
    application = Application(served, limits, on_loopback, output.note, collection, token)
    return application, {"name": served.name, "version": version}, f"{served.name}, version {version}"
