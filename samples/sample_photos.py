"""Sample photos: drawn cats and dogs in both official layouts, with the broken files real data sets hold.

They stand in for cats_vs_dogs and Oxford-IIIT Pets where nothing can be downloaded. The species overlap on
purpose (pricked dog ears, folded cat ears, hidden faces, darkness): no model should get all of them right.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from samples.breeds import BREEDS, CAT, DOG, Breed
from samples.drawing import draw_mongrel, draw_photo
from schemas.errors import BadInput

# Raise it whenever the same arguments draw other photos: folders written before are then no longer reused.
DRAWING_VERSION = 1
MARKER = "sample.json"
FEWEST_PHOTOS, MOST_PHOTOS = 24, 10_000  # two photos of every breed; below the numbers of the unusual files
CATS_VS_DOGS, OXFORD_IIIT_PET, UNUSUAL = range(3)  # a photo's random generator: [seed, one of these, number]


@dataclass(frozen=True)
class SampleSummary:
    """What was written. Both dictionaries say, per path below the folder, what is unusual about that file.

    The photos are counted without these files. `broken_files` hold no image that a run takes; `odd_files` do, in a form
    that a careless reader gets wrong.
    """

    cats_vs_dogs_photos: int
    oxford_iiit_pet_photos: int
    broken_files: dict[str, str]
    odd_files: dict[str, str]


def write_sample_photos(
    folder: Path, photos: int = 480, seed: int = 7, on_progress: Callable[[int, int], None] | None = None
) -> SampleSummary:
    """`cats_vs_dogs` with `photos` photos and `oxford_iiit_pet` with half as many, below `folder`.

    The same arguments give the same bytes, and more photos keep the earlier ones. A folder that already holds
    the sample of these arguments is left alone. `on_progress(done, total)` is called after each drawn photo.

    Raises BadInput for a number out of range and FileExistsError for a folder that holds anything else.
    """
    folder = Path(folder)
    if not FEWEST_PHOTOS <= photos <= MOST_PHOTOS:
        raise BadInput(f"`photos` (={photos}) must lie between {FEWEST_PHOTOS} and {MOST_PHOTOS}.")
    if seed < 0:
        raise BadInput(f"`seed` (={seed}) must not be negative.")
    arguments = {"photos": photos, "seed": seed, "drawing_version": DRAWING_VERSION}
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        return former_sample(folder, arguments)

    drawn = chain(
        write_cats_vs_dogs(folder / "cats_vs_dogs", photos, seed),
        write_oxford_iiit_pet(folder / "oxford_iiit_pet", photos // 2, seed),
    )
    for done, _ in enumerate(drawn, start=1):
        if on_progress:
            on_progress(done, photos + photos // 2)
    summary = SampleSummary(photos, photos // 2, *write_unusual_files(folder, seed))
    # Last, so that a folder without it is known to be unfinished.
    marker = {"arguments": arguments, "files": inventory(folder), "summary": asdict(summary)}
    (folder / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
    return summary


def former_sample(folder: Path, arguments: dict[str, int]) -> SampleSummary:
    """The summary of the sample that `folder` holds. Raises FileExistsError if it holds anything else."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        if marker["arguments"] == arguments and marker["files"] == inventory(folder):
            return SampleSummary(**marker["summary"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise FileExistsError(
        f"{folder} is not empty and does not hold the sample of {arguments['photos']} photos with seed "
        f"{arguments['seed']}: name a new folder or empty this one."
    )


def inventory(folder: Path) -> dict[str, int]:
    """Number of files below `folder` and their bytes, the marker apart."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and path != folder / MARKER]
    return {"count": len(sizes), "bytes": sum(sizes)}


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def write_cats_vs_dogs(folder: Path, photos: int, seed: int) -> Iterator[None]:
    for index in range(photos):
        rng = np.random.default_rng([seed, CATS_VS_DOGS, index])
        name, species = ("dog", DOG) if index % 2 else ("cat", CAT)
        photo, _ = draw_mongrel(rng, species)
        path = folder / name / f"{name}.{index // 2}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(photo, "JPEG", quality=int(rng.integers(40, 96))))
        yield


# Two listed photos that are no JPEGs, as Abyssinian_34 (GIF) and Abyssinian_5 (PNG), and one that is cut off.
LISTED_UNUSUAL = {"Abyssinian_9034": "GIF", "Persian_9005": "PNG", "beagle_9117": "JPEG"}


def write_oxford_iiit_pet(folder: Path, photos: int, seed: int) -> Iterator[None]:
    """Images, trimaps and lists; about half of a breed is for the test, as in the official lists."""
    images, annotations = folder / "images", folder / "annotations"
    images.mkdir(parents=True)
    (annotations / "trimaps").mkdir(parents=True)
    lines: dict[str, list[tuple[int, str, str]]] = {"trainval": [], "test": []}

    def annotate(breed: Breed, number: int, animal: Image.Image) -> None:
        (annotations / "trimaps" / f"{breed.name}_{number}.png").write_bytes(encoded(trimap(animal), "PNG"))
        line = f"{breed.name}_{number} {breed.class_id} {breed.species} {breed.breed_id}"
        part = "test" if number % 2 == 0 and number < 9000 else "trainval"
        lines[part].append((breed.class_id, str(number), line))

    for index in range(photos):
        rng = np.random.default_rng([seed, OXFORD_IIIT_PET, index])
        breed, number = BREEDS[index % len(BREEDS)], index // len(BREEDS) + 1
        photo, animal = draw_photo(rng, breed)
        jpeg_bytes = encoded(photo, "JPEG", quality=int(rng.integers(40, 96)))
        (images / f"{breed.name}_{number}.jpg").write_bytes(jpeg_bytes)
        annotate(breed, number, animal)
        yield
    for name, image_format in LISTED_UNUSUAL.items():
        breed_name, number_text = name.split("_")
        number, breed = int(number_text), next(breed for breed in BREEDS if breed.name == breed_name)
        photo, animal = draw_photo(np.random.default_rng([seed, UNUSUAL, number]), breed)
        if image_format == "PNG":
            photo.putalpha(animal)
        elif image_format == "GIF":
            photo = photo.quantize(method=Image.Quantize.FASTOCTREE)  # the usual method takes half a second
        content = encoded(photo, image_format)
        cut = len(content) // 2 if image_format == "JPEG" else len(content)
        (images / f"{name}.jpg").write_bytes(content[:cut])
        annotate(breed, number, animal)
    lines["list"] = lines["trainval"] + lines["test"]
    for name, entries in lines.items():
        comments = OFFICIAL_COMMENTS if name == "list" else ""
        text = comments + "".join(f"{line}\n" for _, _, line in sorted(entries))
        (annotations / f"{name}.txt").write_text(text, encoding="ascii")


# As it stands in the official list.txt, its mistakes (there are 12 cats and 25 dogs) included.
OFFICIAL_COMMENTS = """#Image CLASS-ID SPECIES BREED ID
#ID: 1:37 Class ids
#SPECIES: 1:Cat 2:Dog
#BREED ID: 1-25:Cat 1:12:Dog
#All images with 1st letter as captial are cat images
#images with small first letter are dog images
"""


def trimap(animal: Image.Image) -> Image.Image:
    """uint8 of the size of `animal` (255 animal, 0 not): 1 pet, 2 background, 3 border."""
    kinds = [2 if value < 26 else 1 if value > 229 else 3 for value in range(256)]
    return animal.filter(ImageFilter.BoxBlur(2)).point(kinds)


def write_unusual_files(folder: Path, seed: int) -> tuple[dict[str, str], dict[str, str]]:
    """The broken files and the readable but odd ones, each path with what is unusual about it."""

    def another(species: int, number: int) -> Image.Image:
        return draw_mongrel(np.random.default_rng([seed, UNUSUAL, number]), species)[0]

    sideways = Image.Exif()
    sideways[0x0112] = 6  # Orientation: turn the stored pixels clockwise to see them upright
    error_page = b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not Found</body></html>\n"
    sidecar = bytes.fromhex("00051607 00020000") + b"Mac OS X".ljust(16) + bytes(98)
    thumbnail_cache = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504)
    matlab = b"MATLAB 5.0 MAT-file, Platform: GLNX86".ljust(124) + bytes.fromhex("0001494d") + bytes(56)
    cut = encoded(another(DOG, 11702), "JPEG")
    broken = {
        "cats_vs_dogs/cat/cat.10404.jpg": (b"", "empty file"),
        "cats_vs_dogs/cat/cat.11565.jpg": (error_page, "HTML error page"),
        "cats_vs_dogs/cat/._cat.5.jpg": (sidecar, "AppleDouble sidecar of macOS"),
        "cats_vs_dogs/dog/dog.11702.jpg": (cut[: len(cut) // 2], "JPEG cut off in the middle"),
        "cats_vs_dogs/dog/Thumbs.db": (thumbnail_cache, "thumbnail cache of Windows"),
        "oxford_iiit_pet/images/beagle_9117.jpg": (None, "JPEG cut off in the middle"),
        "oxford_iiit_pet/images/Abyssinian_100.mat": (matlab, "MATLAB file between the images"),
    }
    upright = another(CAT, 10220)
    on_its_side = upright.transpose(Image.Transpose.ROTATE_90)
    twin = (folder / "cats_vs_dogs/cat/cat.0.jpg").read_bytes()
    odd = {
        "cats_vs_dogs/cat/cat.10029.jpg": (encoded(another(CAT, 10029), "BMP"), "BMP named .jpg"),
        "cats_vs_dogs/cat/cat.10220.jpg": (encoded(on_its_side, "JPEG", exif=sideways), "EXIF orientation 6"),
        "cats_vs_dogs/cat/cat.10501.jpg": (twin, "the same bytes as cat.0.jpg"),
        "cats_vs_dogs/dog/dog.10237.jpg": (encoded(another(DOG, 10237).convert("L"), "JPEG"), "grey JPEG"),
        "cats_vs_dogs/dog/dog.10747.jpg": (encoded(another(DOG, 10747).convert("CMYK"), "JPEG"), "CMYK JPEG"),
        "cats_vs_dogs/dog/dog.10797.jpg": (encoded(another(DOG, 10797), "WEBP"), "WebP named .jpg"),
        "oxford_iiit_pet/images/Abyssinian_9034.jpg": (None, "GIF named .jpg"),
        "oxford_iiit_pet/images/Persian_9005.jpg": (None, "PNG with transparency named .jpg"),
    }
    for path, (content, _) in (broken | odd).items():
        if content is not None:  # else it stands in the lists and is there already
            (folder / path).write_bytes(content)
    return {path: how for path, (_, how) in broken.items()}, {path: how for path, (_, how) in odd.items()}
