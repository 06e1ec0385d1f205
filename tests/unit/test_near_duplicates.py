"""Near-duplicates across splits: what the perceptual hash knows again, and every pair found once, block by block."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from components.example_gen.perceptual_hash import bits
from components.example_gen.photo import inspect_photo
from components.report import near_duplicates
from components.report.near_duplicates import HASH, MOST_BITS, MOST_COSINE, VECTOR, find_pairs
from samples.sample_photos import write_sample_photos


def encoded(image: Image.Image, image_format: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def hash_of(photo_bytes: bytes) -> str:
    """As ImageExampleGen stores it."""
    return inspect_photo(photo_bytes, min_side=8, max_pixels=10**7).perceptual_hash


def bits_apart(one: bytes, other: bytes) -> int:
    hashes = [bits(hash_of(each)) for each in (one, other)]
    assert all(its is not None and its.shape == (64,) for its in hashes)
    return int(np.sum(hashes[0] != hashes[1]))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Image.Image]:
    """48 drawn pets, upright."""
    folder = tmp_path_factory.mktemp("sample")
    write_sample_photos(folder, photos=48, seed=3)
    files = sorted((folder / "cats_vs_dogs").glob("*/*.jpg"))
    found = []
    for photo_bytes in {file.read_bytes(): None for file in files}:  # the sample has one twice
        try:
            image = Image.open(io.BytesIO(photo_bytes))
            image.load()
        except OSError:  # the sample has broken ones
            continue
        if min(image.size) >= 100 and image.getexif().get(0x0112, 1) == 1:
            found.append(image.convert("RGB"))
    return found[:40]


def copies(image: Image.Image) -> dict[str, bytes]:
    width, height = image.size
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "saved again": encoded(image, quality=40),
        "as PNG": encoded(image, "PNG"),
        "smaller": encoded(image.resize((width // 2, height // 2))),
        "larger": encoded(image.resize((width * 2, height * 2))),
        "brighter": encoded(image.point([min(255, int(level * 1.1)) for level in range(256)] * 3)),
        "grey": encoded(image.convert("L")),
        "turned, and marked so": encoded(image.transpose(Image.Transpose.ROTATE_90), exif=turned),
    }


@pytest.mark.slow
@pytest.mark.release
def test_a_copy_has_nearly_the_same_hash(photos):
    assert len(photos) == 40
    for image in photos[:10]:
        original = encoded(image, quality=95)
        far = {how: n for how, copy in copies(image).items() if (n := bits_apart(original, copy)) > MOST_BITS}
        assert far == {}


@pytest.mark.slow
@pytest.mark.release
def test_other_photos_have_other_hashes(photos):
    originals = [encoded(image) for image in photos]
    assert min(bits_apart(one, other) for one, other in itertools.combinations(originals, 2)) > MOST_BITS
    # The mirrored photo is for the feature vectors to find.
    assert bits_apart(originals[0], encoded(photos[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT))) > MOST_BITS


def test_what_shows_nothing_has_no_hash(photos):
    assert hash_of(encoded(Image.new("RGB", (90, 60), (200, 10, 10)))) == ""
    assert bits("") is None


def test_bits_are_those_of_the_digits(photos):
    digits = hash_of(encoded(photos[0]))
    assert len(digits) == 16
    assert "".join(str(int(bit)) for bit in bits(digits)) == f"{int(digits, 16):064b}"


def by_hand(hashes, vectors, splits) -> dict[tuple[int, int], float]:
    """Pair -> the smaller share of its limits, of all near-duplicates."""
    moved = None if vectors is None else vectors.astype(np.float32) - vectors.astype(np.float32).mean(axis=0)
    found = {}
    for i, j in itertools.combinations(range(len(splits)), 2):
        if splits[i] == splits[j]:
            continue
        shares = []
        if hashes[i] is not None and hashes[j] is not None:
            shares.append(np.sum(hashes[i] != hashes[j]) / MOST_BITS)
        if vectors is not None and vectors[i].any() and vectors[j].any():
            lengths = np.linalg.norm(moved[i]) * np.linalg.norm(moved[j])
            shares.append((1 - moved[i] @ moved[j] / lengths) / MOST_COSINE)
        if shares and min(shares) <= 1:
            found[i, j] = min(shares)
    return found


@pytest.fixture
def planted() -> tuple[list, np.ndarray, list[str]]:
    """70 photos in three splits, with twins by hash, by vector and by both; some know neither."""
    rng = np.random.default_rng(5)
    hashes: list = list(rng.random((70, 64)) < 0.5)
    vectors = np.abs(rng.normal(0, 1, (70, 40)))
    splits = rng.choice(["train", "eval", "test"], 70).tolist()
    for row in range(0, 60, 6):
        hashes[row + 1] = hashes[row] ^ (rng.random(64) < 0.06)
        vectors[row + 2] = vectors[row] + rng.normal(0, 0.15, 40)
        hashes[row + 3], vectors[row + 3] = hashes[row], vectors[row]
    for row in (60, 61, 6):
        hashes[row] = None
    vectors[[62, 63, 12, 15]] = 0
    return hashes, vectors.astype(np.float16), splits


@pytest.mark.parametrize("block", [(512, 4096), (3, 5), (1, 1)])
@pytest.mark.parametrize("with_vectors", [True, False])
def test_all_pairs_across_splits_are_found_whatever_the_blocks(planted, monkeypatch, block, with_vectors):
    hashes, vectors, splits = planted
    vectors = vectors if with_vectors else None
    expected = by_hand(hashes, vectors, splits)
    assert len(expected) > (15 if with_vectors else 8)
    monkeypatch.setattr(near_duplicates, "_BLOCK", block)
    found, pairs = find_pairs(hashes, vectors, splits, most=1000)
    assert found == len(expected)
    assert {tuple(sorted((pair.first, pair.second))) for pair in pairs} == set(expected)
    limits = {HASH: MOST_BITS, VECTOR: MOST_COSINE}
    shares = [pair.distance / limits[pair.method] for pair in pairs]
    hand = [expected[tuple(sorted((pair.first, pair.second)))] for pair in pairs]
    np.testing.assert_allclose(shares, hand, atol=1e-4)
    assert shares == sorted(shares)
    assert {pair.method for pair in pairs} == ({HASH, VECTOR} if with_vectors else {HASH})
    count, closest = find_pairs(hashes, vectors, splits, most=4)
    assert (count, closest) == (found, pairs[:4])


def test_one_split_has_no_pairs():
    bits = np.ones(64, bool)
    assert find_pairs([bits, bits], np.ones((2, 3), np.float16), ["train", "train"], most=5) == (0, [])
    assert find_pairs([], None, [], most=5) == (0, [])


@pytest.mark.slow
@pytest.mark.release
def test_the_real_data_sets_are_known_again(shared_data):
    """PetImages are the photos of cats_vs_dogs, saved again; two data sets hold a photo twice."""
    files = [*sorted(shared_data.glob("cats_vs_dogs/*/*")), *sorted(shared_data.glob("petimages/*/*"))]
    splits = [file.relative_to(shared_data).parts[0] for file in files]
    hashes = [bits(hash_of(file.read_bytes())) for file in files]
    _, pairs = find_pairs(hashes, None, splits, most=10_000)
    found = {(files[pair.first].name.split(".")[1], files[pair.second].name.split(".")[0]) for pair in pairs}
    labels = {(files[pair.first].parent.name, files[pair.second].parent.name.lower()) for pair in pairs}
    assert len(pairs) > 90
    assert labels == {("cat", "cat"), ("dog", "dog")}
    assert [pair for pair in found if pair[0] != pair[1]] == []
    twins = [
        ("cats_vs_dogs/dog/dog.180.jpg", "cats_vs_dogs/dog/dog.74.jpg"),
        ("oxford_iiit_pet/images/Abyssinian_24.jpg", "oxford_iiit_pet/images/Abyssinian_56.jpg"),
    ]
    for one, other in twins:
        assert bits_apart((shared_data / one).read_bytes(), (shared_data / other).read_bytes()) <= MOST_BITS
