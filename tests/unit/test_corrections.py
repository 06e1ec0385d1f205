"""The file of corrections: what is read, what is refused, and what makes data new."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from components.example_gen.corrections import Corrections, merge_counts, notes_on
from components.example_gen.found_photos import Photo
from deploy import corrections as of_run
from deploy.data_folders import planned, survey_data
from deploy.root import Root
from pipeline.config import load_config
from schemas.corrections import (
    COLUMNS,
    Correction,
    corrections_csv,
    fingerprint_of,
    read_corrections,
    with_corrections,
    without_corrections,
)
from schemas.errors import BadInput

A, B, C = (hashlib.sha256(name.encode()).hexdigest() for name in "abc")
CHANGED = Correction(
    content_hash=A, file_name="cat/a.jpg", old_label="cat", new_label="dog", who="ann", when="2026-11-30T10:00:00Z"
)
DROPPED = Correction(content_hash=B, file_name="=b.jpg", old_label="cat")
CONFIRMED = Correction(content_hash=C, file_name="c.jpg", old_label="dog", new_label="dog")
HEADER = ",".join(COLUMNS) + "\n"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "corrections.csv"


def test_a_file_reads_back_as_it_was_written(file):
    file.write_bytes(corrections_csv([DROPPED, CHANGED, CONFIRMED]))
    assert file.read_text().splitlines()[0] == "content_hash,file_name,old_label,new_label,who,when"
    assert "'=b.jpg" in file.read_text()
    assert read_corrections(file) == [DROPPED, CHANGED, CONFIRMED]
    assert [one.drops for one in read_corrections(file)] == [True, False, False]


@pytest.mark.parametrize("content", ["", "\n\n", HEADER])
def test_an_empty_file_corrects_nothing(file, content):
    file.write_text(content)
    assert read_corrections(file) == []
    assert fingerprint_of([]) == ""


def test_what_a_person_writes_by_hand_is_enough(file):
    file.write_bytes(f"\ufeffnew_label;content_hash\n Dog ;{A.upper()}\n;{B}\n".encode())
    assert read_corrections(file) == [
        Correction(content_hash=A, new_label="Dog"),
        Correction(content_hash=B),
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "does not exist; expected a CSV file with the columns content_hash, file_name"),
        ("content_hash,label\n", "has no column new_label; expected the columns"),
        (f"{HEADER.strip()},note\n", "has the column 'note'; expected the columns"),
        ("content_hash,new_label,new_label\n", "has a column twice"),
        (f"{HEADER}cat.jpg,,cat,dog\n", "line 2 of "),
        (f"{HEADER}cat.jpg,,cat,dog\n", "has the content_hash 'cat.jpg'; expected the SHA-256"),
        (f"{HEADER}{A},,cat,do\tg\n", "has a control character"),
        (f"{HEADER}{A},a.jpg,cat,dog\n{B},,,\n{A},a.jpg,cat,bird\n", "lines 2 and 4 of "),
        (f"{HEADER}{A},a.jpg,cat,dog\n{A},a.jpg,cat,\n", "(a.jpg is 'dog', a.jpg is dropped)"),
        (f"{HEADER}{A},a,b,c,d,e,f\n", "has 7 cells in line 2, and 6 in its header"),
    ],
)
def test_what_is_wrong_is_one_sentence(file, content, sentence):
    if content is not None:
        file.write_text(content)
    with pytest.raises(BadInput) as told:
        read_corrections(file)
    assert sentence in str(told.value)
    assert str(file) in str(told.value)
    assert "\n" not in str(told.value)


def test_the_same_line_twice_is_one_correction(file):
    file.write_bytes(corrections_csv([CHANGED, CHANGED]))
    assert read_corrections(file) == [CHANGED]


def test_only_what_changes_labels_makes_data_new():
    both = fingerprint_of([CHANGED, DROPPED])
    assert fingerprint_of([CONFIRMED]) == ""
    assert fingerprint_of([DROPPED, CONFIRMED, replace(CHANGED, who="bob", file_name="x", when="")]) == both
    assert len({both, fingerprint_of([CHANGED]), fingerprint_of([replace(CHANGED, new_label="bird")])}) == 3
    assert with_corrections("cats:1,dogs:2", "") == "cats:1,dogs:2"
    assert with_corrections("cats:1", both) == f"cats:1,corrections:{both}"
    assert without_corrections(with_corrections("cats:1,dogs:2", both)) == "cats:1,dogs:2"
    assert planned([], [], "_SUCCESS") == []
    assert planned([], [], "_SUCCESS", both) == [f"corrections {both}"]


# ---- applied to photos


OF_BREED = Photo("/p", "x.jpg", "oxford_iiit_pet", "Bengal", species="cat", breed="Bengal")
SPECIES = {"pug": ("dog", "pug")}


def applied(photo: Photo, correction: Correction, label_from: str = "label") -> Photo | None:
    return Corrections({A: correction}, SPECIES).corrected(photo, A, label_from)


def test_a_new_label_brings_its_species_and_breed():
    pug = applied(OF_BREED, replace(CHANGED, new_label="pug"))
    assert (pug.label, pug.species, pug.breed, pug.file_name) == ("pug", "dog", "pug", "x.jpg")
    dog = applied(OF_BREED, CHANGED, "species")
    assert (dog.label, dog.species, dog.breed) == ("Bengal", "dog", "")
    cat = Photo("/p", "x.jpg", "cats_vs_dogs", "cat", species="cat")
    assert applied(cat, CHANGED) == replace(cat, label="dog", species="dog")
    plain = Photo("/p", "x.jpg", "image_folder", "cat")
    assert applied(plain, CHANGED) == replace(plain, label="dog")
    assert applied(plain, DROPPED) is None
    assert Corrections().corrected(plain, A, "label") is plain


def line(key: str, old: str, new: str) -> dict[str, str]:
    return {"content_hash": key, "old_label": old, "new_label": new}


def test_people_are_told_what_was_done_and_what_matches_nothing():
    found = Corrections({A: CHANGED, B: DROPPED, C: replace(DROPPED, content_hash=C, file_name="gone.jpg")})
    counts = found.counts([line(A, "cat", "dog"), line(A, "dog", "dog"), line(B, "cat", "")])
    assert counts == {"changed": 1, "dropped": 1, "unmatched": {C: "gone.jpg"}}
    assert notes_on(counts) == [
        "by data.corrections: 1 label corrected, 1 photo dropped",
        "1 correction matches no photo here (gone.jpg): the files are gone, were changed, or belong to other data",
    ]
    assert notes_on(None) == []
    assert notes_on(Corrections().counts([])) == []


def test_a_window_counts_each_photo_once():
    """A is in both spans, B only in the earlier one; C was dropped from the newer, and is in none."""
    earlier = {"changed": 2, "dropped": 0, "unmatched": {C: "c.jpg"}}
    newer = {"changed": 1, "dropped": 1, "unmatched": {B: "b.jpg"}}
    lines = [line(A, "cat", "dog"), line(B, "cat", "dog"), line(A, "dog", "dog"), line(C, "cat", "")]
    counts, merged = merge_counts([earlier, newer], lines, used={A, B})
    assert counts == {"changed": 1, "dropped": 1, "unmatched": {}}
    assert [one["content_hash"] for one in merged] == [A, B, C]


# ---- of a run


@pytest.fixture
def photos(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(4):
            (tmp_path / "photos" / label / f"{i}.jpg").write_bytes(b"a photo by its name")
    return tmp_path / "photos"


def config_with(photos, file, *settings: str):
    return load_config("image_folder", [f"data.corrections={file}", *settings], [str(photos)])


def test_an_unknown_class_is_refused_before_the_run(photos, file):
    file.write_bytes(corrections_csv([DROPPED, CONFIRMED, CHANGED]))
    survey_data(config_with(photos, file))
    file.write_bytes(corrections_csv([replace(CHANGED, new_label="dgo")]))
    with pytest.raises(BadInput, match=r"corrects cat/a.jpg to 'dgo', which is no class of these photos; did you mean"):
        survey_data(config_with(photos, file))


def test_a_class_of_an_earlier_span_of_the_window_is_known(photos, file):
    (photos / "1").mkdir()
    (photos / "2" / "cat").mkdir(parents=True)
    for label in ("cat", "dog"):
        (photos / label).rename(photos / "1" / label)
    (photos / "2" / "cat" / "4.jpg").write_bytes(b"a photo by its name")
    file.write_bytes(corrections_csv([CHANGED]))
    survey_data(config_with(f"{photos}/{{SPAN}}", file, "data.window=2", "data.settle_seconds=0"))
    with pytest.raises(BadInput, match="'dog', which is no class"):
        survey_data(config_with(f"{photos}/{{SPAN}}", file, "data.window=1", "data.settle_seconds=0"))


def test_a_file_among_the_photos_is_refused(photos):
    inside = photos / "cat" / "corrections.csv"
    inside.write_bytes(corrections_csv([CHANGED]))
    with pytest.raises(BadInput, match="is in the folder of photos"):
        survey_data(config_with(photos, inside))


def test_a_run_keeps_the_corrections_that_it_was_made_with(photos, file, tmp_path):
    root = Root(tmp_path / "root")
    root.prepare("image_folder")
    file.write_bytes(corrections_csv([CONFIRMED, CHANGED]))
    config = config_with(photos, file)
    pinned = of_run.pin(config, root)
    kept = root.folder / "corrections" / f"{fingerprint_of([CHANGED])}.csv"
    assert pinned.data.corrections == str(kept)
    assert read_corrections(kept) == [CHANGED]
    assert of_run.fingerprint(pinned) == of_run.fingerprint(config) == kept.stem
    assert of_run.confirmed(config) == {C}
    file.write_bytes(corrections_csv([CONFIRMED]))
    assert of_run.pin(config, root).data.corrections is None
    assert of_run.pin(load_config("image_folder", [], [str(photos)]), root).data.corrections is None
    assert read_corrections(kept) == [CHANGED]
