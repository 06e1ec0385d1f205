"""Run as a program, in a process of its own: loads a SavedModel and asks each signature. Imports TensorFlow alone.

    python probe.py SAVED_MODEL PHOTOS.npz MESSAGE_TYPES ANSWERS.npz [IMAGES.npy PROBABILITIES.npy]

PHOTOS.npz: uint8 arrays of photos' bytes, in order; `corrupt` is the only one that may be refused. MESSAGE_TYPES: a
serialised FileDescriptorSet, by which the model's warm-up requests are read. IMAGES.npy, if asked for: float32
[photos, size, size, 3], what `transform_features` gives. PROBABILITIES.npy, with it: float32 [photos, ...], what the
model makes of them.

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

Of a model with the signature `probabilities`, which gives masks, there are instead of the outputs of `serving_default`,
`serve_examples` and `image_probabilities`:

| name                                          | what                                                                 |
|-----------------------------------------------|----------------------------------------------------------------------|
| `mask_sizes`                                  | int64 [photos, 2], height and width of the mask of each photo        |
| `mask_highest_ids`                            | int64 [photos]                                                       |
| `mask_share_errors`                           | float64 [photos], largest error of `class_shares` about that mask    |
| `mask_differences`                            | float64 [photos], share of its pixels that `serve_examples` and      |
|                                               | `serving_default` answer differently                                 |
| `ids`                                         | uint8 [photos, size, size], likeliest classes of `probabilities`     |
| `probability_sums`                            | float32 [2], the lowest and the highest sum of a pixel               |
| `probability_differences`                     | float32 [photos], largest from those of `probabilities_of_images`    |
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


def append_to(file: str, stored, start: int, values: np.ndarray, count: int):
    """The array in a `.npy` file for `count` rows like those of `values`, which are written from row `start` on."""
    if stored is None:
        stored = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(count, *values.shape[1:]))
    stored[start : start + len(values)] = values
    return stored


def ask_in_batches(model, photos: list[bytes], images_file: str, probabilities_file: str) -> dict[str, np.ndarray]:
    """What the other signatures give for all the photos."""
    found: dict[str, list[np.ndarray]] = {}
    low, high, stored, stored_answers = np.float32(np.inf), np.float32(-np.inf), None, None
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
        probabilities = None
        if is_of_masks(model):
            told, probabilities = of_pixels(model, batch, images)
            for name, value in told.items():
                found.setdefault(name, []).append(value)
        elif hasattr(model, "probabilities_of_images"):
            probabilities = model.probabilities_of_images(tf.constant(images)).numpy()
            found.setdefault("image_probabilities", []).append(probabilities)
        if images_file:
            stored = append_to(images_file, stored, i, images, len(photos))
            if probabilities is not None:
                stored_answers = append_to(probabilities_file, stored_answers, i, probabilities, len(photos))
    together = {name: np.concatenate(values) for name, values in found.items()}
    if "probability_sums" in together:
        sums = together["probability_sums"]
        together["probability_sums"] = np.array([sums.min(), sums.max()])
    together["image_shape"] = np.array([together.pop("image_count").sum(), *images.shape[1:]])
    return {**together, "image_range": np.array([low, high])}


def is_of_masks(model) -> bool:
    return "probabilities" in model.signatures


def read_masks(answers: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [tf.io.decode_png(png, channels=1).numpy()[..., 0] for png in answers["mask_png_bytes"]]


def of_masks(one_by_one: dict[str, np.ndarray], together: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What there is to say of the masks that two signatures give."""
    alone, in_batches = read_masks(one_by_one), read_masks(together)
    shares = []
    for mask, given in zip(alone, one_by_one["class_shares"], strict=True):
        counts = np.bincount(mask.ravel(), minlength=len(given)) / mask.size
        shares.append(np.max(np.abs(counts[: len(given)] - given)))
    return {
        "mask_sizes": np.array([mask.shape for mask in alone]),
        "mask_highest_ids": np.array([mask.max() for mask in alone], np.int64),
        "mask_share_errors": np.array(shares, np.float64),
        "mask_differences": np.array(
            [np.mean(a != b) if a.shape == b.shape else 1.0 for a, b in zip(alone, in_batches, strict=True)],
            np.float64,
        ),
    }


def of_pixels(model, batch: list[bytes], images: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What there is to say of the probabilities of a batch of photos, and these."""
    found = ask(model.signatures["probabilities"], image_bytes=batch)["probabilities"]
    of_images = model.probabilities_of_images(tf.constant(images)).numpy()
    sums = found.sum(-1)
    return {
        "ids": found.argmax(-1).astype(np.uint8),
        "probability_sums": np.array([sums.min(), sums.max()]),
        "probability_differences": np.abs(found - of_images).max(axis=(1, 2, 3)),
    }, of_images


def ask_corrupt(serve_photo, photo: bytes) -> str:
    """Name of the error; empty if there was an answer."""
    try:
        ask(serve_photo, image_bytes=[photo])
    except tf.errors.OpError as error:
        return type(error).__name__
    return ""


def main(
    saved_model: str,
    photos_file: str,
    message_types: str,
    answers_file: str,
    images_file: str = "",
    probabilities_file: str = "",
) -> None:
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
    answers.update(ask_in_batches(model, photos, images_file, probabilities_file))
    answers["corrupt_error"] = np.array(ask_corrupt(serve_photo, corrupt))
    again = ask(serve_photo, image_bytes=photos[:1])
    answers["after_corrupt"] = again["class_shares" if is_of_masks(model) else "probabilities"][0]
    if hasattr(model, "abstain_below"):
        answers["abstain_below"] = model.abstain_below.numpy()
    for name in ("serving_default_label", "serve_examples_label"):
        if name in answers:
            answers[name] = np.array([label.decode() for label in answers[name]])  # bytes objects would be pickled
    if is_of_masks(model):
        together = {"mask_png_bytes": answers.pop("serve_examples_mask_png_bytes")}
        answers |= of_masks(one_by_one, together)
        del answers["serving_default_mask_png_bytes"]
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
