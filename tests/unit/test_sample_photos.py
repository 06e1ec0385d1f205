"""The drawn sample: official layouts, files that are broken as it says, bytes that repeat."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from samples import sample_photos
from samples.sample_photos import write_sample_photos
from schemas.errors import BadInput

PHOTOS = 24
# All 37, in the official order.
OXFORD_BREEDS = [
    "Abyssinian", "american_bulldog", "american_pit_bull_terrier", "basset_hound", "beagle", "Bengal",
    "Birman", "Bombay", "boxer", "British_Shorthair", "chihuahua", "Egyptian_Mau",
    "english_cocker_spaniel", "english_setter", "german_shorthaired", "great_pyrenees", "havanese",
    "japanese_chin", "keeshond", "leonberger", "Maine_Coon", "miniature_pinscher", "newfoundland",
    "Persian", "pomeranian", "pug", "Ragdoll", "Russian_Blue", "saint_bernard", "samoyed",
    "scottish_terrier", "shiba_inu", "Siamese", "Sphynx", "staffordshire_bull_terrier",
    "wheaten_terrier", "yorkshire_terrier",
]  # fmt: skip


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A folder with the smallest sample, its summary and the calls of `on_progress`."""
    folder, calls = tmp_path_factory.mktemp("sample") / "photos", []
    summary = write_sample_photos(folder, PHOTOS, on_progress=lambda done, total: calls.append((done, total)))
    return folder, summary, calls


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def drawn_photos(folder: Path, summary) -> list[Path]:
    unusual = summary.broken_files | summary.odd_files
    return [path for path in sorted(folder.rglob("*.jpg")) if str(path.relative_to(folder)) not in unusual]


def annotations(folder: Path, name: str) -> dict[str, tuple[int, int, int]]:
    lines = (folder / "oxford_iiit_pet" / "annotations" / f"{name}.txt").read_text().splitlines()
    rows = [line.split(" ") for line in lines if not line.startswith("#")]
    return {row[0]: (int(row[1]), int(row[2]), int(row[3])) for row in rows}


def test_a_second_run_with_more_photos_repeats_every_byte_drawn_before(sample, tmp_path):
    folder, summary, _ = sample
    more = write_sample_photos(tmp_path, PHOTOS + 7)
    assert (more.cats_vs_dogs_photos, more.oxford_iiit_pet_photos) == (PHOTOS + 7, (PHOTOS + 7) // 2)
    assert len(drawn_photos(tmp_path, more)) == PHOTOS + 7 + (PHOTOS + 7) // 2
    repeated = contents(tmp_path)
    changed = {path for path, content in contents(folder).items() if repeated[path] != content}
    # The three pets that are new are third ones of their breed, and none of those is for the test.
    lists = {f"oxford_iiit_pet/annotations/{name}.txt" for name in ("list", "trainval")}
    assert changed == {"sample.json"} | lists
    assert (more.broken_files, more.odd_files) == (summary.broken_files, summary.odd_files)


def test_another_seed_draws_other_photos(sample, tmp_path):
    next(sample_photos.write_cats_vs_dogs(tmp_path, 1, seed=8))
    first = (tmp_path / "cat" / "cat.0.jpg").read_bytes()
    assert first != (sample[0] / "cats_vs_dogs" / "cat" / "cat.0.jpg").read_bytes()


def test_progress_is_told_after_every_photo(sample):
    total = PHOTOS + PHOTOS // 2
    assert sample[2] == [(done, total) for done in range(1, total + 1)]


def test_cats_vs_dogs_is_laid_out_as_the_official_one(sample):
    folder, summary, _ = sample
    found = [path for path in drawn_photos(folder, summary) if "cats_vs_dogs" in path.parts]
    expected = {f"{species}/{species}.{n}.jpg" for species in ("cat", "dog") for n in range(PHOTOS // 2)}
    assert {str(path.relative_to(folder / "cats_vs_dogs")) for path in found} == expected
    assert summary.cats_vs_dogs_photos == PHOTOS
    assert summary.oxford_iiit_pet_photos == PHOTOS // 2


def test_oxford_lists_carry_the_official_numbers(sample):
    assert (len(OXFORD_BREEDS), sorted(OXFORD_BREEDS, key=str.lower)) == (37, OXFORD_BREEDS)
    cats = [name for name in OXFORD_BREEDS if name[0].isupper()]
    dogs = [name for name in OXFORD_BREEDS if name[0].islower()]
    listed = annotations(sample[0], "list")
    for name, numbers in listed.items():
        breed = name.rsplit("_", 1)[0]
        species, of_species = (1, cats) if breed in cats else (2, dogs)
        assert numbers == (OXFORD_BREEDS.index(breed) + 1, species, of_species.index(breed) + 1)
    assert Counter(species for _, species, _ in set(listed.values())) == {1: 3, 2: 3}


def test_oxford_lists_cover_the_images_and_split_every_breed(sample):
    folder = sample[0]
    listed, trainval, test = (annotations(folder, name) for name in ("list", "trainval", "test"))
    images = {path.stem for path in (folder / "oxford_iiit_pet" / "images").glob("*.jpg")}
    assert set(listed) == images
    assert listed == trainval | test
    assert not set(trainval) & set(test)
    drawn = {name for name in listed if int(name.rsplit("_", 1)[1]) < 9000}
    for part in (trainval, test):
        per_breed = Counter(name.rsplit("_", 1)[0] for name in set(part) & drawn)
        assert set(per_breed.values()) == {PHOTOS // 2 // 6 // 2}
    comments = (folder / "oxford_iiit_pet/annotations/list.txt").read_text().splitlines()[:7]
    assert [line.startswith("#") for line in comments] == [True] * 6 + [False]
    assert comments[0] == "#Image CLASS-ID SPECIES BREED ID"


def test_trimaps_fit_their_photos(sample):
    folder = sample[0]
    pet_shares = []
    for name in annotations(folder, "list"):
        with Image.open(folder / f"oxford_iiit_pet/annotations/trimaps/{name}.png") as trimap:
            assert (trimap.format, trimap.mode) == ("PNG", "L")
            values = np.asarray(trimap)
        with Image.open(folder / f"oxford_iiit_pet/images/{name}.jpg") as photo:
            assert values.shape == photo.size[::-1], name
        assert {1, 3} <= set(np.unique(values).tolist()) <= {1, 2, 3}, name
        pet_shares.append(np.mean(values == 1))
    assert 0.1 < np.median(pet_shares) < 0.7


def test_photos_differ_in_content_size_orientation_and_quality(sample):
    folder, summary, _ = sample
    photos = drawn_photos(folder, summary)
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in photos}) == len(photos)
    sizes, qualities = [], set()
    for path in photos:
        with Image.open(path) as photo:
            photo.load()
            assert (photo.format, photo.mode) == ("JPEG", "RGB")
            sizes.append(photo.size)
            qualities.add(tuple(photo.quantization[0]))
    widths = [width for width, _ in sizes]
    assert min(widths) >= 150
    assert max(widths) <= 640
    assert max(widths) > 2 * min(widths)
    assert {width > height for width, height in sizes} == {True, False}
    assert len(qualities) > len(photos) // 3


BROKEN_OR_ODD = {
    "cats_vs_dogs/cat/cat.10404.jpg": lambda path: path.stat().st_size == 0,
    "cats_vs_dogs/cat/cat.11565.jpg": lambda path: path.read_bytes().startswith(b"<!DOCTYPE html>"),
    "cats_vs_dogs/cat/._cat.5.jpg": lambda path: path.read_bytes()[:4] == bytes([0, 5, 0x16, 7]),
    "cats_vs_dogs/dog/dog.11702.jpg": lambda path: is_cut_off(path),
    "cats_vs_dogs/dog/dog.10797.jpg": lambda path: opened(path) == ("WEBP", "RGB"),
    "cats_vs_dogs/dog/Thumbs.db": lambda path: path.read_bytes()[:4] == bytes([0xD0, 0xCF, 0x11, 0xE0]),
    "cats_vs_dogs/cat/cat.10029.jpg": lambda path: opened(path) == ("BMP", "RGB"),
    "cats_vs_dogs/cat/cat.10220.jpg": lambda path: orientation(path) == 6,
    "cats_vs_dogs/cat/cat.10501.jpg": lambda path: path.read_bytes() == (path.parent / "cat.0.jpg").read_bytes(),
    "cats_vs_dogs/dog/dog.10237.jpg": lambda path: opened(path) == ("JPEG", "L"),
    "cats_vs_dogs/dog/dog.10747.jpg": lambda path: opened(path) == ("JPEG", "CMYK"),
    "oxford_iiit_pet/images/Abyssinian_9034.jpg": lambda path: opened(path) == ("GIF", "P"),
    "oxford_iiit_pet/images/Abyssinian_100.mat": lambda path: path.read_bytes()[124:128] == b"\x00\x01IM",
    "oxford_iiit_pet/images/Persian_9005.jpg": lambda path: opened(path) == ("PNG", "RGBA"),
    "oxford_iiit_pet/images/beagle_9117.jpg": lambda path: is_cut_off(path),
}


def opened(path: Path) -> tuple[str, str]:
    with Image.open(path) as image:
        image.load()
        return image.format, image.mode


def orientation(path: Path) -> int:
    with Image.open(path) as image:
        return image.getexif()[0x0112]


def is_cut_off(path: Path) -> bool:
    with Image.open(path) as image:
        assert image.format == "JPEG"
        with pytest.raises(OSError, match="truncated"):
            image.load()
    return True


@pytest.mark.parametrize("path", BROKEN_OR_ODD)
def test_each_unusual_file_is_unusual_in_the_stated_way(sample, path):
    assert BROKEN_OR_ODD[path](sample[0] / path)


def test_the_summary_names_every_unusual_file(sample):
    _, summary, _ = sample
    assert set(summary.broken_files) | set(summary.odd_files) == set(BROKEN_OR_ODD)
    assert not set(summary.broken_files) & set(summary.odd_files)
    assert all(summary.broken_files.values())
    assert all(summary.odd_files.values())


def test_a_sideways_photo_is_upright_once_its_orientation_is_honoured(sample):
    rng = np.random.default_rng([7, sample_photos.UNUSUAL, 10220])
    upright, _ = sample_photos.draw_mongrel(rng, sample_photos.CAT)
    with Image.open(sample[0] / "cats_vs_dogs/cat/cat.10220.jpg") as stored:
        honoured = ImageOps.exif_transpose(stored)
    assert honoured.size == upright.size
    assert np.abs(np.asarray(honoured, float) - np.asarray(upright, float)).mean() < 12


def test_a_finished_sample_is_not_drawn_again(sample, monkeypatch):
    folder, summary, _ = sample
    monkeypatch.setattr(sample_photos, "draw_photo", lambda *arguments, **options: pytest.fail("drew a photo"))
    assert write_sample_photos(folder, PHOTOS) == summary


@pytest.mark.parametrize("change", ["photos", "seed", "version", "a file too many", "no marker"])
def test_a_folder_that_holds_anything_else_is_refused(sample, tmp_path, monkeypatch, change):
    # Of a former sample only the marker and the inventory are looked at.
    (tmp_path / "photo.jpg").write_bytes(b"12345")
    marker = json.loads((sample[0] / "sample.json").read_text())
    marker["files"] = {"count": 1, "bytes": 5}
    (tmp_path / "sample.json").write_text(json.dumps(marker))
    assert write_sample_photos(tmp_path, PHOTOS) == sample[1]
    if change == "version":
        monkeypatch.setattr(sample_photos, "DRAWING_VERSION", 99)
    elif change == "a file too many":
        (tmp_path / "mine.txt").write_text("mine")
    elif change == "no marker":
        (tmp_path / "sample.json").unlink()
    photos, seed = PHOTOS + (change == "photos"), 7 + (change == "seed")
    with pytest.raises(FileExistsError, match=f"does not hold the sample of {photos} photos with seed {seed}"):
        write_sample_photos(tmp_path, photos, seed)


@pytest.mark.parametrize(
    ("photos", "seed", "message"),
    [(23, 7, r"`photos` \(=23\)"), (10_001, 7, r"`photos` \(=10001\)"), (24, -1, r"`seed` \(=-1\)")],
)
def test_numbers_out_of_range_are_refused(tmp_path, photos, seed, message):
    with pytest.raises(BadInput, match=message):
        write_sample_photos(tmp_path / "new", photos, seed)
    assert not (tmp_path / "new").exists()
