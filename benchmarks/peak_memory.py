"""Peak memory of a whole run at two sizes of the data: `python -m benchmarks.peak_memory --data DIR`.

DIR holds one folder a class; the photos are made from its photos by cropping. The peak is the largest resident set of
any process of the run, as the operating system counts it.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.more_photos import make_photos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of photos, one folder a class")
    parser.add_argument("--photos", type=int, nargs=2, default=(500, 5000), metavar="N")
    parser.add_argument("--run", type=Path, nargs=2, metavar=("PHOTOS", "ROOT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        _run_and_tell(*arguments.run)
        return
    peaks = []
    for count in arguments.photos:
        with tempfile.TemporaryDirectory() as folder:
            photos = Path(folder, "photos")
            make_photos(arguments.data, photos, count, seed=1)
            # In a process of its own, for the peak is that of all children so far.
            command = [sys.executable, "-m", "benchmarks.peak_memory", "--data", str(arguments.data)]
            done = subprocess.run(
                [*command, "--run", str(photos), str(Path(folder, "root"))],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        peaks.append(float(done.stdout))
        print(f"{count:>6} photos: {peaks[-1]:,.0f} MB")
    print(f"ratio: {peaks[1] / peaks[0]:.2f}")


def _run_and_tell(photos: Path, root: Path) -> None:
    """Runs the pipeline and prints the peak, in MB."""
    command = [sys.executable, "-m", "deploy.cli", "run", "--config", "image_folder", "--data", str(photos)]
    done = subprocess.run([*command, "--root", str(root)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 3):  # 3: the run ended and pushed nothing, by verdict
        sys.exit(done.stdout)
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
