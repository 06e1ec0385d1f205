"""ImageExampleGen with masks: what an example holds, each reason for a rejection, and what counts as new data."""

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.proto import example_gen_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from components.artifacts import IngestReport
from components.data_gate.checks import find_mask_problems, find_notes, find_problems
from components.example_gen.executor import PHOTOS_KEY, ImageExampleGenExecutor
from components.example_gen.found_photos import FolderRules
from components.example_gen.photo_rules import PhotoRules
from components.example_gen.report import read_keys, read_report
from components.example_gen.settings import IngestSettings
from components.example_gen.spans import fingerprint, resolve_sources
from components.records import read_examples, split_files, text
from schemas import features as f
from schemas.corrections import Correction, corrections_csv, fingerprint_of, read_corrections
from schemas.errors import BadInput
from schemas.features import SPLITS
from tests.in_process import IN_PROCESS

WIDTH, HEIGHT = 24, 20


def png(pixels: np.ndarray, image_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()


def photo(seed: int, **options) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    return png(pixels, "JPEG", **options)


def ids(seed: int, classes: int = 3) -> np.ndarray:
    """uint8 [HEIGHT, WIDTH], every class somewhere, and one row that does not count."""
    values = np.random.default_rng(seed).integers(0, classes, (HEIGHT, WIDTH)).astype(np.uint8)
    values[0] = 255
    return values


def fill(root: Path) -> Path:
    """30 photos with masks of three classes."""
    for seed in range(30):
        write(root / "images" / f"{seed}.jpg", photo(seed))
        write(root / "masks" / f"{seed}.png", png(ids(seed)))
    return root


@pytest.fixture
def folder(tmp_path) -> Path:
    return fill(tmp_path / "photos")


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def run_ingestion(
    out: Path, source: Path, dataset: str = "image_masks", corrections: str = "", ignore: tuple[str, ...] = ()
):
    """Runs the step on a folder; gives its two artifacts."""
    known = fingerprint_of(read_corrections(Path(corrections))) if corrections else ""
    examples, report = standard_artifacts.Examples(), IngestReport()
    examples.uri, report.uri = str(out / "examples"), str(out / "report")
    buckets = zip(SPLITS, (3, 1, 1), strict=True)
    splits = [example_gen_pb2.SplitConfig.Split(name=name, hash_buckets=n) for name, n in buckets]
    output = example_gen_pb2.Output(split_config=example_gen_pb2.SplitConfig(splits=splits))
    rules = PhotoRules(min_side=1, max_pixels=10**6)
    settings = IngestSettings(
        {dataset: str(source)}, "label", rules, FolderRules(masks=True, ignore=ignore), corrections, known
    )
    context = BaseBeamExecutor.Context(beam_pipeline_args=IN_PROCESS, tmp_dir=str(out / "temp"), unique_id="1")
    ImageExampleGenExecutor(context).Do(
        {},
        {"examples": [examples], "ingest_report": [report]},
        {PHOTOS_KEY: settings.to_json(), "output_config": proto_utils.proto_to_json(output)},
    )
    return examples, report


class Ingested(NamedTuple):
    folder: Path
    files: str
    """Fingerprint of the folder."""
    examples: Any
    report: Any


def ingest_with_list(root: Path) -> Ingested:
    (root / "photos" / "classes.txt").write_text("background\ncat\ndog\n")
    files = fingerprint(resolve_sources({"image_masks": str(root / "photos")}, None), "_SUCCESS")
    return Ingested(root / "photos", files, *run_ingestion(root / "out", root / "photos"))


@pytest.fixture(scope="module")
def ingested(tmp_path_factory) -> Ingested:
    """30 photos with masks and a list of classes, of which one mask lacks the class cat."""
    root = tmp_path_factory.mktemp("ingested")
    fill(root / "photos")
    write(root / "photos" / "masks" / "7.png", png(np.where(ids(7) == 1, 0, ids(7)).astype(np.uint8)))
    return ingest_with_list(root)


def all_examples(examples):
    return {text(each, f.FILE_NAME): each for split in SPLITS for each in read_examples(split_files(examples, split))}


def mask_of(example) -> np.ndarray:
    [content] = example.features.feature[f.MASK].bytes_list.value
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        return np.asarray(image)


def texts(example, name: str) -> list[str]:
    return [value.decode() for value in example.features.feature[name].bytes_list.value]


def test_an_example_holds_the_photo_and_its_mask(ingested):
    found, report = all_examples(ingested.examples), ingested.report
    assert sorted(found) == sorted(f"images/{seed}.jpg" for seed in range(30))
    for seed in (0, 29):
        example = found[f"images/{seed}.jpg"]
        assert np.array_equal(mask_of(example), ids(seed))
        assert example.features.feature[f.IMAGE].bytes_list.value == [photo(seed)]
        assert texts(example, f.MASK_CLASSES) == ["background", "cat", "dog"]
        assert (text(example, f.LABEL), text(example, f.DATASET)) == ("", "image_masks")
        assert len(text(example, f.MASK_HASH)) == 64
    assert texts(found["images/7.jpg"], f.MASK_CLASSES) == ["background", "dog"]

    counts, rejected = read_report(report.uri)
    assert (counts["accepted"], rejected, counts["classes"]) == (30, [], {})
    masks = counts["masks"]
    assert masks["classes"] == ["background", "cat", "dog"]
    total = {name: sum(masks["splits"][split][name]["pixels"] for split in SPLITS) for name in masks["classes"]}
    whole = np.stack([mask_of(example) for example in found.values()])
    assert total == {name: int((whole == number).sum()) for number, name in enumerate(masks["classes"])}
    assert sum(masks["splits"][split]["cat"]["photos"] for split in SPLITS) == 29
    assert sum(masks["ignored_pixels"].values()) == 30 * WIDTH
    assert find_problems(counts, rejected, {}, 0.1) + find_mask_problems(counts) == []
    assert find_notes(counts, rejected) == ["5.0% of the pixels of the masks are not counted (value 255)"]
    assert {key.mask_hash for key in read_keys(report.uri)} == {text(each, f.MASK_HASH) for each in found.values()}


def test_every_reason_is_told_with_the_photo_and_the_remedy(folder, tmp_path):
    (folder / "classes.txt").write_text("background\ncat\ndog\n")
    images, masks = folder / "images", folder / "masks"
    turned = Image.Exif()
    turned[0x0112] = 6
    (masks / "0.png").unlink()
    (images / "1.jpg").unlink()
    write(masks / "2.png", png(ids(2)[:, :-1]))
    write(images / "3.jpg", photo(3, exif=turned))
    write(masks / "4.png", png(ids(4), "JPEG"))
    write(masks / "5.png", png(np.where(ids(5) == 255, 255, ids(5) + 1).astype(np.uint8)))
    write(masks / "6_mask.png", png(ids(6)))
    write(masks / "7.png", png(np.full((HEIGHT, WIDTH), 255, np.uint8)))
    write(masks / "8.png", b"")
    write(images / "9.jpg", b"")
    # A turned photo with an upright mask is right.
    write(images / "10.jpg", photo(10, exif=turned))
    write(masks / "10.png", png(np.ascontiguousarray(ids(10).T)))
    # A copy with another mask, and one with the same.
    write(images / "copy.jpg", photo(11))
    write(masks / "copy.png", png(ids(99)))
    write(images / "same.jpg", photo(12))
    write(masks / "same.png", png(ids(12)))
    examples, report = run_ingestion(tmp_path / "out", folder)
    counts, rejected = read_report(report.uri)
    assert {line["file_name"]: line["reason"] for line in rejected} == {
        "images/0.jpg": "mask_missing",
        "masks/1.png": "photo_missing",
        "images/2.jpg": "mask_size_differs",
        "images/3.jpg": "mask_size_differs",
        "images/4.jpg": "mask_not_lossless",
        "images/5.jpg": "mask_unknown_value",
        "images/6.jpg": "mask_ambiguous",
        "images/7.jpg": "mask_all_ignored",
        "images/8.jpg": "mask_unreadable",
        "images/9.jpg": "empty",
        "images/11.jpg": "contradictory_mask",
        "images/copy.jpg": "contradictory_mask",
    }
    details = {line["file_name"]: line["detail"] for line in rejected}
    for name, detail in details.items():
        assert detail.startswith(name)
    assert "23 x 20 pixels" in details["images/2.jpg"]
    assert "20 x 24 pixels" in details["images/3.jpg"]
    assert "subtract 1" in details["images/5.jpg"]
    assert details["images/11.jpg"] == (
        "images/11.jpg has another mask than the same photo, images/copy.jpg; none of them is used. Keep the right one "
        "and delete the others."
    )
    found = all_examples(examples)
    assert counts["accepted"] == len(found) == 20
    assert sum(counts["masks"]["splits"][split]["cat"]["photos"] for split in SPLITS) == 20
    assert mask_of(found["images/10.jpg"]).shape == (24, 20)
    assert {"images/12.jpg", "images/same.jpg"} <= set(found)
    of_files, of_copies = find_problems(counts, rejected, {}, 0.1, 0.01)
    assert "33.3%: 1 empty, 1 mask_all_ignored, 1 mask_ambiguous, 1 mask_m" in of_files
    assert "2 of 22 photos (9.1%)" in of_copies
    assert "2 photos were left out because the same photo has two masks: images/11.jpg, images/copy.jpg" in find_notes(
        counts, rejected
    )


def test_a_corrected_mask_is_new_data_and_its_photo_keeps_its_split(ingested, tmp_path):
    shutil.copytree(ingested.folder, tmp_path / "photos")
    corrected = ids(11)
    corrected[10, 10] = (corrected[10, 10] + 1) % 3
    write(tmp_path / "photos" / "masks" / "11.png", png(corrected))
    # The same ids in another file are the same data.
    write(tmp_path / "photos" / "masks" / "12.png", png(ids(12), compress_level=0))
    then = ingest_with_list(tmp_path)
    assert then.files != ingested.files
    before, after = (read_report(each.report.uri)[0]["data_fingerprint"] for each in (ingested, then))
    assert before != after
    keys, keys_then = ({key.content_hash: key for key in read_keys(each.report.uri)} for each in (ingested, then))
    assert {number: key.split for number, key in keys.items()} == {n: key.split for n, key in keys_then.items()}
    [changed] = [number for number, key in keys.items() if keys_then[number].mask_hash != key.mask_hash]
    example = all_examples(then.examples)["images/11.jpg"]
    assert changed == text(example, f.CONTENT_HASH)
    assert np.array_equal(mask_of(example), corrected)


@pytest.mark.parametrize("listed", [True, False])
def test_a_class_that_is_not_counted_is_255_in_every_mask(folder, tmp_path, listed):
    """With a list of classes, and where the masks alone say which there are."""
    if listed:
        (folder / "classes.txt").write_text("background\ncat\ndog\n")
    of_cats = np.ones((HEIGHT, WIDTH), np.uint8)
    write(folder / "masks" / "5.png", png(of_cats))
    examples, report = run_ingestion(tmp_path / "out", folder, ignore=("cat" if listed else "class_1",))
    found, (counts, rejected) = all_examples(examples), read_report(report.uri)
    assert [(line["file_name"], line["reason"]) for line in rejected] == [("images/5.jpg", "mask_all_ignored")]
    assert "task.ignore" in rejected[0]["detail"]
    names = ["background", "dog"] if listed else ["class_0", "class_2"]
    written = ids(0)
    expected = np.select([written == 0, written == 2], [0, 1], 255)
    assert np.array_equal(mask_of(found["images/0.jpg"]), expected)
    assert texts(found["images/0.jpg"], f.MASK_CLASSES) == names
    masks = counts["masks"]
    assert (masks["classes"], masks["ignored"]) == (names, ["cat" if listed else "class_1"])
    assert sum(masks["ignored_pixels"].values()) == sum(int(np.sum(mask_of(one) == 255)) for one in found.values())


def test_an_unknown_class_to_leave_out_stops_before_anything_is_written(folder, tmp_path):
    with pytest.raises(BadInput, match=r"task.ignore has 'cat', .*expected one of class_0, class_1, class_2, or an id"):
        run_ingestion(tmp_path / "out", folder, ignore=("cat",))
    assert not (tmp_path / "out" / "examples").exists()


def test_a_dropped_photo_goes_with_its_mask(ingested, tmp_path):
    before = read_report(ingested.report.uri)[0]
    content_hash = hashlib.sha256(photo(7)).hexdigest()
    file = tmp_path / "corrections.csv"
    file.write_bytes(corrections_csv([Correction(content_hash=content_hash, file_name="images/7.jpg")]))
    examples, report = run_ingestion(tmp_path / "out", ingested.folder, corrections=str(file))
    assert set(all_examples(ingested.examples)) - set(all_examples(examples)) == {"images/7.jpg"}
    counts, rejected = read_report(report.uri)
    assert rejected == []
    assert counts["corrections"] == {"changed": 0, "dropped": 1, "unmatched": {}}
    pixels = {
        name: sum(of_class["pixels"] for of_split in told["masks"]["splits"].values() for of_class in of_split.values())
        for name, told in (("before", before), ("after", counts))
    }
    assert pixels["before"] - pixels["after"] == WIDTH * (HEIGHT - 1)  # one row of each mask does not count


def test_masks_of_black_and_white_have_two_classes(folder, tmp_path):
    for path in (folder / "masks").iterdir():
        write(path, png(np.where(ids(int(path.stem)) == 1, 255, 0).astype(np.uint8)))
    examples, report = run_ingestion(tmp_path / "out", folder)
    counts, rejected = read_report(report.uri)
    assert counts["masks"]["classes"] == ["class_0", "class_1"]
    example = all_examples(examples)["images/0.jpg"]
    assert np.array_equal(mask_of(example), ids(0) == 1)
    assert texts(example, f.MASK_CLASSES) == ["class_0", "class_1"]
    [note] = find_notes(counts, rejected)
    assert "only 0 and 255" in note


def test_values_that_are_no_ids_stop_before_anything_is_written(folder, tmp_path):
    for path in (folder / "masks").iterdir():
        write(path, png(np.where(ids(int(path.stem)) == 1, 38, 0).astype(np.uint8)))
    with pytest.raises(BadInput, match="the values 0, 38"):
        run_ingestion(tmp_path / "out", folder)
    assert not (tmp_path / "out" / "examples").exists()


def test_voc_in_palettes_and_in_colours(tmp_path):
    colours = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    palette = [value for colour in colours for value in colour] + [0] * 759
    palette[765:] = (224, 224, 192)
    root = tmp_path / "VOC2012"
    for seed in range(20):
        write(root / "JPEGImages" / f"{seed}.jpg", photo(seed))
        image = Image.fromarray(ids(seed), "P")
        image.putpalette(palette)
        buffer = io.BytesIO()
        (image if seed % 2 else image.convert("RGB")).save(buffer, "PNG")
        write(root / "SegmentationClass" / f"{seed}.png", buffer.getvalue())
    names = ("background", "aeroplane", "bicycle")
    lines = [f"{name}:{','.join(map(str, colour))}::" for name, colour in zip(names, colours, strict=True)]
    (root / "labelmap.txt").write_text("\n".join(lines) + "\n")
    examples, report = run_ingestion(tmp_path / "out", tmp_path)
    assert read_report(report.uri)[1] == []
    found = all_examples(examples)
    for seed in range(20):
        assert np.array_equal(mask_of(found[f"VOC2012/JPEGImages/{seed}.jpg"]), ids(seed))


def test_only_segmentation_has_another_cache_key():
    def key(rules):
        return json.loads(IngestSettings({"oxford_iiit_pet": "photos"}, "label", PhotoRules(), rules).to_json())

    assert key(FolderRules(masks=True)) == {**key(FolderRules()), "masks": True}
    assert "masks" not in key(FolderRules())
