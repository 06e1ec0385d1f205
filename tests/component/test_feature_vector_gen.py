"""FeatureVectorGen, run for real on drawn photos: right values, each computed once, and never somebody else's."""

from __future__ import annotations

import functools
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
import tensorflow_hub as hub
from tfx.types import artifact_utils, standard_artifacts

from components.backbone import frozen_pass, kept_pass
from components.backbone.cut import cut
from components.backbone.layer import FeatureVector
from components.backbone.pyramid import build_pyramid
from components.backbone.unfreezing import Unfreezing
from components.feature_vector_gen import component, store
from components.feature_vector_gen.store import VectorStore
from components.records import read_examples, split_files, text
from components.transform.augmentation import Augmentation, augment, seeds_for
from components.transform.graph import load_transform
from components.transform.image_ops import photos_to_unit_range
from components.transform.mask_ops import masks_to_ids
from schemas import features as f
from schemas.errors import BadInput

SPLITS = ("train", "eval", "test")
WIDTH = 8
ACTIVATION_VALUES = 8 * 8 * 8  # of the tiny backbone's stem, for 16-pixel photos
NUMBERS = 4 * (WIDTH + 1)  # bytes of a vector and a brightness
WHOLE = NUMBERS + 4 * ACTIVATION_VALUES  # bytes of an entry of the splits eval and test
CHECKSUM = 16
UNFREEZE = {"pattern": "top_conv/"}
AUGMENTATION = {"flip": True, "rotation_degrees": 20.0, "zoom": 0.2, "scale_jitter": 0.3, "colour": 0.3}
VIEWS = {**AUGMENTATION, "views": 2, "seed": 5}

pytestmark = pytest.mark.slow  # tracing many graphs takes its time


class Generated(NamedTuple):
    """One run of the step. examples: split -> what it wrote. batches: how many images the backbone got each time."""

    examples: dict[str, list[tf.train.Example]]
    note: dict
    batches: list[int]

    @property
    def counts(self) -> tuple[int, int]:
        return self.note["computed"], self.note["reused"]

    @property
    def records(self) -> dict[str, list[bytes]]:
        return {split: [e.SerializeToString(deterministic=True) for e in rows] for split, rows in self.examples.items()}


@pytest.fixture(scope="module")
def homes(drawn_photos):
    """Split -> photos: 21 of the drawn ones, of both classes and formats in each."""
    return {"train": drawn_photos[:10], "eval": drawn_photos[10:16], "test": drawn_photos[16:21]}


@pytest.fixture(scope="module")
def generate(tmp_path_factory, make_example, write_records, transform_graph, tiny_backbone):
    """Runs the component's own function on a Beam pipeline in memory; the backbone is listened to, not replaced."""
    load_pass = functools.cache(component._load_pass.__wrapped__)  # its own cache keeps one
    traced_once = functools.partial(tf.function, input_signature=[tf.TensorSpec([None], tf.string)])
    load_graph = functools.cache(lambda uri: traced_once(load_transform(uri)))

    cache = tmp_path_factory.mktemp("cache")

    def run(
        photos,
        stored="",
        load=load_graph,
        changed_pass=None,
        after_batch=lambda values: values,
        example_of=make_example,
        **changes,
    ):
        folder = tmp_path_factory.mktemp("feature_vector_gen")
        examples, vectors = standard_artifacts.Examples(), standard_artifacts.Examples()
        graph = standard_artifacts.TransformGraph()
        examples.uri, vectors.uri, graph.uri = str(folder / "photos"), str(folder / "vectors"), transform_graph
        examples.split_names = artifact_utils.encode_split_names(list(photos))
        for split, drawn in photos.items():
            write_records(folder / "photos" / f"Split-{split}", map(example_of, drawn))
        batches = []

        @functools.lru_cache(maxsize=1)
        def listening(*arguments):
            loaded = load_pass(*arguments)

            def call(images):
                batches.append(len(images))
                return after_batch(loaded.run.call(images))

            return replace(loaded, run=replace(loaded.run, call=call, **changed_pass or {}))

        parameters = {
            "backbone": tiny_backbone,
            "backbone_fingerprint": "backbone",
            "image_size": 16,
            "transform_fingerprint": "transform",
            "unfreeze": UNFREEZE,
            "store": str(stored),
            "code": "code",
        }
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(component, "_BATCH", 8)  # so that there are several, and one of two splits
            patch.setattr(component, "_load_pass", listening)
            patch.setattr(kept_pass, "cache_folder", lambda: cache)
            patch.setattr(component, "load_transform", load)
            component.FeatureVectorGen.EXECUTOR_SPEC.executor_class._FUNCTION(
                examples=examples,
                transform_graph=graph,
                schema=None,
                feature_vectors=vectors,
                beam_pipeline=beam.Pipeline(runner=FnApiRunner()),
                **{**parameters, **changes},
            )
        assert listening.cache_info().currsize == 0, "the next step in this process needs the memory"
        assert artifact_utils.decode_split_names(vectors.split_names) == list(photos)
        written = {split: list(read_examples(split_files(vectors, split))) for split in photos}
        note = json.loads((folder / "vectors" / "pass.json").read_text())
        return Generated(written, note, batches)

    return run


@pytest.fixture(scope="module")
def vector_store(tmp_path_factory):
    """Folder of the store that `made` filled; tests that change it take a copy."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def made(generate, homes, vector_store):
    return generate(homes, vector_store)


@pytest.fixture(scope="module")
def view_store(tmp_path_factory):
    """Folder of the store that `with_views` filled."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def with_views(generate, homes, view_store):
    """A run with two augmented views a photo, and the same once more."""
    return generate(homes, view_store, augmentation=VIEWS), generate(homes, view_store, augmentation=VIEWS)


@pytest.fixture(scope="module")
def images_of(transform_graph):
    transform = load_transform(transform_graph)
    return lambda photos: transform(tf.constant([photo.photo_bytes for photo in photos]))


@pytest.fixture(scope="module")
def backbone_cut(tiny_backbone):
    return cut(hub.load(tiny_backbone), ["top_conv/kernel:0"], 16)


def view_of(example) -> int:
    [view] = example.features.feature[f.VIEW].int64_list.value
    return view


def vectors_of(examples) -> np.ndarray:
    return np.array([e.features.feature[f.FEATURE_VECTOR].float_list.value for e in examples], np.float32)


def brightness_of(examples) -> np.ndarray:
    [values] = zip(*(e.features.feature[f.BRIGHTNESS].float_list.value for e in examples), strict=True)
    return np.array(values)


def activations_of(examples, shape, precision="<f4") -> np.ndarray:
    values = [e.features.feature[f.ACTIVATIONS].bytes_list.value[0] for e in examples]
    return np.stack([np.frombuffer(value, precision).reshape(shape) for value in values])


def entries(folder) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def copied(folder, target):
    for path, value in entries(folder).items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(value)
    return target


# What is written


def test_the_vectors_are_the_backbones(made, homes, images_of, tiny_backbone):
    backbone = FeatureVector(tiny_backbone)
    for split, photos in homes.items():
        assert [text(example, f.FILE_NAME) for example in made.examples[split]] == [photo.name for photo in photos]
        found, expected = vectors_of(made.examples[split]), backbone(images_of(photos)).numpy()
        assert found.shape == (len(photos), WIDTH)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        differences = np.abs(expected[:, np.newaxis] - expected).max(axis=-1)
        assert differences[~np.eye(len(photos), dtype=bool)].min() > 1e-3, "the photos give alike vectors"


def test_an_example_keeps_all_but_its_photo(made, homes, make_example):
    for split, photos in homes.items():
        for example, photo in zip(made.examples[split], photos, strict=True):
            before, after = make_example(photo).features.feature, example.features.feature
            added = {f.FEATURE_VECTOR, f.BRIGHTNESS, f.VIEW, f.ACTIVATIONS, f.BOUNDARY}
            assert set(after) == set(before) - {f.IMAGE} | added
            for name in set(before) - {f.IMAGE}:
                assert after[name] == before[name]
            assert after[f.VIEW].int64_list.value == [0]


def test_the_activations_are_those_at_the_boundary(made, homes, images_of, backbone_cut):
    for split in SPLITS:
        expected = backbone_cut.bottom(images_of(homes[split])).numpy()
        # float16 has 11 bits, and only what is trained on is kept in it.
        precision, rounding, sum_of_it = ("<f2", 2**-10, 2e-3) if split == "train" else ("<f4", 1e-5, 1e-5)
        found = activations_of(made.examples[split], backbone_cut.shape, precision)
        assert np.abs(expected).max() > 0.5
        np.testing.assert_allclose(found, expected, rtol=rounding, atol=1e-5)
        vectors = backbone_cut.top(tf.cast(found, tf.float32)).numpy()
        np.testing.assert_allclose(vectors, vectors_of(made.examples[split]), rtol=0, atol=sum_of_it)
        assert {text(example, f.BOUNDARY) for example in made.examples[split]} == {backbone_cut.boundary}


def test_the_brightness_is_the_mean_of_the_pixels(made, homes, images_of):
    for split, photos in homes.items():
        found, expected = brightness_of(made.examples[split]), images_of(photos).numpy().mean(axis=(1, 2, 3))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        assert np.ptp(expected) > 0.01, "the photos are alike"


def test_a_record_says_what_was_done(made, backbone_cut, tiny_backbone):
    assert made.note == {
        "frozen_pass": frozen_pass.build(hub.load(tiny_backbone), 16, backbone_cut).note,
        "cut": f"cut at {backbone_cut.place}, 8x8x8 values per photo",
        "computed": 21,
        "reused": 0,
    }
    assert made.batches == [8, 8, 5]


# What was computed before


def test_a_second_run_computes_nothing_and_gives_the_same_bytes(made, generate, homes, vector_store):
    stored = entries(vector_store)
    assert len(stored) == 21
    again = generate(homes, vector_store)
    assert again.counts == (0, 21)
    assert again.batches == []
    assert again.records == made.records
    assert entries(vector_store) == stored


def test_without_a_store_everything_is_computed_to_the_same_values(made, generate, homes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where an empty path would lead
    unstored = generate(homes, "")
    assert unstored.counts == (21, 0)
    assert unstored.records == made.records
    assert entries(tmp_path) == {}


def test_of_a_grown_folder_the_new_photos_alone_are_computed(
    made, generate, homes, vector_store, tmp_path, drawn_photos, images_of, tiny_backbone
):
    new = drawn_photos[21:]
    # Between the old ones, where a mistake in putting them together shows.
    grown = {
        **homes,
        "train": [new[0], *homes["train"][:4], new[1], *homes["train"][4:]],
        "test": [*homes["test"], new[2]],
    }
    found = generate(grown, copied(vector_store, tmp_path))
    assert found.counts == (3, 21)
    assert sum(found.batches) == 3
    assert [*found.records["train"][1:5], *found.records["train"][6:]] == made.records["train"]
    assert (found.records["eval"], found.records["test"][:5]) == (made.records["eval"], made.records["test"])
    computed = [found.examples["train"][0], found.examples["train"][5], found.examples["test"][5]]
    expected = FeatureVector(tiny_backbone)(images_of(new)).numpy()
    np.testing.assert_allclose(vectors_of(computed), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_photo_of_another_name_or_class_is_the_same_photo(generate, homes, vector_store, tmp_path, made):
    renamed = {**homes, "eval": [photo._replace(name=f"new/{photo.name}", label="cat") for photo in homes["eval"]]}
    found = generate(renamed, copied(vector_store, tmp_path))
    assert found.counts == (0, 21)
    assert [text(example, f.FILE_NAME)[:4] for example in found.examples["eval"]] == ["new/"] * 6
    assert {text(example, f.LABEL) for example in found.examples["eval"]} == {"cat"}
    np.testing.assert_array_equal(vectors_of(found.examples["eval"]), vectors_of(made.examples["eval"]))


@pytest.mark.parametrize(
    ("damage", "count"),
    [
        (lambda whole, other: whole[:NUMBERS], 1),
        (lambda whole, other: whole + b"\0", 1),
        (lambda whole, other: b"", 1),
        (lambda whole, other: bytes(len(whole)), 1),
        (lambda whole, other: whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], 1),
        (lambda whole, other: other, 1),
    ],
    ids=["cut", "longer", "empty", "zeroed", "one_bit", "swapped"],
)
def test_an_entry_that_is_not_as_it_was_written_is_computed_again_and_mended(
    made, generate, homes, vector_store, tmp_path, damage, count
):
    """A model must not learn from whatever lies in a folder that anybody may delete."""
    stored = copied(vector_store, tmp_path)
    [damaged], [other] = (stored.rglob(text(made.examples["eval"][i], f.CONTENT_HASH)) for i in (1, 2))
    whole = damaged.read_bytes()
    assert len(whole) == WHOLE + CHECKSUM
    damaged.write_bytes(damage(whole, other.read_bytes()))
    found = generate({"eval": homes["eval"]}, stored)
    assert found.counts == (1, 5)
    assert found.note["dropped_as_damaged"] == count
    assert found.batches == [1]
    np.testing.assert_allclose(vectors_of(found.examples["eval"]), vectors_of(made.examples["eval"]), atol=1e-6)
    assert len(damaged.read_bytes()) == len(whole)
    assert len(entries(stored)) == 21


def test_a_photo_that_leaves_the_test_split_gets_activations_to_train_on(made, generate, homes, vector_store, tmp_path):
    found = generate({"train": homes["test"][:1], "test": homes["test"][1:]}, copied(vector_store, tmp_path))
    assert found.counts == (1, 4)
    [moved] = found.examples["train"]
    np.testing.assert_allclose(vectors_of([moved]), vectors_of(made.examples["test"][:1]), atol=1e-6)
    assert len(moved.features.feature[f.ACTIVATIONS].bytes_list.value[0]) == 2 * ACTIVATION_VALUES


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize(
    "change",
    [
        {"backbone_fingerprint": "another"},
        {"transform_fingerprint": "another"},
        {"code": "another"},
        {"changed_pass": {"graph": None}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_the_values_never_meets_entries_of_others(generate, homes, vector_store, tmp_path, made, change):
    stored = copied(vector_store, tmp_path)
    found = generate({"eval": homes["eval"]}, stored, **change)
    assert found.counts == (6, 0)
    # The old entries are still there, for what made them.
    assert entries(stored).items() > entries(vector_store).items()


@pytest.mark.slow
def test_another_backbone_never_meets_entries_of_others(generate, homes, vector_store, tmp_path, made, tiny_backbone):
    """Of the same width and boundary, as a retrained one is."""
    module = hub.load(tiny_backbone)
    for variable in module.variables:
        variable.assign(variable * 1.5)
    shutil.copytree(tiny_backbone, tmp_path / "another" / Path(tiny_backbone).name)
    another = str(tmp_path / "another" / Path(tiny_backbone).name)
    tf.saved_model.save(module, another)
    found = generate(
        {"eval": homes["eval"]}, copied(vector_store, tmp_path / "store"), backbone=another, backbone_fingerprint="2"
    )
    assert found.counts == (6, 0)
    assert found.note["cut"] == made.note["cut"]
    assert np.abs(vectors_of(found.examples["eval"]) - vectors_of(made.examples["eval"])).max() > 0.1


@pytest.mark.slow
@pytest.mark.release
def test_another_image_size_never_meets_entries_of_others(generate, homes, tmp_path, made):
    """The size of an entry does not tell where there are no activations."""
    transform = functools.partial(photos_to_unit_range, size=24, method="bilinear", antialias=False)
    tests = {"test": homes["test"]}
    generate(tests, tmp_path, unfreeze=None)
    # As in the graph, where the size is part of what Transform does.
    larger = {"load": lambda uri: transform, "image_size": 24, "transform_fingerprint": "transform to 24"}
    found = generate(tests, tmp_path, unfreeze=None, **larger)
    assert found.counts == (5, 0)
    assert np.abs(vectors_of(found.examples["test"]) - vectors_of(made.examples["test"])).max() > 1e-3


# Augmented views


def test_training_photos_alone_have_augmented_views(with_views, homes):
    found, again = with_views
    for split, photos in homes.items():
        views = range(3) if split == "train" else range(1)
        expected = {(photo.name, view) for photo in photos for view in views}
        told = [(text(e, f.FILE_NAME), view_of(e)) for e in found.examples[split]]
        assert sorted(told) == sorted(expected)
    assert found.counts == (10 * 3 + 11, 0)
    assert again.counts == (0, 10 * 3 + 11)
    assert (sum(found.batches), again.batches) == (10 * 3 + 11, [])
    assert again.records == found.records


def test_a_view_is_the_augmented_photo_through_the_backbone(with_views, homes, images_of, tiny_backbone, backbone_cut):
    backbone, settings = FeatureVector(tiny_backbone), Augmentation(**AUGMENTATION)
    examples = {(text(e, f.FILE_NAME), view_of(e)): e for e in with_views[0].examples["train"]}
    unchanged = images_of(homes["train"])
    hashes = [text(examples[photo.name, 0], f.CONTENT_HASH) for photo in homes["train"]]
    vectors = []
    for view in range(3):
        images = augment(unchanged, seeds_for(tf.constant(hashes), view, 5), settings) if view else unchanged
        of_view = [examples[photo.name, view] for photo in homes["train"]]
        vectors.append(vectors_of(of_view))
        np.testing.assert_allclose(vectors[-1], backbone(images).numpy(), rtol=0, atol=1e-5)
        np.testing.assert_allclose(brightness_of(of_view), tf.reduce_mean(images, [1, 2, 3]), rtol=0, atol=1e-5)
        found = activations_of(of_view, backbone_cut.shape, "<f2")
        np.testing.assert_allclose(found, backbone_cut.bottom(images), rtol=2**-10, atol=1e-5)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(vectors[one] - vectors[other]).max(axis=1).min() > 1e-3


@pytest.mark.slow
@pytest.mark.release
def test_views_that_are_lost_are_computed_again_to_the_same_values(with_views, generate, homes, view_store, tmp_path):
    stored = copied(view_store, tmp_path)
    hashes = [text(e, f.CONTENT_HASH) for e in with_views[0].examples["train"] if not view_of(e)]
    for photo, view in ((2, 1), (5, 1), (5, 2), (9, 2)):
        [entry] = stored.rglob(f"{hashes[photo]}-{view}")
        entry.unlink()
    found = generate({"train": homes["train"]}, stored, augmentation=VIEWS)
    assert found.counts == (4, 26)
    for example, expected in zip(found.examples["train"], with_views[0].examples["train"], strict=True):
        assert (text(example, f.FILE_NAME), view_of(example)) == (text(expected, f.FILE_NAME), view_of(expected))
        np.testing.assert_allclose(vectors_of([example]), vectors_of([expected]), rtol=0, atol=1e-5)


def test_photos_keep_their_vectors_whether_or_not_there_are_views(with_views, made):
    for split in SPLITS:
        found = [e for e in with_views[0].examples[split] if not view_of(e)]
        np.testing.assert_allclose(vectors_of(found), vectors_of(made.examples[split]), rtol=0, atol=1e-6)


# Without activations


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize(
    ("unfreeze", "why"),
    [
        (None, "no activations are kept"),
        ({"pattern": ".*"}, "no activations are kept: no frozen variable is below everything that learns"),
    ],
)
def test_without_a_cut_there_are_vectors_alone(generate, homes, made, tmp_path, unfreeze, why):
    some = {split: photos[:3] for split, photos in homes.items()}
    found = generate(some, tmp_path, unfreeze=unfreeze)
    assert found.note["cut"] == why
    assert found.counts == (9, 0)
    for split in SPLITS:
        for example in found.examples[split]:
            assert not {f.ACTIVATIONS, f.BOUNDARY} & set(example.features.feature)
        np.testing.assert_allclose(vectors_of(found.examples[split]), vectors_of(made.examples[split][:3]), atol=1e-6)
    assert [len(value) for value in entries(tmp_path).values()] == [NUMBERS + CHECKSUM] * 9


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("largest", [None, 1])
def test_without_a_cut_or_with_large_activations_there_are_those_of_the_higher_cut(
    generate, homes, tmp_path, monkeypatch, largest
):
    first = {"pattern": ".*"} if largest is None else {"fraction": 0.5}
    if largest is not None:
        monkeypatch.setattr(component, "_LARGEST_ACTIVATIONS", largest)
    some = {split: photos[:3] for split, photos in homes.items()}
    found = generate(some, tmp_path, unfreeze=first, unfreeze_instead=UNFREEZE)
    assert found.note["cut"].startswith("cut at ")
    assert all(f.ACTIVATIONS in example.features.feature for split in SPLITS for example in found.examples[split])


def test_a_block_that_is_not_there_is_refused_before_anything_is_computed(generate, homes, tmp_path):
    with pytest.raises(BadInput, match="unfreeze_blocks names 'top_cnov', which the backbone does not have"):
        generate(homes, tmp_path, unfreeze={"blocks": ["top_cnov"]})
    assert entries(tmp_path) == {}


def test_activations_beyond_float16_are_refused_and_not_stored(generate, homes, tmp_path):
    def huge(values):
        vectors, activations = values
        return vectors, activations * 1e6

    with pytest.raises(Exception, match=r"exceed float16's range.*training.fine_tuning.from_activations=false"):
        generate({"eval": homes["eval"]}, tmp_path, after_batch=huge)
    assert entries(tmp_path) == {}


# The store

HASHES = ["ab" * 32, "ab" + "cd" * 31, "ef" * 32]


def test_what_is_put_is_got_by_photo_and_view(tmp_path):
    written = VectorStore(str(tmp_path / "store"))
    expected = {(h, view): f"{h} {view}".encode() for h in HASHES for view in (0, 1, 11)}
    for (content_hash, view), value in expected.items():
        written.put(content_hash, view, value)
    for read in (written, VectorStore(str(tmp_path / "store"))):
        for (content_hash, view), value in expected.items():
            assert read.get(content_hash, view, len(value)) == value
    assert len(entries(tmp_path)) == len(expected)  # and nothing temporary


def test_what_was_not_put_or_is_of_another_size_is_not_got(tmp_path):
    stored = VectorStore(str(tmp_path / "store"))
    assert stored.get(HASHES[0], 0, 4) is None
    stored.put(HASHES[0], 1, b"four")
    assert stored.get(HASHES[0], 0, 4) is None
    assert stored.get(HASHES[0], 2, 4) is None
    assert stored.get(HASHES[1], 1, 4) is None
    assert [stored.get(HASHES[0], 1, size) for size in (3, 4, 5)] == [None, b"four", None]


def test_a_later_value_replaces_an_earlier_one(tmp_path):
    stored = VectorStore(str(tmp_path))
    stored.put(HASHES[0], 0, b"first")
    stored.put(HASHES[0], 0, b"second")
    assert stored.get(HASHES[0], 0, 6) == b"second"
    assert [entry[CHECKSUM:] for entry in entries(tmp_path).values()] == [b"second"]


@pytest.mark.parametrize("before", [None, b"first"])
def test_a_value_whose_writing_was_cut_short_is_never_seen(tmp_path, monkeypatch, before):
    """As if the process were killed before the file has its name."""
    stored = VectorStore(str(tmp_path))
    if before:
        stored.put(HASHES[0], 0, before)

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(store.fileio, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        stored.put(HASHES[0], 0, b"other")
    assert VectorStore(str(tmp_path)).get(HASHES[0], 0, 5) == before


def test_a_pass_that_is_kept_is_read_again_and_gives_the_same(tiny_backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_pass, "cache_folder", lambda: tmp_path)
    load = component._load_pass.__wrapped__
    given = (tiny_backbone, 16, Unfreezing(**UNFREEZE), None, None)
    made = load(*given, "a key")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(component.feature_vector, "load", None)  # it must not be called
        found = load(*given, "a key")
    assert (found.kept, found.cut_note, found.width, found.run.note) == (
        made.kept, made.cut_note, made.width, made.run.note
    )  # fmt: skip
    images = tf.random.stateless_uniform([3, 16, 16, 3], seed=[1, 2])
    for ours, theirs in zip(found.run.call(images), made.run.call(images), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("damage", ["another key", "cut off", "absent"])
def test_a_kept_pass_that_is_not_as_it_was_written_is_made_again(tiny_backbone, tmp_path, monkeypatch, damage):
    monkeypatch.setattr(kept_pass, "cache_folder", lambda: tmp_path)
    load = component._load_pass.__wrapped__
    load(tiny_backbone, 16, None, None, None, "a key")
    [file] = (tmp_path / "frozen-passes").iterdir()
    if damage == "another key":
        file.rename(file.with_name("another key"[:16]))
    elif damage == "cut off":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        file.unlink()
    assert kept_pass.read("another key" if damage == "another key" else "a key", 16) is None
    assert load(tiny_backbone, 16, None, None, None, "a key").run.folded
    assert kept_pass.read("a key", 16) is not None


def test_only_the_passes_that_were_used_last_are_kept(tiny_backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_pass, "cache_folder", lambda: tmp_path)
    run = frozen_pass.build(hub.load(tiny_backbone), 16)
    for number in range(6):
        kept_pass.write(f"key {number}", run, {})
        os.utime(tmp_path / "frozen-passes" / f"key {number}", (number, number))
    assert sorted(file.name for file in (tmp_path / "frozen-passes").iterdir()) == [f"key {i}" for i in range(2, 6)]


# Masks

DECODER = {"strides": [2], "cache_gigabytes": 1.0}
MIRROR = {"views": 1, "seed": 5, "mirror": 1}


@pytest.fixture(scope="module")
def with_mask(make_example, drawn_mask):
    """A function from a drawn photo to its example with a mask."""

    def make(photo):
        example = make_example(photo)
        example.features.feature[f.MASK].bytes_list.value.append(drawn_mask(photo))
        return example

    return make


@pytest.fixture(scope="module")
def mask_store(tmp_path_factory):
    """Folder of the store that `with_taps` filled."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def with_taps(generate, homes, mask_store, with_mask):
    """A run for a decoder, with mirror images, and the same once more."""
    given = {"example_of": with_mask, **DECODER, "augmentation": MIRROR}
    return tuple(generate(homes, mask_store, **given) for _ in range(2))


def masks_of(examples) -> np.ndarray:
    return np.stack(
        [np.frombuffer(e.features.feature[f.MASK_IDS].bytes_list.value[0], np.uint8).reshape(16, 16) for e in examples]
    )


def test_the_taps_and_masks_are_those_of_the_photos_and_their_mirror_images(
    with_taps, homes, images_of, drawn_mask, tiny_backbone
):
    pyramid = build_pyramid(hub.load(tiny_backbone), [], 16, [2], later_learning=["top_conv/kernel:0"])
    assert len(pyramid.cached) == 2  # the last tensor of the stride, and the boundary of the fine-tuning
    for split in ("train", "eval"):
        rows = with_taps[0].examples[split]
        for view in (0, 1) if split == "train" else (0,):
            of_view = [e for e in rows if e.features.feature[f.VIEW].int64_list.value[0] == view]
            assert len(of_view) == len(homes[split])
            direction = -1 if view else 1
            images = images_of(homes[split])[:, :, ::direction]
            masks = masks_to_ids(tf.constant([drawn_mask(photo) for photo in homes[split]]), 16)[:, :, ::direction]
            order = [text(e, f.FILE_NAME) for e in of_view]
            at = [order.index(photo.name) for photo in homes[split]]
            np.testing.assert_array_equal(masks_of(of_view)[at], masks)
            for number, expected in enumerate(pyramid.bottom(images)):
                feature = [of_view[i].features.feature for i in at]
                assert {e[f.TAP_NAMES].bytes_list.value[number].decode() for e in feature} == {pyramid.cached[number]}
                found = np.stack([np.frombuffer(e[f.TAPS].bytes_list.value[number], "<f2") for e in feature])
                np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=2**-10, atol=1e-5)


def test_examples_with_taps_have_neither_photo_nor_mask_and_the_test_split_none_of_them(with_taps):
    for split, rows in with_taps[0].examples.items():
        for example in rows:
            names = set(example.features.feature)
            assert not names & {f.IMAGE, f.MASK, f.ACTIVATIONS, f.BOUNDARY}
            assert f.MASK_IDS in names
            assert ({f.TAPS, f.TAP_NAMES} <= names) == (split != "test")


def test_taps_are_looked_up_too(with_taps):
    first, second = with_taps
    assert first.counts == (31, 0)
    assert second.counts == (0, 31)
    assert first.records == second.records


def test_taps_that_take_more_space_than_allowed_are_not_kept_and_the_note_says_so(generate, homes, with_mask):
    budget = {**DECODER, "cache_gigabytes": 1e-5}
    found = generate(homes, example_of=with_mask, **budget, augmentation=MIRROR)
    assert "the taps of 16 photos take 0.00 GB, more than training.decoder.cache_gigabytes (1e-05)" in found.note["cut"]
    assert all(f.TAPS not in e.features.feature for rows in found.examples.values() for e in rows)
    assert all(f.MASK_IDS in e.features.feature for rows in found.examples.values() for e in rows)
