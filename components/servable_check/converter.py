"""Run as a program, in a process of its own: makes a TFLite or ONNX file of a SavedModel.

    python converter.py SAVED_MODEL TARGET

TARGET ends in `.tflite` or `.onnx`. Input `images`: float32 [batch, size, size, 3], range [0, 1], as the
signature `transform_features` gives them; output: float32 [batch, classes], probabilities, or [batch, size, size,
classes] of a model that gives masks. The TFLite file takes one image at a time, the ONNX file any number.

References: https://www.tensorflow.org/lite/models/convert, https://github.com/onnx/tensorflow-onnx
"""

import sys

import tensorflow as tf


def to_tflite(model, shape: list[int]) -> bytes:
    function = tf.function(lambda images: model.probabilities_of_images(images))
    images = tf.TensorSpec([1, *shape], tf.float32, name="images")
    return tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function(images)], model).convert()


def to_onnx(model, shape: list[int]) -> bytes:
    import tf2onnx  # an optional package

    function = tf.function(lambda images: {"probabilities": model.probabilities_of_images(images)})
    images = tf.TensorSpec([None, *shape], tf.float32, name="images")
    converted, _ = tf2onnx.convert.from_function(function, input_signature=[images])
    for value in (*converted.graph.input, *converted.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return converted.SerializeToString()


def main(saved_model: str, target: str) -> None:
    model = tf.saved_model.load(saved_model)
    shape = model.signatures["transform_features"].structured_outputs["image"].shape[1:].as_list()
    content = (to_tflite if target.endswith(".tflite") else to_onnx)(model, shape)
    with tf.io.gfile.GFile(target, "wb") as file:
        file.write(content)


if __name__ == "__main__":
    main(*sys.argv[1:])
