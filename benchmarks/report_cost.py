"""What the page of a run costs, at two sizes of the data: `python -m benchmarks.report_cost --data DIR`.

DIR holds one folder a class; the photos are made from its photos by cropping. A run of the pipeline leaves its
artifacts; then a process of its own makes findings and page from them again, with nothing else around. Printed are the
seconds, their share of the run's, and the largest resident memory: of the process before it began, and while it worked.
The two sizes tell whether memory grows with the number of photos.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.more_photos import make_photos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of photos, one folder a class")
    parser.add_argument("--photos", type=int, nargs="+", default=(2000, 8000), metavar="N")
    parser.add_argument("--root", type=Path, help="measure the last run of this root folder instead")
    parser.add_argument("--report-only", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.report_only:
        print(json.dumps(_report(arguments.root)))
        return
    if arguments.root:
        _tell(_measure(arguments.root))
        return
    if not arguments.data:
        parser.error("give photos with --data, or a root folder with --root")
    for count in arguments.photos:
        with tempfile.TemporaryDirectory() as folder:
            photos, root = Path(folder, "photos"), Path(folder, "root")
            make_photos(arguments.data, photos, count, seed=1)
            command = ["-m", "deploy.cli", "run", "--config", "image_folder", "--data", str(photos)]
            done = subprocess.run(
                [sys.executable, *command, "--root", str(root)], stdout=subprocess.PIPE, text=True, check=False
            )
            if done.returncode not in (0, 3):  # 3: the run ended and pushed nothing, by verdict
                sys.exit(done.stdout)
            _tell(_measure(root))


def _measure(root: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.report_cost", "--report-only", "--root", str(root)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _tell(found: dict[str, float]) -> None:
    print(
        f"{found['photos']:>6} photos: findings {found['findings']:.1f} s ({found['cpu']:.1f} s of CPU) and page "
        f"{found['page']:.2f} s, "
        f"{(found['findings'] + found['page']) / found['run']:.1%} of the run's {found['run']:.0f} s; "
        f"memory {found['before']:,.0f} MB before, at most {found['peak']:,.0f} MB; "
        f"page {found['bytes'] / 1e6:.2f} MB, findings {found['findings_bytes'] / 1e6:.2f} MB",
        flush=True,
    )


def _report(root_folder: Path) -> dict[str, float]:
    """Makes findings and page of the last run of a root folder into a folder of their own."""
    import components  # noqa: F401  (settings that TensorFlow reads on import)

    # isort: split
    from ml_metadata.metadata_store import metadata_store
    from tfx.orchestration import metadata

    from components.report.findings import find
    from components.report.page import write_page
    from deploy import peak_memory, run_summary
    from deploy.root import CONFIG_FILE, SUMMARY_FILE, Root
    from pipeline.config import read_dumped_config
    from pipeline.run_record import read_run
    from schemas.run_end import read_summary_file
    from schemas.summary import Summary

    root = Root(root_folder)
    folder = max(path.parent for path in root.reports.glob(f"*/{SUMMARY_FILE}"))
    config, summary = read_dumped_config(folder / CONFIG_FILE), read_summary_file(Summary, folder)
    store = metadata_store.MetadataStore(metadata.sqlite_metadata_connection_config(str(root.metadata)))
    outputs = run_summary.outputs_of(config, read_run(store, config.name, folder.name), summary)
    peak_memory.reset()
    before, start, cpu = peak_memory.megabytes() or 0.0, time.perf_counter(), time.process_time()
    findings = find(outputs, config.training.seed)
    found, cpu = time.perf_counter(), time.process_time() - cpu
    with tempfile.TemporaryDirectory() as to:
        page = write_page(summary, Path(to), findings)
        written, size = time.perf_counter(), page.stat().st_size
    assert not findings["problems"], findings["problems"]
    return {
        "photos": sum(summary.data.accepted.values()) if summary.data else 0,
        "findings": found - start,
        "cpu": cpu,
        "page": written - found,
        "run": summary.duration_seconds,
        "before": before,
        "peak": peak_memory.megabytes() or 0.0,
        "bytes": size,
        "findings_bytes": len(json.dumps(findings)),
    }


if __name__ == "__main__":
    main()
