"""The image, built and tried without a daemon or a registry, of Debian's packages.

It takes about ten minutes, some 10 GB of disk and root, so it is asked for by name:

    apt-get install buildah debootstrap
    WARMSTART_TEST_IMAGE=1 .venv/bin/python -m pytest tests/end_to_end/test_image.py
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "build_image.sh"
BASE = "localhost/warmstart-base:bookworm-python3.10"
MISSING = [tool for tool in ("buildah", "debootstrap") if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("WARMSTART_TEST_IMAGE") != "1", reason="needs WARMSTART_TEST_IMAGE=1"),
    pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(SCRIPT), "--builder", "buildah", *arguments], capture_output=True, text=True, check=False
    )


def test_the_image_is_built_and_runs_the_pipeline_read_only_as_any_user():
    done = run("--rootfs", "debootstrap", "--tag", "warmstart-test:1")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    *_, verdict = done.stdout.splitlines()
    assert re.fullmatch(
        r"warmstart-test:1: \d.*[MG]B, user 1000:1000, no build tools, backbone converted, runs read-only as any user",
        verdict,
    )
    assert done.stdout.count("status: skipped  only a part of the pipeline ran") == 2
    assert "uid=12345 gid=0" in done.stdout
    assert "uid=1000 gid=1000" in done.stdout


def test_the_serving_image_is_built_and_serves_read_only_as_any_user():
    """After the test above, of whose layers this has most."""
    done = run("--target", "serving", "--rootfs", "debootstrap", "--tag", "warmstart-serving-test:1")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    *_, verdict = done.stdout.splitlines()
    assert re.fullmatch(r"warmstart-serving-test:1: \d.*[MG]B, user 1000:1000, serves read-only as any user", verdict)


def test_an_image_that_runs_as_root_is_refused():
    """After the test above, of whose image this is the base."""
    done = run("--check-only", "--tag", BASE)
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {BASE} runs as user ''; expected a number that is not 0"
