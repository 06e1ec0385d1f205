"""More photos out of a few, for timing only: seeded random crops of the photos of a folder.

    python -m benchmarks.more_photos SOURCE TARGET --count 5000

SOURCE holds one folder of photos for each class; TARGET gets the same folders, with the same shares of the photos.
Crops of one photo are near-duplicates, on both sides of any split: an accuracy measured on them means nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from schemas.errors import BadInput

PHOTO_ENDINGS = (".jpg", ".jpeg", ".png")
JPEG_QUALITY = 90
_SMALLEST_SHARE = 0.75  # of each side of the photo


def photos_by_class(folder: Path) -> dict[str, list[Path]]:
    """Class name -> its photos, both sorted by name.

    Raises:
      BadInput: the folder holds no class folder with photos.
    """
    folders = sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []
    photos = {each.name: sorted(p for p in each.iterdir() if p.suffix.lower() in PHOTO_ENDINGS) for each in folders}
    found = {label: paths for label, paths in photos.items() if paths}
    if not found:
        raise BadInput(f"{folder} holds no photos: expected one folder of JPEG or PNG photos for each class.")
    return found


def make_photos(source: Path, target: Path, count: int, seed: int) -> None:
    """Writes exactly `count` photos below `target`, the same for the same arguments.

    Each is a crop of 75 to 100 % of the width and of the height, saved as JPEG. All photos of a class are used once
    before one is used again.

    Raises:
      BadInput: `source` holds no photos, or `target` is not empty.
    """
    photos = photos_by_class(source)
    if target.exists() and any(target.iterdir()):
        raise BadInput(f"{target} is not empty: give a new folder, so that it holds exactly the {count} photos.")
    shares = class_counts({label: len(paths) for label, paths in photos.items()}, count)
    jobs: list[tuple[Path, Path, np.random.Generator]] = []
    for label, paths in photos.items():
        (target / label).mkdir(parents=True, exist_ok=True)
        order = np.random.default_rng(seed).permutation(len(paths))
        for i in range(shares[label]):
            path = paths[order[i % len(paths)]]
            generator = np.random.default_rng([seed, len(jobs)])
            jobs.append((path, target / label / f"{path.stem}.{i}.jpg", generator))
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda job: _write_crop(*job), jobs))


def class_counts(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """`count` divided over the classes by their sizes; the largest remainders get the last ones."""
    total = sum(sizes.values())
    counts = {label: count * size // total for label, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda label: -(count * sizes[label] % total))
    for label in by_remainder[: count - sum(counts.values())]:
        counts[label] += 1
    return counts


def _write_crop(path: Path, target: Path, generator: np.random.Generator) -> None:
    with Image.open(path) as opened:
        photo = ImageOps.exif_transpose(opened).convert("RGB")
    size = np.array(photo.size)
    cropped = np.ceil(size * generator.uniform(_SMALLEST_SHARE, 1, 2)).astype(int)
    left, top = generator.integers(0, size - cropped, endpoint=True)
    photo.crop((left, top, left + cropped[0], top + cropped[1])).save(target, "JPEG", quality=JPEG_QUALITY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    make_photos(arguments.source, arguments.target, arguments.count, arguments.seed)


if __name__ == "__main__":
    main()
