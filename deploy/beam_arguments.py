"""The arguments that each step runs Apache Beam with, and the mistakes in them that can be seen before the first job.

They are no part of the compiled pipeline: TFX puts that into its cache keys, so another port of the same cluster would
run every Beam step again. Nothing here imports Beam.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args
from urllib.parse import urlsplit

from pipeline.config.release import BeamStep, RuntimeConfig
from schemas.errors import BadInput
from schemas.words import did_you_mean

# In this process and in memory. This runner never opens the setup file; without the argument TFX would build a
# source distribution at each Beam step.
LOCAL = ("--runner=FnApiRunner", "--direct_running_mode=in_memory", "--setup_file=unused")
BEAM_STEPS: tuple[str, ...] = get_args(BeamStep)

# Beam's own names (StandardOptions.ALL_KNOWN_RUNNERS), those that run here, and those with workers elsewhere.
_IN_THIS_MACHINE = ("DirectRunner", "BundleBasedDirectRunner", "SwitchingDirectRunner", "FnApiRunner")
_PORTABLE = ("PortableRunner", "FlinkRunner", "SparkRunner", "PrismRunner")
_OTHERS = ("DataflowRunner", "InteractiveRunner", "TestDirectRunner", "TestDataflowRunner")
_KNOWN = (*_IN_THIS_MACHINE, *_PORTABLE, *_OTHERS)
_ENVIRONMENTS = ("DOCKER", "PROCESS", "EXTERNAL", "LOOPBACK")
# With any of them TFX (dependency_utils.py) does not ship itself to the workers.
_DEPENDENCIES = ("extra_package", "extra_packages", "setup_file", "requirements_file", "sdk_container_image")
_OLD_IMAGE = "worker_harness_container_image"
# The workers have the packages already. Only Docker environments start this image, and those must name their own.
_NOTHING_TO_SHIP = "--sdk_container_image=warmstart"
_MASTERS = ("job_endpoint", "flink_master", "spark_master_url")
_HERE = ("localhost", "127.0.0.1", "::1", "[auto]", "[local]", "[collection]", "embed")
_CONNECT_SECONDS = 3.0


@dataclass(frozen=True)
class Given:
    """Arguments for Beam, read as Beam reads them."""

    flags: dict[str, str]
    """Flag -> its last value; a flag without a value has an empty one."""

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Given:
        flags, words = {}, list(arguments)
        for number, word in enumerate(words):
            if word.startswith("--"):
                flag, equals, value = word[2:].partition("=")
                following = words[number + 1] if number + 1 < len(words) else "--"
                flags[flag] = value if equals or following.startswith("--") else following
        return cls(flags)

    @property
    def runner(self) -> str:
        """Name of the runner, as Beam spells it where it knows it (`flink` and `flinkrunner` are FlinkRunner)."""
        given = self.flags.get("runner", "DirectRunner")
        spellings = {known.lower(): known for known in _KNOWN}
        return spellings.get(given.lower()) or spellings.get(f"{given.lower()}runner") or given

    @property
    def in_this_machine(self) -> bool:
        return self.runner in _IN_THIS_MACHINE

    @property
    def environment(self) -> str:
        """Where portable runners run workers; Beam's default is DOCKER."""
        return self.flags.get("environment_type") or "DOCKER"

    @property
    def has_image(self) -> bool:
        return bool(self.flags.get("sdk_container_image") or self.flags.get(_OLD_IMAGE))


def of_steps(runtime: RuntimeConfig) -> dict[str, list[str]]:
    """Beam step -> its arguments."""
    engine = complete(runtime.beam_pipeline_args)
    there = BEAM_STEPS if runtime.beam_steps is None else runtime.beam_steps
    return {step: engine if step in there else list(LOCAL) for step in BEAM_STEPS}


def complete(arguments: Sequence[str]) -> list[str]:
    """The arguments, with one that keeps TFX from building and shipping itself at each step; empty: those for here."""
    if not arguments:
        return list(LOCAL)
    flags = Given.of(arguments).flags
    ships = any(flags.get(flag) for flag in (*_DEPENDENCIES, _OLD_IMAGE))
    return [*arguments, *([] if ships else [_NOTHING_TO_SHIP])]


def refuse_wrong(runtime: RuntimeConfig, connects: bool = True) -> None:
    """Refuses arguments with which no job could run, before the first one.

    Args:
      runtime: with the arguments.
      connects: whether to try the addresses in them.

    Raises:
      BadInput: the runner is unknown or loses data, the workers have no environment with this product, or nothing
        listens at an address.
    """
    if not runtime.beam_pipeline_args:
        return
    given = Given.of(runtime.beam_pipeline_args)
    problem = next(_problems(given), None) or (next(_unreachable(given), None) if connects else None)
    if problem:
        raise BadInput(f"runtime.beam_pipeline_args {problem}")


def _problems(given: Given) -> Iterator[str]:
    """What is wrong, as the end of a sentence, the first thing to mend first."""
    runner, flags = given.runner, given.flags
    if runner.rpartition(".")[2].lower().startswith("dask"):
        yield f"names {runner}, which loses what steps write (Beam 2.74 and 2.77); choose another runner"
    if runner not in _KNOWN and "." not in runner:
        hint = did_you_mean(runner, list(_KNOWN))
        yield f"names the runner {runner!r}, which is unknown{hint}; expected one of {', '.join(_KNOWN)}"
    if runner == "PortableRunner" and not flags.get("job_endpoint"):
        yield "names PortableRunner without --job_endpoint=HOST:PORT; add the address of the job service"
    if runner not in _PORTABLE:
        return
    environment, config = given.environment, flags.get("environment_config", "")
    if environment not in _ENVIRONMENTS and not environment.startswith("beam:env:"):
        yield f"has the environment_type {environment!r}; expected one of {', '.join(_ENVIRONMENTS)}"
    if environment == "DOCKER" and not (given.has_image or config):
        yield (
            f"has no environment_type for {runner}, so Beam would start its own image, which has no warmstart; add "
            "--environment_type=EXTERNAL and --environment_config=HOST:PORT of a worker pool, or "
            "--sdk_container_image=IMAGE with warmstart in it"
        )
    if environment in ("EXTERNAL", "PROCESS") and not config and not flags.get("environment_options"):
        what = "HOST:PORT of the worker pool" if environment == "EXTERNAL" else "the command of a worker"
        yield f"has --environment_type={environment} without --environment_config; add it, with {what}"
    masters = [(flag, flags[flag]) for flag in _MASTERS if flags.get(flag)]
    for flag, address in masters:
        if environment == "LOOPBACK" and _is_elsewhere(address):
            yield (
                f"has --environment_type=LOOPBACK with --{flag}={address}: the workers there could not reach this "
                "process; choose EXTERNAL, PROCESS or DOCKER"
            )


def _unreachable(given: Given) -> Iterator[str]:
    """Addresses at which nothing listens."""
    if given.runner not in _PORTABLE:
        return
    addresses = [(flag, given.flags[flag]) for flag in _MASTERS if given.flags.get(flag)]
    elsewhere = any(_is_elsewhere(address) for _, address in addresses)
    pool = given.flags.get("environment_config", "")
    # An engine elsewhere asks for the pool at its own localhost: one stands beside each of its task managers.
    if given.environment == "EXTERNAL" and (_is_elsewhere(pool) or not elsewhere):
        addresses.append(("environment_config", pool))
    for flag, address in addresses:
        host, port = _host_and_port(address)
        if not host or port is None:
            continue
        try:
            socket.create_connection((host, port), _CONNECT_SECONDS).close()
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            yield f"has --{flag}={address}, where nothing listens ({reason}); start it, or correct the address"


def _is_elsewhere(address: str) -> bool:
    return address not in _HERE and _host_and_port(address)[0] not in _HERE


def _host_and_port(address: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        return parts.hostname or "", parts.port
    except ValueError:
        return "", None
