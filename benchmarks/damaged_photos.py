"""Reads ten thousand damaged photos as ingestion does: `python -m benchmarks.damaged_photos --photos 10000`.

Real or drawn photos of all formats are cut, filled with zeros, overwritten, joined and turned round, and read by the
functions of ImageExampleGen, in one process. With them are an animation of 5,000 frames and a film of 2 GiB. Printed
are the reasons, the peak of memory and the time a file. An error other than a rejection ends it with a traceback.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from components.example_gen.conversion import read_path, read_photo
from components.example_gen.photo import PhotoRejected
from components.example_gen.photo_rules import PhotoRules
from deploy import peak_memory
from samples.sample_photos import write_sample_photos

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WebP", "TIFF")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--data", type=Path, help="a folder of real photos; without it photos are drawn")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    draw, rules = random.Random(given.seed), PhotoRules()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = originals(given.data, folder)
        # Made in a process of its own, whose memory is not ours.
        making = multiprocessing.get_context("spawn").Process(target=long_gif, args=(folder / "long.gif",))
        making.start()
        making.join()
        huge = {"an animation of 5,000 frames": folder / "long.gif", "a film of 2 GiB": film(folder)}
        read_photo(sources[0], rules)  # TensorFlow traces the graph once
        peak_memory.reset()
        print(f"before the first photo {peak_memory.megabytes() or 0:,.0f} MB, most of it TensorFlow")
        peak_memory.reset()
        became: collections.Counter[str] = collections.Counter()
        file, began = folder / "damaged", time.monotonic()
        for number in range(given.photos):
            file.write_bytes(damaged(draw, sources))
            became[outcome(file, rules)] += 1
            if number % 1000 == 999:
                print(f"{number + 1:>6} photos, peak {peak_memory.megabytes() or 0:,.0f} MB", flush=True)
        print(f"{1000 * (time.monotonic() - began) / given.photos:.1f} ms a file")
        for reason, count in became.most_common():
            print(f"{count:>6}  {reason}")
        for what, path in huge.items():
            peak_memory.reset()
            before = peak_memory.megabytes() or 0
            began = time.monotonic()
            reason = outcome(path, rules)
            more = (peak_memory.megabytes() or 0) - before
            print(f"{what}: {reason}, {time.monotonic() - began:.2f} s, peak {before + more:,.0f} MB ({more:+,.0f} MB)")


def outcome(file: Path, rules: PhotoRules) -> str:
    try:
        read = read_photo(read_path(file, rules), rules)
    except PhotoRejected as rejected:
        return rejected.reason
    return "converted" if read.converted else "accepted"


def originals(data: Path | None, folder: Path) -> list[bytes]:
    """Photos in every format."""
    if data is None:
        write_sample_photos(folder / "sample", photos=40, seed=1)
        data = folder / "sample" / "cats_vs_dogs"
    pictures = []
    for path in sorted(data.rglob("*.jpg"))[:200]:
        with contextlib.suppress(OSError), Image.open(path) as image:
            pictures.append(image.convert("RGB"))
    found = []
    for i, picture in enumerate(pictures):
        buffer = io.BytesIO()
        picture.save(buffer, FORMATS[i % len(FORMATS)])
        found.append(buffer.getvalue())
    return found


def damaged(draw: random.Random, sources: list[bytes]) -> bytes:
    photo = bytearray(draw.choice(sources))
    size = len(photo)

    def cut() -> bytes:
        return bytes(photo[: draw.randrange(size)])

    def cut_and_closed() -> bytes:
        return cut().rstrip(b"\xff") + b"\xff\xd9"

    def zeros() -> bytes:
        start = draw.randrange(size)
        photo[start : start + draw.randrange(1, size)] = bytes(min(draw.randrange(1, size), size - start))
        return bytes(photo)

    def noise() -> bytes:
        for _ in range(draw.randrange(1, 50)):
            photo[draw.randrange(size)] = draw.randrange(256)
        return bytes(photo)

    def header() -> bytes:
        for _ in range(draw.randrange(1, 12)):
            photo[draw.randrange(min(size, 200))] = draw.randrange(256)
        return bytes(photo)

    def joined() -> bytes:
        return cut() + draw.choice(sources)

    def turned_round() -> bytes:
        return bytes(photo[:20]) + bytes(reversed(photo[20:]))

    def empty() -> bytes:
        return b""

    kinds: list[Callable[[], bytes]] = [cut, cut_and_closed, zeros, noise, header, joined, turned_round, empty]
    return draw.choice(kinds)()


def long_gif(file: Path) -> None:
    """Some 9 MB, of 5,000 frames of 500 x 600 pixels: 4.5 GB if they are decoded."""
    rng = np.random.default_rng(5)
    frame = Image.fromarray(rng.integers(0, 255, [600, 500], dtype=np.uint8)).quantize(64)

    def frames():
        for i in range(4999):
            picture = frame.copy()
            picture.paste(i % 64, (i % 480, i % 580, i % 480 + 20, i % 580 + 20))
            yield picture

    frame.save(file, "GIF", save_all=True, append_images=frames(), loop=0)


def film(folder: Path) -> Path:
    file = folder / "film.jpg"
    with file.open("wb") as stream:
        stream.write(b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41")
        stream.truncate(2 << 30)
    return file


if __name__ == "__main__":
    main()
