"""Prepared folders of TensorFlow Datasets: small ones are prepared here from photos drawn here."""

import io
import pickle
import shutil
import urllib.error

import numpy as np
import pytest
from PIL import Image

from components.example_gen import layouts, tfds_source
from components.example_gen.found_photos import FolderRules
from components.example_gen.mask_classes import TRIMAPS
from components.example_gen.masks import read_mask
from components.example_gen.photo import PhotoFacts
from schemas.errors import BadInput

tfds = pytest.importorskip("tensorflow_datasets")
BREEDS = ["Abyssinian", "american_bulldog", "pug"]


def drawn(index, image_format="JPEG"):
    buffer = io.BytesIO()
    Image.effect_mandelbrot((24, 16), (-2, -1.5, 1 + index / 9, 1.5), 20).convert("RGB").save(buffer, image_format)
    return buffer.getvalue()


def prepare(data_dir, name, features, examples, version="1.0.0"):
    """Writes `examples`, a list for each split, as TensorFlow Datasets write them; one to two shards each."""

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)

        def _info(self):
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: enumerate(rows) for split, rows in examples.items()}

        def _generate_examples(self):
            raise NotImplementedError

    Builder.name = name
    Builder.pkg_dir_path = data_dir
    builder = Builder(data_dir=str(data_dir))
    config = tfds.download.DownloadConfig(num_shards=2)
    builder.download_and_prepare(download_config=config)
    return str(builder.data_path)


@pytest.fixture(scope="module")
def cats_vs_dogs(tmp_path_factory):
    rows = [
        {
            "image": io.BytesIO(drawn(i, "PNG" if i == 3 else "JPEG")),
            "image/filename": f"PetImages/{('Cat', 'Dog')[i % 2]}/{i}.jpg",
            "label": i % 2,
        }
        for i in range(5)
    ]
    features = {
        "image": tfds.features.Image(),
        "image/filename": tfds.features.Text(),
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
    }
    return prepare(tmp_path_factory.mktemp("tfds"), "cats_vs_dogs", features, {"train": rows}, "4.0.1")


@pytest.fixture(scope="module")
def oxford(tmp_path_factory):
    def rows(indices):
        return [
            {
                "image": io.BytesIO(drawn(i)),
                "label": i % 3,
                "species": int(i % 3 > 0),
                "file_name": f"{BREEDS[i % 3]}_{i}.jpg",
                "segmentation_mask": np.ones([16, 24, 1], np.uint8),
                "head_bbox": tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
            }
            for i in indices
        ]

    features = {
        "image": tfds.features.Image(),
        "label": tfds.features.ClassLabel(names=BREEDS),
        "species": tfds.features.ClassLabel(names=["Cat", "Dog"]),
        "file_name": tfds.features.Text(),
        "segmentation_mask": tfds.features.Image(shape=(None, None, 1), use_colormap=True),
        "head_bbox": tfds.features.BBoxFeature(),
    }
    data_dir = tmp_path_factory.mktemp("tfds")
    splits = {"train": rows(range(4)), "test": rows(range(4, 7))}
    return prepare(data_dir, "oxford_iiit_pet", features, splits, "4.0.0")


def read_tfds(folder, dataset):
    return [pair for shard in tfds_source.list_shards(folder, dataset) for pair in tfds_source.read_shard(shard)]


def test_cats_vs_dogs_keeps_every_byte(cats_vs_dogs):
    read = sorted(read_tfds(cats_vs_dogs, "cats_vs_dogs"), key=lambda pair: pair[0].file_name[-5])
    assert [photo_bytes for _, photo_bytes in read] == [drawn(i, "PNG" if i == 3 else "JPEG") for i in range(5)]
    photo = read[1][0]
    assert photo.path.startswith(cats_vs_dogs)
    assert (photo.file_name, photo.dataset) == ("PetImages/Dog/1.jpg", "cats_vs_dogs")
    assert (photo.label, photo.species, photo.breed, photo.official_split) == ("dog", "dog", "", "")


def test_oxford_keeps_its_names_and_official_splits(oxford):
    read = sorted(read_tfds(oxford, "oxford_iiit_pet"), key=lambda pair: pair[0].file_name[-5])
    assert [photo_bytes for _, photo_bytes in read] == [drawn(i) for i in range(7)]
    assert [photo.official_split for photo, _ in read] == ["trainval"] * 4 + ["test"] * 3
    assert [(photo.label, photo.species, photo.breed) for photo, _ in read[:3]] == [
        ("Abyssinian", "cat", "Abyssinian"),
        ("american_bulldog", "dog", "american_bulldog"),
        ("pug", "dog", "pug"),
    ]


def test_masks_come_as_the_bytes_of_their_trimaps(oxford):
    shards = tfds_source.list_shards(oxford, "oxford_iiit_pet", masks=True)
    read = [pair for shard in shards for pair in tfds_source.read_shard(shard)]
    assert sorted(photo_bytes for _, photo_bytes in read) == sorted(drawn(i) for i in range(7))
    facts = PhotoFacts("JPEG", 24, 16, "RGB", 1, "")
    for photo, _ in read:
        mask = read_mask(photo.mask_bytes, photo.mask_name, TRIMAPS, facts, 10**6)
        assert (photo.mask_name, mask.pixels) == ("segmentation_mask", {0: 16 * 24})
    assert {photo.mask_bytes for photo, _ in read_tfds(oxford, "oxford_iiit_pet")} == {b""}
    found = layouts.find_photos(oxford, "oxford_iiit_pet", FolderRules(masks=True))
    assert (found.layout, found.mask_classes) == ("tfds", TRIMAPS)


def test_shards_are_small_values_that_count_and_share_out_the_photos(oxford):
    shards = tfds_source.list_shards(oxford, "oxford_iiit_pet")
    assert [(shard.split, shard.index) for shard in shards] == [
        ("train", 0), ("train", 1), ("test", 0), ("test", 1),
    ]  # fmt: skip
    assert sum(shard.examples for shard in shards) == 7
    names = []
    for shard in shards:
        read = [photo.file_name for photo, _ in tfds_source.read_shard(pickle.loads(pickle.dumps(shard)))]
        assert len(read) == shard.examples
        names += read
    assert len(set(names)) == 7


def test_the_folder_above_gives_its_newest_version(cats_vs_dogs, tmp_path):
    for version in ("9.0.0", "10.0.0"):
        shutil.copytree(cats_vs_dogs, tmp_path / version)
    shards = tfds_source.list_shards(str(tmp_path), "cats_vs_dogs")
    assert {shard.folder for shard in shards} == {str(tmp_path / "10.0.0")}
    assert layouts.find_photos(str(tmp_path), "cats_vs_dogs").layout == "tfds"


def test_another_data_set_is_named(cats_vs_dogs, oxford, tmp_path):
    with pytest.raises(BadInput, match="holds 'oxford_iiit_pet' from TensorFlow Datasets, expected 'cats_vs_dogs'"):
        tfds_source.list_shards(oxford, "cats_vs_dogs")
    features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=2)}
    rows = {"train": [{"image": io.BytesIO(drawn(i)), "label": i} for i in range(2)]}
    lacking = prepare(tmp_path, "cats_vs_dogs", features, rows)
    with pytest.raises(BadInput, match="lacks image/filename"):
        tfds_source.list_shards(lacking, "cats_vs_dogs")
    with pytest.raises(BadInput, match=r"has no dataset_info\.json"):
        tfds_source.list_shards(str(tmp_path / "absent"), "cats_vs_dogs")


def test_a_damaged_folder_is_named(cats_vs_dogs, tmp_path):
    folder = tmp_path / "4.0.1"
    shutil.copytree(cats_vs_dogs, folder)
    first = tfds_source.list_shards(str(folder), "cats_vs_dogs")[0]
    next(iter(folder.glob("*00000-of*"))).write_bytes(b"no record")
    with pytest.raises(BadInput, match="00000-of-00002 is missing or damaged"):
        list(tfds_source.read_shard(first))
    (tmp_path / "5.0.0").mkdir()
    (tmp_path / "5.0.0" / "dataset_info.json").write_text("{")
    with pytest.raises(BadInput, match="is not a valid TensorFlow Datasets folder"):
        tfds_source.list_shards(str(tmp_path), "cats_vs_dogs")


def test_resolve_finds_what_is_prepared_without_a_network(cats_vs_dogs, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", None)
    data_dir = cats_vs_dogs.removesuffix("/cats_vs_dogs/4.0.1")
    assert tfds_source.resolve_tfds("tfds:cats_vs_dogs", data_dir) == cats_vs_dogs


@pytest.mark.parametrize("name", ["cats_vs_dogs", "oxford_iiit_pet"])
def test_resolve_without_a_network_says_where_to_put_the_data(name, tmp_path, monkeypatch):
    def refuse(request, timeout):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(BadInput, match=rf"Name or service not known.*copy a prepared {name} to {tmp_path}"):
        tfds_source.resolve_tfds(f"tfds:{name}", str(tmp_path))


@pytest.mark.parametrize("spec", ["tfds:birds", "cats_vs_dogs", "tfds:"])
def test_resolve_refuses_other_names(spec):
    with pytest.raises(BadInput, match="expected one of tfds:cats_vs_dogs, tfds:oxford_iiit_pet"):
        tfds_source.resolve_tfds(spec, None)
