"""Explanations of photos on disk: the part of `explain` that needs TensorFlow."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import yaml
from PIL import Image
from pydantic import ValidationError

from components.example_gen.conversion import read_path, read_photo
from components.example_gen.photo import PhotoRejected
from components.example_gen.photo_folder import mark_as_output
from components.example_gen.photo_rules import PhotoRules, read_rules
from components.explanation import heat_maps, layers, page, pictures
from components.explanation.explained_model import ExplainedModel, Layer, load_model
from components.whole_file import write_whole
from deploy import production
from deploy.root import CONFIG_FILE, Root, find_root, shown
from pipeline.config import read_dumped_config
from schemas.errors import BadInput
from schemas.words import spelled

MAPS_OF_A_LAYER, MOST_LAYERS = 8, 16
CHANNELS, SEED = 8, 7
MOST_LISTED = 12
TRAINED = {"feature_extraction": "FeatureExtraction", "fine_tuned": "FineTuning"}
_METHODS = {method.lower().replace(" ", "-"): method for method in heat_maps.METHODS}

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class NamedModel:
    """A loaded model and its names."""

    key: str
    name: str
    folder: str
    model: ExplainedModel
    rules: PhotoRules


@dataclass(frozen=True)
class Answer:
    """A model's answer for a photo, and how it was explained."""

    file: str
    model: str
    label: str
    probability: float
    """Probability of `label`, range [0, 1]."""
    runner_up: str
    runner_up_probability: float
    """Range [0, 1]."""
    method: str
    reason: str


@dataclass
class ExplanationResult:
    """The answers, and the pictures and page that explain them."""

    answers: list[Answer] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Sentences, one for each photo that could not be explained."""
    page: Path | None = None
    """The page that shows the pictures; None: there was nothing to show."""


def find_models(wanted: Sequence[str], root: str | None, run_id: str | None) -> dict[str, Path]:
    """Folders of the wanted models, by name.

    Args:
      wanted: `production`, `feature_extraction`, `fine_tuned` or folders; empty: the two that a run trained.
      root: root folder; None: the only one below `runs/`.
      run_id: the run; None: the newest run that has both models.

    Raises:
      BadInput: one of them does not exist.
    """
    found: dict[str, Path] = {}
    trained: dict[str, Path] | None = None
    for name in wanted or TRAINED:
        if name == "production":
            found[name] = production.model_folder(find_root(root), None)
        elif name in TRAINED:
            trained = trained or _trained_models(find_root(root), run_id)
            found[name] = trained[name]
        elif not Path(name).is_dir():
            raise BadInput(
                f"--model {name} is neither a folder nor one of production, {', '.join(TRAINED)}; use one of these, "
                "or the folder of a model that warmstart exported"
            )
        else:
            found[name] = Path(name)
    if run_id is not None and trained is None:
        raise BadInput(
            "--run was given without a model of a run; expected --model feature_extraction or --model fine_tuned"
        )
    return found


def _trained_models(root: Root, run_id: str | None) -> dict[str, Path]:
    """Folders of the two models of a run, or of the newest one that has both."""
    runs = [folder.name for folder in sorted(root.reports.iterdir(), reverse=True)] if root.reports.is_dir() else []
    if run_id is not None and run_id not in runs:
        newest = f"; the newest is {runs[0]}" if runs else ""
        raise BadInput(f"there is no run {run_id} in {shown(root.reports)}{newest}")
    if not root.metadata.is_file():
        raise BadInput(
            f"{shown(root.folder)} has no metadata.sqlite, which says where its models are; use --model production, or "
            "--model with the folder of a model"
        )
    from tfx.utils import path_utils

    from deploy.metadata_address import connect
    from pipeline.run_record import read_run

    store = connect(root.metadata_address)
    for run in [run_id] if run_id is not None else runs:
        try:
            nodes = read_run(store, read_dumped_config(root.reports / run / CONFIG_FILE).name, run)
        except (OSError, ValueError, yaml.YAMLError, ValidationError, LookupError):
            continue  # killed before it started, or of another version
        outputs = {model: nodes[node].outputs.get("model") for model, node in TRAINED.items() if node in nodes}
        folders = {
            model: Path(path_utils.serving_model_path(found[0].uri)) for model, found in outputs.items() if found
        }
        if len(folders) == len(TRAINED) and all(folder.is_dir() for folder in folders.values()):
            return folders
    which = f"run {run_id} does not have" if run_id is not None else f"no run in {shown(root.reports)} has"
    raise BadInput(
        f"{which} both models on disk: it did not get that far, or they were removed by `warmstart clean`; choose "
        "another --run, or --model production"
    )


def load_models(found: dict[str, Path]) -> list[NamedModel]:
    """Loads the models.

    Raises:
      BadInput: a model cannot be loaded.
    """
    taken: set[str] = set()
    return [
        NamedModel(
            _new_name(name if name in (*TRAINED, "production") else Path(name).name, taken),
            spelled(name) if name in TRAINED else name,
            str(folder),
            load_model(str(folder)),
            read_rules(folder),
        )
        for name, folder in found.items()
    ]


def layers_text(models: Sequence[NamedModel]) -> str:
    """The layers that can be reached, as text."""
    lines = []
    for named in models:
        lines += [f"{named.name}  {named.folder}"]
        if not named.model.layers:
            lines += [f"  its layers cannot be reached: {named.model.unreachable}"]
            continue
        last = named.model.last_places()
        rows = [
            [layer.name, f"{layer.height} x {layer.width}", str(layer.channels), "Grad-CAM" if layer == last else ""]
            for layer in named.model.layers
        ]
        lines += [f"  {line}" for line in production.columns([["layer", "cells", "channels", ""], *rows])]
    return "\n".join(lines)


def layers_for_programs(models: Sequence[NamedModel]) -> list[dict[str, Any]]:
    """The layers that can be reached, in JSON's types."""
    keys = ("name", "height", "width", "channels")
    return [
        {
            "model": named.name,
            "folder": named.folder,
            "unreachable": named.model.unreachable or None,
            "layers": [{key: getattr(layer, key) for key in keys} for layer in named.model.layers],
        }
        for named in models
    ]


def explain(
    models: Sequence[NamedModel],
    files: Sequence[str],
    out: Path,
    method: str | None,
    layer_pattern: str | None,
    filters: str | None,
    on_progress: Progress = lambda done, total, what: None,
) -> ExplanationResult:
    """Draws the pictures and the page.

    Args:
      models: models to explain, side by side.
      files: files; one that is not a photo becomes an error in the result.
      method: method of the heat maps, as the command names it; None: the first that the model allows.
      layer_pattern: layers whose feature maps to draw; None: a few, or none if no layer can be reached.
      filters: layer whose channels to draw; None: none.
      on_progress: called with the number done, the total and what is counted.

    Raises:
      BadInput: the folder cannot be written, or a model does not allow the method or has no such layer.
    """
    found, sections = ExplanationResult(), []
    # Wrong options are reported before anything slow.
    if layer_pattern is None:
        chosen = [layers.choose_layers(named.model, None) if named.model.layers else [] for named in models]
    else:
        chosen = [layers.choose_layers(named.model, layer_pattern)[:MOST_LAYERS] for named in models]
    climbed = [layers.choose_layer(named.model, filters) for named in models] if filters else []
    used: dict[str, heat_maps.HeatMaps] = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        mark_as_output(out)
        taken: set[str] = set()
        for done, file in enumerate(files, start=1):
            photo = _read(file, [named.rules for named in models])
            if isinstance(photo, str):
                found.errors.append(photo)
            else:
                try:
                    sections.append(_explain_photo(file, photo, models, chosen, method, out, taken, found, used))
                except (
                    tf.errors.OpError,
                    UnicodeDecodeError,
                ):  # the latter where TensorFlow's message quotes the photo
                    found.errors.append(
                        f"{file} is a photo that the model cannot decode; save it again as a plain JPEG."
                    )
            on_progress(done, len(files), "photos done")
        for done, (named, layer) in enumerate(zip(models, climbed, strict=False), start=1):
            sections.append(_draw_channels(named, layer, out, found))
            on_progress(done, len(models), "models' channels drawn")
        if not sections:
            return found
        named_models = [
            page.ShownModel(
                named.name,
                named.folder,
                used[named.key].method if named.key in used else "",
                used[named.key].why if named.key in used else "",
            )
            for named in models
        ]
        how = [page.HOW[known] for known in heat_maps.METHODS if known in {one.method for one in used.values()}]
        how += [page.FEATURE_MAPS] if found.answers and any(chosen) else []
        how += [page.CHANNELS] if climbed else []
        found.page = page.write_page(out, named_models, how, sections, found.errors)
    except OSError as error:
        raise BadInput(f"{out} cannot be written ({error.strerror}); choose another folder with --out") from None
    for shown_model in named_models:
        if shown_model.why:
            found.notes.append(f"{shown_model.name}: by {shown_model.method}. {shown_model.why}")
    for named, some in zip(models, chosen, strict=True):
        if not some and found.answers:
            found.notes.append(
                f"{named.name}: no feature maps, because its layers cannot be reached: {named.model.unreachable}"
            )
    return found


def _read(file: str, rules: Sequence[PhotoRules]) -> bytes | str:
    """The bytes of a photo for models with these rules, or a sentence on what is wrong with the file."""
    path = Path(file)
    try:
        if path.exists() and not path.is_file():
            return f"{file} is not a file; expected a photo."
        # Rules decide whether a photo is read; the bytes are the same.
        photos = [read_photo(read_path(path, its_rules), its_rules).photo_bytes for its_rules in dict.fromkeys(rules)]
    except PhotoRejected as rejected:
        return f"{file} {rejected.detail}"
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}."
    return photos[0]


def _explain_photo(
    file: str,
    photo: bytes,
    models: Sequence[NamedModel],
    chosen: Sequence[Sequence[Layer]],
    method: str | None,
    out: Path,
    taken: set[str],
    found: ExplanationResult,
    used: dict[str, heat_maps.HeatMaps],
) -> page.Section:
    """Draws the pictures of one photo; adds the answers to `found` and the method of each model to `used`."""
    stem = _new_name(Path(file).stem, taken)
    picture = pictures.upright_photo(photo, models[0].rules.colour)
    rows, lines, made = [], [], []
    answers = []
    for named in models:
        image = named.model.images([photo])
        probabilities = named.model.probabilities(tf.constant(image)).numpy()[0]
        first, second = (int(index) for index in np.argsort(-probabilities, kind="stable")[:2])
        maps = heat_maps.heat_maps(
            named.model, np.repeat(image, 2, axis=0), [first, second], _METHODS[method] if method else None
        )
        used[named.key] = maps
        labels = named.model.labels
        answer = Answer(
            file,
            named.name,
            labels[first],
            float(probabilities[first]),
            labels[second],
            float(probabilities[second]),
            maps.method,
            maps.why,
        )
        answers.append(answer)
        captions = [
            f"{answer.label} {answer.probability:.1%}",
            f"runner-up: {answer.runner_up} {answer.runner_up_probability:.1%}",
        ]
        captions = [
            caption if heat.any() else f"{caption}: no evidence for it"
            for caption, heat in zip(captions, maps.maps, strict=True)
        ]
        rows.append((f"{named.name}, {maps.method}", list(zip(captions, maps.maps, strict=True))))
        lines.append(f"{named.name}: {captions[0]}; {captions[1]}. By {maps.method}.")
    methods = ", ".join(dict.fromkeys(answer.method for answer in answers))
    made.append(
        _save(
            out / f"{stem}.heat_maps.png",
            pictures.heat_picture(picture, rows),
            f"Heat maps of the answer and the runner-up ({methods}), one row for each model",
        )
    )
    for named, some in zip(models, chosen, strict=True):
        if some:
            image = named.model.images([photo])[0]
            made.append(
                _save(
                    out / f"{stem}.feature_maps.{named.key}.png",
                    _feature_map_picture(named.model, image, some),
                    f"Feature maps of {len(some)} layers, {named.name}",
                )
            )
    found.answers += answers
    found.pictures += [one.file for one in made]
    return page.Section(file, lines, made)


def _feature_map_picture(model: ExplainedModel, image: np.ndarray, chosen: Sequence[Layer]) -> Image.Image:
    rows = []
    for layer, maps in zip(chosen, layers.feature_maps(model, image, list(chosen)), strict=True):
        channels = layers.strongest_channels(maps, MAPS_OF_A_LAYER)
        title = f"{layer.name}: {layer.height} × {layer.width} cells, {layer.channels} channels"
        rows.append((title, [(f"channel {channel}", maps[..., channel]) for channel in channels]))
    return pictures.feature_map_picture(Image.fromarray(np.rint(image * 255).astype(np.uint8)), rows)


def _draw_channels(named: NamedModel, layer: Layer, out: Path, found: ExplanationResult) -> page.Section:
    count = min(CHANNELS, layer.channels)
    channels = sorted(int(i) for i in np.random.default_rng(SEED).choice(layer.channels, count, replace=False))
    images = layers.channel_images(named.model, layer, channels, SEED)
    title = f"{layer.name} of {named.name}: what excites {count} of {layer.channels} channels most"
    captions = [(f"channel {channel}", image) for channel, image in zip(channels, images, strict=True)]
    made = _save(
        out / f"{_file_name(layer.name)}.channels.{named.key}.png",
        pictures.channel_picture(title, captions),
        f"Images that excite channels of {layer.name} most, by gradient ascent, {named.name}",
    )
    found.pictures.append(made.file)
    return page.Section(title, [], [made])


def _save(file: Path, picture: Image.Image, text: str) -> page.Picture:
    write_whole(file, pictures.png(picture))
    return page.Picture(file, text)


def _file_name(text: str) -> str:
    """The text as a name that is valid in every file system and URL, at most 60 characters."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_-]+", "_", plain).strip("_")[:60] or "photo"


def _new_name(text: str, taken: set[str]) -> str:
    """A name for files, added to `taken`; the second photo of the same name gets a number."""
    plain = name = _file_name(text)
    number = 1
    while name.lower() in taken:
        number += 1
        name = f"{plain}-{number}"
    taken.add(name.lower())
    return name


def for_programs(found: ExplanationResult) -> dict[str, Any]:
    """The result in JSON's types."""
    return {
        "photos": [asdict(answer) for answer in found.answers],
        "pictures": [str(file) for file in found.pictures],
        "page": str(found.page) if found.page else None,
        "errors": found.errors,
    }


def for_people(found: ExplanationResult) -> str:
    """The answers as a table, the reasons for the methods, and where the pictures are."""
    lines = []
    if found.answers:
        rows = [
            [
                answer.file,
                answer.model,
                answer.label,
                f"{answer.probability:.1%}",
                f"{answer.runner_up} {answer.runner_up_probability:.1%}",
                answer.method,
            ]
            for answer in found.answers
        ]
        lines += production.columns([["photo", "model", "answer", "probability", "runner-up", "heat map by"], *rows])
    lines += found.notes
    if found.page is not None:
        files = [shown(file.absolute()) for file in found.pictures]
        if len(files) > MOST_LISTED:
            files = [f"{len(files)} in {shown(found.page.parent.absolute())}"]
        lines += production.columns(
            [
                *([["pictures", file] if not i else ["", file] for i, file in enumerate(files)]),
                ["page", shown(found.page.absolute())],
            ]
        )
    return "".join(f"{line}\n" for line in lines)
