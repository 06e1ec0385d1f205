"""The checks of `warmstart doctor` on what is installed, each at its best and at its worst."""

import pytest

from deploy import installed
from tests.doctor_checks import assert_fails


def test_a_python_out_of_range_fails(monkeypatch):
    monkeypatch.setattr(installed.platform, "python_version", lambda: "3.9.1")
    assert_fails(installed.python(), "3.9.1", "use Python", ">=3.10")


def test_what_setup_asks_for_and_is_not_installed_fails(tmp_path, monkeypatch):
    folder = tmp_path / "shop-1.0.dist-info"
    folder.mkdir()
    wanted = ["click>=99", "no-such-package-of-anybody==1", "rich>=1", "kfp==99; extra == 'kubeflow'"]
    lines = ["Metadata-Version: 2.1", "Name: shop", "Version: 1.0", *(f"Requires-Dist: {one}" for one in wanted)]
    (folder / "METADATA").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert_fails(
        installed.packages("shop"), "click is ", "but >=99 is required", "no-such-package-of-anybody is not installed"
    )
    assert "kfp" not in installed.packages("shop").found
    assert_fails(installed.packages("no-such-shop"), "no-such-shop")


def test_versions_beside_the_lock_are_a_warning(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("click==0.1 ; sys_platform == 'linux' \\\n    --hash=sha256:00\nrich==0.2 ; python_version < '3'\n")
    check = installed.locked_packages(lock)
    assert (check.state, check.todo) == ("warn", "make install")
    assert "1 of 1 differ: click " in check.found
    assert installed.locked_packages(tmp_path / "none").state == "ok"
    assert installed.locked_packages(installed.LOCK_FILE).state == "ok"


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("raise ImportError('libcudart.so.11 is not there')", "libcudart.so.11 is not there"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "signal 4"),
    ],
)
def test_a_tensorflow_that_does_not_start_fails(tmp_path, monkeypatch, code, word):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert_fails(installed.libraries(), word)


def test_a_tensorflow_that_does_not_come_to_an_end_fails(tmp_path, monkeypatch):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("import time\ntime.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(installed, "_START_SECONDS", 0.5)
    assert_fails(installed.libraries(), "did not start within 0.5 s")


@pytest.mark.slow
@pytest.mark.release
def test_the_libraries_start():
    assert installed.libraries().state == "ok"
