"""Which mask belongs to which photo, judging by names alone.

| layout                    | example                                                                         |
|---------------------------|---------------------------------------------------------------------------------|
| a folder of each          | `images/a.jpg` and `masks/a.png`                                                |
| in splits, above or below | `train/images/a.jpg` and `train/masks/a.png`, or `images/train/a.jpg` ...       |
| Pascal VOC                | `JPEGImages/a.jpg` and `SegmentationClass/a.png`                                |
| Cityscapes                | `leftImg8bit/train/x/a_leftImg8bit.png`, `gtFine/train/x/a_gtFine_labelIds.png` |
| Oxford-IIIT Pets          | `images/a.jpg` and `annotations/trimaps/a.png`                                  |

A mask has the name of its photo, with any ending, and possibly a word such as `_mask` behind it.
"""

from __future__ import annotations

import copy
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from components.example_gen.found_photos import FolderContents, FolderRules, Photo, official_splits, series_of
from components.example_gen.label_lists import read_splits
from components.example_gen.mask_classes import read_classes
from components.example_gen.photo_folder import FileEntry, PhotoFolder, UnusedFile, read_bytes, split_path
from components.example_gen.splits_by_name import split_names, split_of_path
from schemas.errors import BadInput

IMAGE_MASKS = "image_masks"
EXPECTED = "images/ and masks/ with files of the same names, or JPEGImages/ and SegmentationClass/"

# Names of folders, in lower case; also with a split, as in `train_images` and `train_masks`.
_PHOTO_FOLDERS = ("images", "image", "imgs", "img", "photos", "jpegimages", "leftimg8bit")
_MASK_FOLDERS = (
    "masks", "mask", "segmentationclass", "annotations", "annotation", "labels", "label", "gtfine", "groundtruth",
    "ground_truth", "gt", "segmentations", "segmentation", "seg",
)  # fmt: skip
_OTHER_FOLDERS = ("segmentationobject",)
# What may stand behind the photo's name.
_PHOTO_ENDS = ("_leftimg8bit",)
_MASK_ENDS = (
    "_gtfine_labeltrainids", "_gtfine_labelids", "_labeltrainids", "_labelids", "_segmentation", "_annotation",
    "_masks", "_mask", "-mask", "_labels", "_label", "_seg", "-seg", "_gt", "_l",
)  # fmt: skip
# Pictures beside masks that are none.
_OTHER_ENDS = ("_gtfine_color", "_gtfine_instanceids", "_gtfine_instancetrainids", "_color", "_instanceids")
# Those that are surely meant, so that a folder of them needs no `--config`.
_TELLING = ({"images", "masks"}, {"jpegimages", "segmentationclass"})
_VOC_LISTS = re.compile(r"(.*/)?ImageSets/Segmentation/[^/]+\.txt", re.IGNORECASE)
_PEEK_BYTES = 2**20

Key = tuple[tuple[str, ...], str]


def looks_like_masks(folder: PhotoFolder) -> bool:
    """Whether a data folder has folders such as `images/` and `masks/`, at its top or in splits."""
    pairs: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for entry in folder.candidates:
        folders, _ = split_path(entry.path)
        for depth, name in enumerate(folders):
            if name.lower() in set().union(*_TELLING):
                pairs[tuple(folders[:depth])].add(name.lower())
    wrapper = folder.wrapper().rstrip("/")
    for above, names in pairs.items():
        outside = [name for name in above if name != wrapper and not split_names([name])]
        if not outside and any(telling <= names for telling in _TELLING):
            return True
    return False


def find_image_masks(folder: PhotoFolder, rules: FolderRules) -> FolderContents:
    """The photos of a folder, each with its mask.

    Raises:
      BadInput: the folder has no masks, or a list in it is malformed or contradictory.
    """
    photos, masks = _divide(folder)
    if not masks:
        raise _no_masks(folder)
    pairs, others = _pair(photos, masks)
    listed = _voc_names(folder)
    splits, says = _splits(folder, [entry for entries in photos.values() for entry in entries])
    official = official_splits({*splits.values()})
    found = []
    for key, entries in photos.items():
        of_photo = pairs.get(key, [])
        for entry in entries:
            stem = os.path.splitext(split_path(entry.path)[1])[0]
            if len(of_photo) == 1 and len(entries) == 1:
                [mask] = of_photo
                group = series_of(rules, entry.path, entry.path.rpartition("/")[0])
                split = official.get(splits.get(entry.path, "train"), "")
                found.append(
                    Photo(
                        folder.full_path(entry.path), entry.path, folder.dataset, "", official_split=split, group=group,
                        mask=folder.full_path(mask.path), mask_name=mask.path,
                    )
                )  # fmt: skip
            elif of_photo:
                folder.reject(entry.path, "mask_ambiguous", _ambiguous(entry, entries, of_photo))
            elif listed and stem not in listed:
                folder.leave_out(entry.path, "unlabelled", "is in no list in ImageSets/Segmentation/.")
            else:
                where = _expected_mask(entry.path, masks[0].path)
                folder.reject(entry.path, "mask_missing", f"has no mask; expected {where}, or remove the photo.")
    for entry in others:
        folder.reject(
            entry.path, "photo_missing", "is a mask without a photo of its name; add the photo, or remove it."
        )
    own = [folder.shown(path) for path in folder.own_output]
    contents = FolderContents(IMAGE_MASKS, found, folder.rejected, folder.left_out, own_output=own)
    contents.splits = {split: [says] for split in sorted({*splits.values()})} if official else {}
    contents.mask_classes = read_classes(folder, _folders_above(masks))
    contents.labels_from = contents.mask_classes.listed_in if contents.mask_classes else "masks"
    return contents


def with_trimaps(folder: PhotoFolder, prefix: str, photos: Sequence[Photo]) -> list[Photo]:
    """Oxford-IIIT Pets' photos with their trimaps; a photo without one is rejected.

    Args:
      prefix: the folder with `annotations/`; "" or ending in `/`.
      photos: the photos that can be used otherwise.
    """
    trimaps = f"{prefix}annotations/trimaps/"
    there: dict[str, list[str]] = defaultdict(list)
    for entry in folder.candidates:
        if entry.path.startswith(trimaps) and "/" not in entry.path[len(trimaps) :]:
            there[os.path.splitext(entry.path[len(trimaps) :])[0]].append(entry.path)
    found = []
    for photo in photos:
        name = os.path.splitext(split_path(photo.file_name)[1])[0]
        match there.get(name, []):
            case [trimap]:
                found.append(replace(photo, mask=folder.full_path(trimap), mask_name=trimap))
            case []:
                detail = f"has no trimap; expected {trimaps}{name}.png, or remove the photo."
                folder.reject(photo.file_name, "mask_missing", detail, photo.label)
            case several:
                detail = f"has {len(several)} trimaps, {' and '.join(several)}; keep one of them."
                folder.reject(photo.file_name, "mask_ambiguous", detail, photo.label)
    images = {os.path.splitext(split_path(path)[1])[0] for path in folder.meant if path.startswith(f"{prefix}images/")}
    for name in sorted(set(there) - images):
        for path in there[name]:
            folder.reject(path, "photo_missing", f"is a trimap without the photo {prefix}images/{name}.jpg.")
    return found


def _role(name: str) -> tuple[str, str]:
    """What a folder's name says of its files, `photo`, `mask`, `other` or nothing, and the rest of its name."""
    lowered = name.lower()
    for role, words in (("photo", _PHOTO_FOLDERS), ("mask", _MASK_FOLDERS), ("other", _OTHER_FOLDERS)):
        for word in words:
            if lowered == word:
                return role, ""
            for rest in (lowered.removesuffix(f"_{word}"), lowered.removeprefix(f"{word}_")):
                if rest != lowered and split_names([rest]):
                    return role, rest
    return "", name


def _divide(folder: PhotoFolder) -> tuple[dict[Key, list[FileEntry]], list[FileEntry]]:
    """The photos by what they share with their masks, and the masks; everything else is left out."""
    by_role: dict[str, list[tuple[tuple[str, ...], FileEntry]]] = defaultdict(list)
    for entry in folder.candidates:
        folders, _ = split_path(entry.path)
        read = [_role(name) for name in folders]
        roles = {role for role, _ in read}
        role = next((role for role in ("other", "mask", "photo") if role in roles), "")
        by_role[role].append((tuple(rest for _, rest in read if rest), entry))
    masks = []
    for _, entry in by_role["mask"]:
        stem = os.path.splitext(split_path(entry.path)[1])[0]
        if stem.lower().endswith(_OTHER_ENDS):
            by_role["other"].append(((), entry))
        else:
            masks.append(entry)
    # `train/a.jpg` beside `train_masks/a.png`: only the masks have a folder that says so.
    photos_in = "photo" if by_role["photo"] else ""
    photos: dict[Key, list[FileEntry]] = defaultdict(list)
    for shared, entry in by_role[photos_in]:
        stem = os.path.splitext(split_path(entry.path)[1])[0]
        photos[shared, _without_end(stem, _PHOTO_ENDS)].append(entry)
    for role in ("other", "" if photos_in else "other"):
        for _, entry in by_role.pop(role, []):
            folder.leave_out(
                entry.path, "beside_masks", "is neither a photo nor the mask of one, judging by its folder."
            )
    return photos, masks


def _without_end(stem: str, ends: Sequence[str]) -> str:
    return next((stem[: -len(end)] for end in ends if stem.lower().endswith(end)), stem)


def _pair(
    photos: dict[Key, list[FileEntry]], masks: Sequence[FileEntry]
) -> tuple[dict[Key, list[FileEntry]], list[FileEntry]]:
    """The masks of each photo, and those without a photo."""
    pairs: dict[Key, list[FileEntry]] = defaultdict(list)
    others = []
    for entry in masks:
        folders, name = split_path(entry.path)
        shared = tuple(rest for _, rest in map(_role, folders) if rest)
        stem = os.path.splitext(name)[0]
        key = next((k for k in ((shared, stem), (shared, _without_end(stem, _MASK_ENDS))) if k in photos), None)
        if key is None:
            others.append(entry)
        else:
            pairs[key].append(entry)
    return pairs, others


def _ambiguous(entry: FileEntry, photos: Sequence[FileEntry], masks: Sequence[FileEntry]) -> str:
    if len(masks) > 1:
        return f"has {len(masks)} masks, {' and '.join(mask.path for mask in masks)}; keep one of them."
    other = next(photo.path for photo in photos if photo.path != entry.path)
    return f"and {other} have one mask between them, {masks[0].path}; rename one of the photos, and add its mask."


def _expected_mask(photo: str, a_mask: str) -> str:
    mask_folder = next(name for name in split_path(a_mask)[0] if _role(name)[0] == "mask")
    folders, name = split_path(photo)
    stem = os.path.splitext(name)[0]
    if not any(_role(folder)[0] == "photo" for folder in folders):
        return f"{stem}.png in {a_mask.rpartition('/')[0]}/"
    return "/".join([*(mask_folder if _role(folder)[0] == "photo" else folder for folder in folders), f"{stem}.png"])


def _folders_above(masks: Sequence[FileEntry]) -> list[str]:
    """Every folder above a mask, the topmost first."""
    above = {""}
    for entry in masks:
        folders, _ = split_path(entry.path)
        above |= {"/".join(folders[: depth + 1]) + "/" for depth in range(len(folders))}
    return sorted(above, key=lambda path: (path.count("/"), path))


def _voc_lists(folder: PhotoFolder) -> list[UnusedFile]:
    return [file for file in folder.left_out if _VOC_LISTS.fullmatch(file.file_name)]


def _voc_names(folder: PhotoFolder) -> set[str]:
    """The photos that Pascal VOC has masks for; most of its photos have none."""
    lists = [folder.full_path(file.file_name) for file in _voc_lists(folder)]
    return {line.strip() for path in lists for line in read_bytes(path).decode("utf-8", "replace").splitlines()}


def _splits(folder: PhotoFolder, photos: Sequence[FileEntry]) -> tuple[dict[str, str], str]:
    """Path of a photo -> `train`, `eval` or `test`, and what says so; empty where nothing does."""
    by_folder = {entry.path: split_of_path(split_path(entry.path)[0]) for entry in photos}
    if len({split or "train" for split in by_folder.values()}) > 1:
        return {path: split or "train" for path, split in by_folder.items()}, "the folders"
    only_photos = copy.copy(folder)
    only_photos.candidates = list(photos)
    if lists := _voc_lists(folder):
        names = {split_path(file.file_name)[1].lower() for file in lists}
        both = {"train.txt", "val.txt"} <= names
        only_photos.left_out = [f for f in lists if not (both and f.file_name.lower().endswith("trainval.txt"))]
    listed = read_splits(only_photos)
    if not listed:
        return {}, ""
    return {entry.path: listed.get(entry.path, "train") for entry in photos}, "lists beside the photos"


def _no_masks(folder: PhotoFolder) -> BadInput:
    folders, files = folder.top()
    shown = ", ".join([f"{name}/" for name in folders[:5]] or files[:5])
    for file in folder.left_out:
        if file.file_name.lower().endswith(".json"):
            start = read_bytes(folder.full_path(file.file_name), _PEEK_BYTES)
            if b'"segmentation"' in start or (b'"annotations"' in start and b'"categories"' in start):
                return BadInput(
                    f"The data folder {folder.root} has annotations in COCO's format ({file.file_name}), which are not "
                    f"read; export them as pictures, one PNG with class ids for each photo (CVAT and Label Studio do), "
                    f"and give {EXPECTED}."
                )
    return BadInput(
        f"The data folder {folder.root} has no folder of masks: found {shown}; expected {EXPECTED}. Check the path, or "
        "the dataset in the configuration."
    )
