"""ImageExampleGen with copies: what the files, the counts and the fingerprint say when photos had to be taken out."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.proto import example_gen_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from components.artifacts import IngestReport
from components.example_gen import found_photos, layouts
from components.example_gen.executor import ImageExampleGenExecutor
from components.example_gen.photo_rules import PhotoRules
from components.example_gen.report import read_keys, read_report
from components.example_gen.settings import PHOTOS_KEY, IngestSettings
from components.records import read_examples, remove_photos, split_files, text
from schemas import features as f
from schemas.features import SPLITS
from tests.in_process import IN_PROCESS


def photo(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG" if seed % 3 == 0 else "JPEG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """40 photos of two classes."""
    for seed in range(40):
        path = tmp_path / "photos" / ("cat", "dog")[seed % 2] / f"{seed}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(seed))
    return tmp_path / "photos"


@pytest.fixture
def ingest(tmp_path):
    """Runs the step on a folder; gives its two artifacts."""

    def run(source, dataset="image_folder"):
        out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        examples, report = standard_artifacts.Examples(), IngestReport()
        examples.uri, report.uri = str(out / "examples"), str(out / "report")
        splits = [example_gen_pb2.SplitConfig.Split(name=name, hash_buckets=1) for name in SPLITS]
        output = example_gen_pb2.Output(split_config=example_gen_pb2.SplitConfig(splits=splits))
        settings = IngestSettings({dataset: str(source)}, "label", PhotoRules(min_side=1, max_pixels=10**6))
        context = BaseBeamExecutor.Context(beam_pipeline_args=IN_PROCESS, tmp_dir=str(out / "temp"), unique_id="1")
        ImageExampleGenExecutor(context).Do(
            {},
            {"examples": [examples], "ingest_report": [report]},
            {PHOTOS_KEY: settings.to_json(), "output_config": proto_utils.proto_to_json(output)},
        )
        return examples, report

    return run


def names(examples) -> dict[str, list[str]]:
    return {
        split: [text(each, f.FILE_NAME) for each in read_examples(split_files(examples, split))] for split in SPLITS
    }


def test_contradictions_leave_no_trace_but_their_names(folder, ingest):
    for seed in (0, 2, 5):
        label, other = ("cat", "dog") if seed % 2 == 0 else ("dog", "cat")
        shutil.copy(folder / label / f"{seed}.jpg", folder / other / f"copy_of_{seed}.jpg")
    examples, report = ingest(folder)
    found, rejected = read_report(report.uri)
    assert [line["file_name"] for line in rejected] == [
        "cat/0.jpg", "cat/2.jpg", "cat/copy_of_5.jpg", "dog/5.jpg", "dog/copy_of_0.jpg", "dog/copy_of_2.jpg",
    ]  # fmt: skip
    assert {line["reason"] for line in rejected} == {"contradictory_label"}
    assert found["reasons"] == {"contradictory_label": 6}
    assert found["classes"] == {"cat": {"accepted": 18, "rejected": 3}, "dog": {"accepted": 19, "rejected": 3}}

    for seed in (0, 2, 5):
        for path in folder.rglob(f"*{seed}.jpg"):
            if path.stem in (str(seed), f"copy_of_{seed}"):
                path.unlink()
    others, their_report = ingest(folder)
    without, nothing = read_report(their_report.uri)
    assert nothing == []
    for key in ("accepted", "splits", "formats", "data_fingerprint"):
        assert found[key] == without[key], key
    assert read_keys(report.uri) == read_keys(their_report.uri)
    assert names(examples) == names(others)


@pytest.mark.slow
@pytest.mark.release
def test_copies_with_one_label_in_one_split_stay(folder, ingest):
    shutil.copy(folder / "cat" / "0.jpg", folder / "cat" / "copy.jpg")
    examples, report = ingest(folder)
    found, rejected = read_report(report.uri)
    assert (found["accepted"], rejected) == (41, [])
    assert sum(name in ("cat/0.jpg", "cat/copy.jpg") for split in names(examples).values() for name in split) == 2


@pytest.mark.slow
@pytest.mark.release
def test_of_copies_in_several_splits_those_held_back_most_stay(folder, ingest, monkeypatch):
    """The data set says itself which split a photo belongs to."""
    find = layouts.find_photos
    official = {"a": "train", "b": "eval", "c": "test"}
    for name in official:
        shutil.copy(folder / "cat" / "0.jpg", folder / "cat" / f"{name}.jpg")
        shutil.copy(folder / "dog" / "1.jpg", folder / "dog" / f"{name}.jpg")
    (folder / "dog" / "c.jpg").unlink()
    for label, seed in (("cat", 0), ("dog", 1)):
        (folder / label / f"{seed}.jpg").unlink()

    def found_with_splits(*given):
        found = find(*given)
        found.photos = [
            found_photos.Photo(
                p.path, p.file_name, p.dataset, p.label, official_split=official.get(p.file_name[4:-4], "train")
            )
            for p in found.photos
        ]
        return found

    monkeypatch.setattr(layouts, "find_photos", found_with_splits)
    examples, report = ingest(folder)
    found, rejected = read_report(report.uri)
    assert [(line["file_name"], line["reason"], line["detail"]) for line in rejected] == [
        ("cat/a.jpg", "duplicate_of_test", "cat/a.jpg is identical to the test photo cat/c.jpg."),
        ("cat/b.jpg", "duplicate_of_test", "cat/b.jpg is identical to the test photo cat/c.jpg."),
        ("dog/a.jpg", "duplicate_of_eval", "dog/a.jpg is identical to the eval photo dog/b.jpg."),
    ]
    left = names(examples)
    assert (left["eval"], left["test"]) == (["dog/b.jpg"], ["cat/c.jpg"])
    assert found["splits"] == {"train": {"cat": 19, "dog": 19}, "eval": {"dog": 1}, "test": {"cat": 1}}


def test_photos_are_removed_from_every_shard(tmp_path, drawn_photos, make_example, write_records):
    rows = [make_example(photo) for photo in drawn_photos[:12]]
    for shard in range(3):
        file = write_records(tmp_path / f"shard-{shard}", rows[shard::3])
        target = tmp_path / "Split-train" / f"data_tfrecord-{shard:05d}-of-00003.gz"
        target.parent.mkdir(exist_ok=True)
        shutil.move(file, target)
    write_records(tmp_path / "Split-eval", rows[:1])
    examples = standard_artifacts.Examples()
    examples.uri, examples.split_names = str(tmp_path), '["train", "eval"]'
    hashes = [text(row, f.CONTENT_HASH) for row in rows]
    remove_photos(examples, [("train", hashes[0]), ("train", hashes[4]), ("train", hashes[5])])
    files = split_files(examples, "train")
    assert len(files) == 3
    left = [[text(each, f.CONTENT_HASH) for each in read_examples([file])] for file in files]
    assert left == [
        [hashes[3], hashes[6], hashes[9]],
        [hashes[1], hashes[7], hashes[10]],
        [hashes[i] for i in (2, 8, 11)],
    ]
    [kept] = read_examples(split_files(examples, "eval"))
    assert text(kept, f.CONTENT_HASH) == hashes[0]
