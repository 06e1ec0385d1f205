"""What benchmarks/engine_scale.py reads of processes, and what it makes of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.engine_scale import Seen, Step, Watch, _processes_below

RUN, WORKER, LATE_WORKER = 1, 2, 3


@pytest.fixture
def watch() -> Watch:
    """A run of 100 s, and workers that are there from second 20 to 40 and from 30 on."""
    watch = Watch()
    for moment in range(0, 101, 5):
        processes = {RUN: Seen(moment * 0.1, 500.0, False)}
        if 20 <= moment <= 40:
            processes[WORKER] = Seen(moment - 20.0, 100.0 + moment, True)
        if moment >= 30:
            processes[LATE_WORKER] = Seen((moment - 30) * 2.0, 110.0, True)
        watch.moments.append((float(moment), processes))
    return watch


def test_a_step_has_what_every_process_used_from_its_begin_to_its_end(watch):
    # The run 4.5 - 2.0, the first worker 20 - 0 (it was seen before the step, at 20, with nothing), the other one 30.
    assert watch.step(25.0, 45.0, on_engine=True).processor_seconds == pytest.approx(2.5 + 20.0 + 30.0)


def test_memory_is_that_of_the_largest_worker_and_of_the_run_without_an_engine(watch):
    assert watch.step(25.0, 45.0, on_engine=True) == Step(20.0, pytest.approx(52.5), (135.0, 140.0))
    assert watch.step(25.0, 45.0, on_engine=False).megabytes == (500.0, 500.0)


def test_processes_are_found_with_those_that_they_started():
    """A process that starts another one, whose arguments are those of a worker of Beam."""
    inner = "x = b'.' * 60_000_000; print('ready', flush=True); input()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}, 'sdk_worker'])"
    with subprocess.Popen([sys.executable, "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        above, below = (dict(_processes_below(number)) for number in (os.getpid(), process.pid))
        process.communicate(b"\n")
    [(number, worker)] = below.items()
    assert {number, process.pid} <= above.keys()
    assert worker.is_worker
    assert 60 < worker.megabytes < 200
    assert worker.processor_seconds >= 0
    assert not dict(_processes_below(process.pid))
