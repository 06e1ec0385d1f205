"""`benchmarks/serve_load.py` on a tiny model: no request is lost over a push and a rollback, and it tells the truth."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import serve_load

REPOSITORY = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.release]


@pytest.fixture(scope="module")
def photo_folder(tmp_path_factory, drawn_photos) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for photo in drawn_photos:
        (folder / photo.label).mkdir(exist_ok=True)
        (folder / photo.label / photo.name).write_bytes(photo.photo_bytes)
    return folder


def measured(model: str, photos: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.serve_load", "--model", model, "--data", str(photos), *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    assert re.search(r"SIGTERM ended it after \d+\.\d s with exit code 0$", done.stdout.strip())
    return done.stdout


def test_ten_thousand_requests_over_a_push_and_a_rollback_are_answered(exported_model, photo_folder):
    found = measured(exported_model, photo_folder, "--changes")
    assert "10,000 requests, 16 at once, over a push and a rollback\nlost, refused or wrong: 0\n" in found
    counts = re.search(r"answered by each version: (.*)", found)[1].split(", ")
    assert len(counts) == 3
    assert sum(int(count.replace(",", "")) for count in counts) == 10_000
    memory = [int(megabytes) for megabytes in re.findall(r"(\d+) MB", found)]
    assert memory[-1] < 1.1 * memory[-2], "memory grows with the requests"


def test_the_server_beside_a_loop(exported_model, photo_folder):
    found = measured(exported_model, photo_folder, "--turns", "1", "--requests", "24")
    assert "24 photos, 1 turns of 24, 16 requests at once" in found
    assert len(re.findall(r"throughput against the loop with  ?\d+ in a call: \d+\.\d\d", found)) == 2


def test_an_answer_that_its_version_does_not_give_is_found():
    asked = serve_load.Requests.__new__(serve_load.Requests)
    asked._expected = {1: [[0.25, 0.75]], 2: [[0.75, 0.25]]}

    def judged(version: int, *probabilities: float) -> str:
        answer = {"version": version, "probabilities": dict(zip("ab", probabilities, strict=True))}
        return asked._judged(0, answer)[0]

    assert judged(1, 0.25, 0.75) == judged(2, 0.75, 0.25) == ""
    assert judged(1, 0.75, 0.25) == "an answer that its version does not give"
    assert judged(3, 0.25, 0.75) == "a version that was never pushed"
