"""The command `warmstart`. Each command imports what it needs when it is called, so that `--help` is quick."""

from __future__ import annotations

import errno
import io
import pkgutil
import sys
from collections import UserDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from deploy import output
from schemas.errors import BadInput


class LazyCommand(NamedTuple):
    """Where a command is defined, and its line in the help of the group."""

    target: str
    """`package.module:name` of the command."""
    short_help: str


class LazyGroup(click.Group):
    """Lists its commands and completes their names without importing any."""

    def __init__(self, *args: Any, lazy: Mapping[str, LazyCommand], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.lazy = lazy
        self.commands = _LazyCommands(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.short_help) for name, command in self.lazy.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        fitting = {name: command for name, command in self.lazy.items() if name.startswith(incomplete)}
        names = [CompletionItem(name, help=command.short_help) for name, command in fitting.items()]
        return names + click.Command.shell_complete(self, ctx, incomplete)


class _LazyCommands(UserDict):
    """Commands by name, imported when they are looked up."""

    def __getitem__(self, name: str) -> click.Command:
        return pkgutil.resolve_name(super().__getitem__(name).target)


_COMMANDS = {
    name: LazyCommand(target, short_help)
    for name, target, short_help in (
        ("run", "deploy.commands.run:run", "Train, compare and push a model, step by step."),
        ("retrain", "deploy.commands.retrain:retrain", "Run only if there is new data; made for a schedule."),
        ("schedule", "deploy.commands.schedule:schedule", "Have `warmstart retrain` run by the clock."),
        ("inspect", "deploy.commands.inspect:inspect", "Show how a folder of photos is understood."),
        ("predict", "deploy.commands.predict:predict", "Ask the model in production about photos."),
        ("serve", "deploy.commands.serve:serve", "Answer photos over HTTP, on a page or for programs."),
        ("explain", "deploy.commands.explain:explain", "Draw what in a photo led to a model's answer."),
        ("report", "deploy.commands.report:report", "Open the page of a run, or of two compared."),
        ("history", "deploy.commands.history:history", "Show versions, runs, and what is in production."),
        ("rollback", "deploy.commands.rollback:rollback", "Put an earlier version back into production."),
        ("pin", "deploy.commands.pin:pin", "Keep a version for ever."),
        ("repair", "deploy.commands.repair:repair", "Mend damaged production files or metadata."),
        ("clean", "deploy.commands.clean:clean", "Remove artifacts, vectors and logs no longer needed."),
        ("doctor", "deploy.commands.doctor:doctor", "Check whether this machine can run the pipeline."),
        ("sample", "deploy.commands.sample:sample", "Draw sample photos of cats and dogs to try it on."),
        ("backbone", "deploy.commands.backbone:backbone", "List feature vectors to build on, or make one."),
        ("kubeflow", "deploy.kubeflow.commands:kubeflow", "Run the same pipeline on Kubeflow Pipelines."),
        ("completion", "deploy.commands.completion:completion", "Print a completion script for your shell."),
    )
}


class _Warmstart(LazyGroup):
    """Shows errors without a traceback, and escapes what a terminal cannot show."""

    def main(self, *args, **kwargs):
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context):
        try:
            return super().invoke(ctx)
        except BadInput as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)
        except OSError as error:  # the disk may be too full even for a summary
            if error.errno == errno.EPIPE:  # nobody reads on; click ends without a word
                raise
            from deploy.root import CONTEXT_KEY, failure

            click.echo(f"error: {failure(error, ctx.meta.get(CONTEXT_KEY))}", err=True)
            sys.exit(1)


@click.group(
    cls=_Warmstart,
    lazy=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="warmstart")
@click.option("-q", "--quiet", is_flag=True, help="Print only the result and errors. Goes before the command.")
@click.option("-v", "--verbose", is_flag=True, help="Show the libraries' logs too, on standard error.")
def main(quiet: bool, verbose: bool) -> None:
    """Turn folders of labelled photos into an image classifier in production, or refuse and say why.

    \b
    One folder for each class is enough:
      warmstart run photos

    \b
    No photos at hand? Draw some:
      warmstart sample sample
      warmstart run sample/cats_vs_dogs

    \b
    Check this machine first:
      warmstart doctor

    \b
    For programs: JSON on standard output, everything else on standard error:
      warmstart --quiet run photos --json

    \b
    Exit codes:
      0  pushed, or nothing to do
      1  a step failed
      2  the input is wrong: configuration, paths, or data refused at the gate
      3  the run finished and pushed nothing, by verdict

    Colours are used on terminals only, and never where NO_COLOR is set.
    """
    if quiet and verbose:
        raise BadInput("--quiet and --verbose were both given; expected one of them")
    output.set_loudness("quiet" if quiet else "verbose" if verbose else "normal")


def start() -> None:
    """The program `warmstart`. It ends without tearing down what TensorFlow has built, which would take long."""
    try:
        main()
    except SystemExit as end:
        if "tensorflow" not in sys.modules:
            raise
        from deploy import quick_start

        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        quick_start.finish(end.code if isinstance(end.code, int) else 1 if end.code else 0)


if __name__ == "__main__":
    start()
