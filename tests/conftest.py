"""What the tests share: drawn photos, a backbone of two convolutions, a Transform graph and an exported model.

TensorFlow and TFX are imported inside the fixtures, so that tests that need neither stay quick.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import components  # noqa: F401  (settings that TensorFlow reads on import)

IMAGE_SIZE = 16  # pixels; the side of what the Transform graph makes
LABELS = ("cat", "dog")


class DrawnPhoto(NamedTuple):
    """A photo's file as a person would give it."""

    name: str
    label: str
    image_format: str
    photo_bytes: bytes


def _drawing(rng: np.random.Generator, label: str) -> Image.Image:
    """A noisy gradient, reddish for cats and bluish for dogs, without any symmetry; 20 to 40 pixels a side."""
    width, height = rng.integers(20, 41, 2)
    y, x = np.mgrid[:height, :width]
    colours = np.stack([240 - x, 60 + y * 2, x + y], -1)
    if label == "dog":
        colours = colours[..., ::-1]
    return Image.fromarray(np.clip(colours + rng.normal(0, 25, colours.shape), 0, 255).astype(np.uint8))


def _encoded(image: Image.Image, image_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real photos for development, beside the repository; the test is skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real photos at {folder}")
    return folder


@pytest.fixture(scope="session")
def drawn_photos() -> list[DrawnPhoto]:
    """24 small photos, cats and dogs in turn, JPEG and PNG; the same in every run."""
    rng = np.random.default_rng(7)
    photos = []
    for i in range(24):
        label, image_format = LABELS[i % 2], ("JPEG", "PNG")[i // 2 % 2]
        photos.append(DrawnPhoto(f"{label}.{i}.jpg", label, image_format, _encoded(_drawing(rng, label), image_format)))
    return photos


@pytest.fixture(scope="session")
def odd_photos() -> dict[str, bytes]:
    """One photo of each kind that decoders treat differently, each of another size."""
    rng = np.random.default_rng(11)
    drawings = [_drawing(rng, LABELS[i % 2]) for i in range(6)]
    alpha = Image.fromarray(rng.integers(0, 256, drawings[2].size[::-1]).astype(np.uint8))
    with_alpha = drawings[2].copy()
    with_alpha.putalpha(alpha)
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "jpeg": _encoded(drawings[0], "JPEG"),
        "grey_jpeg": _encoded(drawings[1].convert("L"), "JPEG"),
        "png_with_alpha": _encoded(with_alpha, "PNG"),
        "gif": _encoded(drawings[3].quantize(64), "GIF"),
        "bmp": _encoded(drawings[4], "BMP"),
        "turned_jpeg": _encoded(drawings[5], "JPEG", exif=turned),
    }


@pytest.fixture(scope="session")
def make_example():
    """A function from a photo to its `tf.train.Example`, with every feature that ImageExampleGen writes."""
    import tensorflow as tf

    from components.example_gen.perceptual_hash import perceptual_hash
    from schemas import features as f

    def make(photo: DrawnPhoto) -> tf.train.Example:
        image = Image.open(io.BytesIO(photo.photo_bytes))
        width, height = image.size
        example = tf.train.Example()
        values = {
            f.IMAGE: photo.photo_bytes,
            f.LABEL: photo.label.encode(),
            f.FILE_NAME: photo.name.encode(),
            f.DATASET: b"cats_vs_dogs",
            f.SPECIES: photo.label.encode(),
            f.BREED: b"",
            f.IMAGE_FORMAT: photo.image_format.encode(),
            f.CONTENT_HASH: hashlib.sha256(photo.photo_bytes).hexdigest().encode(),
            f.PERCEPTUAL_HASH: perceptual_hash(image).encode(),
        }
        for name, value in values.items():
            example.features.feature[name].bytes_list.value.append(value)
        for name, value in ((f.WIDTH, width), (f.HEIGHT, height)):
            example.features.feature[name].int64_list.value.append(value)
        return example

    return make


@pytest.fixture(scope="session")
def write_records():
    """A function that writes examples as one gzipped TFRecord file in a folder, as the Beam steps do."""
    import tensorflow as tf

    def write(folder: Path, examples) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "data_tfrecord-00000-of-00001.gz"
        with tf.io.TFRecordWriter(str(file), "GZIP") as writer:
            for example in examples:
                writer.write(example.SerializeToString(deterministic=True))
        return str(file)

    return write


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory) -> str:
    """Folder of a TF-Hub feature vector, 8 wide, for images of any size, written as the built-in backbone is.

    Its trainable variables, in order: `stem_conv/kernel:0` (3 x 3, stride 2), `stem_bn/gamma:0`, `stem_bn/beta:0`,
    `top_conv/kernel:0` (1 x 1), `top_bn/gamma:0`, `top_bn/beta:0`.
    """
    from components.backbone.saved_feature_vector import save_feature_vector
    from components.legacy_keras import tf_keras

    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [
            layers.Input([None, None, 3]),
            layers.Conv2D(8, 3, 2, padding="same", use_bias=False, name="stem_conv"),
            layers.BatchNormalization(name="stem_bn"),
            layers.ReLU(name="stem_activation"),
            layers.Conv2D(8, 1, use_bias=False, name="top_conv"),
            layers.BatchNormalization(name="top_bn"),
            layers.ReLU(name="top_activation"),
            layers.GlobalAveragePooling2D(name="avg_pool"),
        ],
        name="tiny_feature_vector",
    )
    rng = np.random.default_rng(3)
    for variable in model.variables:
        # Scales stay positive: gamma and the variance around 1, everything else around 0.
        centre, spread = (1.0, 0.2) if "gamma" in variable.name or "variance" in variable.name else (0.0, 0.5)
        variable.assign(
            np.abs(rng.normal(centre, spread, variable.shape)) if centre else rng.normal(0, spread, variable.shape)
        )
    folder = tmp_path_factory.mktemp("tiny_backbone")
    save_feature_vector(model, folder)
    return str(folder)


@pytest.fixture(scope="session")
def curated_schema() -> str:
    """The curated schema of the drawn photos, whose classes are `LABELS`."""
    from schemas.schema_files import curated_schema_file

    return curated_schema_file("cats_vs_dogs")


@pytest.fixture(scope="session")
def transform_graph(tmp_path_factory, curated_schema) -> str:
    """Folder of the graph that TensorFlow Transform traces from our `preprocessing_fn`, for 16-pixel images."""
    import functools

    import apache_beam as beam
    import tensorflow_transform as tft
    import tensorflow_transform.beam as tft_beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from tensorflow_transform.tf_metadata import schema_utils

    from components.transform.preprocessing import PreprocessingSettings, preprocessing_fn
    from schemas.schema_files import read_schema

    folder = tmp_path_factory.mktemp("transform_graph")
    settings = PreprocessingSettings(
        size=IMAGE_SIZE, resize_method="bilinear", antialias=False, background="#ffffff", code="code"
    )
    feature_spec = schema_utils.schema_as_feature_spec(read_schema(curated_schema)).feature_spec
    metadata = tft.DatasetMetadata.from_feature_spec(feature_spec)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline, tft_beam.Context(temp_dir=str(folder / "temp")):
        no_data = pipeline | beam.Create([])
        traced = (no_data, metadata) | tft_beam.AnalyzeDataset(
            functools.partial(preprocessing_fn, custom_config=settings.model_dump())
        )
        _ = traced | tft_beam.WriteTransformFn(str(folder))
    return str(folder)


@pytest.fixture(scope="session")
def export_model(tmp_path_factory, drawn_photos, tiny_backbone, transform_graph):
    """A function that exports a whole model, with its keywords handed on to `serving_model.export`; gives the folder.

    The model is the Transform graph, the tiny backbone and a head between the drawn cats and dogs.
    """
    import tensorflow as tf

    from components.backbone.layer import FeatureVector
    from components.trainer import serving_model
    from components.trainer.model import build_head
    from components.transform.graph import load_transform

    transform, backbone = load_transform(transform_graph), FeatureVector(tiny_backbone)
    vectors = backbone(transform(tf.constant([photo.photo_bytes for photo in drawn_photos]))).numpy()
    is_dog = np.array([photo.label == "dog" for photo in drawn_photos])
    cat, dog = vectors[~is_dog].mean(axis=0), vectors[is_dog].mean(axis=0)
    towards_dog = (dog - cat) / np.sum((dog - cat) ** 2)
    kernel = np.stack([-towards_dog, towards_dog], axis=1)  # logits -1 and 1 for the mean dog
    head = build_head(vectors.shape[1], len(LABELS), hidden_units=0, dropout=0.5, seed=1)
    head.set_weights([kernel, -(cat + dog) / 2 @ kernel])

    def export(**keywords) -> str:
        folder = tmp_path_factory.mktemp("exported_model")
        serving_model.export(str(folder), transform, backbone, head, list(LABELS), **keywords)
        return str(folder)

    return export


@pytest.fixture(scope="session")
def exported_model(export_model) -> str:
    """Folder of a whole exported model, neither calibrated nor abstaining."""
    return export_model()


@pytest.fixture(scope="session")
def older_model(tmp_path_factory, exported_model) -> str:
    """Folder of the same model in the form of the exports before there were temperatures and abstention."""
    import tensorflow as tf

    from schemas.labels import write_labels

    loaded = tf.saved_model.load(exported_model)

    class Older(tf.Module):
        def __init__(self):
            super().__init__()
            self.model = loaded
            self.model_variables = list(loaded.model_variables)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def serving_default(self, image_bytes):
            answers = self.model.signatures["serving_default"](image_bytes=image_bytes)
            return {name: answers[name] for name in ("label", "probability", "probabilities")}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
        def transform_features(self, examples):
            return self.model.signatures["transform_features"](examples=examples)

    folder = tmp_path_factory.mktemp("older_model")
    older = Older()
    signatures = {name: getattr(older, name) for name in ("serving_default", "transform_features")}
    tf.saved_model.save(older, str(folder), signatures=signatures)
    write_labels(str(folder), LABELS)
    return str(folder)


@pytest.fixture(scope="session")
def calibrated_model(export_model) -> str:
    """Folder of the same model, surer of its answers; it abstains on some of the drawn photos."""
    return export_model(temperature=0.7, abstain_below=0.75)


MASK_CLASSES = ("pet", "background", "border")


@pytest.fixture(scope="session")
def drawn_mask():
    """A function from a drawn photo to its mask: a PNG of ids, a noisy disc with a border on a background."""

    def draw(photo: DrawnPhoto) -> bytes:
        width, height = Image.open(io.BytesIO(photo.photo_bytes)).size
        rng = np.random.default_rng(len(photo.photo_bytes))
        y, x = np.mgrid[:height, :width]
        centre = rng.uniform(0.35, 0.65, 2) * (height, width)
        distance = np.hypot((y - centre[0]) / height, (x - centre[1]) / width)
        ids = np.where(distance < 0.25, 0, np.where(distance < 0.33, 2, 1)).astype(np.uint8)
        return _encoded(Image.fromarray(ids), "PNG")

    return draw


@pytest.fixture(scope="session")
def export_segmenter(tmp_path_factory, tiny_backbone, transform_graph):
    """A function that exports a whole segmentation model, keywords handed on to `segmentation_model.export`.

    The model is the Transform graph, the tiny backbone and a small decoder with random weights drawn from `seed`; its
    classes are `MASK_CLASSES`. It gives the folder.
    """
    import tensorflow_hub as hub

    from components.backbone.layer import Encoder
    from components.backbone.pyramid import build_pyramid
    from components.trainer import segmentation_model
    from components.trainer.decoder import TapShape, build_decoder
    from components.transform.graph import load_transform

    transform, module = load_transform(transform_graph), hub.load(tiny_backbone)
    pyramid = build_pyramid(module, [], IMAGE_SIZE, [2])

    def export(seed: int = 1, **keywords) -> str:
        folder = tmp_path_factory.mktemp("exported_segmenter")
        taps = [TapShape(tap.stride, tap.shape) for tap in pyramid.taps]
        decoder = build_decoder(taps, [8], len(MASK_CLASSES), IMAGE_SIZE, seed)
        rng = np.random.default_rng(seed)
        for variable in decoder.variables:
            if variable.name.startswith("head/"):
                variable.assign(rng.normal(0, 1, variable.shape))
        keywords = {"labels": list(MASK_CLASSES), **keywords}
        segmentation_model.export(str(folder), transform, Encoder(module, pyramid), decoder, **keywords)
        return str(folder)

    return export


@pytest.fixture(scope="session")
def exported_segmenter(export_segmenter) -> str:
    """Folder of a whole exported segmentation model."""
    return export_segmenter()
