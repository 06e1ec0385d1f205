"""Reading and writing schemas.

The values of `label` are the classes, in the order of the model's outputs; for segmentation those of `mask_classes`,
whose tags are the classes that are not counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from schemas.features import CLASSIFICATION, LABEL, MASK_CLASSES, SEGMENTATION

SCHEMAS_FOLDER = Path(__file__).parent
# Name of the file in a Schema artifact, as TFX writes it.
SCHEMA_FILE = "schema.pbtxt"


def curated_schema_file(name: str) -> str:
    """Path of the curated schema `name`, such as `cats_vs_dogs`."""
    return str(SCHEMAS_FOLDER / f"{name}.pbtxt")


def read_schema(path: str) -> schema_pb2.Schema:
    """Reads a schema from a `.pbtxt` file."""
    with _open(path, "r") as file:
        return text_format.Parse(file.read(), schema_pb2.Schema())


def write_schema(schema: schema_pb2.Schema, path: str) -> None:
    """Writes a schema as a `.pbtxt` file."""
    with _open(path, "w") as file:
        file.write(text_format.MessageToString(schema))


def label_feature(schema: schema_pb2.Schema) -> schema_pb2.Feature:
    """The schema's `label` feature."""
    return next(feature for feature in schema.feature if feature.name == LABEL)


def mask_classes_feature(schema: schema_pb2.Schema) -> schema_pb2.Feature | None:
    """The schema's `mask_classes` feature; None in a schema for classification."""
    return next((feature for feature in schema.feature if feature.name == MASK_CLASSES), None)


def labels(schema: schema_pb2.Schema) -> list[str]:
    """Names of the classes, in the order of the model's outputs; empty where the schema leaves them open."""
    return list(label_feature(schema).string_domain.value)


def mask_classes(schema: schema_pb2.Schema) -> list[str]:
    """Names of the pixels' classes, in the order of their ids; empty where the schema leaves them open or has none."""
    feature = mask_classes_feature(schema)
    return list(feature.string_domain.value) if feature else []


def ignored_classes(schema: schema_pb2.Schema) -> list[str]:
    """Names of the pixels' classes that are not counted, by `task.ignore`."""
    feature = mask_classes_feature(schema)
    return list(feature.annotation.tag) if feature else []


def task_kind(schema: schema_pb2.Schema) -> str:
    """What a schema is for: `segmentation` if its examples have masks, else `classification`."""
    return SEGMENTATION if mask_classes_feature(schema) else CLASSIFICATION


def classes(schema: schema_pb2.Schema, kind: str) -> list[str]:
    """Names of the model's outputs, in order: those of the pixels for `segmentation`, else those of the photos."""
    return mask_classes(schema) if kind == SEGMENTATION else labels(schema)


def _open(path: str, mode: str) -> IO[Any]:
    if "://" not in path:
        return open(path, mode, encoding="utf-8")
    import tensorflow as tf

    return tf.io.gfile.GFile(path, mode)
