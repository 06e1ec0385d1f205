"""Tables of labels beside photos: which columns are read, and what a table that cannot be read is told."""

from pathlib import Path

import pytest

from components.example_gen.found_photos import FolderRules
from components.example_gen.layouts import find_photos
from schemas.errors import BadInput


def write(root: Path, table: bytes, name: str = "labels.csv", photos: int = 4, folder: str = "images") -> str:
    for i in range(photos):
        (root / folder).mkdir(exist_ok=True)
        (root / folder / f"{i}.jpg").write_bytes(b"%d" % i)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(table)
    return str(root)


def labels(root: str, **rules: str) -> dict[str, str]:
    return {photo.file_name: photo.label for photo in find_photos(root, "image_folder", FolderRules(**rules)).photos}


CATS_AND_DOGS = {"images/0.jpg": "cat", "images/1.jpg": "cat", "images/2.jpg": "dog", "images/3.jpg": "dog"}


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("labels.csv", "file,label\n0.jpg,cat\n1.jpg,cat\n2.jpg,dog\n3.jpg,dog\n"),
        ("labels.csv", "Label;Image ID\r\ncat;0\r\ncat;1\r\ndog;2\r\ndog;3\r\n"),
        ("train.tsv", "id\tbreed\tage\n0\tcat\t3\n1\tcat\t4\n2\tdog\t\n3\tdog\t1\n"),
        ("labels.csv", "images/0.jpg,cat\nimages/1.jpg,cat\nimages/2.jpg,dog\nimages/3.jpg,dog\n"),
        ("meta/data.csv", '"file_name","class"\n"./images/0.jpg","cat"\n1.jpg,cat\nimages\\2.jpg,dog\n3.jpg, dog \n'),
        ("labels.csv", "\ufefffile,label\n0.jpg,cat\n1.jpg,cat\n2.jpg,dog\n3.jpg,dog\n"),
    ],
)
def test_columns_are_found_by_their_names(tmp_path, name, table):
    assert labels(write(tmp_path, table.encode(), name)) == CATS_AND_DOGS


def test_a_table_from_a_spreadsheet_in_utf16(tmp_path):
    table = "file,label\n0.jpg,chat\n1.jpg,chat\n2.jpg,chien français\n3.jpg,chien français\n".encode("utf-16")
    assert set(labels(write(tmp_path, table)).values()) == {"chat", "chien français"}


@pytest.mark.parametrize(
    "path", ["/data/x/images/{}.jpg", "C:\\\\x\\\\images\\\\{}.jpg", "../images/{}.jpg", "images/{}.JPG"]
)
def test_paths_of_another_machine(tmp_path, path):
    rows = [f"{path.format(i)},{'cat' if i < 2 else 'dog'}" for i in range(4)]
    assert labels(write(tmp_path, "\n".join(["sep=,", "file,label", *rows]).encode())) == CATS_AND_DOGS


def test_a_column_that_is_asked_for(tmp_path):
    root = write(tmp_path, b"file,label,mood\n0.jpg,cat,a\n1.jpg,cat,b\n2.jpg,dog,a\n3.jpg,dog,b\n")
    assert labels(root) == CATS_AND_DOGS
    assert set(labels(root, labels="labels.csv:mood").values()) == {"a", "b"}


def test_what_a_table_does_not_name_has_no_label_and_what_is_not_there_is_missing(tmp_path):
    root = write(tmp_path, b"file,label\n0.jpg,cat\n1.jpg,dog\n9.jpg,dog\n3.jpg,\n")
    found = find_photos(root, "image_folder")
    assert [(photo.file_name, photo.label) for photo in found.photos] == [
        ("images/0.jpg", "cat"),
        ("images/1.jpg", "dog"),
    ]
    assert [(file.file_name, file.reason) for file in found.left_out] == [
        ("images/2.jpg", "unlabelled"), ("images/3.jpg", "unlabelled")
    ]  # fmt: skip
    assert [(file.file_name, file.reason, file.label) for file in found.rejected] == [("9.jpg", "missing", "dog")]
    assert found.rejected[0].detail == "9.jpg is listed in labels.csv but does not exist."


def test_a_table_may_say_split_and_series(tmp_path):
    table = (
        "file,label,split,patient\n0.jpg,cat,train,p1\n1.jpg,dog,valid,p2\n2.jpg,dog,TEST,p3\n3.jpg,cat,training,p1\n"
    )
    found = find_photos(write(tmp_path, table.encode()), "image_folder", FolderRules(group="column:patient"))
    assert [(photo.official_split, photo.group) for photo in found.photos] == [
        ("train", "p1"), ("eval", "p2"), ("test", "p3"), ("train", "p1")
    ]  # fmt: skip


def test_the_folder_of_a_photo_says_its_split_too(tmp_path):
    """As Hugging Face's imagefolder has it, and as one table over all has it."""
    for split in ("train", "test"):
        write(tmp_path, b"file_name,label\n0.jpg,cat\n1.jpg,dog\n", f"{split}/metadata.csv", 2, split)
    expected = [("cat", "test"), ("dog", "test"), ("cat", "trainval"), ("dog", "trainval")]
    found = find_photos(str(tmp_path), "image_folder")
    assert [(photo.label, photo.official_split) for photo in found.photos] == expected
    for split in ("train", "test"):
        (tmp_path / split / "metadata.csv").unlink()
    rows = [f"{split}/{i}.jpg,{label}" for split in ("train", "test") for i, label in enumerate(("cat", "dog"))]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))
    found = find_photos(str(tmp_path), "image_folder")
    assert [(photo.label, photo.official_split) for photo in found.photos] == expected


def test_lists_of_splits_beside_a_table(tmp_path):
    write(tmp_path, b"Image Index,Finding Labels\n0.jpg,a\n1.jpg,b\n2.jpg,a\n3.jpg,b\n", "Data_Entry_2017.csv")
    (tmp_path / "train_val_list.txt").write_text("0.jpg\n1.jpg\n")
    (tmp_path / "test_list.txt").write_text("2.jpg\n3.jpg\n")
    found = find_photos(str(tmp_path), "image_folder")
    assert [photo.official_split for photo in found.photos] == ["trainval", "trainval", "test", "test"]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("Training", "PublicTest", "Training", "PrivateTest"), ["trainval", "test", "trainval", "test"]),
        (("True", "False", "", "False"), ["eval", "traintest", "traintest", "traintest"]),
        (("ham", "spam", "ham", "spam"), ["", "", "", ""]),
    ],
)
def test_what_a_column_of_splits_may_say(tmp_path, cells, expected):
    rows = [f"{i}.jpg,{'cat' if i < 2 else 'dog'},{cell}" for i, cell in enumerate(cells)]
    name = "is_valid" if "True" in cells else "usage"
    found = find_photos(write(tmp_path, "\n".join([f"file,label,{name}", *rows]).encode()), "image_folder")
    assert [photo.official_split for photo in found.photos] == expected


def test_of_two_photos_of_a_name_the_one_of_the_table_s_split_is_meant(tmp_path):
    write(tmp_path, b"id,label\n0,cat\n1,dog\n", "train.csv", 2, "train")
    (tmp_path / "test").mkdir()
    for i in (0, 1):
        (tmp_path / "test" / f"{i}.jpg").write_bytes(b"x")
    found = find_photos(str(tmp_path), "image_folder")
    assert [photo.file_name for photo in found.photos] == ["train/0.jpg", "train/1.jpg"]
    assert found.rejected == []


def test_a_table_of_some_photos_against_the_folders_is_asked_about_too(tmp_path):
    for batch in (1, 2, 3):
        write(tmp_path, b"file,label\nbatch1/0.jpg,cat\nbatch1/1.jpg,dog\n", "labels.csv", 2, f"batch{batch}")
    with pytest.raises(
        BadInput, match=r"labels.csv .* the folders have batch1, batch2, batch3, the table has cat, dog"
    ):
        find_photos(str(tmp_path), "image_folder")


def test_two_tables_that_differ_do_not_spoil_good_folders(tmp_path):
    for name in ("cat", "fox"):
        write(tmp_path, f"file,label\n{name}/0.jpg,x\n".encode(), f"{name}.csv", 2, name)
    (tmp_path / "other.csv").write_bytes(b"file,category\ncat/0.jpg,y\n")
    assert find_photos(str(tmp_path), "image_folder", FolderRules(labels="folders")).classes == ["cat", "fox"]
    assert find_photos(str(tmp_path), "image_folder").classes == ["cat", "fox"]


def test_a_table_is_for_image_folder_only(tmp_path):
    with pytest.raises(BadInput, match=r"needs a table, but cats_vs_dogs has none; set it only for image_folder"):
        find_photos(str(tmp_path), "cats_vs_dogs", FolderRules(labels="labels.csv"))


def test_many_tables_that_say_nothing_are_named_in_one_short_sentence(tmp_path):
    for i in range(30):
        write(tmp_path, b"a,b\n1,2\n", f"{i}.csv", 2, "images")
    with pytest.raises(
        BadInput, match=r"in one folder, and no table next to them can be read: .* and 28 more"
    ) as error:
        find_photos(str(tmp_path), "image_folder")
    assert len(str(error.value)) < 700


def test_tables_of_splits_are_read_together(tmp_path):
    write(tmp_path, b"id,label\n0,cat\n1,dog\n", "train.csv", 2, "train")
    (tmp_path / "test").mkdir()
    for i in (7, 8):
        (tmp_path / "test" / f"{i}.jpg").write_bytes(b"x")
    (tmp_path / "test.csv").write_bytes(b"id,label\n7,cat\n8,dog\n")
    found = find_photos(str(tmp_path), "image_folder")
    assert [(p.file_name, p.label, p.official_split) for p in found.photos] == [
        ("test/7.jpg", "cat", "test"), ("test/8.jpg", "dog", "test"), ("train/0.jpg", "cat", "trainval"),
        ("train/1.jpg", "dog", "trainval"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "rules", "says"),
    [
        (b"file,label\n0.jpg,cat\n0.jpg,dog\n", {}, r"labels.csv, line 3: 0.jpg is labelled 'dog' here and 'cat' on l"),
        (b"file,label\n0.jpg,\xe9\n", {}, r"labels.csv is not UTF-8 text; save it again as CSV in UTF-8"),
        (b"file,MEL,NV\n0.jpg,1,0\n", {}, r"labels.csv has the columns file, MEL, NV, and none of them holds lab"),
        (b"when,label\nmonday,cat\n", {}, r"labels.csv has the columns when, label, and none of them names photo f"),
        (b"only\n0.jpg\n", {}, r"labels.csv has only one column; expected columns such as file and label"),
        (b"file,label\n", {}, r"labels.csv has no rows; expected a header such as file,label and one line per photo"),
        (b"file,label,split\n0.jpg,cat,train\n1.jpg,dog,x\n", {}, r"labels.csv, column split: found x, expected tr"),
        (b"file,label\n0.jpg,cat\n", {"labels": "other.csv"}, r"names .*other.csv, which does not exist"),
        (b"file,label\n0.jpg,cat\n", {"labels": "labels.csv:breed"}, r"labels.csv has no column 'breed', which data.l"),
        (b"file,label\n0.jpg,cat\n", {"group": "column:dog"}, r"data.group names the column 'dog', but no table"),
        (b"file,label\n0.jpg,a\x07b\n", {}, r"the class 'a\\x07b' has a control character or a line break in its name"),
        (b"file,label\n0.jpg,Cat\n1.jpg,cat\n", {}, r"the classes 'Cat' and 'cat' look the same"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_read_is_named(tmp_path, table, rules, says):
    root = write(tmp_path, table, photos=4, folder=".")  # without folders, only the table can say a class
    with pytest.raises(BadInput, match=says):
        find_photos(root, "image_folder", FolderRules(**rules))
