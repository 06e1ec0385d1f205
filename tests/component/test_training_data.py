"""What the trainers read: every example once an epoch, in an order that can be had again, under its own name."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf

from components.trainer.training_data import Photos, count_photos, example_files, read_photos, read_rows
from components.transform.augmentation import Augmentation, augment, seeds_for
from schemas import features as f
from schemas.errors import BadInput

LABELS = ["cat", "dog"]
WIDTH, SHAPE = 3, (2, 2, 3)
BATCH_SIZE, SEED = 4, 7
ROWS = 11  # batches of 4, 4 and 3
AUGMENTATION = Augmentation(flip=True, rotation_degrees=20.0, zoom=0.2, scale_jitter=0.3, colour=0.3)


def transform(photo_bytes: tf.Tensor) -> tf.Tensor:
    """Much quicker to build than the real one, and as real to what is tested here."""

    def decode(one):
        image = tf.ensure_shape(tf.io.decode_image(one, 3, expand_animations=False), [None, None, 3])
        return tf.image.resize(tf.cast(image, tf.float32) / 255, [16, 16])

    return tf.map_fn(decode, photo_bytes, fn_output_signature=tf.TensorSpec([16, 16, 3], tf.float32))


def values_of(number: int, shape: tuple[int, ...], dtype=np.float32) -> np.ndarray:
    """Another value in each place of each example; as float16 they are not what they are as float32."""
    return np.random.default_rng(number).normal(size=shape).astype(dtype)


def content_hash(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def vector_example(number: int, view: int = 0, name: str | None = None, photo: int | None = None) -> tf.train.Example:
    """As FeatureVectorGen writes it; `photo` is whose content hash it has, if not its own."""
    example = tf.train.Example()
    feature = example.features.feature
    feature[f.LABEL].bytes_list.value.append(LABELS[number % 2].encode())
    feature[f.FILE_NAME].bytes_list.value.append((name or f"{number}.jpg").encode())
    feature[f.CONTENT_HASH].bytes_list.value.append(content_hash(number if photo is None else photo).encode())
    feature[f.VIEW].int64_list.value.append(view)
    feature[f.FEATURE_VECTOR].float_list.value.extend(values_of(number, (WIDTH,)))
    feature[f.ACTIVATIONS].bytes_list.value.append(values_of(number, SHAPE, np.float16).tobytes())
    return example


@pytest.fixture(scope="module", params=["vectors", "activations", "photos", "augmented photos"])
def data(request, tmp_path_factory, write_records, drawn_photos, make_example):
    """A split of eleven examples in two files, in each way it is read."""
    tmp_path = tmp_path_factory.mktemp("split")
    if "photos" in request.param:
        examples = [make_example(photo) for photo in drawn_photos[:ROWS]]
    else:
        examples = [vector_example(i) for i in range(ROWS)]
    files = [write_records(tmp_path / "1", examples[:5]), write_records(tmp_path / "2", examples[5:])]
    if request.param == "photos":
        return read_photos(files, transform, LABELS)
    if request.param == "augmented photos":
        return read_photos(files, transform, LABELS, AUGMENTATION)
    feature = f.FEATURE_VECTOR if request.param == "vectors" else f.ACTIVATIONS
    return read_rows(files, LABELS, feature, str(tmp_path), SHAPE)


@pytest.fixture(scope="module")
def expected(data, drawn_photos):
    """Name -> what goes in (not augmented) and the class."""
    if isinstance(data, Photos):
        images = transform(tf.constant([photo.photo_bytes for photo in drawn_photos[:ROWS]])).numpy()
        names = [photo.name for photo in drawn_photos[:ROWS]]
        classes = [LABELS.index(photo.label) for photo in drawn_photos[:ROWS]]
        return {name.encode(): (images[i], classes[i]) for i, name in enumerate(names)}
    shape, dtype = ((WIDTH,), np.float32) if data.values.ndim == 2 else (SHAPE, np.float16)
    return {f"{i}.jpg".encode(): (values_of(i, shape, dtype), i % 2) for i in range(ROWS)}


def batches_of(dataset) -> list[tuple[np.ndarray, ...]]:
    return list(dataset.as_numpy_iterator())


def epochs_of(data, first: int, last: int, seed: int = SEED) -> list[list[tuple[np.ndarray, ...]]]:
    """The batches of each epoch."""
    batches = batches_of(data.epochs(BATCH_SIZE, seed, first, last))
    steps = data.steps(BATCH_SIZE)
    assert len(batches) == (last - first) * steps
    return [batches[i * steps : (i + 1) * steps] for i in range(last - first)]


@pytest.fixture(scope="module")
def four_epochs(data):
    return epochs_of(data, 0, 4)


@pytest.fixture(scope="module")
def in_order(data):
    return batches_of(data.in_order(BATCH_SIZE))


def names_in(batches) -> list[bytes]:
    return [name for _, _, names in batches for name in names]


def assert_equal(batches, others):
    for batch, other in zip(batches, others, strict=True):
        for values, other_values in zip(batch, other, strict=True):
            np.testing.assert_array_equal(values, other_values)


# An epoch


def test_every_example_comes_once_an_epoch_and_the_last_batch_is_smaller(four_epochs, expected):
    for batches in four_epochs:
        assert [len(names) for _, _, names in batches] == [4, 4, 3]
        assert sorted(names_in(batches)) == sorted(expected)


def test_each_batch_has_the_values_and_classes_of_its_names(data, four_epochs, in_order, expected):
    for inputs, classes, names in [*four_epochs[0], *four_epochs[3], *in_order]:
        assert len(inputs) == len(classes) == len(names)
        assert classes.dtype == np.int64
        assert classes.tolist() == [expected[name][1] for name in names]
    if getattr(data, "augmentation", None) is None:
        for inputs, _, names in [*four_epochs[0], *four_epochs[3]]:
            np.testing.assert_array_equal(inputs, np.stack([expected[name][0] for name in names]))


def test_each_epoch_is_shuffled_anew(four_epochs, in_order):
    orders = [names_in(batches) for batches in four_epochs]
    assert len({tuple(order) for order in orders}) == 4
    assert names_in(in_order) not in orders


def test_another_seed_gives_another_order(data, four_epochs):
    [batches] = epochs_of(data, 0, 1, seed=99)
    assert names_in(batches) != names_in(four_epochs[0])


def test_a_resumed_training_sees_what_an_uninterrupted_one_would_have_seen(data, four_epochs):
    for first, last in ((2, 4), (1, 2)):
        for batches, as_in_the_whole in zip(epochs_of(data, first, last), four_epochs[first:last], strict=True):
            assert_equal(batches, as_in_the_whole)


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 11), (4, 3), (10, 2), (11, 1), (12, 1)])
def test_the_steps_follow_from_the_number_of_examples(data, batch_size, steps):
    assert data.steps(batch_size) == steps
    assert sorted(data.classes.tolist()) == [0] * 6 + [1] * 5


# In order


def test_in_order_every_example_comes_once_and_always_alike(data, in_order, expected):
    assert sorted(names_in(in_order)) == sorted(expected)
    assert [expected[name][1] for name in names_in(in_order)] == data.classes.tolist()
    for inputs, _, names in in_order:
        np.testing.assert_array_equal(inputs, np.stack([expected[name][0] for name in names]))  # never augmented
    again = data.in_order(BATCH_SIZE)
    assert_equal(in_order, batches_of(again))
    assert again.cardinality() == len(in_order)


def test_in_order_photos_come_as_in_the_files_and_rows_by_content(data, in_order, drawn_photos):
    names = names_in(in_order)
    if isinstance(data, Photos):
        assert names == [photo.name.encode() for photo in drawn_photos[:ROWS]]
    else:
        assert names == [f"{i}.jpg".encode() for i in sorted(range(ROWS), key=content_hash)]


def test_vectors_are_evaluated_in_large_batches_and_activations_are_not(tmp_path, write_records):
    files = [write_records(tmp_path / "1", [vector_example(i) for i in range(1030)])]
    vectors = read_rows(files, LABELS, f.FEATURE_VECTOR, str(tmp_path))
    activations = read_rows(files, LABELS, f.ACTIVATIONS, str(tmp_path), SHAPE)
    assert [len(names) for _, _, names in batches_of(vectors.in_order(BATCH_SIZE))] == [1024, 6]
    assert [len(names) for _, _, names in batches_of(activations.in_order(500))] == [500, 500, 30]
    assert vectors.in_order(BATCH_SIZE).cardinality() == 2
    assert activations.in_order(500).cardinality() == 3
    # And reading goes on beyond its own batch.
    for rows, shape, dtype in ((vectors, (WIDTH,), np.float32), (activations, SHAPE, np.float16)):
        for values, _, names in batches_of(rows.in_order(500)):
            wanted = [values_of(int(name.decode().removesuffix(".jpg")), shape, dtype) for name in names]
            np.testing.assert_array_equal(values, np.stack(wanted))


# Stored rows


def test_rows_are_ordered_by_content_name_and_view_whatever_the_files(tmp_path, write_records):
    numbers = [
        vector_example(4, photo=1, name="b.jpg"),
        vector_example(2, view=1, photo=1, name="a.jpg"),
        vector_example(0, photo=1, name="a.jpg"),
        vector_example(6, view=2, photo=1, name="a.jpg"),
        vector_example(1, view=10, photo=3, name="c.jpg"),
        vector_example(3, view=9, photo=3, name="c.jpg"),
    ]
    by_hand = [0, 2, 6, 4, 3, 1] if content_hash(1) < content_hash(3) else [3, 1, 0, 2, 6, 4]
    layouts = [[numbers], [numbers[::-1]], [numbers[4:], numbers[1:4][::-1], numbers[:1]]]
    for i, layout in enumerate(layouts):
        files = [write_records(tmp_path / str(i) / str(j), examples) for j, examples in enumerate(layout)]
        read = read_rows(files, LABELS, f.FEATURE_VECTOR, str(tmp_path))
        [(values, classes, names)] = batches_of(read.in_order(BATCH_SIZE))
        np.testing.assert_array_equal(values, np.stack([values_of(number, (WIDTH,)) for number in by_hand]))
        assert classes.tolist() == read.classes.tolist() == [number % 2 for number in by_hand]
        of_number = {0: b"a.jpg", 2: b"a.jpg", 6: b"a.jpg", 4: b"b.jpg", 3: b"c.jpg", 1: b"c.jpg"}
        assert names.tolist() == read.names.tolist() == [of_number[number] for number in by_hand]


def test_activations_are_read_in_the_precision_they_are_kept_in(tmp_path, write_records):
    examples = [vector_example(i) for i in range(ROWS)]
    for i, example in enumerate(examples):
        example.features.feature[f.ACTIVATIONS].bytes_list.value[:] = [values_of(i, SHAPE, np.float32).tobytes()]
    rows = read_rows([write_records(tmp_path / "1", examples)], LABELS, f.ACTIVATIONS, str(tmp_path), SHAPE)
    assert rows.values.dtype == np.float32
    np.testing.assert_array_equal(rows.values, np.stack([values_of(i, SHAPE, np.float32) for i in range(ROWS)]))


def test_the_values_stay_on_disk_and_no_reading_overwrites_another(tmp_path, write_records):
    first = [write_records(tmp_path / "1", [vector_example(i) for i in range(ROWS)])]
    second = [write_records(tmp_path / "2", [vector_example(i) for i in range(ROWS, 2 * ROWS)])]
    folder = tmp_path / "mapped"
    folder.mkdir()
    read = {
        (feature, i): read_rows(files, LABELS, feature, str(folder), SHAPE)
        for feature in (f.FEATURE_VECTOR, f.ACTIVATIONS)
        for i, files in enumerate((first, second))
    }
    assert len(list(folder.iterdir())) == 4
    for (feature, i), rows in read.items():
        shape, dtype = ((WIDTH,), np.float32) if feature == f.FEATURE_VECTOR else (SHAPE, np.float16)
        assert isinstance(rows.values, np.memmap)
        assert (rows.values.shape, rows.values.dtype) == ((ROWS, *shape), dtype)
        assert not rows.values.flags.writeable
        wanted = np.stack([values_of(number, shape, dtype) for number in range(i * ROWS, (i + 1) * ROWS)])
        np.testing.assert_array_equal(rows.values, wanted)


def test_the_classes_are_numbered_as_the_labels_are(tmp_path, write_records, drawn_photos, make_example):
    labels = ["ape", "dog", "cat"]
    vectors = [write_records(tmp_path / "1", [vector_example(i) for i in range(ROWS)])]
    rows = read_rows(vectors, labels, f.FEATURE_VECTOR, str(tmp_path))
    photos = read_photos([write_records(tmp_path / "2", map(make_example, drawn_photos))], transform, labels)
    for data in (rows, photos):
        for _, classes, names in batches_of(data.in_order(5)):
            is_dog = [
                name.startswith(b"dog") or name in {f"{i}.jpg".encode() for i in range(1, 99, 2)} for name in names
            ]
            assert classes.tolist() == [1 if dog else 2 for dog in is_dog]
        assert np.bincount(data.classes, minlength=3).tolist() == ([0, 5, 6] if data is rows else [0, 12, 12])


@pytest.mark.parametrize("with_empty_file", [False, True])
def test_no_example_is_refused(tmp_path, write_records, with_empty_file):
    files = [write_records(tmp_path / "1", [])] if with_empty_file else []
    for feature in (f.FEATURE_VECTOR, f.ACTIVATIONS):
        with pytest.raises(BadInput, match="there are no examples to train or evaluate on"):
            read_rows(files, LABELS, feature, str(tmp_path), SHAPE)


def test_no_photo_is_refused(tmp_path, write_records):
    with pytest.raises(BadInput, match="there are no examples to train or evaluate on"):
        read_photos([write_records(tmp_path / "1", [])], transform, LABELS)


# Photos


def test_an_augmented_photo_looks_different_in_every_epoch(tmp_path, write_records, drawn_photos, make_example):
    examples = {photo.name.encode(): make_example(photo) for photo in drawn_photos[:ROWS]}
    data = read_photos([write_records(tmp_path, examples.values())], transform, LABELS, AUGMENTATION)
    seen = []  # of each epoch: name -> image
    for epoch, batches in enumerate(epochs_of(data, 1, 4), start=1):
        seen.append({name: image for images, _, names in batches for name, image in zip(names, images, strict=True)})
        for name, example in examples.items():
            photo = transform(tf.constant([example.features.feature[f.IMAGE].bytes_list.value[0]]))
            seeds = seeds_for(tf.constant([example.features.feature[f.CONTENT_HASH].bytes_list.value[0]]), epoch, SEED)
            np.testing.assert_allclose(seen[-1][name], augment(photo, seeds, AUGMENTATION)[0], atol=1e-5)
            assert np.abs(seen[-1][name] - photo[0].numpy()).max() > 0.01
    for name in examples:
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert np.abs(seen[one][name] - seen[other][name]).max() > 0.01, (name, one, other)


def test_photos_are_images_in_the_unit_range(tmp_path, write_records, drawn_photos, make_example):
    data = read_photos([write_records(tmp_path, map(make_example, drawn_photos))], transform, LABELS, AUGMENTATION)
    for dataset in (data.epochs(8, SEED, 0, 1), data.in_order(8)):
        images, _, _ = dataset.element_spec
        assert (images.dtype, images.shape.as_list()[1:]) == (tf.float32, [16, 16, 3])
        for images, _, _ in batches_of(dataset):
            assert 0 <= images.min() < images.max() <= 1


# Files of a split


def test_files_are_told_apart_by_what_their_examples_have(tmp_path, write_records, drawn_photos, make_example):
    photos = [write_records(tmp_path / f"photos{i}", [make_example(drawn_photos[i])]) for i in range(2)]
    without_activations = vector_example(1)
    del without_activations.features.feature[f.ACTIVATIONS]
    vectors = [write_records(tmp_path / "1", [vector_example(0)]), write_records(tmp_path / "2", [without_activations])]
    empty = write_records(tmp_path / "empty", [])
    files = [vectors[1], photos[1], empty, vectors[0], photos[0]]
    assert example_files(files, f.IMAGE) == [photos[1], photos[0]]
    assert example_files(files, f.FEATURE_VECTOR) == [vectors[1], vectors[0]]
    assert example_files(files, f.ACTIVATIONS) == [vectors[0]]
    assert example_files([], f.IMAGE) == []


def test_photos_are_counted_not_their_views(tmp_path, write_records):
    many = [vector_example(i) for i in range(300)]  # more than are read at once
    files = [
        write_records(tmp_path / "1", [vector_example(i, view) for i in range(5) for view in range(4)]),
        write_records(tmp_path / "2", many),
        write_records(tmp_path / "3", [vector_example(0, view=3)]),
    ]
    assert count_photos(files) == 305
    assert count_photos([]) == 0
