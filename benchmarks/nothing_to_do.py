"""What a night without new photos costs when there were many before: `python -m benchmarks.nothing_to_do --runs 200`.

One real run on drawn photos, in a window of spans. Then what it left, its record in ML Metadata and its reports, is
written again under other names, as often as --runs says. Printed are the seconds of `warmstart retrain`, from
the start of the process to its end, beside those of `warmstart --help`, before and after.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from deploy.metadata_address import connect

NAME = "cats_vs_dogs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, photos = Path(folder, "root"), Path(folder, "photos", "span-1")
        warmstart("sample", f"{folder}/sample", "--photos", "60")
        shutil.copytree(Path(folder, "sample", NAME), photos)
        (photos / "_SUCCESS").touch()
        retrain = [
            "retrain", f"--config={NAME}", f"--data={photos.parent}/span-{{SPAN}}", f"--root={root}",
            "--set=data.window=4", "--set=release.minimum_accuracy=0", "--set=release.minimum_test_photos=0",
            "--set=training.fine_tuning.epochs=1",
        ]  # fmt: skip
        warmstart(*retrain)
        print(f"{'runs':>6}{'retrain, nothing to do':>26}{'--help':>12}   (medians of {given.repeat})")
        for runs in (1, given.runs):
            if runs > 1:
                multiply(root, runs - 1)
            nights = [seconds(*retrain, expected="nothing is new") for _ in range(given.repeat)]
            helps = [seconds("--help", expected="Usage") for _ in range(given.repeat)]
            print(f"{runs:>6}{statistics.median(nights):>24.2f} s{statistics.median(helps):>10.2f} s", flush=True)


def multiply(root: Path, times: int) -> None:
    """Writes the record and the reports of the newest run again, so many times, as runs of their own."""
    store = connect(f"sqlite://{root / 'metadata.sqlite'}")
    report = max((root / "reports").iterdir())
    run = store.get_context_by_type_and_name("pipeline_run", report.name)
    executions = store.get_executions_by_context(run.id)
    for number in range(times):
        name = f"{report.name[:-1]}-{number:04}Z"
        shutil.copytree(report, root / "reports" / name)
        copy = metadata_store_pb2.Context(type_id=run.type_id, name=name)
        [copy.id] = store.put_contexts([copy])
        for execution in executions:
            _copy_execution(store, execution, run, copy)


def _copy_execution(
    store: metadata_store.MetadataStore,
    execution: metadata_store_pb2.Execution,
    run: metadata_store_pb2.Context,
    copy: metadata_store_pb2.Context,
) -> None:
    contexts = [c for c in store.get_contexts_by_execution(execution.id) if c.id != run.id]
    events = store.get_events_by_execution_ids([execution.id])
    artifacts = {a.id: a for a in store.get_artifacts_by_id(sorted({event.artifact_id for event in events}))}
    pairs = []
    for event in events:
        artifact, again = metadata_store_pb2.Artifact(), metadata_store_pb2.Event(type=event.type, path=event.path)
        artifact.CopyFrom(artifacts[event.artifact_id])
        if event.type == metadata_store_pb2.Event.OUTPUT:
            artifact.ClearField("id")
        pairs.append((artifact, again))
    made = metadata_store_pb2.Execution()
    made.CopyFrom(execution)
    made.ClearField("id")
    made.ClearField("name")
    store.put_execution(made, pairs, [*contexts, copy])


def warmstart(*arguments: str) -> str:
    """What the command printed."""
    done = subprocess.run([sys.executable, "-m", "deploy.cli", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    return done.stdout


def seconds(*arguments: str, expected: str) -> float:
    """Of a command that has to print something."""
    began = time.perf_counter()
    printed = warmstart(*arguments)
    took = time.perf_counter() - began
    if expected not in printed:
        sys.exit(f"expected {expected!r}, found:\n{printed}")
    return took


if __name__ == "__main__":
    main()
