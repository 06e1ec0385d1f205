"""The commands `warmstart kubeflow ...`. Nothing slow is imported and nobody contacted until a command needs it."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.commands.options import json_option, several
from deploy.kubeflow import METADATA_SERVICE, MOUNT, VOLUME_CLAIM
from deploy.output import document
from schemas.errors import BadInput

if TYPE_CHECKING:
    from deploy.kubeflow.connection import Connection, Endpoint
    from deploy.kubeflow.package_file import Package
    from deploy.kubeflow.package_request import PackageRequest, ResolvedRequest


@click.group()
def kubeflow() -> None:
    """Run the same pipeline on Kubeflow Pipelines 2.5 or newer, one container for each step.

    \b
    From an image and a volume to nightly runs:
      warmstart doctor --kubeflow-endpoint http://localhost:8080
      warmstart kubeflow compile --config cats_vs_dogs --image registry.example/warmstart:1
      warmstart kubeflow submit --config cats_vs_dogs --image registry.example/warmstart:1 --follow
      warmstart kubeflow schedule set nightly --cron "0 3 * * *" --config cats_vs_dogs --image registry.example/w:1

    Photos and root folder are on the volume, which is mounted in every step at --mount. deploy/README.md explains how
    to set up a cluster.
    """


_package_options = several(
    click.option("--config", "config_name", required=True, metavar="NAME|FILE", help="As for `warmstart run`."),
    click.option(
        "--image",
        required=True,
        envvar="WARMSTART_IMAGE",
        help="Container image of every step.  [env: WARMSTART_IMAGE]",
    ),
    click.option(
        "--data",
        multiple=True,
        metavar="[DATASET=]DIR",
        help="Photos as the cluster sees them: below --mount, gs://... or tfds:NAME.  [default: MOUNT/photos, "
        "or MOUNT/photos/DATASET for each of several]",
    ),
    click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one key."),
    click.option("--span", default="", help="Number or date of the span to read.  [default: the latest]"),
    click.option(
        "--root", metavar="DIR", help="The root folder, below --mount.  [default: MOUNT/runs/<configuration>]"
    ),
    click.option(
        "--tfx-pipeline-root", default="", metavar="DIR", help="Where artifacts go.  [default: the root folder]"
    ),
    click.option("--volume-claim", default=VOLUME_CLAIM, show_default=True, help="The PersistentVolumeClaim to mount."),
    click.option("--mount", default=MOUNT, show_default=True, help="Where it is mounted in every step."),
    click.option("--sub-path", default="", metavar="DIR", help="Mount this folder of the claim.  [default: all of it]"),
    click.option(
        "--run-as",
        default="",
        metavar="USER:GROUP",
        help="Numbers that every step runs as; the volume must be writable for them.  [default: the image's, "
        "1000:1000]",
    ),
    click.option(
        "--metadata",
        default=METADATA_SERVICE,
        show_default=True,
        metavar="ADDRESS",
        help="ML Metadata: grpc://HOST:PORT, or mysql://USER@HOST[:PORT]/DATABASE. Kubeflow's own, in 2.5 to "
        "2.18 only, is grpc://metadata-grpc-service.kubeflow:8080.",
    ),
    click.option(
        "--metadata-secret",
        default="",
        metavar="NAME",
        help="Secret whose key `password` holds the password of USER.",
    ),
)


_cluster_options = several(
    click.option(
        "--endpoint",
        metavar="URL",
        help="Address of Kubeflow Pipelines.  [env: KFP_ENDPOINT; default: through the kubeconfig]",
    ),
    click.option("--namespace", help="Namespace of the runs.  [env: KFP_NAMESPACE; default: kubeflow]"),
    # Read from the environment by `find_endpoint`, so that --help shows no token.
    click.option("--token", help="Bearer token. Better set in the environment.  [env: KFP_TOKEN]"),
)


_run_options = several(
    click.option("--experiment", help="Experiment to run in.  [default: the pipeline's name]"),
    click.option("--service-account", help="Service account of the run's pods.  [default: the cluster's]"),
)


@kubeflow.command("compile", short_help="Write a package for Kubeflow Pipelines.")
@_package_options
@click.option("--output", type=click.Path(path_type=Path), help="File to write.  [default: <configuration>.yaml]")
@json_option
def compile_command(output: Path | None, as_json: bool, **package: Any) -> None:
    """Write the pipeline as a package for Kubeflow Pipelines, which can also be uploaded on its web pages.

    The options become the defaults of the run's parameters. config, data, span, overrides, root, tfx_pipeline_root and
    force_push can be set again for every run, as long as the steps stay the same.

    \b
    Examples:
      warmstart kubeflow compile --config cats_vs_dogs --image registry.example/warmstart:1
      warmstart kubeflow compile --config pets.yaml --image registry.example/w:1 --data "/warmstart/photos/span-{SPAN}"
      warmstart kubeflow compile --config species --image registry.example/w:1 --set runtime.steps.FineTuning.memory=8G
    """
    from deploy.kubeflow.package_request import make_package, resolve
    from deploy.output import quiet_libraries

    resolved = resolve(_request(**package))
    quiet_libraries()
    name, text = make_package(resolved)
    file = output or Path(f"{resolved.config.name}.yaml")
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{file} cannot be written ({error.strerror}); choose another file with --output") from None
    tasks, size = text.count("- deploy.kubeflow.node\n"), len(text.encode())
    if as_json:
        document({"file": str(file), "pipeline": name, "tasks": tasks, "bytes": size})
    else:
        click.echo(f"{file}: the pipeline {name}, {tasks} tasks, {size / 1000:.0f} kB")


@kubeflow.command(short_help="Upload the pipeline and start a run.")
@_package_options
@_cluster_options
@_run_options
@click.option("--run-name", help="Name of the run.  [default: the pipeline's name and the time]")
@click.option("--force-push", metavar="REASON", help="As for `warmstart run`.")
@click.option("--follow", is_flag=True, help="Wait for the run to end. Ctrl-C stops the waiting, not the run.")
@json_option
def submit(
    endpoint: str | None,
    namespace: str | None,
    token: str | None,
    experiment: str | None,
    service_account: str | None,
    run_name: str | None,
    force_push: str | None,
    follow: bool,
    as_json: bool,
    **package: Any,
) -> None:
    """Compile the pipeline, upload a new version unless it exists, start a run and print its address.

    --span and --force-push apply to this run only. The other options become the version's defaults, as for compile.

    With --follow the exit code is 1 if the run failed, and 0 if Kubeflow says that it succeeded. To Kubeflow, a run
    that pushed nothing by verdict succeeded, and its API does not know the verdict. If the root folder can be read
    here, as in a pod with the volume, the exit code comes from `summary.json` and is that of `warmstart run`: 3 for
    such a run, 2 for one that was stopped. Otherwise see the run's page in Kubeflow.

    \b
    Examples:
      warmstart kubeflow submit --config cats_vs_dogs --image registry.example/warmstart:1 --follow
      warmstart kubeflow submit --config cats_vs_dogs --image registry.example/warmstart:1 --span 2026-11-22
      KFP_ENDPOINT=https://kubeflow.example/pipeline warmstart kubeflow submit --config pets.yaml --image a/b:1
    """
    from datetime import datetime, timezone

    from deploy.kubeflow import runs
    from deploy.kubeflow.connection import find_endpoint
    from deploy.kubeflow.package_request import resolve
    from deploy.session import forced

    reason = forced(force_push)
    to = find_endpoint(endpoint, namespace, token)
    resolved = resolve(_request(**package))
    of_this_run = {"span": resolved.defaults.span, "force_push": reason}
    with _compiled(resolved, to, of_this_run) as (connection, name, compiled):
        submitted = runs.submit(
            connection,
            compiled,
            name,
            experiment or name,
            run_name or f"{name} {datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S}",
            service_account,
        )
    # With --json, text goes to standard error, and the document follows at the end.
    uploaded = "uploaded" if submitted.new_version else "already there"
    click.echo(f"pipeline {name}: {uploaded}, {submitted.version_id}", err=as_json)
    click.echo(f"run {submitted.run_id}\n{submitted.run_url}", err=as_json)
    if hint := connection.ui_hint():
        click.echo(f"to open it: {hint}", err=as_json)
    code = None
    if follow:
        reports = Path(resolved.defaults.root, "reports", submitted.run_id)
        code = _follow(connection, submitted.run_id, compiled.tasks, reports, err=as_json)
    if as_json:
        document({"pipeline": name, **dataclasses.asdict(submitted), "exit_code": code})
    sys.exit(code)


@kubeflow.group(short_help="Manage runs that Kubeflow starts by the clock.")
def schedule() -> None:
    """Manage runs that Kubeflow starts by the clock, one at a time. Missed times are not caught up on.

    \b
    Examples:
      warmstart kubeflow schedule set nightly --cron "0 3 * * *" --config cats_vs_dogs --image registry.example/w:1
      warmstart kubeflow schedule list
      warmstart kubeflow schedule delete nightly
    """


@schedule.command("set", short_help="Create the schedule NAME, or replace it.")
@click.argument("name")
@click.option(
    "--cron", required=True, help='Minute, hour, day, month, day of the week: "0 3 * * *" is every night at three.'
)
@click.option("--time-zone", default="UTC", show_default=True, help="Time zone of --cron.")
@click.option(
    "--cluster-time-zone",
    default="UTC",
    show_default=True,
    help="CRON_SCHEDULE_TIMEZONE of the Kubeflow installation, which all schedules share.",
)
@_package_options
@_cluster_options
@_run_options
@json_option
def schedule_set(
    name: str,
    cron: str,
    time_zone: str,
    cluster_time_zone: str,
    endpoint: str | None,
    namespace: str | None,
    token: str | None,
    experiment: str | None,
    service_account: str | None,
    as_json: bool,
    **package: Any,
) -> None:
    """Create the schedule NAME, or replace it. The same call again changes nothing.

    \b
    Example:
      warmstart kubeflow schedule set nightly --cron "0 3 * * *" --config cats_vs_dogs --image registry.example/w:1
    """
    from deploy.kubeflow import schedules
    from deploy.kubeflow.connection import find_endpoint
    from deploy.kubeflow.package_request import resolve, scheduled_parameters
    from deploy.timetable import timetable

    when = timetable(cron, time_zone, cluster_time_zone)
    to = find_endpoint(endpoint, namespace, token)
    resolved = resolve(_request(**package))
    of_each_run = {} if resolved.defaults.span else scheduled_parameters(resolved.config)
    with _compiled(resolved, to, of_each_run) as (connection, pipeline_name, compiled):
        done = schedules.schedule(
            connection, compiled, pipeline_name, name, when, experiment or pipeline_name, service_account
        )
    times = when.next_times(3)
    if as_json:
        of_clock = {"cron": when.cron, "time_zone": when.time_zone, "next": [time.isoformat() for time in times]}
        document({"name": name, "done": done.action, "pipeline": pipeline_name, **of_clock})
        return
    click.echo(f"schedule {name}: {done.action}; the pipeline {pipeline_name}, {when.cron} in {when.time_zone}")
    for time in times:
        click.echo(f"  next {time:%Y-%m-%d %H:%M %Z}")


@schedule.command("list")
@_cluster_options
@json_option
def schedule_list(endpoint: str | None, namespace: str | None, token: str | None, as_json: bool) -> None:
    """Show the schedules that warmstart created.

    \b
    Examples:
      warmstart kubeflow schedule list
      KFP_ENDPOINT=https://kubeflow.example/pipeline warmstart kubeflow schedule list --json
    """
    from deploy.kubeflow.connection import connect, find_endpoint
    from deploy.kubeflow.schedules import list_schedules

    found = list_schedules(connect(find_endpoint(endpoint, namespace, token)))
    if as_json:
        document([dataclasses.asdict(one) for one in found])
        return
    for one in found:
        click.echo(f"{one.name}  {one.described}{'' if one.enabled else '  (switched off)'}")
    if not found:
        click.echo("warmstart has created no schedules here")


@schedule.command("delete")
@click.argument("name")
@_cluster_options
@json_option
def schedule_delete(name: str, endpoint: str | None, namespace: str | None, token: str | None, as_json: bool) -> None:
    """Delete the schedule NAME. Runs that it started stay.

    \b
    Example:
      warmstart kubeflow schedule delete nightly
    """
    from deploy.kubeflow.connection import connect, find_endpoint
    from deploy.kubeflow.schedules import delete_schedule

    delete_schedule(connect(find_endpoint(endpoint, namespace, token)), name)
    if as_json:
        document({"name": name, "done": "deleted"})
    else:
        click.echo(f"schedule {name}: deleted")


def _request(
    config_name: str,
    image: str,
    volume_claim: str,
    mount: str,
    metadata: str,
    metadata_secret: str,
    sub_path: str,
    run_as: str,
    root: str | None,
    span: str,
    **more: Any,
) -> PackageRequest:
    from deploy.kubeflow.compiler import Cluster
    from deploy.kubeflow.package_request import PackageRequest

    cluster = Cluster(
        image, volume_claim, mount.rstrip("/"), metadata, metadata_secret, sub_path.strip("/"), run_as.strip()
    )
    return PackageRequest(config_name, cluster, root=(root or "").rstrip("/"), span=span.strip(), **more)


@contextmanager
def _compiled(
    resolved: ResolvedRequest, to: Endpoint, of_this_run: Mapping[str, str]
) -> Iterator[tuple[Connection, str, Package]]:
    """Provides the connection, the name of the pipeline, and its package, compiled and checked.

    Parameters for this run alone do not become defaults of the package, so that a run of the version started in
    Kubeflow's web interface does not get them. Empty ones are left out.
    """
    from deploy.kubeflow.connection import connect
    from deploy.kubeflow.package_file import read_package
    from deploy.kubeflow.package_request import make_package
    from deploy.kubeflow.server_versions import refuse_unfit
    from deploy.output import quiet_libraries

    connection = connect(to)
    refuse_unfit(connection, resolved.cluster, resolved.config.runtime)
    quiet_libraries()
    if "span" in of_this_run:
        resolved = dataclasses.replace(resolved, defaults=dataclasses.replace(resolved.defaults, span=""))
    name, text = make_package(resolved)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"{name}.yaml")
        file.write_text(text, encoding="utf-8")
        yield connection, name, read_package(file, {key: value for key, value in of_this_run.items() if value})


def _follow(connection: Connection, run_id: str, tasks: Mapping[str, str], reports: Path, err: bool) -> int:
    """Reports every task until the run ends, and then how it ended, from its summary if that can be read here.

    Returns:
      the exit code.
    """
    from deploy.kubeflow import runs
    from deploy.root import EXIT_CODES

    def show(change: runs.TaskChange) -> None:
        seconds = "" if change.seconds is None else f"{change.seconds:8.0f} s"
        click.echo(f"  {change.name:<28} {change.state.lower():<12}{seconds}", err=err)

    ended = runs.follow(connection, run_id, show, tasks)
    if ended.stopped:
        click.echo(f"no longer following; the run continues: {connection.run_url(run_id)}", err=err)
        return 0
    outcome, succeeded = _outcome(reports), ended.state == runs.SUCCEEDED
    # Whatever the summary says, a run with a failed task is not a success.
    if outcome and (succeeded or EXIT_CODES[outcome[0]]):
        code = EXIT_CODES[outcome[0]]
        click.echo(f"status: {outcome[0]}  {outcome[1]}", err=err)
    else:
        code = 0 if succeeded else 1
        click.echo(f"status: {ended.state.lower()}", err=err)
    for task in ended.failed:
        click.echo(f"  {task.name}: {task.error or 'see its log in Kubeflow'}", err=err)
    if ended.error:
        click.echo(f"  {ended.error}", err=err)
    return code


def _outcome(reports: Path) -> tuple[str, str] | None:
    """Status and reason in the summary of a run; None: it cannot be read here, as on most machines."""
    from deploy.root import EXIT_CODES
    from schemas.run_end import RunEnd, read_summary_file

    try:
        end = read_summary_file(RunEnd, reports)
    except (OSError, ValueError):
        return None
    return (end.status, end.reason) if end.status in EXIT_CODES else None
