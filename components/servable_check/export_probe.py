"""Run as a program, in a process of its own: asks a TFLite or ONNX file about images.

    python export_probe.py MODEL IMAGES.npy ANSWERS.npz

MODEL ends in `.tflite` or `.onnx`. IMAGES.npy: float32 [images, size, size, 3]. ANSWERS.npz: `probabilities`, float32
[images, ..., classes], one image a call; `together`, the same, up to 32 images a call, for ONNX only;
`latency_seconds`, float64 [images].
"""

import sys
import time
from collections.abc import Callable

import numpy as np

_BATCH = 32


def open_tflite(path: str) -> Callable[[np.ndarray], np.ndarray]:
    import tensorflow as tf

    with tf.io.gfile.GFile(path, "rb") as file:
        interpreter = tf.lite.Interpreter(model_content=file.read())
    interpreter.allocate_tensors()
    [given], [result] = interpreter.get_input_details(), interpreter.get_output_details()

    def ask(images: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return ask


def open_onnx(path: str) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime
    import tensorflow as tf

    with tf.io.gfile.GFile(path, "rb") as file:
        session = onnxruntime.InferenceSession(file.read(), providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    return lambda images: session.run(None, {given.name: images})[0]


def main(model: str, images_file: str, answers_file: str) -> None:
    is_onnx = model.endswith(".onnx")
    ask = open_onnx(model) if is_onnx else open_tflite(model)
    images = np.load(images_file, mmap_mode="r")
    ask(images[:1])  # the first call allocates
    answers, seconds = [], []
    for i in range(len(images)):
        start = time.perf_counter()
        answers.append(ask(images[i : i + 1])[0])
        seconds.append(time.perf_counter() - start)
    found = {"probabilities": np.array(answers), "latency_seconds": np.array(seconds)}
    if is_onnx:
        found["together"] = np.concatenate([ask(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)])
    np.savez(answers_file, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
