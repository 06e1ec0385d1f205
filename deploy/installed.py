"""The checks of `warmstart doctor` on what is installed: Python, the packages, and whether the libraries start."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from deploy.checks import Check
from schemas.words import and_more

LOCK_FILE = Path(__file__).parents[1] / "requirements.lock"
_START_SECONDS = 300
_INSTALL = "run make install, or pip install warmstart"
# What a run imports, in the order in which it does.
_IMPORTS = "import components, tensorflow, tf_keras, tensorflow_hub, apache_beam, tfx.v1, ml_metadata"


def python() -> Check:
    """Whether warmstart is installed in this Python, and supports its version."""
    version = platform.python_version()
    found = f"{version}, {sys.executable}"
    try:
        wanted = metadata.metadata("warmstart")["Requires-Python"] or ""
    except metadata.PackageNotFoundError:
        return Check("Python", "fail", f"{found}; warmstart is not installed in it", _INSTALL)
    from packaging.specifiers import SpecifierSet

    if not SpecifierSet(wanted).contains(version, prereleases=True):
        return Check("Python", "fail", found, f"use Python {wanted}")
    return Check("Python", "ok", found)


def packages(distribution: str = "warmstart") -> Check:
    """Whether everything that setup.py requires is installed, in a version that it allows."""
    try:
        from packaging.requirements import Requirement

        wanted = [Requirement(text) for text in metadata.requires(distribution) or ()]
    except (ImportError, metadata.PackageNotFoundError) as error:
        return Check("packages", "fail", f"{error} is not installed", _INSTALL)
    wrong, count = [], 0
    for requirement in wanted:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        version = version_of(requirement.name)
        if version is None:
            wrong.append(f"{requirement.name} is not installed")
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, but {requirement.specifier} is required")
    if wrong:
        return Check("packages", "fail", and_more(wrong, 3, "; "), _INSTALL)
    main = ", ".join(f"{name} {version_of(name)}" for name in ("tfx", "tensorflow", "tf-keras"))
    return Check("packages", "ok", f"{main}; all {count} packages that setup.py requires")


def locked_packages(lock: Path) -> Check:
    """Whether the installed versions are the ones that the tests ran with.

    Args:
      lock: requirements.lock; an installed package does not have it.
    """
    name = "locked versions"
    if not lock.is_file():
        return Check(name, "ok", "nothing to compare with: an installed package has no requirements.lock")
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
        version = version_of(requirement.name)
        count += 1
        if version is not None and not requirement.specifier.contains(version, prereleases=True):
            others.append(f"{requirement.name} {version} instead of {requirement.specifier}")
    if others:
        return Check(name, "warn", f"{len(others)} of {count} differ: {and_more(others, 3, '; ')}", "make install")
    return Check(name, "ok", f"all {count} packages match {lock.name}")


def version_of(name: str) -> str | None:
    """The installed version of a package; None: it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def libraries() -> Check:
    """Whether TensorFlow and TFX start, tried in another process: a library that they need may be missing."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _IMPORTS], capture_output=True, text=True, timeout=_START_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        found = f"TensorFlow and TFX did not start within {_START_SECONDS} s"
        return Check("libraries", "fail", found, "close other programs and try again")
    if done.returncode == 0:
        return Check("libraries", "ok", "TensorFlow, TFX, Beam and ML Metadata start")
    if done.returncode < 0:
        found = f"TensorFlow and TFX were killed by signal {-done.returncode} while starting"
        return Check(
            "libraries", "fail", found, "use a processor with AVX, which TensorFlow's wheels need, and enough memory"
        )
    said = (done.stderr.strip().splitlines() or ["no error message"])[-1]
    return Check("libraries", "fail", f"TensorFlow and TFX do not start: {said}", "reinstall with make install")
