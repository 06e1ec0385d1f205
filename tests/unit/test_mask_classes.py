"""What the values and colours of masks stand for: lists of classes, and masks without a list."""

from collections import Counter

import pytest

from components.example_gen.mask_classes import (
    TRIMAPS,
    VOC_VOID,
    ValuesFound,
    classes_from_values,
    listed,
    read_classes,
)
from components.example_gen.photo_folder import PhotoFolder
from components.example_gen.photo_rules import Colour
from schemas.errors import BadInput
from schemas.schema_files import curated_schema_file, mask_classes, read_schema


def read(tmp_path, prefixes=("", "masks/"), **files: str):
    for name, content in {"masks/a.png": "x", **files}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return read_classes(PhotoFolder(str(tmp_path)), prefixes)


def test_the_trimaps_are_those_of_the_schema():
    schema = read_schema(curated_schema_file("oxford_iiit_pet_masks"))
    assert list(TRIMAPS.names) == mask_classes(schema)


def test_no_list(tmp_path):
    assert read(tmp_path) is None
    assert read(tmp_path, **{"elsewhere/classes.txt": "cat"}) is None


@pytest.mark.parametrize("place", ["classes.txt", "masks/classes.txt", "Classes.txt"])
def test_a_list_of_classes(tmp_path, place):
    found = read(tmp_path, **{place: "\ufeff# in the order of ids\nbackground\r\n\n cat \nbig dog\n"})
    assert found.names == ("background", "cat", "big dog")
    assert found.listed_in == str(tmp_path / place)
    assert found.ids == {0: 0, 1: 1, 2: 2, 255: 255}
    assert found.colours == {}


def test_labelmes_line_for_what_is_not_counted(tmp_path):
    assert read(tmp_path, **{"classes.txt": "__ignore__\n_background_\ncat\n"}).names == ("_background_", "cat")


def test_a_label_map(tmp_path):
    lines = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:64,0,0:head,tail:\ndog: 64, 0, 128 ::\nother\n"
    found = read(tmp_path, **{"labelmap.txt": lines, "classes.txt": "something\nelse\n"})
    assert found.names == ("background", "cat", "dog", "other")
    assert found.colours == {Colour(0, 0, 0): 0, Colour(64, 0, 0): 1, Colour(64, 0, 128): 2, VOC_VOID: 255}


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"classes.txt": "# nothing\n"}, "classes.txt lists 0 classes; expected 1 to 255"),
        ({"classes.txt": "\n".join(f"c{i}x" for i in range(256))}, "lists 256 classes"),
        ({"classes.txt": "cat\ncat\n"}, "lists the class 'cat' twice"),
        ({"classes.txt": "cat\nCat\n"}, "look the same"),
        ({"labelmap.txt": "cat:64,0\n"}, "found 'cat:64,0', expected a class and its colour, such as 'cat:64,0,0::'"),
        ({"labelmap.txt": "cat:64,0,256::\n"}, "expected a class and its colour"),
        ({"labelmap.txt": "cat:1,1,1::\ndog:1,1,1::\n"}, "gives the same colour (1,1,1) to 'cat' and 'dog'"),
        ({"labelmap.txt": ":1,1,1::\n"}, "has a blank name"),
        ({"classes.txt": "cat\ndog\n", "masks/classes.txt": "dog\ncat\n"}, "classes.txt differ; keep one of them"),
    ],
)
def test_lists_that_cannot_be_read(tmp_path, files, says):
    with pytest.raises(BadInput) as error:
        read(tmp_path, **files)
    assert says in str(error.value)


def test_equal_lists_beside_each_split(tmp_path):
    files = {"classes.txt": "cat\ndog\n", "masks/classes.txt": "cat\ndog\n"}
    assert read(tmp_path, **files).names == ("cat", "dog")


def from_values(*masks: set[int]):
    with_value = Counter(value for values in masks for value in values)
    only = sum(255 in values and values <= {0, 255} for values in masks)
    return classes_from_values(ValuesFound(with_value, len(masks), only), "photos/masks")


def test_ids_without_a_list():
    found = from_values({0, 1}, {0, 2, 255}, {0})
    assert found.names == ("class_0", "class_1", "class_2")
    assert found.ids == {0: 0, 1: 1, 2: 2, 255: 255}
    assert (found.listed_in, found.notes) == ("", ())


def test_masks_of_only_0_and_255_have_two_classes_and_that_is_said():
    found = from_values({0, 255}, {0})
    assert found.names == ("class_0", "class_1")
    assert found.ids == {0: 0, 255: 1}
    [note] = found.notes
    assert note.startswith("the masks in photos/masks hold only 0 and 255, so 255 was read as the second class")


def test_255_beside_other_ids_is_not_counted():
    assert from_values({0, 1, 255}, {0, 255}, {0, 1}).ids == {0: 0, 1: 1, 255: 255}


def test_an_id_that_most_masks_lack_is_a_class_and_one_beyond_a_gap_is_not():
    assert from_values({0, 1}, {0, 1, 2}, {0, 7}).names == ("class_0", "class_1", "class_2")


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        (
            [{1, 2}, {1, 3}],
            "hold the values 1, 2, 3, but no list says what they stand for; expected ids 0, 1, 2 ...; sub",
        ),
        (
            [{0, 38}, {0, 75, 255}],
            "hold the values 0, 38, 75, 255, but no list says what they stand for; expected ids ",
        ),
        (
            [set(range(256))],
            "hold 255 values from 0 on, and no list says what they stand for; they look like soft edges",
        ),
        (
            [{0, 255}, {0, 255}, {0, 1}],
            "2 of 3 masks in photos/masks hold only 0 and 255, and others hold 1, so it is un",
        ),
    ],
)
def test_values_that_are_no_ids(masks, says):
    with pytest.raises(BadInput) as error:
        from_values(*masks)
    assert says in str(error.value)


def test_masks_that_were_not_read_or_do_not_count_have_one_class():
    assert from_values().names == from_values({255}).names == ("class_0",)


def test_classes_that_are_not_counted_become_255_and_the_ids_of_the_others_close_up():
    found = TRIMAPS.without(["border"])
    assert (found.names, found.ignored) == (("pet", "background"), ("border",))
    assert found.ids == {1: 0, 2: 1, 3: 255, 255: 255}
    assert TRIMAPS.without(["1", "1"]).ids == {1: 0, 2: 255, 3: 1, 255: 255}
    assert TRIMAPS.without([]) is TRIMAPS
    in_colours = listed(["road", "car", "sky"], "labelmap.txt", {Colour(0, 0, 0): 0, Colour(9, 9, 9): 2, VOC_VOID: 255})
    assert in_colours.without(["car"]).colours == {Colour(0, 0, 0): 0, Colour(9, 9, 9): 1, VOC_VOID: 255}
    # A name that looks like an id is a name.
    assert listed(["2", "1", "0"], "classes.txt").without(["2"]).ignored == ("2",)


@pytest.mark.parametrize(
    ("ignore", "says"),
    [
        (["borders"], "has 'borders', which is no class of the masks; did you mean 'border'; expected one of pet, "),
        (["3"], "task.ignore has '3', .*pet, background, border, or an id from 0 to 2"),
        (["-1"], "task.ignore has '-1', which is no class"),
        (["pet", "2"], r"leaves 1 of the 3 classes of the masks \(pet, background, border\); expected at least two"),
    ],
)
def test_classes_that_cannot_be_left_out(ignore, says):
    with pytest.raises(BadInput, match=says):
        TRIMAPS.without(ignore)


def test_names_are_told_in_the_order_of_ids():
    assert listed(["a", "b", "c"], "classes.txt").names_of([2, 255, 0]) == ["a", "c"]
