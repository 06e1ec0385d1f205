"""ImageExampleGen with corrections: labels are changed, photos dropped, and all of it is on record."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path

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
from components.data_gate.checks import find_problems
from components.example_gen.component import ImageExampleGen
from components.example_gen.executor import PHOTOS_KEY, ImageExampleGenExecutor
from components.example_gen.found_photos import FolderRules
from components.example_gen.photo_rules import PhotoRules
from components.example_gen.report import read_keys, read_report
from components.example_gen.settings import IngestSettings
from components.example_gen.spans import fingerprint, resolve_sources
from components.records import read_examples, split_files, text
from components.report.summary import describe_data
from schemas import features as f
from schemas.corrections import Correction, corrections_csv, fingerprint_of, read_corrections
from schemas.errors import BadInput
from schemas.features import SPLITS
from tests.in_process import IN_PROCESS

RULES = PhotoRules(min_side=1, max_pixels=10**6)


@pytest.fixture
def folder(tmp_path) -> Path:
    """20 photos of two classes; cat/0.jpg is also dog/copy.jpg, and two photos lie in a misspelt class."""
    for seed in range(20):
        buffer = io.BytesIO()
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(buffer, "JPEG")
        path = tmp_path / "photos" / ("cat", "dog", "doog")[seed % 2 if seed < 18 else 2] / f"{seed}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
    shutil.copy(tmp_path / "photos" / "cat" / "0.jpg", tmp_path / "photos" / "dog" / "copy.jpg")
    return tmp_path / "photos"


def correct(file: Path, folder: Path, **labels: str) -> str:
    """Writes corrections, `cat_0="dog"` for cat/0.jpg; gives the path of the file."""
    found = [
        Correction(
            content_hash=hashlib.sha256((folder / f"{name.replace('_', '/')}.jpg").read_bytes()).hexdigest(),
            file_name=f"{name.replace('_', '/')}.jpg",
            old_label=name.partition("_")[0],
            new_label=label,
            when=f"2026-11-{10 + i}",
        )
        for i, (name, label) in enumerate(labels.items())
    ]
    file.write_bytes(corrections_csv(found))
    return str(file)


def ingest(folder: Path, out: Path, corrections: str = "", claimed: str | None = None):
    examples, report = standard_artifacts.Examples(), IngestReport()
    examples.uri, report.uri = str(out / "examples"), str(out / "report")
    splits = [example_gen_pb2.SplitConfig.Split(name=name, hash_buckets=1) for name in SPLITS]
    output = example_gen_pb2.Output(split_config=example_gen_pb2.SplitConfig(splits=splits))
    given = fingerprint_of(read_corrections(Path(corrections))) if corrections and claimed is None else claimed or ""
    settings = IngestSettings(
        {"image_folder": str(folder)}, "label", RULES, corrections=corrections, corrections_fingerprint=given
    )
    context = BaseBeamExecutor.Context(beam_pipeline_args=IN_PROCESS, tmp_dir=str(out / "temp"), unique_id="1")
    ImageExampleGenExecutor(context).Do(
        {},
        {"examples": [examples], "ingest_report": [report]},
        {PHOTOS_KEY: settings.to_json(), "output_config": proto_utils.proto_to_json(output)},
    )
    found = {
        text(one, f.FILE_NAME): (text(one, f.LABEL), split)
        for split in SPLITS
        for one in read_examples(split_files(examples, split))
    }
    return found, report.uri


def test_labels_are_changed_and_photos_dropped(folder, tmp_path):
    before, plain = ingest(folder, tmp_path / "before")
    assert "corrections" not in read_report(plain)[0]
    assert describe_data(plain).corrections is None
    file = correct(tmp_path / "c.csv", folder, cat_0="cat", cat_2="dog", dog_1="", doog_18="dog", doog_19="dog")
    # cat/0.jpg is in both classes: the copy labelled dog was looked at.
    text_of = Path(file).read_text().replace("cat/0.jpg,cat,cat", "dog/copy.jpg,dog,cat")
    Path(file).write_text(text_of + f"{'0' * 64},gone.jpg,cat,dog,,\r\n")
    after, report_uri = ingest(folder, tmp_path / "after", file)

    assert {name for name in before if name not in after} == {"dog/1.jpg"}
    assert {name for name in after if name not in before} == {"cat/0.jpg", "dog/copy.jpg"}
    changed = {name: label for name, (label, _) in after.items() if before.get(name, (label,))[0] != label}
    assert changed == {"cat/2.jpg": "dog", "doog/18.jpg": "dog", "doog/19.jpg": "dog"}
    assert {after[name][0] for name in ("cat/0.jpg", "dog/copy.jpg")} == {"cat"}
    # A photo's split follows from its content, so it stays.
    assert all(after[name][1] == split for name, (_, split) in before.items() if name in after)

    report, rejected = read_report(report_uri)
    assert rejected == []
    assert report["corrections"] == {"changed": 4, "dropped": 1, "unmatched": {"0" * 64: "gone.jpg"}}
    assert set(report["classes"]) == {"cat", "dog"}  # all photos of doog are dogs
    assert find_problems(report, rejected, {}, 0.1) == []
    assert {key.label for key in read_keys(report_uri)} == {"cat", "dog"}
    assert report["data_fingerprint"] != read_report(plain)[0]["data_fingerprint"]

    summary = describe_data(report_uri)
    assert summary.notes[0] == "by data.corrections: 4 labels corrected, 1 photo dropped"
    assert "gone.jpg" in summary.notes[1]
    assert describe_data(report_uri, whole=False).notes == []  # the window tells
    told = [(one.file_name, one.old_label, one.new_label) for one in summary.corrections.photos]
    assert told == [
        ("doog/19.jpg", "doog", "dog"),
        ("doog/18.jpg", "doog", "dog"),
        ("dog/1.jpg", "dog", ""),
        ("cat/2.jpg", "cat", "dog"),
        ("cat/0.jpg", "cat", "cat"),
        ("dog/copy.jpg", "dog", "cat"),
    ]
    assert summary.corrections.photos[3].split == before["cat/2.jpg"][1]


def test_contradictory_photos_are_named_by_their_content(folder, tmp_path):
    _, rejected = read_report(ingest(folder, tmp_path / "out")[1])
    wanted = hashlib.sha256((folder / "cat" / "0.jpg").read_bytes()).hexdigest()
    assert [(line["file_name"], line["content_hash"]) for line in rejected] == [
        ("cat/0.jpg", wanted),
        ("dog/copy.jpg", wanted),
    ]


def test_a_file_that_was_changed_meanwhile_stops_the_step(folder, tmp_path):
    file = correct(tmp_path / "c.csv", folder, cat_2="dog")
    with pytest.raises(BadInput, match="was changed while the run began; run again"):
        ingest(folder, tmp_path / "out", file, claimed="0" * 16)


def test_the_cache_key_changes_with_the_corrections_alone(folder, tmp_path):
    def told(corrections: str) -> dict:
        component = ImageExampleGen(
            {"image_folder": str(folder)}, "label", {"train": 1}, RULES, "1", FolderRules(), corrections=corrections
        )
        return component.driver_class(None).resolve_exec_properties(dict(component.exec_properties), None, None)

    plain, file = told(""), tmp_path / "c.csv"
    assert "corrections" not in plain["photos"]
    assert plain["input_fingerprint"] == fingerprint(resolve_sources({"image_folder": str(folder)}))
    file.write_bytes(b"")
    assert told(str(file)) == plain
    correct(file, folder, cat_2="cat")  # confirmed
    assert told(str(file)) == plain
    correct(file, folder, cat_2="dog")
    with_one = told(str(file))
    assert with_one["input_fingerprint"].startswith(f"{plain['input_fingerprint']},corrections:")
    assert json.loads(with_one["photos"])["corrections"] == str(file)
    correct(file, folder, cat_2="dog", cat_4="cat")
    assert told(str(file)) == with_one
    correct(file, folder, cat_2="")
    assert told(str(file)) != with_one
