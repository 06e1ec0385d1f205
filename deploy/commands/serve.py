"""The command `warmstart serve`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from deploy import output
from deploy.commands.options import json_option, root_option
from deploy.quiet import quiet_libraries
from deploy.root import find_root
from schemas.errors import BadInput


@click.command()
@root_option
@click.option("--model", metavar="FOLDER", help="A model's folder, instead of a root folder.")
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
    as_json: bool,
) -> None:
    """Answer photos over HTTP with the model in production: a page, and TensorFlow Serving's REST protocol.

    A new version is taken up within seconds, and so is a rollback; no request is lost. The server ends on Ctrl-C or
    SIGTERM, when what was asked is answered.

    \b
    Examples:
      warmstart serve
      warmstart serve --model exported/model --port 8080
      curl --data-binary @cat.jpg http://127.0.0.1:8501/answer
    """
    if model is not None and root is not None:
        raise BadInput("--model was given with --root; expected a model's folder or a root folder")
    place = None if model is not None else find_root(root)

    if name is not None and not re.fullmatch(r"[\w.-]+", name):
        raise BadInput(f"--name is {name!r}; expected letters, digits, dots, hyphens and underscores")

    output.note("loading the model ...")
    quiet_libraries()
    from deploy.serve.application import Application, Limits
    from deploy.serve.batcher import BatchLimits
    from deploy.serve.guard import is_loopback
    from deploy.serve.model import ServedModel
    from deploy.serve.server import address, bind, run

    with bind(host, port) as listener:
        if place is not None:
            served = ServedModel.of_production(name or place.pipeline_name(), place.serving_folder())
        else:
            served = ServedModel.of_folder(name or "model", Path(str(model)))
        limits = Limits(
            body_bytes=max_megabytes * 1_000_000,
            bodies_bytes=max(256, 4 * max_megabytes) * 1_000_000,
            timeout_seconds=timeout,
            batches=BatchLimits(queued_items=max_queue),
        )
        on_loopback = is_loopback(listener.getsockname()[0])
        application = Application(served, limits, on_loopback, output.note)
        version, url = served.current.number, f"{address(listener)}/"
        if as_json:
            output.document({"name": served.name, "version": version, "url": url})
        else:
            click.echo(f"{served.name}, version {version}: {url}")
        run(application, listener)
    output.note("stopped")
