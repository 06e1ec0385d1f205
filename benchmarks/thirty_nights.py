"""Thirty nights of scheduled retraining: `python -m benchmarks.thirty_nights --data cats_vs_dogs=DIR`.

Photos of cats and dogs are cut into spans, one comes in on most nights, and `warmstart retrain` is called every night,
in a process of its own. Some nights bring nothing, one a span that is not complete yet, one a span that is late, one
wrong labels, one other pictures; one call is killed in the middle, and one night there are two at once. After every
night `warmstart clean --days 0` removes all that the next one does not need.

Printed is a table of what was decided and why, and then what has to hold: production answers the fixed test photos,
those of the first span's test split, never worse than the night before by more than the tolerated loss; every photo of
a complete span was accepted or rejected by name; no span was read twice; every span went through the backbone once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

NAME = "cats_vs_dogs"
TOLERATED_LOSS = 0.02
FIRST_SPAN = 1
# Night -> what is special about it; on every other night a span of photos comes in.
EMPTY, HALF, COMPLETED, LATE, WRONG, OTHER, KILLED, TWICE, WITHDRAWN = (
    "nothing comes",
    "half-written",
    "is completed",
    "late",
    "wrong labels",
    "other pictures",
    "killed in the middle",
    "two calls at once",
    "withdrawn",
)
EVENTS = {
    3: EMPTY,
    5: HALF,
    6: COMPLETED,
    8: EMPTY,
    9: EMPTY,
    11: LATE,
    13: WRONG,
    14: WITHDRAWN,
    16: EMPTY,
    18: OTHER,
    19: WITHDRAWN,
    21: KILLED,
    24: TWICE,
    25: EMPTY,
    28: EMPTY,
}


@dataclass
class Night:
    """What came, and what was decided. accuracy: of production on the fixed test photos; None: nothing is in it."""

    number: int
    came: str
    status: str
    exit_code: int
    reason: str
    version: str
    accuracy: float | None
    seconds: float


@dataclass
class Story:
    """The nights, and everything that has to hold and does not."""

    nights: list[Night] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Simulation:
    """A folder of spans and a root, and the nights on them."""

    def __init__(self, folder: Path, photos: dict[str, list[Path]], first: int, nightly: int, settings: list[str]):
        """
        Args:
          folder: for spans and root.
          photos: `cat` and `dog` -> photos, none twice.
          first: photos of a class in the first span.
          nightly: photos of a class in each later one.
          settings: further `--set`.
        """
        self.data, self.root = folder / "photos", folder / "root"
        self._photos = {label: list(files) for label, files in photos.items()}
        self._first, self._nightly, self._settings = first, nightly, settings
        self._span, self._hidden = 0, 0
        self._test: list[tuple[Path, str]] = []
        # Before they are cleaned away: content hashes and file names in ingest reports, and photos by backbone pass.
        self._accepted: set[str] = set()
        self._rejected: set[str] = set()
        self._computed: dict[str, int] = {}

    def run(self, nights: int, events: dict[int, str], show) -> Story:
        """Plays the nights, one after another; `show` is told of each."""
        story = Story()
        for number in range(1, nights + 1):
            event = events.get(number, "")
            came = self._morning(event)
            began = time.monotonic()
            code, last = self._night(event)
            version, accuracy = self._production()
            self._gather()
            subprocess.run(
                [sys.executable, "-m", "deploy.cli", "clean", f"--root={self.root}", "--days=0"],
                stdout=subprocess.DEVNULL,
                check=True,
            )
            night = Night(
                number, came, last["status"], code, last["reason"], version, accuracy, time.monotonic() - began
            )
            if story.nights and story.nights[-1].accuracy is not None:
                before = story.nights[-1].accuracy
                if accuracy is None or accuracy < before - TOLERATED_LOSS - 1e-9:
                    story.wrong.append(f"night {number}: production went from {before:.1%} to {accuracy}")
            story.nights.append(night)
            show(night)
        story.wrong += self._lost_photos() + self._read_twice()
        return story

    def _morning(self, event: str) -> str:
        """What comes in before the night."""
        if event == EMPTY:
            return event
        if event == COMPLETED:
            (self._folder(self._span) / "_SUCCESS").touch()
            return f"span {self._span} {event}"
        if event == WITHDRAWN:
            shutil.rmtree(self._folder(self._span))
            return f"span {self._span} is {event}"
        if event == LATE:
            number = self._span - 1  # left free when the one after it came
        else:
            # An odd night leaves a number free, so that something may come late.
            self._span += 2 if self._span else FIRST_SPAN
            number = self._span
        self._write(number, event)
        return f"span {number}" + (f", {event}" if event in (HALF, LATE, WRONG, OTHER, KILLED, TWICE) else "")

    def _write(self, number: int, event: str) -> None:
        folder = self._folder(number)
        size = self._first if number == FIRST_SPAN else self._nightly
        for label in ("cat", "dog"):
            named = {"cat": "dog", "dog": "cat"}[label] if event == WRONG else label
            (folder / named).mkdir(parents=True, exist_ok=True)
            for i in range(size):
                if event == OTHER:
                    target = folder / named / f"{number}-{i}.png"
                    Image.fromarray(_weave(number * 1000 + i + (500 if label == "dog" else 0))).save(target)
                else:
                    photo = self._photos[label].pop()
                    shutil.copy(photo, folder / named / f"{number}-{photo.name}")
        if event != HALF:
            (folder / "_SUCCESS").touch()

    def _folder(self, number: int) -> Path:
        return self.data / f"span-{number}"

    def _night(self, event: str) -> tuple[int, dict]:
        if event == KILLED:
            process = self._start()
            deadline = time.monotonic() + 300
            while process.poll() is None and time.monotonic() < deadline and not self._is_training():
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        processes = [self._start() for _ in range(2 if event == TWICE else 1)]
        outputs = [process.communicate()[0] for process in processes]
        codes = [process.returncode for process in processes]
        lines = (
            [json.loads(line) for line in (self.root / "retrain.jsonl").read_text().splitlines()]
            if (self.root / "retrain.jsonl").exists()
            else []
        )
        tonight = lines[-len(processes) :]
        ran = [line for line in tonight if line["status"] != "skipped"] or tonight
        if not ran:
            raise RuntimeError(f"retrain left no line:\n{outputs[0]}")
        return max(codes), ran[0]

    def _is_training(self) -> bool:
        """Whether a training is at work: its state after the first epoch is there."""
        return any((self.root / "resume").glob("*")) if (self.root / "resume").exists() else False

    def _start(self) -> subprocess.Popen:
        settings = [
            "data.window=4",
            f"data.test_spans=[{FIRST_SPAN}]",
            "data.settle_seconds=86400",
            "data.splits.train=6",
            "data.splits.eval=2",
            "data.splits.test=2",
            f"release.tolerated_loss={TOLERATED_LOSS}",
            *self._settings,
        ]
        return subprocess.Popen(
            [
                sys.executable, "-m", "deploy.cli", "retrain", f"--config={NAME}", f"--data={self.data}/span-{{SPAN}}",
                f"--root={self.root}", *(f"--set={setting}" for setting in settings),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )  # fmt: skip

    def _production(self) -> tuple[str, float | None]:
        """The version in production, and its accuracy on the fixed test photos, asked of the exported model itself."""
        serving = self.root / "serving"
        versions = [path.name for path in serving.iterdir() if path.name.isdecimal()] if serving.exists() else []
        if not versions:
            return "", None
        version = max(versions, key=int)
        self._test = self._test or self._test_photos()
        answers = subprocess.run(
            [
                sys.executable, "-m", "deploy.cli", "predict", "--json", "--model", str(serving / version),
                *(str(photo) for photo, _ in self._test),
            ],
            capture_output=True,
            text=True,
            check=True,
        )  # fmt: skip
        right = [
            answer["label"] == label for answer, (_, label) in zip(json.loads(answers.stdout), self._test, strict=True)
        ]
        return version, float(np.mean(right))

    def _test_photos(self) -> list[tuple[Path, str]]:
        """Photos and labels of the first span's test split, by their content."""
        wanted = {}
        for file in self.root.glob("artifacts/ImageExampleGen/ingest_report/*/keys.jsonl"):
            for line in file.read_text().splitlines():
                content_hash, split, label = json.loads(line)
                if split == "test":
                    wanted[content_hash] = label
        photos = sorted(path for path in self._folder(FIRST_SPAN).rglob("*") if path.is_file())
        found = [(path, wanted.get(hashlib.sha256(path.read_bytes()).hexdigest(), "")) for path in photos]
        return [(path, label) for path, label in found if label]

    def _gather(self) -> None:
        artifacts = self.root / "artifacts"
        for file in artifacts.glob("ImageExampleGen/ingest_report/*/keys.jsonl"):
            self._accepted |= {json.loads(line)[0] for line in file.read_text().splitlines()}
        for file in artifacts.glob("ImageExampleGen/ingest_report/*/rejected.jsonl"):
            self._rejected |= {json.loads(line)["file_name"] for line in file.read_text().splitlines()}
        for file in artifacts.glob("FeatureVectorGen/feature_vectors/*/pass.json"):
            self._computed[file.parent.name] = json.loads(file.read_text())["computed"]

    def _lost_photos(self) -> list[str]:
        """Photos of complete spans of which no ingest report tells."""
        lost = []
        for span in sorted(self.data.iterdir()):
            if not (span / "_SUCCESS").exists():
                continue
            for path in sorted(span.rglob("*")):
                if path.is_file() and path.name != "_SUCCESS":
                    name = str(path.relative_to(span))
                    accepted = hashlib.sha256(path.read_bytes()).hexdigest() in self._accepted
                    if not accepted and name not in self._rejected:
                        lost.append(f"{span.name}/{name} was neither accepted nor rejected")
        return lost

    def _read_twice(self) -> list[str]:
        """Spans that were ingested, or passed through the backbone, more than once: from ML Metadata."""
        from ml_metadata.metadata_store import metadata_store
        from ml_metadata.proto import metadata_store_pb2

        config = metadata_store_pb2.ConnectionConfig()
        config.sqlite.filename_uri = str(self.root / "metadata.sqlite")
        store = metadata_store.MetadataStore(config)
        complete = metadata_store_pb2.Execution.COMPLETE
        wrong = []
        context = store.get_context_by_type_and_name("node", f"{NAME}.ImageExampleGen")
        read = Counter(
            execution.custom_properties["input_fingerprint"].string_value
            for execution in store.get_executions_by_context(context.id)
            if execution.last_known_state == complete
        )
        wrong += [
            f"the span with {fingerprint[:40]} was read {times} times"
            for fingerprint, times in read.items()
            if times > 1
        ]
        if (computed := sum(self._computed.values())) > len(self._accepted):
            wrong.append(f"{computed} photos went through the backbone, but there are {len(self._accepted)}")
        return wrong


def _weave(seed: int) -> np.ndarray:
    """A pattern that is neither cat nor dog: uint8 [160, 160, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:160, :160]
    waves = [np.sin(x / rng.uniform(2, 9) + rng.uniform(0, 6)) * np.cos(y / rng.uniform(2, 9)) for _ in range(3)]
    return np.clip(128 + 100 * np.stack(waves, -1) + rng.normal(0, 20, (160, 160, 3)), 0, 255).astype(np.uint8)


def real_photos(cats_vs_dogs: Path, oxford: Path | None, seed: int = 7) -> dict[str, list[Path]]:
    """`cat` and `dog` -> photos of both data sets, in an order by lot."""
    photos = {label: sorted((cats_vs_dogs / label).glob("*.jpg")) for label in ("cat", "dog")}
    if oxford is not None:
        for photo in sorted((oxford / "images").glob("*.jpg")):
            photos["cat" if photo.name[0].isupper() else "dog"].append(photo)
    for files in photos.values():
        random.Random(seed).shuffle(files)
    return photos


def row(night: Night) -> str:
    """A night as a line of the table."""
    accuracy = "" if night.accuracy is None else f"{night.accuracy:6.1%}"
    reason = night.reason if len(night.reason) <= 110 else night.reason[:107] + "..."
    return f"{night.number:>5}  {night.came:<26} {night.status:<10} {accuracy:>7} {night.seconds:5.0f} s  {reason}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True, metavar="DATASET=DIR")
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--first", type=int, default=100, help="photos of a class in the first span")
    parser.add_argument("--nightly", type=int, default=10, help="photos of a class in each later span")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    folders = dict(item.split("=", 1) for item in given.data)
    photos = real_photos(
        Path(folders["cats_vs_dogs"]), Path(folders["oxford_iiit_pet"]) if "oxford_iiit_pet" in folders else None
    )
    with tempfile.TemporaryDirectory() as folder:
        simulation = Simulation(Path(folder), photos, given.first, given.nightly, given.settings)
        print("night  came in                    decided    production          why", flush=True)
        story = simulation.run(given.nights, EVENTS, lambda night: print(row(night), flush=True))
    print()
    for line in story.wrong or ["everything holds: production, photos, spans"]:
        print(line)
    sys.exit(bool(story.wrong))


if __name__ == "__main__":
    main()
