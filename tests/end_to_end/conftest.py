"""What the whole runs share: drawn photos in both official layouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.commands import warmstart


@pytest.fixture(scope="session")
def sample(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    code, output = warmstart("sample", str(folder / "photos"), "--photos", "200")
    assert code == 0, output
    return folder / "photos"
