"""`warmstart serve` under load, beside a plain loop over the same photos.

The other side is what somebody writes first: `tf.saved_model.load`, and a call of the signature for each photo, or for
each 32 photos. It reads nothing and refuses nothing. Both sides are processes of their own on this machine, and take
turns, so that other work on the machine costs both the same. Each number is the median of the turns.

    python -m benchmarks.serve_load --root runs/demo --data sample/cats_vs_dogs

With --changes, one push and one rollback come while 10,000 requests are under way. The pushed model is the first one
with its probabilities in reverse order, so that every answer says which version gave it. Printed are the requests that
were lost, the answers that no version gives, and the resident memory of the server on the way.

Everything is written into a temporary folder; the root is only read.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.more_photos import photos_by_class
from deploy.root import Root

CONCURRENCY = 16
LOOP_BATCH = 32
_TOLERANCE = 1e-4  # of a probability: photos are answered in batches of other sizes
_TICKS = 100  # a second, in /proc; the same on every Linux


@dataclass
class Load:
    """What the requests of one turn found."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)  # seconds
    wrong: Counter[str] = field(default_factory=Counter)  # what was wrong -> requests
    by_version: Counter[int] = field(default_factory=Counter)
    server_seconds: float = 0.0  # of processor

    @property
    def rate(self) -> float:
        """Photos answered per second."""
        return (len(self.latencies) - self.wrong.total()) / self.seconds

    def percentile(self, percent: int) -> float:
        """Milliseconds within which so many of 100 requests were answered."""
        return 1000 * statistics.quantiles(self.latencies, n=100, method="inclusive")[percent - 1]


# What each version answers to each photo: version -> photo -> probability of each class.
Expected = dict[int, list[list[float]]]


class Server:
    """A running `warmstart serve` on a loopback address, answering from a serving folder of its own."""

    def __init__(self, root: Path):
        command = [sys.executable, "-m", "deploy.cli", "serve", "--root", str(root), "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.greeting = self.process.stdout.readline()
        found = re.search(r":(\d+)/$", self.greeting)
        if not found:
            sys.exit(f"the server did not start: {self.greeting}{self.process.communicate()[1]}")
        self.port = int(found[1])

    @property
    def megabytes(self) -> float:
        """Resident memory, in millions of bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024 / 1e6

    @property
    def processor_seconds(self) -> float:
        """Time on the processor since it began."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def version(self) -> int:
        """The version that answers now."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/model")
        version = json.loads(connection.getresponse().read())["version"]
        connection.close()
        return version

    def wait_for(self, version: int) -> None:
        """Waits until a version answers."""
        until = time.monotonic() + 120
        while self.version() != version:
            if time.monotonic() > until:
                sys.exit(f"version {version} was not taken up within 2 minutes")
            time.sleep(0.2)

    def stop(self) -> tuple[int, float, str]:
        """Sends SIGTERM; the exit code, the seconds until then, and what it wrote on standard error."""
        began = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        said = self.process.communicate(timeout=60)[1]
        return self.process.returncode, time.perf_counter() - began, said


class Requests:
    """So many requests, in so many connections at once; photos take turns."""

    def __init__(self, server: Server, photos: list[bytes], expected: Expected, requests: int):
        self.load = Load()
        self._server, self._photos, self._expected = server, photos, expected
        self._numbers = iter(range(requests))
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CONCURRENCY)]

    @property
    def done(self) -> int:
        """Requests that were answered or lost."""
        return len(self.load.latencies)

    def start(self) -> None:
        """Begins."""
        self._began, self._processor = time.perf_counter(), self._server.processor_seconds
        for thread in self._threads:
            thread.start()

    def finish(self) -> Load:
        """Waits for the last one."""
        for thread in self._threads:
            thread.join()
        self.load.seconds = time.perf_counter() - self._began
        self.load.server_seconds = self._server.processor_seconds - self._processor
        return self.load

    def _next(self) -> int | None:
        with self._lock:
            return next(self._numbers, None)

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)
        while (number := self._next()) is not None:
            photo, version, began = number % len(self._photos), 0, time.perf_counter()
            try:
                connection.request("POST", "/answer", self._photos[photo])
                response = connection.getresponse()
                content = response.read()
                took = time.perf_counter() - began
                wrong = f"status {response.status}"
                if response.status == 200:
                    wrong, version = self._judged(photo, json.loads(content))
            except (OSError, http.client.HTTPException) as error:
                took, wrong = time.perf_counter() - began, f"lost ({type(error).__name__})"
                connection.close()
            with self._lock:
                self.load.latencies.append(took)
                self.load.by_version[version] += 1
                if wrong:
                    self.load.wrong[wrong] += 1
        connection.close()

    def _judged(self, photo: int, answer: dict) -> tuple[str, int]:
        """What is wrong with an answer (empty: nothing), and the version that it names."""
        version, found = answer["version"], list(answer["probabilities"].values())
        if version not in self._expected:
            return "a version that was never pushed", version
        wanted = self._expected[version][photo]
        if any(abs(a - b) > _TOLERANCE for a, b in zip(found, wanted, strict=True)):
            return "an answer that its version does not give", version
        return "", version


# ---- the other side, and the models, in processes of their own: this one imports no TensorFlow


@contextmanager
def plain_loop(model: Path, photos: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that answers all photos again for each line it reads: `PHOTOS-IN-A-CALL TIMES`."""
    command = [sys.executable, "-m", "benchmarks.serve_load", "--loop", str(model), "--photos", str(photos)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()


def ask_loop(process: subprocess.Popen[str], line: str) -> dict:
    """What the loop says to a line."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def run_loop(model: Path, photo_files: Path) -> None:
    """The loop itself."""
    import tensorflow as tf

    photos = [file.read_bytes() for file in sorted(photo_files.iterdir())]
    signature = tf.saved_model.load(str(model)).signatures["serving_default"]
    for line in sys.stdin:
        size, times = map(int, line.split())
        began, processor = time.perf_counter(), time.process_time()
        rows: list[list[float]] = []
        for _ in range(times):
            rows = []
            for i in range(0, len(photos), size):
                rows += signature(image_bytes=tf.constant(photos[i : i + size]))["probabilities"].numpy().tolist()
        took, processor = time.perf_counter() - began, time.process_time() - processor
        told = {"rate": len(photos) * times / took, "processor": processor / len(photos) / times, "rows": rows}
        print(json.dumps(told), flush=True)


def write_reversed(model: Path, to: Path) -> None:
    """Exports a model with the probabilities of another in reverse order."""
    import shutil

    import tensorflow as tf

    module = tf.Module()
    module.inner = tf.saved_model.load(str(model))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serving_default(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = module.inner.signatures["serving_default"](image_bytes=image_bytes)
        return {**outputs, "probabilities": outputs["probabilities"][:, ::-1]}

    tf.saved_model.save(module, str(to), signatures={"serving_default": serving_default})
    shutil.copytree(model / "assets.extra", to / "assets.extra")


# ---- the two measurements


def beside_a_loop(server: Server, loop: subprocess.Popen[str], photos: list[bytes], turns: int, requests: int) -> None:
    """Prints the table of throughput, latency and memory."""
    expected = {server.version(): ask_loop(loop, "1 1")["rows"]}
    ask_loop(loop, f"{LOOP_BATCH} 1")
    warm = Requests(server, photos, expected, len(photos))
    warm.start()
    warm.finish()
    times, before = max(1, round(requests / len(photos))), server.megabytes
    loads: list[Load] = []
    loops: dict[int, list[dict]] = {1: [], LOOP_BATCH: []}
    for _ in range(turns):
        for size, found in loops.items():
            found.append(ask_loop(loop, f"{size} {times}"))
        asked = Requests(server, photos, expected, times * len(photos))
        asked.start()
        loads.append(asked.finish())
    if wrong := sum((load.wrong for load in loads), Counter[str]()):
        sys.exit(f"answers were wrong: {dict(wrong)}")
    print(f"{len(photos)} photos, {turns} turns of {times * len(photos):,}, {CONCURRENCY} requests at once (medians)")
    print(f"{'':<34}{'photos/s':>10}{'CPU ms/photo':>14}{'p50 ms':>9}{'p99 ms':>9}")
    median = statistics.median
    for size, found in loops.items():
        rate, processor = (median(one[key] for one in found) for key in ("rate", "processor"))
        print(f"{f'plain loop, {size} in a call':<34}{rate:>10.1f}{1000 * processor:>14.1f}")
    processor = median(load.server_seconds / len(load.latencies) for load in loads)
    p50, p99 = (median(load.percentile(percent) for load in loads) for percent in (50, 99))
    rate = median(load.rate for load in loads)
    print(f"{'warmstart serve':<34}{rate:>10.1f}{1000 * processor:>14.1f}{p50:>9.0f}{p99:>9.0f}")
    for size, found in loops.items():
        ratio = median(load.rate / one["rate"] for load, one in zip(loads, found, strict=True))
        print(f"throughput against the loop with {size:>2} in a call: {ratio:.2f}")
    print(f"resident memory of the server: {before:.0f} MB before, {server.megabytes:.0f} MB after")


def over_changes(server: Server, root: Root, photos: list[bytes], expected: Expected, requests: int) -> None:
    """Prints what became of the requests over a push and a rollback."""
    serving = root.serving_folder()
    first, other = server.version(), root.folder / "reversed"
    memory = [("before", server.megabytes)]
    asked = Requests(server, photos, expected, requests)
    asked.start()
    _wait_until(asked, requests // 4)
    memory.append(("a quarter answered", server.megabytes))
    pushed = _push(root, other)
    expected[pushed] = [row[::-1] for row in expected[first]]
    server.wait_for(pushed)
    memory.append(("after the push", server.megabytes))
    _wait_until(asked, requests // 2)
    back = serving.rollback(first, "a measurement")
    expected[back] = expected[first]
    server.wait_for(back)
    memory.append(("after the rollback", server.megabytes))
    load = asked.finish()
    memory.append(("all answered", server.megabytes))
    again = Requests(server, photos, expected, requests // 4)
    again.start()
    again.finish()
    memory.append((f"and {requests // 4:,} more", server.megabytes))
    lost = load.wrong + again.load.wrong
    print(f"{len(load.latencies):,} requests, {CONCURRENCY} at once, over a push and a rollback")
    print(f"lost, refused or wrong: {lost.total()} {dict(lost) or ''}".rstrip())
    print("answered by each version: " + ", ".join(f"{count:,}" for _, count in sorted(load.by_version.items())))
    print(f"p50 {load.percentile(50):.0f} ms, p99 {load.percentile(99):.0f} ms, at most {max(load.latencies):.1f} s")
    print("resident memory: " + ", ".join(f"{megabytes:.0f} MB {when}" for when, megabytes in memory))


def _wait_until(asked: Requests, done: int) -> None:
    while asked.done < done:
        time.sleep(0.1)


def _push(root: Root, model: Path) -> int:
    from components.serving_folder.files import model_identity
    from schemas.release import Release

    serving = root.serving_folder()
    return serving.push(str(model), model_identity(model), Release(), serving.production()).version


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="the root folder whose model in production is asked")
    parser.add_argument("--model", type=Path, help="a model's folder, instead of a root folder")
    parser.add_argument("--data", type=Path, help="a folder of photos, one folder a class")
    parser.add_argument("--most-photos", type=int, default=64, metavar="N")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--requests", type=int, metavar="N", help="of a turn, or over the changes [512, or 10,000]")
    parser.add_argument("--changes", action="store_true", help="over a push and a rollback instead")
    parser.add_argument("--loop", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--photos", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--reverse", type=Path, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.loop:
        run_loop(given.loop, given.photos)
        return
    if given.reverse:
        write_reversed(*given.reverse)
        return
    if not given.data or not (given.root or given.model):
        parser.error("give a root folder with --root, or a model with --model, and photos with --data")
    paths = [path for paths in photos_by_class(given.data).values() for path in paths]
    chosen = paths[:: max(1, len(paths) // given.most_photos)][: given.most_photos]
    with tempfile.TemporaryDirectory() as folder:
        root, photos = Root(Path(folder, "root")), Path(folder, "photos")
        model = given.model or _production(given.root)
        photos.mkdir()
        for number, path in enumerate(chosen):
            (photos / f"{number:05}").write_bytes(path.read_bytes())
        root.prepare("measured")
        _push(root, model)
        _measure(given, root, model, photos)


def _production(folder: Path) -> Path:
    root = Root(folder)
    version = root.production_version()
    if version is None:
        sys.exit(f"nothing is in production in {folder}: give a root folder with a released model")
    return root.serving / version


def _measure(given: argparse.Namespace, root: Root, model: Path, photo_files: Path) -> None:
    photos = [file.read_bytes() for file in sorted(photo_files.iterdir())]
    if given.changes:
        reverse = ["--reverse", str(model), str(root.folder / "reversed")]
        subprocess.run([sys.executable, "-m", "benchmarks.serve_load", *reverse], check=True)
    server = Server(root.folder)
    try:
        with plain_loop(model, photo_files) as loop:
            if not given.changes:
                beside_a_loop(server, loop, photos, given.turns, given.requests or 512)
                rows = None
            else:
                rows = ask_loop(loop, "1 1")["rows"]
        if rows is not None:
            over_changes(server, root, photos, {server.version(): rows}, given.requests or 10_000)
    finally:
        code, seconds, said = server.stop()
    traced = ", with a traceback" if "Traceback" in said else ""
    print(f"SIGTERM ended it after {seconds:.1f} s with exit code {code}{traced}")


if __name__ == "__main__":
    main()
