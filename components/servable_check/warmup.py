"""Warm-up requests, which TensorFlow Serving sends to a model before it lets clients in.

Reference: https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from __future__ import annotations

import tensorflow as tf
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from tensorflow_serving.apis import prediction_log_pb2
from tfx.utils import io_utils, path_utils

from schemas.features import IMAGE

BATCH_SIZES = (1, 32)


def write_requests(saved_model: str, photo: bytes, of_masks: bool = False) -> int:
    """Writes `assets.extra/tf_serving_warmup_requests`: each signature, with one photo and with a batch of it.

    Args:
      saved_model: folder of a model with the signatures of `ServedModel`, or of `ServedSegmenter`.
      photo: bytes of a photo; a small one will do, since what is slow at first does not depend on its size.

    Returns:
      The number of requests.
    """
    features = tf.train.Features(feature={IMAGE: tf.train.Feature(bytes_list=tf.train.BytesList(value=[photo]))})
    example = tf.train.Example(features=features).SerializeToString()
    inputs = {
        "serving_default": ("image_bytes", photo),
        "serve_examples": ("examples", example),
        "transform_features": ("examples", example),
        "feature_vector": ("image_bytes", photo),
    }
    if of_masks:
        inputs["probabilities"] = ("image_bytes", photo)
    logs = []
    for signature, (name, value) in inputs.items():
        for size in BATCH_SIZES:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.model_spec.signature_name = signature
            tensor = tf.make_tensor_proto([value] * size, dtype=tf.string, shape=[size])
            log.predict_log.request.inputs[name].CopyFrom(tensor)
            logs.append(log)
    io_utils.write_tfrecord_file(path_utils.warmup_file_path(saved_model), *logs)
    return len(logs)


def message_types() -> bytes:
    """What a process without TensorFlow Serving's messages needs to read the requests: a FileDescriptorSet."""
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        for dependency in file.dependencies:
            if dependency.name not in files:
                add(dependency)
        files[file.name] = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(files[file.name])

    add(prediction_log_pb2.DESCRIPTOR)  # each file comes after those that it imports
    return descriptor_pb2.FileDescriptorSet(file=files.values()).SerializeToString()
