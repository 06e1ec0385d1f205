"""Sample photos: drawn cats and dogs in both official layouts, with the broken files real data sets hold.

They stand in for cats_vs_dogs and Oxford-IIIT Pets where nothing can be downloaded. The species overlap on
purpose (pricked dog ears, folded cat ears, hidden faces, darkness): no model should get all of them right.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from schemas.errors import BadInput

Colour = tuple[int, int, int]
Corners = list[tuple[float, float]]
Random = np.random.Generator

# Raise it whenever the same arguments draw other photos: folders written before are then no longer reused.
DRAWING_VERSION = 1
MARKER = "sample.json"
FEWEST_PHOTOS, MOST_PHOTOS = 24, 10_000  # two photos of every breed; below the numbers of the unusual files
CATS_VS_DOGS, OXFORD_IIIT_PET, UNUSUAL = range(3)  # a photo's random generator: [seed, one of these, number]
CAT, DOG = 1, 2  # SPECIES in Oxford-IIIT Pets' lists


@dataclass(frozen=True)
class Coat:
    base: Colour
    second: Colour
    pale: Colour
    pattern: str  # plain, tabby, patches, points, saddle or mask


@dataclass(frozen=True)
class Breed:
    """A breed under its official name and numbers, and what sets its head apart from the usual one (1.0)."""

    name: str
    class_id: int  # 1 to 37, case-insensitive alphabetical
    species: int
    breed_id: int  # counted within the species
    ears: str  # pointed, pricked, floppy or folded
    ear_size: float
    muzzle: float
    fluff: float
    eyes: Colour
    coats: tuple[Coat, ...]


GREEN, AMBER, BLUE, BROWN = (134, 160, 84), (204, 152, 58), (104, 160, 212), (74, 46, 28)
WHITE, BLACK, GREY, GINGER = (236, 231, 223), (40, 37, 37), (142, 141, 146), (204, 132, 66)
CREAM, FAWN, TAN = (228, 209, 180), (205, 172, 130), (178, 120, 70)
CHOCOLATE, SEAL = (92, 62, 46), (74, 57, 50)
INK, LIGHT = (20, 14, 14), (250, 248, 244)

RUDDY_COATS = (Coat(TAN, (112, 70, 44), FAWN, "tabby"), Coat((196, 148, 102), (138, 92, 58), CREAM, "tabby"))
LONG_COATS = (
    Coat(GREY, (112, 112, 118), (178, 177, 180), "plain"),
    Coat(CREAM, FAWN, WHITE, "plain"),
    Coat(GINGER, (170, 98, 44), CREAM, "tabby"),
)
BREEDS = (
    Breed("Abyssinian", 1, CAT, 1, "pointed", 1.2, 1.05, 0.2, AMBER, RUDDY_COATS),
    Breed("beagle", 5, DOG, 4, "floppy", 1.1, 1.0, 0.1, BROWN, (Coat(TAN, BLACK, WHITE, "saddle"),)),
    Breed("Persian", 24, CAT, 8, "pointed", 0.7, 0.8, 1.0, AMBER, LONG_COATS),
    Breed("pug", 26, DOG, 18, "folded", 0.85, 0.7, 0.1, BROWN, (Coat(FAWN, BLACK, CREAM, "mask"),)),
    Breed("samoyed", 30, DOG, 20, "pricked", 0.85, 1.0, 1.0, BROWN, (Coat(WHITE, CREAM, WHITE, "plain"),)),
    Breed("Siamese", 33, CAT, 11, "pointed", 1.3, 1.1, 0.1, BLUE, (Coat(CREAM, SEAL, WHITE, "points"),)),
)
# What either species also wears in cats_vs_dogs, where no breed is named.
COMMON_COATS = (
    Coat(BLACK, (24, 22, 22), (74, 70, 70), "plain"),
    Coat(BLACK, WHITE, WHITE, "patches"),
    Coat(WHITE, BLACK, WHITE, "patches"),
    Coat(WHITE, GINGER, WHITE, "patches"),
    Coat(GINGER, (164, 94, 42), CREAM, "tabby"),
    Coat(GREY, (78, 76, 78), (196, 192, 188), "tabby"),
    Coat((134, 112, 88), (66, 52, 42), FAWN, "tabby"),
    Coat(CHOCOLATE, (58, 40, 32), (150, 110, 80), "plain"),
    Coat(FAWN, (160, 124, 84), CREAM, "plain"),
    Coat(GREY, (106, 106, 112), (180, 180, 184), "plain"),
)

# A head's measures in its radii, from its centre. An animal lies between the two or a little beyond.
FACE_OF_CAT_AND_DOG = {
    "cheek": (1.02, 0.84), "jaw": (0.64, 0.58), "chin": (0.86, 1.16), "neck": (0.85, 1.05),
    "eye_x": (0.42, 0.37), "eye_y": (-0.08, -0.16), "eye_width": (0.205, 0.13), "eye_height": (0.165, 0.125),
    "nose_width": (0.11, 0.23), "nose_y": (0.30, 0.44),
    "muzzle_width": (0.40, 0.47), "muzzle_height": (0.25, 0.46), "muzzle_y": (0.46, 0.66),
}  # fmt: skip

# The box around an animal, in radii of its head: left, top, right, bottom; and how often it is seen so.
POSES = {
    "portrait": (-1.5, -1.6, 1.5, 2.0),
    "sitting": (-2.0, -1.7, 2.3, 4.7),
    "lying": (-1.6, -1.6, 5.6, 2.9),
}
POSE_SHARES = (0.45, 0.3, 0.25)


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


DRAWING_SIDE = 384  # pixels of the longer side while drawing; the photo is resized afterwards
CIRCLE = np.linspace(0, 2 * math.pi, 28, endpoint=False)


def blob(x: float, y: float, half_width: float, half_height: float, degrees: float = 0) -> np.ndarray:
    """Outline of an ellipse: float64 [28, 2]."""
    across, down = half_width * np.cos(CIRCLE), half_height * np.sin(CIRCLE)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.stack([x + cos * across - sin * down, y + sin * across + cos * down], axis=1)


def rounded(corners: Corners) -> np.ndarray:
    """Closed Catmull-Rom curve through `corners`: float64 [6 * corners, 2]."""
    before, here, after, beyond = (np.roll(corners, shift, axis=0)[:, None, :] for shift in (1, 0, -1, -2))
    t = np.linspace(0, 1, 6, endpoint=False)[None, :, None]
    bend = 2 * before - 5 * here + 4 * after - beyond + t * (3 * (here - after) + beyond - before)
    return (here + 0.5 * t * (after - before + t * bend)).reshape(-1, 2)


def both_sides(right_half: Corners) -> np.ndarray:
    """Closed curve through the corners of the right half, from top to bottom, and their mirror image."""
    return rounded(right_half + [(-x, y) for x, y in reversed(right_half) if x])


def whole_colour(values: np.ndarray) -> Colour:
    red, green, blue = np.clip(values, 6, 249).astype(int).tolist()
    return red, green, blue


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """`one` with `share` (0 to 1) of `other`."""
    return whole_colour(np.add(one, share * np.subtract(other, one)))


def any_colour(rng: Random, vividness: float = 28) -> Colour:
    grey = rng.uniform(40, 215)
    return whole_colour(grey + rng.normal(0, vividness, 3))


@lru_cache(maxsize=1)
def tiles() -> dict[str, Image.Image]:
    """1024 x 1024 pixels around 128, the same in every process: L, and RGB for the sensor's noise."""
    rng = np.random.default_rng(0)

    def noise(columns: int, rows: int, contrast: float) -> np.ndarray:
        values = Image.fromarray(rng.normal(0, contrast, (rows, columns)).astype(np.float32))
        return np.asarray(values.resize((1024, 1024), Image.Resampling.BICUBIC))

    def tile(values: np.ndarray) -> Image.Image:
        return Image.fromarray(np.clip(values + 128, 0, 255).astype(np.uint8))

    return {
        "fur": tile(noise(512, 130, 30) + noise(180, 50, 18) + noise(24, 24, 14)),
        "grain": tile(noise(400, 400, 26) + noise(100, 100, 12) + noise(8, 8, 16)),
        "wood": tile(noise(20, 480, 22) + noise(8, 60, 20)),
        "sensor": Image.merge("RGB", [tile(noise(1024, 1024, 20) + noise(512, 512, 14)) for _ in range(3)]),
    }


def texture(rng: Random, name: str, size: tuple[int, int]) -> Image.Image:
    left, top = (int(rng.integers(0, 1025 - side)) for side in size)
    return tiles()[name].crop((left, top, left + size[0], top + size[1]))


def textured(image: Image.Image, grain: Image.Image, strength: float) -> Image.Image:
    grain = grain.point([round(128 + (value - 128) * strength) for value in range(256)])
    return ImageChops.soft_light(image, Image.merge("RGB", [grain] * 3))


@dataclass(frozen=True)
class Placement:
    """Where the animal's head is in the drawing, in pixels, and how it is tilted and turned."""

    x: float
    y: float
    radius: float
    degrees: float
    mirrored: bool

    def pixels(self, points: np.ndarray, per_pixel: float = 1) -> list[float]:
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        flip = -1 if self.mirrored else 1
        matrix = self.radius * np.array([[flip * cos, sin], [flip * -sin, cos]])
        return ((points @ matrix + (self.x, self.y)) * per_pixel).ravel().tolist()


class FurLayer:
    """A body or a head: colours at half the resolution, which softens them, and a mask that the fur frays."""

    def __init__(self, size: tuple[int, int], place: Placement, base: Colour):
        self.place, self.base = place, base
        self.mask = Image.new("L", size)
        self.colours = Image.new("RGB", (size[0] // 2, size[1] // 2), base)
        self.mask_pen, self.colour_pen = ImageDraw.Draw(self.mask), ImageDraw.Draw(self.colours)

    def grow(self, outline: np.ndarray, colour: Colour | None = None) -> None:
        """Add a part of the animal."""
        self.mask_pen.polygon(self.place.pixels(outline), fill=255)
        self.dye(outline, colour or self.base)

    def dye(self, outline: np.ndarray, colour: Colour) -> None:
        """Colour what is there already; beside the animal nothing shows."""
        self.colour_pen.polygon(self.place.pixels(outline, 0.5), fill=colour)

    def lay_on(self, scene: Image.Image, pet: Image.Image, fur: Image.Image, fluff: float, light: float) -> None:
        """Shade and fray this layer and lay it on `scene`, its mask on `pet`; `light` comes from -1 to 1."""
        if not (box := self.mask.getbbox()):
            return
        radius = self.place.radius
        margin = int(radius * 0.15) + 2
        width, height = self.mask.size
        left, top = (max(0, side - margin) // 2 * 2 for side in box[:2])
        right, bottom = min(width, box[2] + margin) // 2 * 2, min(height, box[3] + margin) // 2 * 2
        box = (left, top, right, bottom)
        mask, fur = self.mask.crop(box), fur.crop(box)
        colours = self.colours.crop((left // 2, top // 2, right // 2, bottom // 2))

        # The blurred mask is taken for the height of a relief that the light falls on.
        small = mask.resize([max(4, round(side * 8 / radius)) for side in mask.size], Image.Resampling.BOX)
        relief = np.asarray(small.filter(ImageFilter.GaussianBlur(3)), np.float32) / 255
        slope_y, slope_x = np.gradient(relief)
        shade = np.clip(0.62 + 0.38 * relief - 1.6 * (light * slope_x - 0.7 * slope_y), 0.3, 1)
        lit = Image.fromarray((shade * 255).astype(np.uint8)).resize(colours.size, Image.Resampling.BILINEAR)
        colours = colours.filter(ImageFilter.BoxBlur(radius / 40))
        colours = ImageChops.multiply(colours, Image.merge("RGB", [lit] * 3))
        colours = textured(colours.resize(mask.size, Image.Resampling.BILINEAR), fur, 0.7 + 0.5 * fluff)
        soft_mask = mask.filter(ImageFilter.BoxBlur(radius * (0.03 + 0.07 * fluff)))
        fray = fur.point([round(128 + (value - 128) * 0.6) for value in range(256)])  # reaches no clear pixel
        frayed = ImageChops.add(soft_mask, fray, offset=-128).point(
            [min(255, max(0, (value - 96) * 4)) for value in range(256)]
        )
        scene.paste(colours, box, frayed)
        pet.paste(255, box, frayed)


@dataclass(frozen=True)
class Animal:
    """One individual; `face` holds its measures, `turn` (-1 to 1) how far it looks sideways."""

    is_dog: bool
    coat: Coat
    ears: str
    ear_size: float
    face: dict[str, float]
    fluff: float
    girth: float
    eyes: Colour
    slit_pupils: bool
    tongue: bool
    looks_away: bool
    turn: float
    pose: str


def born(rng: Random, breed: Breed, mongrel: bool) -> Animal:
    """An animal of a breed. Mongrels may wear any coat; some have the other species' ears or face."""
    is_dog = breed.species == DOG
    coats, ears = breed.coats, breed.ears
    if mongrel and rng.random() < 0.5:
        coats = COMMON_COATS
    if mongrel and rng.random() < 0.12:
        ears = "pricked" if is_dog else "folded"
    coat = coats[rng.integers(len(coats))]
    tint = rng.normal(0, 7, 3) + rng.normal(0, 9)
    base, second, pale = (whole_colour(np.add(colour, tint)) for colour in (coat.base, coat.second, coat.pale))
    dogness = float(is_dog) + rng.normal(0, 0.1)
    if mongrel and rng.random() < 0.1:
        dogness = rng.uniform(0.3, 0.7)
    face = {name: cat + (dog - cat) * dogness for name, (cat, dog) in FACE_OF_CAT_AND_DOG.items()}
    face["cheek"] += 0.1 * breed.fluff
    for name, share in {"chin": 0.4, "muzzle_height": 1.0, "muzzle_y": 0.4}.items():
        face[name] *= 1 + (breed.muzzle - 1) * share
    return Animal(
        is_dog=is_dog,
        coat=Coat(base, second, pale, coat.pattern),
        ears=ears,
        ear_size=breed.ear_size * rng.normal(1, 0.08),
        face={name: measure * rng.normal(1, 0.04) for name, measure in face.items()},
        fluff=float(np.clip(breed.fluff + rng.normal(0, 0.1), 0, 1.1)),
        girth=rng.normal(1.05 if is_dog else 0.95, 0.08) + 0.12 * breed.fluff,
        eyes=breed.eyes if is_dog or rng.random() < 0.5 else (GREEN, AMBER)[rng.integers(2)],
        slit_pupils=not is_dog and rng.random() < 0.5,
        tongue=is_dog and rng.random() < 0.3,
        looks_away=rng.random() < 0.03,
        turn=float(np.clip(rng.normal(0, 0.45), -1, 1)),
        pose=str(rng.choice(list(POSES), p=POSE_SHARES)),
    )


def draw_body(layer: FurLayer, animal: Animal, rng: Random) -> None:
    coat, base, girth, neck = animal.coat, layer.base, animal.girth, animal.face["neck"]
    shadow = mixed(base, INK, 0.45)
    leg = {"points": coat.second, "saddle": coat.pale}.get(coat.pattern, base)
    tail: Corners = []
    if animal.pose == "portrait":
        trunk = both_sides([(0, 0.2), (neck * 0.8, 0.5), (1.3 * girth, 1.7), (1.7 * girth, 4.0)])
    elif animal.pose == "sitting":
        tail = [(1.0, 4.2), (1.7, 4.2), (2.1, 3.5), (1.9, 2.6 if animal.is_dog else 2.2)]
        waist = [(girth, 1.8), (1.3 * girth, 3.1), (1.25 * girth, 4.2)]
        trunk = both_sides([(0, 0.2), (neck * 0.75, 0.7), *waist, (0, 4.4)])
    else:
        tail = [(4.2, 2.2), (4.8, 2.5), (5.2, 2.3), (5.3, 1.6)]
        back = [(0.2, 0.2), (1.2, 0.35), (2.6, 0.25), (4.0, 0.6), (4.8, 1.6)]
        trunk = rounded([*back, (4.4, 2.6), (2.5, 2.75), (0.5, 2.7), (-0.5, 2.2), (-0.6, 1.0)])
    tail_width = (0.2 if animal.is_dog else 0.17) * (1 + 0.9 * animal.fluff)
    for x, y in rounded([*tail, *tail[-2:0:-1]])[:19] if tail else ():
        layer.grow(blob(x, y, tail_width, tail_width), coat.second if coat.pattern == "points" else base)
    layer.grow(trunk)
    dye_body(layer, animal, rng)

    if animal.pose == "sitting":
        for side in (-1, 1):
            layer.dye(blob(side * 1.02 * girth, 3.75, 0.5, 0.62), mixed(base, shadow, 0.35))
            layer.dye(blob(side * 1.05 * girth, 3.65, 0.46, 0.58), mixed(base, coat.pale, 0.15))
        layer.dye(blob(0, 3.5, 0.62, 1.1), shadow)
        for side in (-1, 1):
            corners = [(0.15, 2.3), (0.75, 2.3), (0.66, 4.2), (0.14, 4.2)]
            layer.grow(rounded([(side * x, y) for x, y in corners]), leg)
            layer.grow(blob(side * 0.42, 4.38, 0.36, 0.2), mixed(leg, coat.pale, 0.4))
    elif animal.pose == "lying":
        layer.dye(blob(3.8, 1.85, 1.0, 0.95), shadow)
        layer.dye(blob(3.85, 1.8, 0.92, 0.9), base)
        for x, y in ((0.5, 2.6), (-0.5, 2.65), (3.2, 2.7)):
            layer.grow(blob(x, y, 0.95, 0.27, 4), mixed(leg, shadow, 0.3))
            layer.grow(blob(x, y - 0.05, 0.9, 0.2, 4), leg)
    for depth in (0.1, 0.25, 0.4):  # the head's shadow on the chest
        layer.dye(blob(0, animal.face["chin"] * 0.8, 0.95 - depth, 0.6 - depth), mixed(base, INK, depth))


def dye_body(layer: FurLayer, animal: Animal, rng: Random) -> None:
    coat, (_, _, right, bottom) = animal.coat, POSES[animal.pose]
    upright = animal.pose in ("portrait", "sitting")
    if coat.pattern == "tabby":
        stripe = mixed(layer.base, coat.second, rng.uniform(0.5, 1))
        for at in np.arange(0.9, (bottom if upright else right) - 0.3, rng.uniform(0.3, 0.45)):
            tilt, length = rng.uniform(-12, 12), rng.uniform(0.35, 0.75)
            if not upright:
                layer.dye(blob(at, 0.7, 0.08, length, tilt), stripe)
            for side in (-1, 1) if upright else ():
                layer.dye(blob(side * 1.05, at, length, 0.07, side * 18 + tilt), stripe)
    elif coat.pattern == "patches":
        for _ in range(rng.integers(3, 7)):
            x, y = rng.uniform(-1.2 if upright else 0, right), rng.uniform(0.8, bottom)
            wide, high, degrees = rng.uniform((0.3, 0.3, 0), (0.9, 0.9, 90))
            layer.dye(blob(x, y, wide, high, degrees), coat.second)
    elif coat.pattern == "saddle":
        layer.dye(blob(0, 2.4, 0.6, 1.8) if upright else blob(1.8, 2.4, 3.0, 0.7), coat.pale)
        for x in (-1.3, 1.3) if upright else (2.8,):
            layer.dye(blob(x, 2.2, 0.4, 1.0) if upright else blob(x, 0.6, 1.6, 0.7), coat.second)
    else:
        chest = blob(0, 2.0, 0.5, 1.1) if upright else blob(2.2, 2.3, 1.6, 0.4)
        layer.dye(chest, mixed(layer.base, coat.pale, 0.7))


def draw_ear(layer: FurLayer, animal: Animal, side: int) -> None:
    coat, size = animal.coat, animal.ear_size
    colour = coat.second if coat.pattern in ("points", "mask") else layer.base
    inside = mixed(colour, (214, 150, 140) if animal.ears in ("pointed", "pricked") else INK, 0.4)
    tip = -0.82 - 0.62 * size
    outer, inner = {
        "pointed": (
            [(0.2, -0.7), (0.74, tip), (0.98, -0.2)],
            [(0.42, -0.7), (0.73, tip + 0.2), (0.86, -0.4)],
        ),
        "pricked": (
            [(0.18, -0.72), (0.48, tip + 0.15), (0.62, tip), (0.76, tip + 0.2), (0.86, -0.3)],
            [(0.36, -0.72), (0.58, tip + 0.22), (0.74, -0.5)],
        ),
        "folded": (
            [(0.25, -0.82), (0.62, -1.12), (1.0, -0.6), (0.9, -0.3)],
            [(0.35, -0.78), (0.98, -0.6), (0.86 * size, -0.1)],
        ),
        "floppy": (
            [(0.5, -0.82), (0.95, -0.62), (1.22, 0.0), (1.1, 0.65 * size), (0.86, 0.7 * size), (0.65, -0.2)],
            [(0.66, -0.5), (0.78, -0.4), (0.9, 0.52 * size), (0.76, 0.4 * size)],
        ),
    }[animal.ears]
    lean = side * (1 - 0.25 * side * animal.turn)  # the far ear is narrower
    for grow_or_dye, corners, fill in ((layer.grow, outer, colour), (layer.dye, inner, inside)):
        outline = [(lean * x, y) for x, y in corners]
        grow_or_dye(np.array(outline) if animal.ears == "pointed" else rounded(outline), fill)


def draw_head(layer: FurLayer, animal: Animal, rng: Random) -> None:
    """Ears, skull, muzzle and the coat's pattern; eyes, nose and mouth come afterwards and stay sharp."""
    face, coat, base = animal.face, animal.coat, layer.base
    dark_face = coat.pattern in ("points", "mask")
    muzzle_y, wide, high = face["muzzle_y"], face["muzzle_width"], face["muzzle_height"]
    x = 0.28 * animal.turn
    hanging = animal.ears == "floppy"
    for side in () if hanging else (-1, 1):
        draw_ear(layer, animal, side)
    jaw = [(face["cheek"], 0.2), (face["jaw"], face["chin"] * 0.72), (0, face["chin"])]
    layer.grow(both_sides([(0, -0.86), (0.55, -0.74), (0.86, -0.3), *jaw]))
    if coat.pattern == "tabby":
        for start in (-0.36, -0.12, 0.12, 0.36):
            layer.dye(blob(start + x, -0.62, 0.05, 0.24, start * 40), coat.second)
        for side, y in ((-1, 0.1), (-1, 0.32), (1, 0.1), (1, 0.32)):
            layer.dye(blob(side * 0.78 + x, y, 0.26, 0.045, side * 14), coat.second)
    elif coat.pattern == "patches":
        layer.dye(blob(rng.choice([-0.55, 0.55]), -0.4, *rng.uniform(0.4, 0.8, 2)), coat.second)
    elif coat.pattern == "saddle":
        layer.dye(rounded([(x - 0.1, -0.9), (x + 0.1, -0.9), (x + 0.3, 0.3), (x - 0.3, 0.3)]), coat.pale)
    elif dark_face:
        layer.dye(blob(x, muzzle_y - 0.05, 0.62, 0.6), mixed(base, coat.second, 0.6))
        layer.dye(blob(x, muzzle_y, 0.48, 0.45), coat.second)
    muzzle = coat.second if dark_face else mixed(base, coat.pale, 0.75)
    reach = x * (1 + high)
    layer.dye(blob(reach, muzzle_y + 0.06, wide * 1.08, high * 1.08), mixed(muzzle, INK, 0.35))
    for side in (-1, 1):
        layer.grow(blob(reach + side * wide * 0.45, muzzle_y, wide * 0.58, high), muzzle)
        eye_width, eye_height = face["eye_width"] * 1.35, face["eye_height"] * 1.4
        layer.dye(blob(side * face["eye_x"] + x, face["eye_y"], eye_width, eye_height), mixed(base, INK, 0.45))
    for side in (-1, 1) if hanging else ():
        draw_ear(layer, animal, side)


def draw_features(scene: Image.Image, place: Placement, animal: Animal, rng: Random) -> None:
    """Eyes, nose, mouth, tongue and whiskers, on `scene`."""
    face, x = animal.face, 0.28 * animal.turn
    pen, line_width = ImageDraw.Draw(scene), max(1, round(place.radius / 32))
    reach, muzzle_y = x * (1 + face["muzzle_height"]), face["muzzle_y"]

    def fill(outline: np.ndarray, colour: Colour) -> None:
        pen.polygon(place.pixels(outline), fill=colour)

    def line(points: Corners, colour: Colour, width: int) -> None:
        pen.line(place.pixels(np.array(points)), colour, width, joint="curve")

    eye_y, wide, high = face["eye_y"], face["eye_width"], face["eye_height"]
    pupil = 0.3 if animal.slit_pupils else rng.uniform(0.55, 0.85)
    gaze_x, gaze_y = rng.uniform(-0.2, 0.2, 2) * (wide, high)
    for side in (-1, 1):
        eye_x, slant = side * face["eye_x"] + x, -side * (4 if animal.is_dog else 14)
        fill(blob(eye_x, eye_y, wide * 1.16, high * 1.16, slant), INK)
        fill(blob(eye_x, eye_y, wide, high, slant), mixed(animal.eyes, INK, 0.3))
        fill(blob(eye_x, eye_y + high * 0.1, wide * 0.8, high * 0.8, slant), animal.eyes)
        ball_x, ball_y = eye_x + gaze_x, eye_y + gaze_y
        fill(blob(ball_x, ball_y, high * pupil, high * (0.95 if animal.slit_pupils else pupil)), INK)
        fill(blob(ball_x - high * 0.3, ball_y - high * 0.35, high * 0.2, high * 0.2), LIGHT)

    mouth_y = muzzle_y + face["muzzle_height"] * 0.45
    if animal.tongue:
        fill(blob(reach, mouth_y + 0.16, 0.24, 0.12), (70, 28, 32))
        fill(blob(reach, mouth_y + 0.34, 0.17, 0.26), (216, 112, 118))
    nose_x, nose_y, nose = 1.1 * reach, face["nose_y"], face["nose_width"]
    line([(nose_x, nose_y), (reach, mouth_y)], INK, line_width)
    for corner_x in (-0.36, 0.36):
        corner = [(reach + corner_x * 0.45, mouth_y + 0.08), (reach + corner_x, mouth_y)]
        line([(reach, mouth_y), *corner], INK, line_width)
    dark_nose = animal.is_dog or animal.coat.pattern == "points" or rng.random() < 0.3
    nose_colour = (34, 28, 30) if dark_nose else (204, 132, 128)
    nose_outline = both_sides([(0, nose * -0.7), (nose, nose * -0.5), (0, nose * 0.8)])
    fill(np.add(nose_outline, (nose_x, nose_y)), nose_colour)
    gleam = blob(nose_x - nose * 0.3, nose_y - nose * 0.35, nose * 0.28, nose * 0.14)
    fill(gleam, mixed(nose_colour, LIGHT, 0.45))
    for _ in range(rng.integers(0, 3) if animal.is_dog else rng.integers(5, 9)):
        for side in (-1, 1):
            root_y, tip_y = muzzle_y + rng.uniform(-0.1, 0.1), muzzle_y + rng.uniform(-0.35, 0.45)
            middle, tip = rng.uniform(0.5, 0.7), rng.uniform(0.85, 1.35)
            bow = [(0.25, root_y), (middle, (root_y + tip_y) / 2 - 0.06), (tip, tip_y)]
            line([(reach + side * x, y) for x, y in bow], (232, 230, 226), max(1, line_width // 2))


def draw_scenery(rng: Random, size: tuple[int, int]) -> Image.Image:
    """What is behind the animal, more or less out of focus."""
    width, height = size[0] // 2, size[1] // 2
    kind = str(rng.choice(["grass", "boards", "sofa", "wall", "clutter"]))
    horizon = int(height * rng.uniform(0.15, 0.7))
    ground = any_colour(rng)
    image = Image.new("RGB", (width, height), any_colour(rng, 15))
    pen = ImageDraw.Draw(image)
    if kind == "grass":
        ground = mixed((112, 142, 56), (64, 98, 46), rng.random())
        pen.rectangle((0, 0, width, horizon), mixed((150, 185, 220), (52, 82, 44), rng.random()))
        for _ in range(8):
            bush = blob(rng.uniform(0, width), rng.uniform(0, horizon), *rng.uniform(8, 40, 2))
            pen.polygon(bush.ravel().tolist(), mixed((40, 70, 36), ground, rng.random()))
    elif kind == "boards":
        ground = mixed((196, 152, 104), (84, 56, 40), rng.random())
    pen.rectangle((0, horizon, width, height), ground)
    if kind == "boards":
        vanishing_x = rng.uniform(0, width)
        for x in np.linspace(-width, 2 * width, int(rng.integers(10, 24))):
            top_x = vanishing_x + (x - vanishing_x) * 0.3
            pen.line((top_x, horizon, x, height), mixed(ground, INK, 0.55), 2)
        pen.rectangle((0, horizon - 6, width, horizon), mixed(ground, LIGHT, 0.6))
    elif kind == "sofa":
        seat = (horizon + height) // 2
        for x in np.arange(-20, width, width / rng.integers(2, 4)):
            cushion = (x, horizon + 8, x + width / 2, seat)
            pen.rounded_rectangle(cushion, 14, mixed(ground, LIGHT, 0.12), mixed(ground, INK, 0.4))
        pen.rectangle((0, seat, width, seat + 8), mixed(ground, INK, 0.45))
    elif kind == "clutter":
        for _ in range(rng.integers(10, 28)):
            thing = blob(rng.uniform(0, width), rng.uniform(0, height), *rng.uniform(6, 45, 2))
            pen.polygon(thing[:: int(rng.choice([1, 7]))].ravel().tolist(), any_colour(rng, 45))
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 5)))
    grain = texture(rng, {"grass": "fur", "boards": "wood"}.get(kind, "grain"), image.size)
    strength = rng.uniform(0.2, 0.5) + (0.5 if kind == "grass" else 0)
    return textured(image, grain, strength).resize(size, Image.Resampling.BILINEAR)


def cast_shadow(scene: Image.Image, body: Image.Image, rng: Random) -> None:
    """The animal's soft shadow on what is behind it, on `scene`."""
    small = body.resize((scene.width // 8, scene.height // 8), Image.Resampling.BOX)
    small = ImageChops.offset(small, int(rng.integers(-4, 5)), int(rng.integers(0, 4)))
    soft = small.filter(ImageFilter.GaussianBlur(3)).point([value // 2 for value in range(256)])
    scene.paste(INK, (0, 0), soft.resize(scene.size, Image.Resampling.BILINEAR))


def draw_foreground(scene: Image.Image, pet: Image.Image, rng: Random) -> None:
    """At times a fence, a mesh, a toy or a blanket before the animal: on `scene`, and taken out of `pet`."""
    kind = str(rng.choice(["nothing", "bars", "mesh", "toy", "blanket"], p=[0.74, 0.08, 0.05, 0.08, 0.05]))
    if kind == "nothing":
        return
    width, height = scene.size
    cover, light = Image.new("L", scene.size), Image.linear_gradient("L")
    pen = ImageDraw.Draw(cover)
    if kind == "bars":
        thick = int(rng.integers(6, 20))
        for x in range(int(rng.integers(0, 40)), width, thick * int(rng.integers(3, 6))):
            pen.rectangle((x, 0, x + thick, height), 255)
    elif kind == "mesh":
        for x in range(-height, width + height, int(rng.integers(30, 60))):
            pen.line((x, 0, x + height, height), 255, 3)
            pen.line((x, height, x + height, 0), 255, 3)
    elif kind == "toy":
        radius, light = rng.uniform(0.08, 0.22) * width, ImageChops.invert(Image.radial_gradient("L"))
        ball = blob(rng.uniform(0.2, 0.8) * width, rng.uniform(0.45, 0.9) * height, radius, radius)
        pen.polygon(ball.ravel().tolist(), 255)
    else:
        left_y, right_y = rng.uniform(0.4, 0.8) * height + rng.uniform(-50, 50, 2)
        pen.polygon((0, left_y, width, right_y, width, height, 0, height), 255)
    light = light.resize(scene.size).point([110 + value // 2 for value in range(256)])
    thing = Image.new("RGB", scene.size, any_colour(rng, 45))
    thing = ImageChops.multiply(thing, Image.merge("RGB", [light] * 3))
    cover = cover.filter(ImageFilter.BoxBlur(1))
    scene.paste(textured(thing, texture(rng, "grain", scene.size), 0.4), (0, 0), cover)
    pet.paste(0, (0, 0), cover)


def photograph(scene: Image.Image, rng: Random, size: tuple[int, int]) -> Image.Image:
    """Light, lens and sensor: vignette, soft shadows, colour temperature, exposure, blur and noise."""
    y, x = np.mgrid[-1:1:12j, -1:1:16j]
    slope_x, slope_y = rng.uniform(-0.25, 0.25, 2)
    gain = 1 - rng.uniform(0, 0.2) * (x**2 + y**2) + slope_x * x + slope_y * y
    if rng.random() < 0.15:  # dappled
        gain *= 1 - rng.uniform(0.2, 0.5) * (rng.random(gain.shape) < 0.4)
    light = Image.fromarray(np.clip(gain * 170, 0, 255).astype(np.uint8))
    light = light.resize(scene.size, Image.Resampling.BICUBIC)
    scene = ImageChops.multiply(scene, Image.merge("RGB", [light] * 3))
    image = scene.resize(size, Image.Resampling.BICUBIC)
    dark = rng.random() < 0.08
    exposure, haze = rng.uniform(0.26, 0.45) if dark else rng.uniform(0.75, 1.25), rng.uniform(0, 20)
    gamma, warmth = rng.uniform(0.85, 1.2), rng.normal(0, 0.08)
    curve = [
        min(255, round(haze + (255 - haze) * (exposure * tint * value / 170) ** gamma))
        for tint in (1 + warmth, 1, 1 - warmth)
        for value in range(256)
    ]
    image = image.point(curve)
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 2)))
    strength = rng.uniform(0.05, 0.35) * (2.5 if dark else 1)
    noise_curve = [round(128 + (value - 128) * strength) for value in range(256)]
    return ImageChops.add(image, texture(rng, "sensor", size).point(noise_curve * 3), offset=-128)


def draw_mongrel(rng: Random, species: int) -> tuple[Image.Image, Image.Image]:
    breeds = [breed for breed in BREEDS if breed.species == species]
    return draw_photo(rng, breeds[rng.integers(len(breeds))], mongrel=True)


def draw_photo(rng: Random, breed: Breed, mongrel: bool = False) -> tuple[Image.Image, Image.Image]:
    """One photo, uint8 RGB [height, width, 3], and its animal, uint8 [height, width] (255 animal, 0 not)."""
    animal = born(rng, breed, mongrel)
    left, top, right, bottom = POSES[animal.pose]
    upright = rng.random() < {"portrait": 0.4, "sitting": 0.6}.get(animal.pose, 0.08)
    short_side = int(DRAWING_SIDE * rng.uniform(0.62, 0.95))
    size = (short_side, DRAWING_SIDE) if upright else (DRAWING_SIDE, short_side)
    radius = min(size[0] / (right - left), size[1] / (bottom - top)) * rng.uniform(0.75, 1.12)
    middle = np.array([left + right, top + bottom]) / 2
    if rng.random() < 0.07:  # an extreme crop: a part of the face, or none of it
        radius *= rng.uniform(1.5, 2.4)
        middle = rng.uniform((-0.8, -0.6), (1.2, 1.4))
    mirrored = bool(rng.random() < 0.5)
    x, y = size / np.array(2) - radius * middle * (-1 if mirrored else 1, 1) + rng.normal(0, 0.03, 2) * size
    body_place = Placement(x, y, radius, rng.normal(0, 4), mirrored)
    head_place = Placement(x, y, radius, body_place.degrees + rng.normal(0, 9), mirrored)

    scene, pet = draw_scenery(rng, size), Image.new("L", size)
    fur, light = texture(rng, "fur", size), rng.uniform(-1, 1)
    body, head = (FurLayer(size, place, animal.coat.base) for place in (body_place, head_place))
    draw_body(body, animal, rng)
    cast_shadow(scene, body.mask, rng)
    body.lay_on(scene, pet, fur, animal.fluff, light)
    draw_head(head, animal, rng)
    head.lay_on(scene, pet, ImageChops.offset(fur, 97, 61), animal.fluff, light)
    if not animal.looks_away:
        draw_features(scene, head_place, animal, rng)
    draw_foreground(scene, pet, rng)

    width = round(rng.triangular(150, 320, 640) * (0.75 if upright else 1))
    photo_size = (max(150, width), round(max(150, width) * size[1] / size[0]))
    return photograph(scene, rng, photo_size), pet.resize(photo_size, Image.Resampling.BILINEAR)
