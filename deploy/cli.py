"""The command `warmstart`. Imports nothing slow until a command needs it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from deploy import output
from deploy.explanation_commands import explain
from deploy.housekeeping_commands import clean
from deploy.inspect_command import inspect
from deploy.kubeflow.commands import kubeflow
from deploy.repair_command import repair
from deploy.report_commands import open_page, report
from deploy.schedule_commands import schedule
from schemas.errors import BadInput
from schemas.json_records import to_json

VERSION = "0.1.0"


class _Commands(click.Group):
    """Shows a user's error as one sentence, without a traceback, and what a terminal cannot show in escapes."""

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


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, package_name="warmstart")
@click.option("-q", "--quiet", is_flag=True, help="Only the result and errors; before the command.")
@click.option("-v", "--verbose", is_flag=True, help="What the libraries log too, on standard error.")
def main(quiet: bool, verbose: bool) -> None:
    """From folders of labelled photos to a model in production that is better than the last one, or a refusal with
    a reason.

    \b
    Try it on drawn photos:
      warmstart sample sample
      warmstart run --config cats_vs_dogs --data sample/cats_vs_dogs

    \b
    See whether this machine can run it:
      warmstart doctor

    \b
    As a program reads it, with errors on standard error only:
      warmstart --quiet run --config cats_vs_dogs --data sample/cats_vs_dogs --json

    \b
    Exit codes:
      0  pushed, or nothing to do
      1  a step failed
      2  the input is wrong: configuration, paths, or data refused at the gate
      3  the run finished and pushed nothing, by verdict

    Colours are for terminals only, and never where NO_COLOR is set.
    """
    if quiet and verbose:
        raise BadInput("--quiet and --verbose were both given; expected one of them")
    output.set_loudness("quiet" if quiet else "verbose" if verbose else "normal")


def _complete_config(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The known configurations; where none begins so, the shell's own way with files."""
    # `pipeline.config` knows them too, and takes longer to import than a person likes to wait for a tab.
    known = sorted(file.stem for file in Path(__file__).parents[1].glob("pipeline/configs/*.yaml"))
    found = [CompletionItem(name) for name in known if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


_json_option = click.option("--json", "as_json", is_flag=True, help="The same for programs.")


def _config_options(command: Callable[..., None]) -> Callable[..., None]:
    """What is trained on, how, and where it is kept."""
    for option in reversed(
        [
            click.option(
                "--config",
                "config_name",
                required=True,
                metavar="NAME|FILE",
                shell_complete=_complete_config,
                help="A known configuration or a YAML file.",
            ),
            click.option(
                "--data",
                multiple=True,
                metavar="[DATASET=]DIR",
                help="Folder of photos, or a pattern such as DIR/span-{SPAN}; repeat it for several data sets.",
            ),
            click.option("--root", metavar="DIR", help="Where everything is kept.  [default: runs/<folder of photos>]"),
            click.option(
                "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Overrides one key; may be repeated."
            ),
        ]
    ):
        command = option(command)
    return command


@main.command(short_help="Runs the pipeline here, step by step.")
@_config_options
@click.option("--from", "from_node", metavar="STEP", help="Runs from this step on; earlier results are taken over.")
@click.option("--to", "to_node", metavar="STEP", help="Runs up to this step.")
@click.option(
    "--force-push",
    metavar="REASON",
    help="Pushes although ReleaseGate refuses (floors, comparison with production) or production was rolled back from "
    "this model; never overrides DataGate or ServableCheck. Recorded with the reason.",
)
@click.option("--json", "as_json", is_flag=True, help="The run's summary.json, in place of words; progress on stderr.")
def run(config_name, data, root, overrides, from_node, to_node, force_push, as_json) -> None:
    """Runs the pipeline here, step by step; finished steps are never done twice.

    \b
    Examples:
      warmstart run --config cats_vs_dogs --data ~/photos/PetImages
      warmstart run --config oxford_iiit_pet --data tfds:oxford_iiit_pet
      warmstart run --config species --data cats_vs_dogs=A --data oxford_iiit_pet=B
      warmstart run --config image_folder --data ~/flowers --set image.size=224
      warmstart run --config cats_vs_dogs --data A --set training.fine_tuning.strategy=auto
      warmstart run --config cats_vs_dogs --data A --set training.augmentation.mode=views
      warmstart run --config cats_vs_dogs --data A --from Evaluator
      warmstart --quiet run --config cats_vs_dogs --data A --json
      warmstart run --config cats_vs_dogs --data A --force-push "new camera: the old test photos are of no use"

    Known configurations: cats_vs_dogs, oxford_iiit_pet, species, image_folder. A killed run is taken up again by the
    same command.
    """
    if force_push is not None and not force_push.strip():
        raise BadInput("--force-push was given without a reason; expected why the model must be pushed, in words")

    from pipeline.config import load_config

    config = load_config(config_name, list(overrides), list(data))

    from deploy import local
    from deploy.data_folders import default_root
    from deploy.display import ConsoleDisplay
    from deploy.root import EXIT_CODES, Root, failure

    display = ConsoleDisplay(local.terminal_stream(2 if as_json else 1), output.loudness())
    display.heading(VERSION, config.name)
    place = Root(root) if root else default_root(config)
    try:
        result = local.run(config, place, display, from_node, to_node, (force_push or "").strip())
    except OSError as error:  # the disk may be too full even for the summary
        click.echo(f"error: {failure(error, place)}", err=True)
        sys.exit(EXIT_CODES["failed"])
    if as_json:
        output.document(to_json(result.summary))
    else:
        display.closing(result.summary, result.folder)
    sys.exit(result.exit_code)


@main.command(short_help="Trains if there are new data; made for a schedule.")
@_config_options
@click.option("--json", "as_json", is_flag=True, help="What it came to, and the run's summary.json if there was a run.")
def retrain(config_name, data, root, overrides, as_json) -> None:
    """Trains if there are new data, and otherwise says why not; made for a schedule, and safe to call at any time.

    New is what differs from the data of the last run that came to a decision: a span more, another version of one, one
    that was withdrawn, files that changed. Every call looks whether production is whole, and restores it where it is
    not. What it came to is noted in <root>/retrain.jsonl, and told to notify.command.

    \b
    Examples:
      warmstart retrain --config cats_vs_dogs --data "photos/span-{SPAN}" --set data.window=4
      warmstart retrain --config image_folder --data flowers
      warmstart --quiet retrain --config image_folder --data flowers --json

    \b
    Exit codes:
      0  pushed, or nothing to do, or another run is active
      1  a step failed
      2  the input is wrong, or the data were stopped at a gate
      3  the run finished and pushed nothing, by verdict
      4  as 3, for the third time in a row (notify.alert_after_refusals); or production is damaged for good
    """
    from pipeline.config import load_config

    config = load_config(config_name, list(overrides), list(data))

    from deploy import local
    from deploy.data_folders import default_root
    from deploy.display import ConsoleDisplay
    from deploy.retrain import retrain as retrain_root
    from deploy.root import EXIT_CODES, Root, failure

    display = ConsoleDisplay(local.terminal_stream(2 if as_json else 1), output.loudness())
    display.heading(VERSION, config.name)
    place = Root(root) if root else default_root(config)
    try:
        done = retrain_root(config, place, display)
    except OSError as error:
        click.echo(f"error: {failure(error, place)}", err=True)
        sys.exit(EXIT_CODES["failed"])
    if as_json:
        output.document(done.to_json())
    elif done.summary is not None and done.folder is not None:
        display.closing(done.summary, done.folder)
    else:
        display.status(done.status, done.reason)
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    if done.alert:
        click.echo(f"alert: {done.alert}", err=True)
    sys.exit(done.exit_code)


_root_option = click.option("--root", metavar="DIR", help="The root folder.  [default: the only one below runs/]")


@main.command(short_help="Shows versions, runs, and what is in production.")
@_root_option
@_json_option
@click.option(
    "--html", "as_page", is_flag=True, help="As a page with charts; prints its path, and opens it on a desktop."
)
def history(root: str | None, as_json: bool, as_page: bool) -> None:
    """Shows all versions that were ever in production, all runs, and what is in production now.

    \b
    Examples:
      warmstart history
      warmstart history --root runs/cats_vs_dogs --json
      warmstart history --html
    """
    if as_json and as_page:
        raise BadInput("--json and --html were both given; expected one of them")
    from deploy import production
    from deploy.root import find_root

    place = find_root(root)
    found = production.history(place)
    if as_page:
        from components.report.history_page import write_history_page

        place.reports.mkdir(exist_ok=True)
        open_page(write_history_page(found, place.folder.name, place.reports))
    elif as_json:
        output.document(to_json(found))
    else:
        click.echo(production.history_text(found, place))


@main.command(short_help="Puts an earlier version into production again.")
@click.argument("version", type=int, required=False)
@_root_option
@click.option("--reason", default="", metavar="TEXT", help="Why; for the history.")
def rollback(version: int | None, root: str | None, reason: str) -> None:
    """Puts an earlier version into production again: VERSION, or what was there before the present content.

    The old content gets a new, highest number, so servers that read the folder take it up as they take up a push, and
    nothing that they read goes away. A run does not push a model again that production was rolled back from, unless
    it is forced to.

    \b
    Examples:
      warmstart rollback --reason "dogs in snow are called cats"
      warmstart rollback 1790000001 --root runs/cats_vs_dogs
    """
    from deploy import production
    from deploy.root import find_root

    click.echo(production.rollback(find_root(root), version, reason.strip()))


@main.command()
@click.argument("version", type=int)
@click.option("--remove", is_flag=True, help="Takes the pin off.")
@_root_option
def pin(version: int, remove: bool, root: str | None) -> None:
    """Keeps a version for ever, however many come after it.

    Other old versions leave once there are more than serving.keep_versions of them.

    \b
    Examples:
      warmstart pin 1790000001
      warmstart pin 1790000001 --remove
    """
    from deploy import production
    from deploy.root import find_root

    click.echo(production.pin(find_root(root), version, remove))


@main.command(short_help="Asks the model in production about photos.")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@_root_option
@click.option("--version", type=int, metavar="VERSION", help="A version of the root folder.  [default: in production]")
@click.option("--model", metavar="FOLDER", help="A model's own folder, in place of a root folder.")
@click.option("--json", "as_json", is_flag=True, help="The same for programs, with all probabilities.")
def predict(images: tuple[str, ...], root: str | None, version: int | None, model: str | None, as_json: bool) -> None:
    """Asks the model in production about photos, or about every file in folders.

    A file that cannot be answered is named with its reason, and the others are answered; the exit code is then 2.

    \b
    Examples:
      warmstart predict cat.jpg dog.png
      warmstart predict holiday/ --json
      warmstart predict holiday/ --version 1790000001
      warmstart predict cat.jpg --model exported/model
    """
    from deploy import production
    from deploy.quiet import quiet_libraries
    from deploy.root import find_root

    if model is not None and (root is not None or version is not None):
        raise BadInput("--model was given with --root or --version; expected a model's folder, or a version of a root")
    folder = Path(model) if model is not None else production.model_folder(find_root(root), version)
    files = production.find_files(images, output.note)

    quiet_libraries()
    from deploy import prediction

    show = output.counter(len(files), "photos answered")
    shown = show if len(files) > prediction.BATCH_SIZE else lambda done: None
    answers = list(prediction.predict(prediction.Model(folder), files, shown))
    if as_json:
        output.document([prediction.for_programs(answer) for answer in answers])
    else:
        click.echo(prediction.for_people(answers), nl=False)
    failed = [answer for answer in answers if answer.error]
    for answer in failed:
        click.echo(f"error: {answer.error}", err=True)
    if failed:
        click.echo(f"{len(answers) - len(failed)} of {len(answers)} files were answered", err=True)
        sys.exit(2)


@main.command(short_help="Draws sample photos of cats and dogs, a few of them broken.")
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
        output.counter(total, "photos drawn")(done)

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
    """Image feature vectors to build on.

    \b
    Examples:
      warmstart backbone list
      warmstart backbone export ResNet50 backbones/resnet50
      warmstart run --config image_folder --data flowers --set backbone.handle=./backbones/resnet50
    """


@backbone.command("list")
@_json_option
def backbone_list(as_json: bool) -> None:
    """Lists the built-in backbones, and what else can be one.

    \b
    Examples:
      warmstart backbone list
      warmstart backbone list --json
    """
    from components.backbone.registry import BACKBONES, KERAS_APPLICATIONS, converted_folder, on_disk

    if as_json:
        import dataclasses

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

    from rich.table import Table

    from deploy.display import make_console

    table = Table(box=None, pad_edge=False)
    for column in ("name", "images", "width", "parameters", "licence", "on disk"):
        table.add_column(column, no_wrap=True)
    table.add_column("origin")
    for known in BACKBONES.values():
        status = {
            "converted": "converted",
            "weights_installed": "weights installed",
            "not_installed": "[yellow]not installed[/]",
        }[on_disk(known)]
        table.add_row(
            f"[bold]{known.name}[/]",
            f"{known.input_size} px",
            str(known.width),
            f"{known.parameters / 1e6:.1f} M",
            known.licence,
            status,
            known.origin,
        )
    console = make_console(sys.stdout)
    console.width = 200  # at any width: a narrow terminal breaks the lines before the origin
    console.print(table)
    click.echo(f"\nKeras applications, after `warmstart backbone export`: {', '.join(KERAS_APPLICATIONS)}")
    click.echo("Any TF2 image feature vector: --set backbone.handle= a TF-Hub URL, a folder or a .tar.gz")


@backbone.command("export", short_help="Makes a backbone of a Keras application.")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    metavar="imagenet|none|FILE",
    help="Keras downloads the first; none is random; a FILE is a .h5, .weights.h5 or .keras of that application.",
)
@click.option(
    "--pooling",
    type=click.Choice(["avg", "max", "flatten"]),
    default="avg",
    show_default=True,
    help="How a feature map becomes a vector.",
)
@click.option(
    "--size",
    type=int,
    metavar="PIXELS",
    help="The only image size it will take.  [default: any; with flatten, the application's own]",
)
def backbone_export(name: str, folder: Path, weights: str, pooling: str, size: int | None) -> None:
    """Makes a backbone of a Keras application: VGG16, VGG19, InceptionV3, ResNet50, Xception or MobileNetV2.

    Its preprocessing is put in, so that it takes images as every backbone does; the result is compared with the Keras
    model.

    \b
    Examples:
      warmstart backbone export ResNet50 backbones/resnet50
      warmstart backbone export vgg16 backbones/vgg16 --weights vgg16_notop.h5 --pooling flatten --size 160
    """
    from components.backbone.registry import require_absent, require_exportable, require_keras_application

    application = require_keras_application(name)
    require_absent(folder)
    require_exportable(application, weights, pooling, size)
    output.note(f"{application.name}: starting TensorFlow ...")
    from deploy.quiet import quiet_libraries

    quiet_libraries()
    from components.backbone import keras_applications

    export = keras_applications.export(name, folder, weights, pooling, size)
    sizes = f"{export.size} pixels" if export.size else f"any size from {application.minimum_size} pixels"
    click.echo(
        f"{application.name}: feature vector {export.width} wide ({pooling}), "
        f"{export.parameters / 1e6:.1f} M parameters, images of {sizes}"
    )
    click.echo(f"equal to the Keras model: the largest difference is {export.difference:.1e} of the largest feature")
    if weights == "none":
        click.echo("its weights are random: it is good for trying things out, and for nothing else")
    shown = folder if folder.is_absolute() else f"./{folder}"
    set_size = f" --set image.size={export.size}" if export.size else ""
    click.echo(f"build on it: warmstart run ... --set backbone.handle={shown}{set_size}")


@main.command(short_help="Looks whether this machine can run the pipeline.")
@click.option(
    "--config",
    "config_name",
    metavar="NAME|FILE",
    shell_complete=_complete_config,
    help="What is to be run.  [default: what all configurations share]",
)
@click.option("--data", multiple=True, metavar="[DATASET=]DIR", help="As in `warmstart run`; looked at if given.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="As there.")
@click.option("--root", metavar="DIR", help="As there.  [default: runs/<folder of photos>]")
@click.option("--kubeflow-endpoint", metavar="URL", help="Of a cluster to ask.  [env: KFP_ENDPOINT; default: none]")
@click.option("--no-start", is_flag=True, help="Leaves out starting TensorFlow and TFX, which takes ten seconds.")
@_json_option
def doctor(config_name, data, overrides, root, kubeflow_endpoint, no_start, as_json) -> None:
    """Looks whether this machine can run the pipeline, and says what to do where it cannot.

    A line for each check: ok; warn, where a run will do, but something should be known; fail, where it will not. What
    memory and disk a run needs is an estimate. Nothing is changed.

    \b
    Examples:
      warmstart doctor
      warmstart doctor --config cats_vs_dogs --data ~/photos/PetImages --root runs/cats_vs_dogs
      warmstart doctor --config pets.yaml --set training.batch_size=256 --no-start --json
      warmstart doctor --kubeflow-endpoint http://localhost:8080

    \b
    Exit codes:
      0  nothing fails
      2  something fails
    """
    from deploy import doctor as doctors
    from deploy.display import make_console

    console = make_console(sys.stdout)
    asked = doctors.Asked(config_name, data, overrides, root, kubeflow_endpoint, not no_start)
    checks = []
    for check in doctors.examine(asked):
        checks.append(check)
        if not as_json and (check.state == "fail" or output.loudness() != "quiet"):
            console.print(doctors.line(check), soft_wrap=True)
    if as_json:
        output.document(doctors.for_programs(checks))
    sys.exit(doctors.exit_code(checks))


@main.command(short_help="Prints a shell's completion of commands and options.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Prints what makes SHELL complete commands, options and configurations of warmstart.

    \b
    Examples:
      warmstart completion bash > ~/.local/share/bash-completion/completions/warmstart
      warmstart completion zsh > ~/.zfunc/_warmstart
      warmstart completion fish > ~/.config/fish/completions/warmstart.fish

    bash takes it up when it starts next; zsh, where ~/.zfunc is in its fpath; fish, at once.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    # Not `kind.source()`, which starts a bash to ask its version, and writes into the script's output if there is none.
    made = kind(main, {}, "warmstart", "_WARMSTART_COMPLETE")
    click.echo(made.source_template % made.source_vars())


main.add_command(inspect)
main.add_command(explain)
main.add_command(repair)
main.add_command(report)
main.add_command(schedule)
main.add_command(clean)
main.add_command(kubeflow)


if __name__ == "__main__":
    main()
