"""Layouts of data folders: what counts as a photo, and why the rest does not."""

import os
from collections import Counter
from pathlib import Path

import pytest

from components.example_gen import found_photos, layouts
from schemas.errors import BadInput

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
OXFORD_LINES = "#Image CLASS-ID SPECIES BREED ID\nAbyssinian_1 1 1 1\npug_10 26 2 18\nAbyssinian_2 1 1 1\n"


def write(root, *paths, content=None):
    for path in paths:
        file = Path(root, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(path.encode() if content is None else content)


def oxford(root, wrapped=""):
    base = Path(root, wrapped)
    write(base, "images/Abyssinian_1.jpg", "images/pug_10.jpg", "images/Abyssinian_2.jpg")
    write(base, "annotations/list.txt", content=OXFORD_LINES.encode())
    write(base, "annotations/trainval.txt", content=b"Abyssinian_1 1 1 1\npug_10 26 2 18\n")
    write(base, "annotations/test.txt", content=b"Abyssinian_2 1 1 1\r\n")
    return base


def reasons(found):
    return {rejected.file_name: rejected.reason for rejected in found.rejected}


def left_out(found):
    return {file.file_name: file.reason for file in found.left_out}


@pytest.mark.parametrize("wrapper", ["", "PetImages/", "train/", "dogs-vs-cats/train/"])
@pytest.mark.parametrize("names", [("cat", "dog"), ("Cat", "Dog"), ("cats", "dogs")])
def test_cats_vs_dogs_class_folders(tmp_path, wrapper, names):
    write(tmp_path, f"{wrapper}{names[0]}/1.jpg", f"{wrapper}{names[1]}/sub/2.jpg", "readme[1].txt")
    found = layouts.find_photos(str(tmp_path), "cats_vs_dogs")
    assert found.layout == layouts.CLASS_FOLDERS
    first, second = f"{wrapper}{names[0]}/1.jpg", f"{wrapper}{names[1]}/sub/2.jpg"
    assert found.photos == [
        found_photos.Photo(str(tmp_path / first), first, "cats_vs_dogs", "cat", "cat", "", ""),
        found_photos.Photo(str(tmp_path / second), second, "cats_vs_dogs", "dog", "dog", "", ""),
    ]
    assert reasons(found) == {}
    assert left_out(found) == {"readme[1].txt": "other_file"}


def test_nothing_disappears_silently(tmp_path):
    write(
        tmp_path, "cat/1.jpg", "cat/odd.txt", "cat/nameless", "dog/1.jpg", "bird/1.jpg", "cat/._1.jpg", "cat/Thumbs.db",
        "cat/.cache/1.jpg", "__MACOSX/cat/._1.jpg", ".DS_Store", "notes.txt", "stray.jpg", "_SUCCESS",
    )  # fmt: skip
    os.symlink(tmp_path / "nowhere", tmp_path / "dog" / "2.jpg")
    found = layouts.find_photos(str(tmp_path), "cats_vs_dogs")
    assert [photo.file_name for photo in found.photos] == ["cat/1.jpg", "cat/nameless", "dog/1.jpg"]
    assert reasons(found) == {
        "bird/1.jpg": "unknown_class", "dog/2.jpg": "unreadable",
    }  # fmt: skip
    assert left_out(found) == {
        "stray.jpg": "unlabelled",
        "cat/odd.txt": "other_file", "notes.txt": "other_file", "cat/._1.jpg": "sidecar", ".DS_Store": "sidecar",
        "cat/Thumbs.db": "sidecar", "cat/.cache/1.jpg": "hidden_folder", "__MACOSX/cat/._1.jpg": "hidden_folder",
    }  # fmt: skip
    assert all(file.detail.startswith(file.file_name) for file in (*found.rejected, *found.left_out))
    assert [file.label for file in found.rejected] == ["", "dog"]


@pytest.mark.parametrize("folder", ["", "train/"])
def test_kaggle_flat(tmp_path, folder):
    write(tmp_path, f"{folder}cat.0.jpg", f"{folder}dog.12.jpg", f"{folder}catalogue.jpg", "test1/1.jpg")
    found = layouts.find_photos(str(tmp_path), "cats_vs_dogs")
    assert found.layout == layouts.KAGGLE_FLAT
    assert [(p.file_name, p.label, p.species) for p in found.photos] == [
        (f"{folder}cat.0.jpg", "cat", "cat"), (f"{folder}dog.12.jpg", "dog", "dog"),
    ]  # fmt: skip
    assert reasons(found) == {f"{folder}catalogue.jpg": "unlabelled"}
    assert left_out(found) == {"test1/1.jpg": "unlabelled"}


@pytest.mark.parametrize("wrapper", ["", "flowers/"])
def test_image_folder_takes_folder_names_as_classes(tmp_path, wrapper):
    write(tmp_path, f"{wrapper}Rosa canina/a b.jpg", f"{wrapper}tulpe/deep/er/ü.png")
    found = layouts.find_photos(str(tmp_path), "image_folder")
    assert [(p.label, p.species, p.breed) for p in found.photos] == [
        ("Rosa canina", "", ""),
        ("tulpe", "", ""),
    ]


@pytest.mark.parametrize("files", [["cat/1.jpg", "cat/old/2.jpg", "cat/new/3.jpg"], ["cat/old/2.jpg"]])
def test_a_sole_class_is_not_taken_for_a_wrapper(tmp_path, files):
    write(tmp_path, *files)
    assert {p.label for p in layouts.find_photos(str(tmp_path), "image_folder").photos} == {"cat"}


@pytest.mark.parametrize("wrapper", ["", "oxford_iiit_pet"])
def test_oxford(tmp_path, wrapper):
    base = oxford(tmp_path, wrapper)
    prefix = f"{wrapper}/" if wrapper else ""
    write(
        base, "images/pug_99.jpg", "images/pug_10.mat", "annotations/trimaps/._pug_10.png",
        "annotations/trimaps/pug_10.png", "annotations/xmls/pug_10.xml", "annotations/README",
        "annotations/stray.jpg", "images.tar.gz",
    )  # fmt: skip
    found = layouts.find_photos(str(tmp_path), "oxford_iiit_pet")
    assert found.layout == layouts.OXFORD
    assert [(p.file_name, p.label, p.species, p.breed, p.official_split) for p in found.photos] == [
        (f"{prefix}images/Abyssinian_1.jpg", "Abyssinian", "cat", "Abyssinian", "trainval"),
        (f"{prefix}images/Abyssinian_2.jpg", "Abyssinian", "cat", "Abyssinian", "test"),
        (f"{prefix}images/pug_10.jpg", "pug", "dog", "pug", "trainval"),
    ]
    assert reasons(found) == {
        f"{prefix}images/pug_99.jpg": "not_listed", f"{prefix}annotations/stray.jpg": "outside_layout",
    }  # fmt: skip
    assert left_out(found) == {
        f"{prefix}images/pug_10.mat": "other_file", f"{prefix}images.tar.gz": "other_file",
    }  # fmt: skip


def test_oxford_photo_that_is_listed_but_absent(tmp_path):
    oxford(tmp_path)
    (tmp_path / "images/pug_10.jpg").rename(tmp_path / "images/pug_10.mat")
    found = layouts.find_photos(str(tmp_path), "oxford_iiit_pet")
    assert [(file.file_name, file.reason, file.label) for file in found.rejected] == [
        ("images/pug_10.jpg", "missing", "pug")
    ]
    assert left_out(found) == {"images/pug_10.mat": "other_file"}


@pytest.mark.parametrize(
    "line",
    [
        "Abyssinian_3 1 1",
        "Abyssinian 1 1 1",
        "Abyssinian_3 1 3 1",
        "Abyssinian_3 x 1 1",
        "Abyssinian_3 1 1 1 1",
    ],
)
def test_oxford_malformed_line_is_named(tmp_path, line):
    oxford(tmp_path)
    write(tmp_path, "annotations/trainval.txt", content=f"# comment\n\n{line}\n".encode())
    with pytest.raises(BadInput, match=rf"trainval\.txt, line 3: found '{line}', expected"):
        layouts.find_photos(str(tmp_path), "oxford_iiit_pet")


@pytest.mark.parametrize("line", ["Abyssinian_1 1 1 1", "Abyssinian_2 1 2 1"])
def test_oxford_lists_must_not_contradict_each_other(tmp_path, line):
    oxford(tmp_path)
    write(tmp_path, "annotations/test.txt", content=line.encode())
    with pytest.raises(
        BadInput, match=r"test\.txt, line 1: Abyssinian_. is listed here as (cat|dog), and before as cat in"
    ):
        layouts.find_photos(str(tmp_path), "oxford_iiit_pet")


@pytest.mark.parametrize("name", layouts.OXFORD_LISTS)
def test_oxford_without_a_list(tmp_path, name):
    oxford(tmp_path)
    (tmp_path / "annotations" / name).unlink()
    with pytest.raises(BadInput, match=f"no annotations/{name}"):
        layouts.find_photos(str(tmp_path), "oxford_iiit_pet")


@pytest.mark.parametrize("below", ["", "4.0.1/"])
def test_tfds_folder(tmp_path, below):
    write(tmp_path, f"{below}dataset_info.json", content=b'{"name": "cats_vs_dogs"}')
    write(tmp_path, f"{below}cats_vs_dogs-train.tfrecord-00000-of-00001")
    assert layouts.find_photos(str(tmp_path), "cats_vs_dogs") == found_photos.FolderContents("tfds", [], [])
    for dataset in ("oxford_iiit_pet", "image_folder"):
        with pytest.raises(BadInput, match="'cats_vs_dogs' from TensorFlow Datasets; set the dataset"):
            layouts.find_photos(str(tmp_path), dataset)
    write(tmp_path, f"{below}dataset_info.json", content=b"[")
    with pytest.raises(BadInput, match="prepare the data set again"):
        layouts.find_photos(str(tmp_path), "cats_vs_dogs")


@pytest.mark.parametrize(
    ("dataset", "files", "says"),
    [
        ("cats_vs_dogs", ["a/1.jpg", "b/1.jpg"], "found a/, b/; expected folders cat/ and dog/"),
        ("cats_vs_dogs", ["1.jpg"], "found 1.jpg; expected"),
        ("oxford_iiit_pet", ["cat/1.jpg", "dog/1.jpg"], "found cat/, dog/; expected images/"),
        ("image_folder", ["cat.0.jpg"], "set the dataset to that"),
        ("image_folder", [".hidden/1.jpg"], "among its 1 file; the first cannot be used: .hidden/1.jpg is in"),
        ("image_folder", ["train/1.jpg", "val/1.jpg"], "named like splits"),
        ("cats_vs_dogs", [f"{i}.jpg" for i in range(9)], "3.jpg, 4.jpg and 4 more"),
        ("birds", ["a/1.jpg"], "Unknown dataset 'birds'; expected one of cats_vs_dogs"),
    ],
)
def test_a_wrong_layout_is_named(tmp_path, dataset, files, says):
    write(tmp_path, *files)
    with pytest.raises(BadInput) as error:
        layouts.find_photos(str(tmp_path), dataset)
    assert says in str(error.value)


@pytest.mark.parametrize("dataset", ["cats_vs_dogs", "image_folder"])
def test_oxford_under_another_dataset(tmp_path, dataset):
    oxford(tmp_path, "wrapped")
    with pytest.raises(BadInput, match="set the dataset to oxford_iiit_pet"):
        layouts.find_photos(str(tmp_path), dataset)


def test_an_oxford_folder_without_any_photo_is_an_error(tmp_path):
    oxford(tmp_path)
    for photo in (tmp_path / "images").iterdir():
        photo.rename(photo.with_suffix(".mat"))
    with pytest.raises(BadInput, match="has no usable photos for oxford_iiit_pet among its 6 files"):
        layouts.find_photos(str(tmp_path), "oxford_iiit_pet")


def test_a_name_that_is_not_utf8_is_rejected_readably(tmp_path):
    write(tmp_path, "cat/1.jpg")
    with open(os.fsencode(tmp_path) + b"/cat/caf\xe9.jpg", "wb"):
        pass
    assert reasons(layouts.find_photos(str(tmp_path), "image_folder")) == {"cat/caf\\xe9.jpg": "name_not_utf8"}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the photos for development are not here")
@pytest.mark.parametrize(
    ("folder", "dataset", "expected"),
    [
        ("cats_vs_dogs", "cats_vs_dogs", {("cat", ""): 230, ("dog", ""): 230}),
        ("petimages", "cats_vs_dogs", {("cat", ""): 51, ("dog", ""): 51}),
        ("oxford_iiit_pet", "oxford_iiit_pet", {("trainval",): 292, ("test",): 123}),
    ],
)
def test_real_photos(folder, dataset, expected):
    found = layouts.find_photos(str(SHARED / folder), dataset)
    assert found.rejected == []
    oxford_photos = dataset == "oxford_iiit_pet"
    keys = ((p.official_split,) if oxford_photos else (p.species, p.official_split) for p in found.photos)
    assert Counter(keys) == expected
    assert len({p.label for p in found.photos}) == (37 if oxford_photos else 2)
