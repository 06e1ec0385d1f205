"""From a run to its review over HTTP, from there to corrections, and to the next run that says what they changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deploy.metadata_address import connect
from schemas.corrections import Correction, corrections_csv, read_corrections
from tests.end_to_end.commands import REPOSITORY, warmstart

pytestmark = [pytest.mark.slow, pytest.mark.release]

QUICK = [
    "--set=training.feature_extraction.epochs=20",
    "--set=training.fine_tuning.epochs=1",
    "--set=serving.golden_photos=4",
    "--set=release.minimum_accuracy=0",
    "--set=release.minimum_test_photos=0",
    "--set=data.max_contradictions=0.1",
]


class Server:
    """`warmstart serve --review latest` as a process."""

    def __init__(self, root: Path):
        command = [sys.executable, "-m", "deploy.cli", "serve", "--review=latest", "--root", str(root), "--port=0"]
        self._process = subprocess.Popen(
            [*command, "--who=ann"], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdout is not None
        seen = ""
        while not (found := re.search(r"review of \S+: (http://\S+/)", seen)):
            line = self._process.stdout.readline()
            assert line, seen
            seen += line
        self._address = found[1]
        for _ in range(600):  # the address is taken before the server answers there
            with contextlib.suppress(urllib.error.URLError):
                self.get("items")
                return
            time.sleep(0.1)
        raise AssertionError("the server takes no connections")

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self._address + path) as reply:
            return reply.read()

    def decide(self, content_hash: str, decision: str, **more: str) -> None:
        body = json.dumps({"content_hash": content_hash, "decision": decision, **more}).encode()
        request = urllib.request.Request(
            f"{self._address}decide", body, {"Content-Type": "application/json"}, method="POST"
        )
        urllib.request.urlopen(request).close()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60) == 0


def whole_photos(files: Iterable[Path]) -> list[Path]:
    """Those that can be decoded; a few in the sample cannot."""
    found = []
    for file in files:
        with contextlib.suppress(OSError), Image.open(file) as image:
            image.load()
            found.append(file)
    return found


def newest(root: Path) -> tuple[dict[str, Any], Path]:
    """The summary of the newest run, and its folder."""
    file = max((root / "reports").glob("*/summary.json"))
    return json.loads(file.read_text()), file.parent


def hash_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_what_a_review_says_is_what_the_next_run_learns(shaded, small, tmp_path):
    photos, root = tmp_path / "photos", tmp_path / "root"
    shutil.copytree(shaded, photos)
    good = whole_photos(sorted((photos / "dog").glob("*.jpg")))
    planted = {hash_of(file): file for file in good[20:28]}
    for file in planted.values():
        shutil.move(file, photos / "cat" / file.name)
    both = good[30]
    shutil.copy(both, photos / "cat" / f"copy_of_{both.name}")
    arguments = ["--config=cats_vs_dogs", f"--data={photos}", f"--root={root}", *small, *QUICK]
    code, output = warmstart("run", *arguments)
    assert code == 0, output
    first, folder = newest(root)
    assert "corrections" not in first["data"]
    listed = json.loads((folder / "findings.json").read_text())
    assert (folder / "findings.csv").read_text().count("\n") == len(listed["findings"]) + 1

    server = Server(root)
    items = {item["content_hash"]: item for item in json.loads(server.get("items"))["items"]}
    suspected = [key for key in planted if key in items and items[key]["proposal"] == "dog"]
    assert len(suspected) >= 3, "the bright ones among the cats are suspected"
    for key in suspected:
        assert server.get(f"photo/{key}")[:3] == b"\xff\xd8\xff"
    *changed, dropped = suspected
    for key in changed:
        server.decide(key, "change", label="dog")
    server.decide(dropped, "drop")
    contradictory = items[hash_of(both)]
    assert contradictory["labels"] == ["cat", "dog"]
    server.decide(contradictory["content_hash"], "change", label="dog")
    kept = [key for key, item in items.items() if key not in planted and item["labels"] == ["cat"]][:1]
    for key in kept:
        server.decide(key, "keep")
    server.stop()
    corrections = root / "corrections.csv"
    assert {one.who for one in read_corrections(corrections)} == {"ann"}

    code, output = warmstart("retrain", *arguments, f"--set=data.corrections={corrections}")
    assert code in (0, 3), output
    second, folder = newest(root)
    found = second["data"]["corrections"]
    assert (found["changed"], found["dropped"], found["unmatched"]) == (len(changed) + 1, 1, {})
    assert f"by data.corrections: {len(changed) + 1} labels corrected, 1 photo dropped" in output
    assert second["data"]["rejected"].get("contradictory_label") is None
    accepted = sum(second["data"]["accepted"].values()) - sum(first["data"]["accepted"].values())
    assert accepted == 2 - 1  # both copies of the photo in two classes, and one dropped
    # No photo but the one that was in two classes passed through the backbone again.
    assert second["vectors"]["computed"] <= 2
    assert second["vectors"]["reused"] >= sum(first["data"]["accepted"].values()) - 1
    assert ",corrections:" in second["data_fingerprint"]
    told = {one["content_hash"]: one for one in found["photos"]}
    for key in changed:
        assert (told[key]["old_label"], told[key]["new_label"], told[key]["answer"]) == ("cat", "dog", "dog")
        assert told[key]["probability"] > 0.5
    assert "answer" not in told[dropped]
    page = (folder / "index.html").read_text()
    assert "was <bdi>cat</bdi>, now <bdi>dog</bdi>" in page
    assert "the model answers <bdi>dog</bdi>" in page
    suspects = [
        one
        for one in json.loads((folder / "findings.json").read_text())["findings"]
        if one["kind"] == "suspected_label"
    ]
    assert not {one["content_hash"] for one in suspects} & {*changed, dropped, *kept}

    code, output = warmstart("retrain", *arguments, f"--set=data.corrections={corrections}")
    assert (code, "nothing is new" in output) == (0, True), output
    code, output = warmstart("retrain", *arguments, f"--set=data.corrections={tmp_path}/nothing.csv")
    assert (code, "does not exist" in output) == (2, True), output


def test_a_correction_reaches_the_earlier_spans_of_a_window(shaded, small, tmp_path):
    root = tmp_path / "root"
    files = [file for label in ("cat", "dog") for file in sorted((shaded / label).glob("*.jpg"))]
    good = whole_photos(files)
    for i, file in enumerate(good):
        target = tmp_path / "photos" / f"span-{1 + i % 2}" / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    arguments = ["--config=cats_vs_dogs", f"--data={tmp_path}/photos/span-{{SPAN}}", f"--root={root}", *small, *QUICK]
    arguments += ["--set=data.window=2", "--set=data.settle_seconds=0"]
    code, output = warmstart("retrain", *arguments)
    assert code in (0, 3), output
    before, _ = newest(root)

    def judged() -> int:
        store = connect(f"sqlite://{root}/metadata.sqlite")
        context = store.get_context_by_type_and_name("node", "cats_vs_dogs.DriftGate")
        return sum(one.last_known_state == one.COMPLETE for one in store.get_executions_by_context(context.id))

    judgements = judged()
    hashes = [hash_of(file) for file in good]
    of_first = next(file for file, key in zip(good, hashes, strict=True) if hashes.count(key) == 1)
    corrections = root / "corrections.csv"
    corrections.write_bytes(
        corrections_csv([Correction(content_hash=hash_of(of_first), old_label="cat", new_label="dog")])
    )
    code, output = warmstart("retrain", *arguments, f"--set=data.corrections={corrections}")
    assert code in (0, 3), output
    after, _ = newest(root)
    assert after["run_id"] != before["run_id"]
    assert after["window"]["data"]["corrections"]["changed"] == 1
    assert after["window"]["data"]["corrections"]["unmatched"] == {}
    [told] = after["window"]["data"]["corrections"]["photos"]
    assert (told["file_name"], told["new_label"]) == (f"cat/{of_first.name}", "dog")
    assert told["answer"] in ("cat", "dog")
    counted = [summary["window"]["data"]["classes"] for summary in (before, after)]
    dogs = [sum(counts.get("dog", 0) for counts in classes.values()) for classes in counted]
    assert dogs[1] == dogs[0] + 1
    assert after["vectors"]["computed"] == 0
    # The newest span is judged in every run; the earlier one keeps its verdict.
    assert judged() == judgements + 1
    assert "1 label corrected" in output
    code, output = warmstart("retrain", *arguments, f"--set=data.corrections={corrections}")
    assert (code, "nothing is new" in output) == (0, True), output
