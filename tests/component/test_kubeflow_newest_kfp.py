"""The tests that need `kfp` and no TFX, with the newest `kfp`; others run them with that of the locked environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
# What needs `kfp` and no TFX.
TESTS_OF_KFP = (
    "tests/component/kubeflow_client",
    "tests/component/test_kubeflow_compiler.py",
    "tests/unit/test_kubeflow_lint.py",
)


@pytest.mark.slow
@pytest.mark.release
def test_the_newest_kfp_client_passes_too(tmp_path_factory):
    """The tests of the client, the package and its linter, in an environment with the newest `kfp` and without TFX."""
    environment = tmp_path_factory.mktemp("newest") / "venv"
    requirements = REPOSITORY / "tests" / "requirements-kfp-newest.txt"
    python = environment / "bin" / "python"
    uv = REPOSITORY / ".tools" / "bin" / "uv"
    clean = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}

    def run(*command: object) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(part) for part in command], cwd=REPOSITORY, env=clean, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done

    if uv.is_file():
        run(uv, "venv", "--quiet", "--python", sys.executable, environment)
        run(uv, "pip", "install", "--quiet", "--python", python, "-r", requirements)
    else:
        run(sys.executable, "-m", "venv", environment)
        run(python, "-m", "pip", "install", "--quiet", "-r", requirements)

    versions = run(
        python, "-c", "import kfp, kfp_server_api as api; print(kfp.__version__, api.__version__)"
    ).stdout.split()
    assert all(version.startswith("2.") and version not in ("2.5.0", "2.0.5") for version in versions)
    # The folder's conftest.py is loaded, and not that of all tests, which needs more packages.
    options = ("-q", f"--confcutdir={TESTS_OF_KFP[0]}", "-p", "no:cacheprovider", "-m", "not release")
    for tests in TESTS_OF_KFP:
        tested = run(python, "-m", "pytest", *options, tests)
        summary = tested.stdout.strip().splitlines()[-1]
        assert " passed" in summary, tests
        assert "skipped" not in summary, tests
    shutil.rmtree(environment)
