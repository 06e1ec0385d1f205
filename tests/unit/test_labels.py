"""labels.txt: one rule of what a line is, for whoever writes it and whoever reads it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.labels import LABELS_FILE, read_labels, write_labels

# Everything that `str.splitlines` takes for the end of a line, but the one that is.
LINE_BREAKS = "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.mark.parametrize("sign", LINE_BREAKS, ids=lambda sign: f"U+{ord(sign):04X}")
def test_other_signs_end_no_line(tmp_path, sign):
    labels = ["cat", f"dog{sign}big", f"{sign}fox{sign}"]
    write_labels(str(tmp_path), labels)
    assert read_labels(tmp_path) == labels


@given(
    labels=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1), min_size=1)
)
def test_what_is_written_is_read(tmp_path_factory, labels):
    folder = tmp_path_factory.mktemp("model")
    write_labels(str(folder), labels)
    assert read_labels(folder) == labels


def test_the_file_is_what_other_programs_expect(tmp_path):
    write_labels(str(tmp_path), ["chat", "chien_français"])
    assert (tmp_path / LABELS_FILE).read_bytes() == "chat\nchien_français\n".encode()


def test_a_model_without_the_file_has_none(tmp_path):
    assert read_labels(tmp_path) is None
    assert read_labels(f"file://{tmp_path}") is None


def test_labels_at_an_address(tmp_path):
    write_labels(f"file://{tmp_path}", ["cat", "dog"])
    assert read_labels(f"file://{tmp_path}") == read_labels(tmp_path) == ["cat", "dog"]


def test_nobody_reads_the_file_by_a_rule_of_his_own():
    repository = Path(__file__).parents[2]
    sources = [path for room in ("components", "deploy", "pipeline") for path in (repository / room).rglob("*.py")]
    assert [str(path) for path in sources if 'labels.txt"' in path.read_text(encoding="utf-8")] == []
