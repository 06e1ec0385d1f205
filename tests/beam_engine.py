"""An engine for Beam on loopback: Beam's own Python job service, with workers in processes of their own.

    python -m tests.beam_engine --workers 2

It prints the arguments for a job. Beam's job service runs one worker; this one runs as many as it is told to. Beam's
pool of external workers listens at all interfaces; this one at loopback alone. What stands in for Flink here spreads
bundles over processes, pickles and stages as any portable runner does. It shows nothing of Flink itself.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


@contextmanager
def beam_engine(workers: int, hidden: Path | None = None) -> Iterator[list[str]]:
    """Runs an engine as long as the block lasts.

    Args:
      workers: worker processes for each job.
      hidden: a folder that is empty for the workers, as where a volume is missing, which only root can arrange;
        None: they see all.

    Yields:
      arguments for `runtime.beam_pipeline_args`.
    """
    command = [sys.executable, "-m", "tests.beam_engine", "--workers", str(workers)]
    if hidden:
        mounted = f"mount -t tmpfs tmpfs {shlex.quote(str(hidden))} && exec {shlex.join(command)}"
        command = ["unshare", "--mount", "sh", "-c", mounted]
    # The pool starts `python`; workers import the product from the working directory.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # It is terminated, so what it leaves behind is removed here.
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as log:
        environment = {**os.environ, "PATH": path, "TMPDIR": folder}
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            assert process.stdout is not None
            given = process.stdout.readline().split()
            if not given:
                log.seek(0)
                raise AssertionError(log.read())
            yield given
        finally:
            process.terminate()
            process.wait(60)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves jobs until it is terminated."""
    parser = argparse.ArgumentParser(prog="python -m tests.beam_engine", description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(arguments)

    import grpc
    from apache_beam.portability.api import beam_fn_api_pb2_grpc
    from apache_beam.runners.portability import local_job_service
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
    from apache_beam.utils import thread_pool_executor

    class Job(local_job_service.BeamJob):
        def _invoke_runner(self):
            self.set_state(local_job_service.beam_job_api_pb2.JobState.RUNNING)
            runner = fn_runner.FnApiRunner(provision_info=self._provision_info)
            runner._num_workers = given.workers
            return runner.run_via_runner_api(self._pipeline_proto, self.pipeline_options())

    pool = grpc.server(thread_pool_executor.shared_unbounded_instance())
    workers = BeamFnExternalWorkerPoolServicer(use_process=True)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(workers, pool)
    pool_port = pool.add_insecure_port("127.0.0.1:0")
    pool.start()
    jobs = local_job_service.LocalJobServicer(beam_job_type=Job)
    port = jobs.start_grpc_server(0)
    print(
        "--runner=PortableRunner",
        f"--job_endpoint=localhost:{port}",
        "--environment_type=EXTERNAL",
        f"--environment_config=127.0.0.1:{pool_port}",
        flush=True,
    )
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
