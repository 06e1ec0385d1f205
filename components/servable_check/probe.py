"""Run as a program, in a process of its own: loads a SavedModel and answers photos. Imports TensorFlow alone.

    python probe.py SAVED_MODEL PHOTOS.npz ANSWERS.npz

PHOTOS.npz: `photo_0`, `photo_1`, ...: uint8 arrays of the photos' bytes. ANSWERS.npz: `serving_default` and
`serve_examples`, float32 [photos, classes]; `load_seconds`; `latency_seconds`, float64 [photos], one photo a call.
"""

import sys
import time

import numpy as np
import tensorflow as tf


def main(saved_model: str, photos_file: str, answers_file: str) -> None:
    with np.load(photos_file) as stored:
        photos = [stored[f"photo_{i}"].tobytes() for i in range(len(stored.files))]
    start = time.perf_counter()
    model = tf.saved_model.load(saved_model)
    load_seconds = time.perf_counter() - start
    serve_photo, serve_example = model.signatures["serving_default"], model.signatures["serve_examples"]
    latencies = []
    answers = []
    serve_photo(image_bytes=tf.constant(photos[:1]))  # the first call traces nothing, but allocates
    for photo in photos:
        start = time.perf_counter()
        answers.append(serve_photo(image_bytes=tf.constant([photo]))["probabilities"].numpy()[0])
        latencies.append(time.perf_counter() - start)
    examples = [
        tf.train.Example(
            features=tf.train.Features(
                feature={"image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[photo]))}
            )
        ).SerializeToString()
        for photo in photos
    ]
    together = serve_example(examples=tf.constant(examples))["probabilities"].numpy()
    np.savez(
        answers_file,
        serving_default=np.array(answers),
        serve_examples=together,
        load_seconds=load_seconds,
        latency_seconds=np.array(latencies),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
