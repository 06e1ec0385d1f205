"""Photos that are kept because the model is not sure of them."""

from __future__ import annotations

import stat

import pytest

from components.example_gen.photo_folder import list_files
from deploy.collection import Collection, CollectionLimits
from schemas.errors import BadInput

SURE, CLOSE = {"cat": 0.9, "dog": 0.1}, {"cat": 0.55, "dog": 0.45}


def jpeg(number: int, size: int = 100) -> bytes:
    return b"\xff\xd8\xff" + number.to_bytes(4, "big") + bytes(size - 7)


def test_photos_that_the_model_is_not_sure_of_are_kept_once(tmp_path):
    made = Collection(tmp_path / "a" / "b", CollectionLimits())
    assert made.offer(jpeg(1), "cat", CLOSE, False, name="x/1.jpg", version=7)
    assert made.offer(jpeg(2), "cat", SURE, True)
    assert not made.offer(jpeg(3), "cat", SURE, False)
    assert not made.offer(jpeg(1), "cat", CLOSE, False)
    assert not Collection(made.folder, CollectionLimits()).offer(jpeg(1), "cat", CLOSE, False)
    one, two = sorted(Collection(made.folder).photos(), key=lambda photo: photo.abstains)
    assert (one.name, one.version, one.label, one.probability, one.probabilities) == ("x/1.jpg", 7, "cat", 0.55, CLOSE)
    assert (made.folder / one.file).read_bytes() == jpeg(1)
    assert two.file.endswith(".jpg")
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
    (tmp_path / "cat.jpg").write_bytes(jpeg(3))
    assert [entry.path for entry in list_files(str(tmp_path))] == ["cat.jpg"]  # no run takes them for photos
    made.remove(one)
    assert [photo.content_hash for photo in made.photos()] == [two.content_hash]


def test_the_folder_never_grows_beyond_its_limits(tmp_path):
    few = Collection(tmp_path / "few", CollectionLimits(photos=2))
    assert [few.offer(jpeg(i), "cat", CLOSE, False) for i in range(4)] == [True, True, False, False]
    small = Collection(tmp_path / "small", CollectionLimits(bytes=250))
    assert [small.offer(jpeg(i), "cat", CLOSE, False) for i in range(4)] == [True, True, False, False]
    small.remove(small.photos()[0])
    assert small.offer(jpeg(9), "cat", CLOSE, False)
    again = Collection(tmp_path / "small", CollectionLimits(bytes=250))
    assert not again.offer(jpeg(10), "cat", CLOSE, False)
    assert not Collection(tmp_path / "small").offer(jpeg(11), "cat", CLOSE, False)


def test_a_share_of_the_others_is_drawn_by_their_content(tmp_path):
    first, second = (Collection(tmp_path / name, CollectionLimits(share=0.25)) for name in "ab")
    kept = [first.offer(jpeg(i), "cat", SURE, False) for i in range(200)]
    assert 30 < sum(kept) < 70
    assert [second.offer(jpeg(i), "cat", SURE, False) for i in reversed(range(200))][::-1] == kept


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="holds other files; expected a new folder"):
        Collection(tmp_path, CollectionLimits())


def test_damaged_records_are_passed_over(tmp_path):
    made = Collection(tmp_path / "x", CollectionLimits())
    made.offer(jpeg(1), "cat", CLOSE, False)
    (made.folder / "damaged.json").write_text("{")
    (made.folder / "other.json").write_text('{"content_hash": "1", "file": "../../etc/passwd"}')
    assert len(made.photos()) == 1
