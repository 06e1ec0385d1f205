"""Reads photos that TensorFlow Datasets has prepared, shard by shard, without decoding them.

Prepared folders contain `dataset_info.json`, `features.json` and the shards. Keys, measured with 4.9.10:

| data set          | keys used                                   | splits                        |
|-------------------|---------------------------------------------|-------------------------------|
| `cats_vs_dogs`    | `image`, `image/filename`, `label`          | `train`                       |
| `oxford_iiit_pet` | `image`, `file_name`, `label`, `species`    | `train` (trainval) and `test` |

With masks, `segmentation_mask` of `oxford_iiit_pet` as well: the bytes of the trimap's PNG.
"""

import functools
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from components.example_gen.found_photos import Photo
from schemas.errors import BadInput
from schemas.words import on_one_line

_KEYS = {
    "cats_vs_dogs": ("image", "image/filename", "label"),
    "oxford_iiit_pet": ("image", "file_name", "label", "species"),
}
_MASK_KEY = "segmentation_mask"
_HOSTS = {
    "cats_vs_dogs": "https://download.microsoft.com",
    "oxford_iiit_pet": "https://thor.robots.ox.ac.uk",
}
_TIMEOUT_SECONDS = 20
_OFFICIAL_SPLITS = {
    "cats_vs_dogs": {"train": ""},
    "oxford_iiit_pet": {"train": "trainval", "test": "test"},
}


@dataclass(frozen=True)
class Shard:
    """One file of a prepared data set."""

    folder: str  # with dataset_info.json
    dataset: str
    split: str
    index: int
    examples: int
    masks: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        return _keys(self.dataset, self.masks)


def _keys(dataset: str, masks: bool) -> tuple[str, ...]:
    return (*_KEYS[dataset], _MASK_KEY) if masks else _KEYS[dataset]


def resolve_tfds(spec: str, data_dir: str | None) -> str:
    """The folder of `tfds:cats_vs_dogs` or `tfds:oxford_iiit_pet`; the data set is prepared first if necessary.

    Args:
      spec: `tfds:` and the name.
      data_dir: data folder of TensorFlow Datasets; None for `~/tensorflow_datasets`.

    Returns:
      The folder of the newest version, with `dataset_info.json`.

    Raises:
      BadInput: the name is unknown, or the data set is missing and cannot be downloaded.
    """
    name = spec.removeprefix("tfds:")
    if name not in _KEYS or name == spec:
        raise BadInput(f"Unknown source {spec!r}; expected one of {', '.join(f'tfds:{name}' for name in _KEYS)}.")
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    if not os.path.exists(os.path.join(builder.data_path, "dataset_info.json")):
        try:
            _check_reachable(_HOSTS[name])
            builder.download_and_prepare()
        except Exception as error:  # the network, the disk, the source's web server: each has its own kinds
            raise BadInput(
                f"TensorFlow Datasets could not download and prepare {name} ({on_one_line(error, 200)}); connect to "
                f"{_HOSTS[name]}, copy a prepared {name} to {builder.data_path}, or give a folder of photos instead of "
                f"{spec}."
            ) from error
    return str(builder.data_path)


def list_shards(folder: str, dataset: str, masks: bool = False) -> list[Shard]:
    """The shards of a prepared folder.

    Args:
      folder: the folder with `dataset_info.json`, or the one above it, of which the newest version is used.
      dataset: `cats_vs_dogs` or `oxford_iiit_pet`.
      masks: whether to read the masks too, which only `oxford_iiit_pet` has.

    Raises:
      BadInput: the folder is not prepared, or holds another data set.
    """
    folder = _version_folder(folder)
    builder = _builder(folder)
    if builder.name != dataset or dataset not in _KEYS:
        raise BadInput(
            f"{folder} holds {builder.name!r} from TensorFlow Datasets, expected {dataset!r}; check the path and the "
            "dataset in the configuration."
        )
    missing = [key for key in _keys(dataset, masks) if key not in builder.info.features]
    if missing:
        raise BadInput(f"{folder} lacks {', '.join(missing)}; prepare {dataset} again with TensorFlow Datasets.")
    shards = [
        Shard(folder, dataset, split, index, examples, masks)
        for split in _OFFICIAL_SPLITS[dataset]
        if split in builder.info.splits
        for index, examples in enumerate(builder.info.splits[split].shard_lengths)
    ]
    if not shards:
        raise BadInput(f"{folder} has no train or test split; prepare {dataset} again with TensorFlow Datasets.")
    return shards


def read_shard(shard: Shard) -> Iterator[tuple[Photo, bytes]]:
    """Each photo of one shard, in order, with the bytes of its file as stored (not decoded), and those of its mask.

    Raises:
      BadInput: the shard is missing or damaged.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    builder = _builder(shard.folder)
    features = builder.info.features
    decoders = tfds.decode.PartialDecoding(
        dict.fromkeys(shard.keys, True),
        decoders={key: tfds.decode.SkipDecoding() for key in ("image", _MASK_KEY) if key in shard.keys},
    )
    path = str(builder.info.splits[shard.split].filepaths[shard.index])
    name_key = _KEYS[shard.dataset][1]
    try:
        examples = builder.as_dataset(
            split=f"{shard.split}[{shard.index}shard:{shard.index + 1}shard]",
            decoders=decoders,
            shuffle_files=False,
        )
        for example in examples.as_numpy_iterator():
            label = features["label"].int2str(example["label"])
            oxford = shard.dataset == "oxford_iiit_pet"
            photo = Photo(
                path=path,
                file_name=example[name_key].decode("utf-8", "replace"),
                dataset=shard.dataset,
                label=label,
                species=features["species"].int2str(example["species"]).lower() if oxford else label,
                breed=label if oxford else "",
                official_split=_OFFICIAL_SPLITS[shard.dataset][shard.split],
                mask_name=_MASK_KEY if shard.masks else "",
                mask_bytes=example[_MASK_KEY] if shard.masks else b"",
            )
            yield photo, example["image"]
    except (tf.errors.OpError, OSError) as error:
        raise BadInput(
            f"{path} is missing or damaged; prepare {shard.dataset} again with TensorFlow Datasets."
        ) from error


def _check_reachable(address: str) -> None:
    """Fails fast without a network, where TensorFlow Datasets would keep trying for many minutes."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError:
        return  # an answer, if not a friendly one


def _version_folder(folder: str) -> str:
    import tensorflow as tf

    folder = folder.rstrip("/")
    gfile = tf.io.gfile
    if gfile.exists(f"{folder}/dataset_info.json"):
        return folder
    versions = []
    for name in gfile.listdir(folder) if gfile.isdir(folder) else []:
        name = name.rstrip("/")
        if re.fullmatch(r"\d+\.\d+\.\d+", name) and gfile.exists(f"{folder}/{name}/dataset_info.json"):
            versions.append(name)
    if not versions:
        raise BadInput(
            f"{folder} has no dataset_info.json, and neither has any version folder in it; expected a folder prepared "
            "by TensorFlow Datasets. Check the path in the configuration."
        )
    return f"{folder}/{max(versions, key=lambda version: [int(part) for part in version.split('.')])}"


@functools.lru_cache(maxsize=8)
def _builder(folder: str) -> Any:
    """A `tfds.core.DatasetBuilder` that knows the folder's features and splits."""
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # TFDS raise many kinds for a damaged folder
        raise BadInput(
            f"{folder} is not a valid TensorFlow Datasets folder ({on_one_line(error, 200)}); prepare it again."
        ) from error
