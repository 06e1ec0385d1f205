"""Run as a program, in a process of its own: loads a SavedModel and asks each signature. Imports TensorFlow alone.

    python probe.py SAVED_MODEL PHOTOS.npz MESSAGE_TYPES ANSWERS.npz [IMAGES.npy]

PHOTOS.npz: uint8 arrays of photos' bytes, in order; `corrupt` is the only one that may be refused. MESSAGE_TYPES: a
serialised FileDescriptorSet, by which the model's warm-up requests are read. IMAGES.npy, if asked for: float32
[photos, size, size, 3], what `transform_features` gives.

ANSWERS.npz, where `photos` are all but `corrupt`:

| name                                          | what                                                                 |
|-----------------------------------------------|----------------------------------------------------------------------|
| `serving_default_probabilities`, `..._label`, | outputs of the signature, [photos, ...], one photo a call            |
| `..._probability`, `..._abstains`             |                                                                      |
| `serve_examples_probabilities`, ...           | the same of `serve_examples`, up to 32 photos a call                 |
| `image_shape`                                 | int64 [4], of all images of `transform_features`                     |
| `image_range`                                 | float32 [2], the lowest and the highest value in them                |
| `image_probabilities`                         | what `probabilities_of_images` makes of them, if the model has it    |
| `feature_vector`                              | float32 [photos, width]                                              |
| `abstain_below`                               | of the model, if it has it                                           |
| `corrupt_error`                               | name of the error that refused `corrupt`; empty if it was answered   |
| `after_corrupt`                               | float32 [classes], the first photo's probabilities, asked once more  |
| `load_seconds`                                | float64                                                              |
| `latency_seconds`                             | float64 [photos of the data set], one photo a call                   |
| `batch_latency_seconds`                       | float64 [5], 32 photos a call                                        |
| `warm_up_requests`                            | how many there are; each got an answer                               |
"""

import os
import sys
import time

import numpy as np
import tensorflow as tf

BATCH = 32
_BATCH_CALLS = 5
_WARM_UP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")


def make_example(photo: bytes) -> bytes:
    features = {"image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[photo]))}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def ask(signature, **inputs: list[bytes]) -> dict[str, np.ndarray]:
    outputs = signature(**{name: tf.constant(values) for name, values in inputs.items()})
    return {name: value.numpy() for name, value in outputs.items()}


def replay_warm_up(model, saved_model: str, message_types: str) -> int:
    """Sends the requests that TensorFlow Serving would send; gives their number."""
    file = os.path.join(saved_model, _WARM_UP_FILE)
    if not tf.io.gfile.exists(file):
        return 0
    with open(message_types, "rb") as types:
        source = b"bytes://" + types.read()

    def field(message: bytes, message_type: str, name: str) -> np.ndarray:
        decoded = tf.io.decode_proto([message], f"tensorflow.serving.{message_type}", [name], [tf.string], source)
        return decoded.values[0].numpy()[0]

    count = 0
    for record in tf.data.TFRecordDataset(file).as_numpy_iterator():
        [log] = field(record, "PredictionLog", "predict_log")
        [request] = field(log, "PredictLog", "request")
        [model_spec] = field(request, "PredictRequest", "model_spec")
        [signature] = field(model_spec, "ModelSpec", "signature_name")
        inputs = {}
        for entry in field(request, "PredictRequest", "inputs"):
            [name] = field(entry, "PredictRequest.InputsEntry", "key")
            [tensor] = field(entry, "PredictRequest.InputsEntry", "value")
            inputs[name.decode()] = tf.io.parse_tensor(tensor, tf.string)
        model.signatures[signature.decode()](**inputs)
        count += 1
    return count


def ask_one_by_one(serve_photo, photos: list[bytes]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The outputs, and the seconds of each call."""
    answers, seconds = [], []
    ask(serve_photo, image_bytes=photos[:1])  # the first call traces nothing, but allocates
    for photo in photos:
        start = time.perf_counter()
        answers.append(ask(serve_photo, image_bytes=[photo]))
        seconds.append(time.perf_counter() - start)
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}, np.array(seconds)


def time_batches(serve_photo, photos: list[bytes]) -> np.ndarray:
    batch = (photos * BATCH)[:BATCH]
    seconds = []
    for _ in range(1 + _BATCH_CALLS):
        start = time.perf_counter()
        ask(serve_photo, image_bytes=batch)
        seconds.append(time.perf_counter() - start)
    return np.array(seconds[1:])  # without the one that allocates


def ask_in_batches(model, photos: list[bytes], images_file: str) -> dict[str, np.ndarray]:
    """What the other signatures give for all the photos."""
    found: dict[str, list[np.ndarray]] = {}
    low, high, stored = np.float32(np.inf), np.float32(-np.inf), None
    for i in range(0, len(photos), BATCH):
        batch = photos[i : i + BATCH]
        examples = [make_example(photo) for photo in batch]
        for name, value in ask(model.signatures["serve_examples"], examples=examples).items():
            found.setdefault(f"serve_examples_{name}", []).append(value)
        vectors = ask(model.signatures["feature_vector"], image_bytes=batch)["feature_vector"]
        found.setdefault("feature_vector", []).append(vectors)
        images = ask(model.signatures["transform_features"], examples=examples)["image"]
        found.setdefault("image_count", []).append(np.array([len(images)]))
        low, high = np.minimum(low, np.min(images)), np.maximum(high, np.max(images))  # NaN if one is
        if hasattr(model, "probabilities_of_images"):
            probabilities = model.probabilities_of_images(tf.constant(images)).numpy()
            found.setdefault("image_probabilities", []).append(probabilities)
        if images_file:
            if stored is None:
                shape = (len(photos), *images.shape[1:])
                stored = np.lib.format.open_memmap(images_file, mode="w+", dtype=np.float32, shape=shape)
            stored[i : i + BATCH] = images
    together = {name: np.concatenate(values) for name, values in found.items()}
    together["image_shape"] = np.array([together.pop("image_count").sum(), *images.shape[1:]])
    return {**together, "image_range": np.array([low, high])}


def ask_corrupt(serve_photo, photo: bytes) -> str:
    """Name of the error; empty if there was an answer."""
    try:
        ask(serve_photo, image_bytes=[photo])
    except tf.errors.OpError as error:
        return type(error).__name__
    return ""


def main(saved_model: str, photos_file: str, message_types: str, answers_file: str, images_file: str = "") -> None:
    with np.load(photos_file) as stored:
        asked = {name: stored[name].tobytes() for name in stored.files}
    corrupt = asked.pop("corrupt")
    photos = list(asked.values())
    of_data_set = [photo for name, photo in asked.items() if name.startswith("golden_")]

    start = time.perf_counter()
    model = tf.saved_model.load(saved_model)
    load_seconds = time.perf_counter() - start
    serve_photo = model.signatures["serving_default"]
    warm_up_requests = replay_warm_up(model, saved_model, message_types)
    one_by_one, seconds = ask_one_by_one(serve_photo, photos)
    answers = {f"serving_default_{name}": value for name, value in one_by_one.items()}
    answers.update(ask_in_batches(model, photos, images_file))
    answers["corrupt_error"] = np.array(ask_corrupt(serve_photo, corrupt))
    answers["after_corrupt"] = ask(serve_photo, image_bytes=photos[:1])["probabilities"][0]
    if hasattr(model, "abstain_below"):
        answers["abstain_below"] = model.abstain_below.numpy()
    for name in ("serving_default_label", "serve_examples_label"):
        answers[name] = np.array([label.decode() for label in answers[name]])  # bytes objects would be pickled
    np.savez(
        answers_file,
        load_seconds=load_seconds,
        latency_seconds=seconds[: len(of_data_set)],
        batch_latency_seconds=time_batches(serve_photo, of_data_set),
        warm_up_requests=warm_up_requests,
        **answers,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
