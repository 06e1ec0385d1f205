"""The walk of a photo folder: which files there are, and which are no photos by their names."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.example_gen import layouts, photo_folder
from components.example_gen.photo_folder import PhotoFolder
from schemas.errors import BadInput
from tests.unit.test_layouts import oxford, write


def test_import_needs_no_tensorflow():
    code = "import sys, components.example_gen.layouts; assert not {'tensorflow', 'tfx'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_list_files_is_sorted_with_sizes_and_follows_links(tmp_path):
    write(tmp_path, "data/b/2.jpg", "data/a.jpg", "elsewhere/x.jpg")
    os.symlink(tmp_path / "elsewhere", tmp_path / "data" / "c")
    os.symlink(tmp_path / "data", tmp_path / "data" / "b" / "loop")
    os.symlink(tmp_path / "nowhere", tmp_path / "data" / "dangling.jpg")
    os.mkfifo(tmp_path / "data" / "pipe")
    listed = {entry.path: entry.size for entry in photo_folder.list_files(str(tmp_path / "data"))}
    assert listed == {
        "a.jpg": 10, "b/2.jpg": 12, "b/loop": -1, "c/x.jpg": 15, "dangling.jpg": -1, "pipe": -1,
    }  # fmt: skip
    assert list(listed) == sorted(listed)


def test_a_remote_address_lists_like_a_local_folder(tmp_path):
    pytest.importorskip("tensorflow")
    oxford(tmp_path)
    local, remote = photo_folder.list_files(str(tmp_path)), photo_folder.list_files(f"file://{tmp_path}/")
    assert [(entry.path, entry.size) for entry in remote] == [(entry.path, entry.size) for entry in local]
    photos = layouts.find_photos(f"file://{tmp_path}", "oxford_iiit_pet").photos
    assert photos[0].path == f"file://{tmp_path}/images/Abyssinian_1.jpg"
    with pytest.raises(BadInput, match="does not exist"):
        photo_folder.list_files(f"file://{tmp_path}/absent")


@pytest.mark.parametrize(("name", "says"), [("absent", "does not exist"), ("file", "not a folder"), ("empty", "empty")])
def test_list_files_names_what_is_wrong(tmp_path, name, says):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    with pytest.raises(BadInput, match=says) as error:
        photo_folder.list_files(str(tmp_path / name))
    assert str(tmp_path / name) in str(error.value)


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    write(tmp_path, "cat/1.jpg")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("cat"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(BadInput, match=r"cat cannot be read \(Permission denied\)"):
        photo_folder.list_files(str(tmp_path))


def test_fingerprint_changes_with_path_size_and_time():
    entry = photo_folder.FileEntry("a", 1, 2)
    others = [photo_folder.FileEntry("b", 1, 2), photo_folder.FileEntry("a", 2, 2), photo_folder.FileEntry("a", 1, 3)]
    prints = {
        photo_folder.fingerprint(entries) for entries in [[entry], *([other] for other in others), [], [entry] * 2]
    }
    assert len(prints) == 6
    assert photo_folder.fingerprint([entry]) == photo_folder.fingerprint([photo_folder.FileEntry("a", 1, 2)])


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(names, names), min_size=1, max_size=8, unique=True))
def test_every_file_of_any_name_is_accounted_for_once(tmp_path_factory, paths):
    root = tmp_path_factory.mktemp("any")
    for folder, name in paths:
        write(root, f"{folder}/{name}")
    listed = {entry.path for entry in photo_folder.list_files(str(root))}
    assert listed == {f"{folder}/{name}" for folder, name in paths}
    try:
        found = layouts.find_photos(str(root), "image_folder")
    except BadInput:
        return
    seen = Counter(file.file_name for file in (*found.photos, *found.rejected, *found.left_out))
    assert seen == Counter(path for path in listed if not path.endswith("/_SUCCESS"))
    assert all(Path(photo.path).read_bytes() == photo.file_name.encode() for photo in found.photos)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("a.jpg", ""), ("a.JPEG", ""), ("a", ""), ("cat.1", ""), ("a.cr2", ""), ("a.jp2", ""), ("ünï.png", ""),
        ("x/a.heic", ""), ("._a.jpg", "sidecar"), (".DS_Store", "sidecar"), ("Thumbs.db", "sidecar"),
        ("a.jpg:Zone.Identifier", "sidecar"), ("Icon\r", "sidecar"), ("x/.thumbnails/a.jpg", "hidden_folder"),
        ("__MACOSX/a.jpg", "hidden_folder"), ("@eaDir/a.jpg/x.jpg", "hidden_folder"),
        (".ipynb_checkpoints/a.png", "hidden_folder"), ("a.aae", "other_file"), ("a.JSON", "other_file"),
        ("a.xmp", "other_file"), ("README", "other_file"), ("LICENSE.md", "other_file"), ("a.jpg~", "other_file"),
        ("a.mov", "other_file"),
    ],
)  # fmt: skip
def test_what_is_no_photo_by_its_name(path, reason):
    assert photo_folder.why_no_photo(path)[0] == reason


@pytest.mark.parametrize("mark", [[".warmstart"], [".pipeline", "artifacts/x/1.jpg", "serving/1/saved_model.pb"]])
def test_what_warmstart_wrote_is_never_read(tmp_path, mark):
    write(tmp_path, "cat/1.jpg", *(f"runs/mine/{name}" for name in mark), "runs/mine/reports/heat.png", "runs/x.jpg")
    folder = PhotoFolder(str(tmp_path))
    assert [entry.path for entry in folder.candidates] == ["cat/1.jpg", "runs/x.jpg"]
    assert folder.own_output == ["runs/mine"]
    assert not any("mine" in entry.path for entry in photo_folder.list_files(str(tmp_path)))
    # It is named by its user: then its files are seen, and refused elsewhere.
    assert PhotoFolder(str(tmp_path / "runs" / "mine")).candidates


def test_folders_without_a_file_are_known(tmp_path):
    write(tmp_path, "cat/1.jpg", "dog/.DS_Store")
    for name in ("hamster", "fox/young/small", ".hidden/x"):
        (tmp_path / name).mkdir(parents=True)
    assert PhotoFolder(str(tmp_path)).empty_folders == ["fox", "hamster"]


def test_a_fingerprint_is_of_photos_and_lists_only(tmp_path):
    write(tmp_path, "cat/1.jpg", "labels.csv")
    before = photo_folder.fingerprint_of_folder(str(tmp_path), "done")
    write(tmp_path, ".DS_Store", "cat/._1.jpg", "notes.md", "done", "_SUCCESS", "cat/.cache/2.jpg")
    assert photo_folder.fingerprint_of_folder(str(tmp_path), "done") == before
    write(tmp_path, "labels.csv", content=b"other")
    assert photo_folder.fingerprint_of_folder(str(tmp_path), "done") != before


def test_annotations_without_an_ending_are_no_photos_and_photos_without_one_are(tmp_path):
    write(tmp_path, "Annotation/a/1", "Annotation/a/2", content=b"<annotation>\n</annotation>")
    write(tmp_path, "photos/a/1", "photos/a/2", content=b"\xff\xd8\xff\xe0 and more")
    folder = PhotoFolder(str(tmp_path))
    assert [entry.path for entry in folder.candidates] == ["photos/a/1", "photos/a/2"]
    assert [file.reason for file in folder.left_out] == ["other_file"] * 2
