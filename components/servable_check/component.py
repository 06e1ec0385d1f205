"""The ServableCheck component."""

import io
import os
import tempfile
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.artifacts import Verdict
from components.evaluator.stored_answers import read_expected
from components.example_gen.photo_rules import WHITE, Colour, read_rules
from components.linked_copy import copy_folder
from components.records import choose_golden, read_examples, split_files, text
from components.servable_check import exports as model_exports
from components.servable_check import fresh_process, judgement, probe, warmup
from components.servable_check.judgement import Limits, OfClasses
from components.servable_check.mask_judgement import OfMasks
from components.servable_check.packages import require_packages
from components.transform import image_ops
from components.verdict import HAS_MODEL, bless, read_verdict, write_verdict
from schemas import features as f
from schemas.labels import read_labels
from schemas.verdicts import SelectionVerdict, ServableVerdict

# How many fresh processes are asked before a limit of time refuses a model.
_TRIES = 3
_CHECKED_AGAIN = "nothing is decided by that, and the next run checks again"


@component
def ServableCheck(
    model: InputArtifact[standard_artifacts.Model],
    examples: InputArtifact[standard_artifacts.Examples],
    predictions: InputArtifact[standard_artifacts.Examples],
    selection: InputArtifact[Verdict],
    blessing: OutputArtifact[standard_artifacts.InfraBlessing],
    verdict: OutputArtifact[Verdict],
    golden_photos: Parameter[int],
    tolerance: Parameter[float],
    exports: Parameter[list[str]],
    export_tolerance: Parameter[float],
    code: Parameter[str],
    maximum_load_seconds: Parameter[float] = None,
    maximum_latency_milliseconds: Parameter[float] = None,
    maximum_batch_latency_milliseconds: Parameter[float] = None,
    maximum_megabytes: Parameter[float] = None,
):
    """Blesses the winner if a fresh process gets the stored probabilities out of it, within the limits.

    The model that is asked is a copy with warm-up requests and exports in it. As in TFX's InfraValidator it lies in
    the blessing, whose property `has_model` is 1 then; it is what Pusher has to push. A refused model is not kept.

    Args:
      examples: photos; golden ones are taken from the test split, every true format first.
      selection: ModelSelector's verdict; it names the winner.
      blessing: of the winner, and the model to push.
      tolerance: largest difference of a probability.
      exports: of `tflite` and `onnx`.
      export_tolerance: largest difference of a probability between the model and an export.
      maximum_load_seconds, maximum_latency_milliseconds, maximum_batch_latency_milliseconds, maximum_megabytes:
        limits, see `check`; None: none.

    Raises:
      ProcessFailed: the model could not be asked or exported. That says nothing of the model: the process may have been
        killed. So the step fails, nothing is kept, and the next run checks again.
    """
    del code
    require_packages(exports)
    winner = read_verdict(SelectionVerdict, selection.uri).winner
    chosen = choose_golden(read_examples(split_files(examples, "test")), golden_photos)
    expected = read_expected(predictions, winner, [text(example, f.CONTENT_HASH) for example in chosen])
    photos = [example.features.feature[f.IMAGE].bytes_list.value[0] for example in chosen]
    limits = Limits(
        maximum_load_seconds, maximum_latency_milliseconds, maximum_batch_latency_milliseconds, maximum_megabytes
    )

    folder = path_utils.stamped_model_path(blessing.uri)
    copy_folder(path_utils.serving_model_path(model.uri), folder)
    original = photos[choose_original(photos)]
    tiny = make_kinds(original, read_rules(folder).colour)[TINY]
    warmup.write_requests(folder, tiny, of_masks=expected.ndim == 3)
    model_exports.convert(folder, exports)
    findings = check(folder, photos, expected, tolerance, limits, exports, export_tolerance)
    write_verdict(verdict.uri, findings)
    if findings.servable:
        blessing.set_int_custom_property(HAS_MODEL, 1)
    else:
        fileio.rmtree(folder)
    bless(blessing, findings.servable, "INFRA_")


def check(
    saved_model: str,
    photos: list[bytes],
    expected: np.ndarray,
    tolerance: float,
    limits: Limits = Limits(),  # noqa: B008  (it cannot be changed)
    formats: Sequence[str] = (),
    export_tolerance: float = 0.0,
) -> ServableVerdict:
    """Loads the model in a fresh process and judges its answers, those of its exports, and what they cost.

    Besides the photos it is asked about kinds that there may be none of among them (`make_kinds`). A limit of
    time is exceeded only if the shortest of three fresh processes' times exceeds it: a machine may be busy for a while.

    Args:
      saved_model: folder of the model, with `assets.extra/labels.txt` and its exports.
      photos: the photos' bytes; at least one.
      expected: float32 [photos, classes], range [0, 1]; or of a model that gives masks, uint8 [photos, size, size], ids
        at the model's size.
      tolerance: largest difference of a probability allowed; a thousandth of a photo's pixels may get another class.
      export_tolerance: largest difference of their probabilities from the model's.

    Raises:
      ProcessFailed: the model or an export could not be asked.
    """
    original = choose_original(photos)
    made = make_kinds(photos[original], read_rules(saved_model).colour)
    asked = {f"golden_{i}": photo for i, photo in enumerate(photos)} | made
    judging = OfMasks() if expected.ndim == 3 else OfClasses(tolerance)
    with tempfile.TemporaryDirectory() as folder:
        images_file, probabilities_file = (os.path.join(folder, f"{name}.npy") for name in ("images", "probabilities"))
        answers = _ask(saved_model, asked, folder, *([images_file, probabilities_file] if formats else []))
        compared = {
            name: model_exports.compare(saved_model, name, images_file, _of_exports(answers, probabilities_file))
            for name in formats
        }
    measured = {**_times(answers), "megabytes": _megabytes(saved_model)}
    tries = 1
    while tries < _TRIES and judgement.is_too_slow(measured, limits):
        with tempfile.TemporaryDirectory() as folder:
            again = _times(_ask(saved_model, asked, folder))
        measured.update({name: min(measured[name], seconds) for name, seconds in again.items()})
        tries += 1

    # The PNG has the pixels of the photo it was made of.
    difference = judging.difference(answers, np.concatenate([expected, expected[[original]]]))
    decodable = {kind: photo for kind, photo in asked.items() if kind != CORRUPT}
    faults = judging.faults(answers, decodable) + judgement.exceeded_limits(measured, limits)
    differences = [(judging.what, difference, judging.tolerance)]
    those = "the probabilities" if judging.of_masks else "those"
    differences += [
        (
            f"{those} of {name} differ from {'its own' if judging.of_masks else 'them'}",
            found.largest_difference,
            export_tolerance,
        )
        for name, found in compared.items()
    ]
    sentences = [
        f"{what} by at most {found:.1e}, {'within' if found <= allowed else 'more than'} {allowed:.0e}"
        for what, found, allowed in differences
    ]
    servable = not faults and all(found <= allowed for _, found, allowed in differences)
    return ServableVerdict(
        servable=servable,
        text=(
            f"loads in {measured['load_seconds']:.1f} s in a fresh process"
            f"{f' (the best of {tries})' if tries > 1 else ''}; on {len(photos)} photos "
            + "; ".join(sentences + faults)
        ),
        golden_photos=len(photos),
        kinds=[kind for kind in asked if not kind.startswith("golden_")],
        largest_difference=difference,
        largest_disagreement=judging.disagreement(answers),
        **measured,
        measured=tries,
        warm_up_requests=int(answers["warm_up_requests"]),
        exports=compared,
    )


def _of_exports(answers: dict[str, np.ndarray], probabilities_file: str) -> np.ndarray:
    """What an export has to answer."""
    if "ids" in answers:
        return np.load(probabilities_file, mmap_mode="r")
    return answers["serving_default_probabilities"]


def _ask(saved_model: str, photos: dict[str, bytes], folder: str, *images_file: str) -> dict[str, np.ndarray]:
    """The answers of a fresh process, as `probe` documents them, and `labels`; `folder` is for the files it needs."""
    photos_file, types_file, answers_file = (
        os.path.join(folder, name) for name in ("photos.npz", "message_types", "answers.npz")
    )
    np.savez(photos_file, **{name: np.frombuffer(photo, np.uint8) for name, photo in photos.items()})
    with open(types_file, "wb") as file:
        file.write(warmup.message_types())
    try:
        fresh_process.run(probe, saved_model, photos_file, types_file, answers_file, *images_file)
    except fresh_process.ProcessHangs as error:
        raise fresh_process.ProcessHangs(f"a fresh process {error}; {_CHECKED_AGAIN}") from None
    except fresh_process.ProcessFailed as error:
        text = f"a fresh process could not serve the model: {error}; {_CHECKED_AGAIN}"
        raise fresh_process.ProcessFailed(text) from None
    with np.load(answers_file) as answers:
        return {**answers, "labels": np.array(read_labels(saved_model) or [])}


def _times(answers: dict[str, np.ndarray]) -> dict[str, float]:
    return {
        "load_seconds": float(answers["load_seconds"]),
        "latency_milliseconds": float(np.median(answers["latency_seconds"]) * 1000),
        "batch_latency_milliseconds": float(np.median(answers["batch_latency_seconds"]) * 1000),
    }


def _megabytes(folder: str) -> float:
    files = [os.path.join(parent, name) for parent, _, names in tf.io.gfile.walk(folder) for name in names]
    return sum(tf.io.gfile.stat(file).length for file in files) / 1e6


PNG, GREY, TINY, HUGE, CORRUPT = "png", "grey", "tiny", "huge", "corrupt"
_TINY = (16, 16)  # pixels
_HUGE = (4000, 3000)


def choose_original(photos: list[bytes]) -> int:
    """Index of the photo that others are made of: the first JPEG, or the first photo where there is none."""
    return next((i for i, photo in enumerate(photos) if photo.startswith(b"\xff\xd8\xff")), 0)


def make_kinds(photo: bytes, background: Colour = WHITE) -> dict[str, bytes]:
    """Kinds of photos that a data set may lack, made of one photo that the Transform graph decodes.

    Args:
      photo: JPEG, PNG, GIF or BMP.
      background: what the model sees transparent parts on.

    Returns:
      `png`: the very pixels that the Transform graph decodes, upright, so that a model has to answer as for the
      photo itself; `grey`: a JPEG with one channel; `tiny`: a JPEG of 16 x 16 pixels; `huge`: one of
      4,000 x 3,000; `corrupt`: the first half of a JPEG's bytes, which no model may answer.
    """
    # By the graph's own decoder: another one, and tf.io.decode_image's default method, give other pixels.
    stored = image_ops.decode_image(tf.constant(photo), background)
    pixels = image_ops.upright(stored, image_ops.exif_orientation(photo))
    picture = Image.fromarray(np.asarray(pixels))
    jpeg = _encoded(picture, "JPEG")
    return {
        PNG: _encoded(picture, "PNG"),
        GREY: _encoded(picture.convert("L"), "JPEG"),
        TINY: _encoded(picture.resize(_TINY), "JPEG"),
        HUGE: _encoded(picture.resize(_HUGE), "JPEG"),
        CORRUPT: jpeg[: len(jpeg) // 2],
    }


def _encoded(picture: Image.Image, image_format: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, image_format)
    return buffer.getvalue()
