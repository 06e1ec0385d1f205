"""Findings of a run with the same outputs are not looked for again."""

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
from dataclasses import replace

import pytest
from tfx.types import standard_artifacts

from components.report import findings
from deploy import kept_findings
from schemas.verdicts import ServableVerdict


@pytest.fixture
def outputs(tmp_path):
    photos = standard_artifacts.Examples()
    photos.uri = str(tmp_path / "photos")
    (tmp_path / "photos").mkdir()
    servable = ServableVerdict(
        servable=True, text="", golden_photos=1, kinds=[], largest_difference=0.0, largest_disagreement=0.0,
        load_seconds=1.0, latency_milliseconds=2.0, batch_latency_milliseconds=3.0, megabytes=4.0,
    )  # fmt: skip
    return findings.RunOutputs(photos=photos, labels=["cat"], servable=servable, peaks={"Transform": 5.0})


@pytest.fixture
def asked(monkeypatch):
    """What was looked for, and the problems to tell."""
    told = []

    def find(outputs, seed, listed):
        told.append((outputs, seed))
        listed.counts["mistake"] = len(told)
        return {"data": [len(told)], "cost": {"nodes": findings.cost_of_nodes(outputs)}, "problems": find.problems}

    find.problems = []
    find.told = told
    monkeypatch.setattr(findings, "find", find)
    return find


def test_the_same_outputs_are_looked_at_once(outputs, asked, tmp_path):
    file = tmp_path / "kept"
    first = kept_findings.find(outputs, 7, "run", file)
    assert kept_findings.find(outputs, 7, "run", file) == first
    assert kept_findings.find(outputs, 7, "later", file)[1] == replace(first[1], run_id="later")
    assert {kind: count for kind, count in first[1].counts.items() if count} == {"mistake": 1}
    assert len(asked.told) == 1


def test_the_memory_of_the_steps_is_that_of_this_run(outputs, asked, tmp_path):
    file = tmp_path / "kept"
    kept_findings.find(outputs, 7, "run", file)
    again, _ = kept_findings.find(replace(outputs, peaks={"Transform": None}), 7, "run", file)
    assert again["cost"]["nodes"] == {"Transform": {"peak_megabytes": None}}
    assert len(asked.told) == 1


@pytest.mark.parametrize("change", ["seed", "labels", "photos", "photos again", "damage"])
def test_anything_else_is_looked_for_again(outputs, asked, tmp_path, change):
    file, seed = tmp_path / "kept", 7
    kept_findings.find(outputs, seed, "run", file)
    if change == "seed":
        seed = 8
    elif change == "labels":
        outputs = replace(outputs, labels=["cat", "dog"])
    elif change == "photos":
        outputs.photos.uri = str(tmp_path / "other")
    elif change == "photos again":  # under an address that ML Metadata gave once more
        (tmp_path / "photos" / "more").touch()
    else:
        file.write_bytes(file.read_bytes()[:-1])
    assert kept_findings.find(outputs, seed, "run", file)[0]["data"] == [2]


def test_findings_with_problems_are_not_kept(outputs, asked, tmp_path):
    asked.problems = ["the photos could not be shown"]
    for _ in range(2):
        kept_findings.find(outputs, 7, "run", tmp_path / "kept")
    assert len(asked.told) == 2
    assert not (tmp_path / "kept").exists()
