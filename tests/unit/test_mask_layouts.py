"""Which mask belongs to which photo, in the layouts that programs write."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.example_gen import layouts
from components.example_gen.found_photos import FolderContents, FolderRules
from components.example_gen.overview import make_overview
from schemas.errors import BadInput

RULES = FolderRules(masks=True)


def write(root: Path, *names: str, **contents: str) -> None:
    for name, content in {**dict.fromkeys(names, "x"), **contents}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def find(root: Path, dataset: str = "image_masks", rules: FolderRules = RULES) -> FolderContents:
    return layouts.find_photos(str(root), dataset, rules)


def pairs(found: FolderContents) -> dict[str, str]:
    for photo in found.photos:
        assert photo.mask.endswith("/" + photo.mask_name)
        assert photo.path.endswith("/" + photo.file_name)
    return {photo.file_name: photo.mask_name for photo in found.photos}


def reasons(files) -> dict[str, str]:
    return {file.file_name: file.reason for file in files}


PAIRS = {
    "plain": {"images/a.jpg": "masks/a.png", "images/b.png": "masks/b.png"},
    "in a folder of its own": {"cats/images/a.jpg": "cats/masks/a.png"},
    "other endings": {"images/a.JPG": "masks/a.bmp", "images/b.webp": "masks/b.tif"},
    "a word behind the name": {
        "images/a.jpg": "masks/a_mask.png", "images/b.jpg": "masks/b_seg.png", "images/c.jpg": "masks/c-mask.png",
    },
    "a photo whose name ends like a mask's": {"images/a_mask.jpg": "masks/a_mask.png", "images/a.jpg": "masks/a.png"},
    "deep folders": {"images/x/y/a.jpg": "masks/x/y/a.png", "images/x/z/a.jpg": "masks/x/z/a.png"},
    "Pascal VOC": {"JPEGImages/2007_01.jpg": "SegmentationClass/2007_01.png"},
    "Pascal VOC as unpacked": {"VOCdevkit/VOC2012/JPEGImages/a.jpg": "VOCdevkit/VOC2012/SegmentationClass/a.png"},
    "ADE20K": {"images/training/a.jpg": "annotations/training/a.png"},
    "Cityscapes": {
        "leftImg8bit/train/aachen/aachen_0_leftImg8bit.png": "gtFine/train/aachen/aachen_0_gtFine_labelIds.png",
    },
    "Carvana": {"train/a.jpg": "train_masks/a_mask.png"},
    "CamVid": {"train/a.png": "train_labels/a_L.png", "test/b.png": "test_labels/b_L.png"},
}  # fmt: skip


@pytest.mark.parametrize("layout", PAIRS)
def test_each_photo_has_its_mask(tmp_path, layout):
    expected = PAIRS[layout]
    write(tmp_path, *expected, *expected.values())
    found = find(tmp_path)
    assert pairs(found) == expected
    assert (found.rejected, found.left_out, found.layout) == ([], [], "image_masks")
    assert {(photo.label, photo.dataset) for photo in found.photos} == {("", "image_masks")}


def test_a_mask_without_a_photo_and_a_photo_without_a_mask(tmp_path):
    write(tmp_path, "images/a.jpg", "masks/a.png", "images/x/b.jpg", "masks/c.png")
    found = find(tmp_path)
    assert pairs(found) == {"images/a.jpg": "masks/a.png"}
    assert {file.reason: file.detail for file in found.rejected} == {
        "mask_missing": "images/x/b.jpg has no mask; expected masks/x/b.png, or remove the photo.",
        "photo_missing": "masks/c.png is a mask without a photo of its name; add the photo, or remove it.",
    }


def test_two_masks_for_a_photo_and_two_photos_for_a_mask(tmp_path):
    write(tmp_path, "images/a.jpg", "masks/a.png", "masks/a_mask.png", "images/b.jpg", "images/b.png", "masks/b.png")
    write(tmp_path, "images/c.jpg", "masks/c.png")
    found = find(tmp_path)
    assert list(pairs(found)) == ["images/c.jpg"]
    assert {file.file_name: (file.reason, file.detail) for file in found.rejected} == {
        "images/a.jpg": (
            "mask_ambiguous", "images/a.jpg has 2 masks, masks/a.png and masks/a_mask.png; keep one of them."
        ),
        "images/b.jpg": (
            "mask_ambiguous",
            "images/b.jpg and images/b.png have one mask between them, masks/b.png; rename one of the photos, and add "
            "its mask.",
        ),
        "images/b.png": (
            "mask_ambiguous",
            "images/b.png and images/b.jpg have one mask between them, masks/b.png; rename one of the photos, and add "
            "its mask.",
        ),
    }  # fmt: skip


def test_pictures_beside_photos_and_masks_are_left_out(tmp_path):
    beside = ["cover.jpg", "gtFine/a_gtFine_color.png", "gtFine/a_gtFine_instanceIds.png", "SegmentationObject/a.png"]
    write(tmp_path, "images/a.jpg", "gtFine/a_gtFine_labelIds.png", *beside, "images/._a.jpg", "gtFine/._a.png")
    found = find(tmp_path)
    assert pairs(found) == {"images/a.jpg": "gtFine/a_gtFine_labelIds.png"}
    expected = dict.fromkeys(beside, "beside_masks")
    assert reasons(found.left_out) == {**expected, "images/._a.jpg": "sidecar", "gtFine/._a.png": "sidecar"}
    assert found.rejected == []


@pytest.mark.parametrize("pattern", ["{split}/{role}/{name}", "{role}/{split}/{name}"])
def test_splits_above_and_below(tmp_path, pattern):
    for split in ("train", "val", "test"):
        write(tmp_path, pattern.format(split=split, role="images", name=f"{split}.jpg"))
        write(tmp_path, pattern.format(split=split, role="masks", name=f"{split}.png"))
    found = find(tmp_path)
    assert {Path(photo.file_name).stem: photo.official_split for photo in found.photos} == {
        "train": "train", "val": "eval", "test": "test",
    }  # fmt: skip
    assert found.splits == {"eval": ["the folders"], "test": ["the folders"], "train": ["the folders"]}


def test_pascal_voc_reads_its_lists(tmp_path):
    lists = "ImageSets/Segmentation/"
    for name in "abcdef":
        write(tmp_path, f"JPEGImages/{name}.jpg", *([f"SegmentationClass/{name}.png"] if name < "e" else []))
    texts = {"train": "a\nb\n", "val": "c\nd\n", "trainval": "a\nb\nc\nd\n"}
    write(tmp_path, **{f"{lists}{name}.txt": text for name, text in texts.items()})
    # Of the detection task, in which the same photos are in other splits.
    write(tmp_path, **{"ImageSets/Main/train.txt": "c\nd\ne\n", "ImageSets/Main/val.txt": "a\nb\nf\n"})
    found = find(tmp_path)
    assert {Path(photo.file_name).stem: photo.official_split for photo in found.photos} == {
        "a": "traintest", "b": "traintest", "c": "eval", "d": "eval",
    }  # fmt: skip
    photos_left_out = [file for file in found.left_out if file.file_name.startswith("JPEGImages")]
    assert reasons(photos_left_out) == {"JPEGImages/e.jpg": "unlabelled", "JPEGImages/f.jpg": "unlabelled"}
    assert found.rejected == []


def test_lists_of_splits_beside_the_photos(tmp_path):
    for name in "abc":
        write(tmp_path, f"images/{name}.jpg", f"masks/{name}.png")
    write(tmp_path, **{"train.txt": "a\nb\n", "test.txt": "c\n"})
    found = find(tmp_path)
    assert [photo.official_split for photo in found.photos] == ["trainval", "trainval", "test"]


def test_series_share_a_split(tmp_path):
    for name in ("cow_1", "cow_2", "sheep_1"):
        write(tmp_path, f"images/{name}.jpg", f"masks/{name}.png")
    found = find(tmp_path, rules=FolderRules(masks=True, group="prefix:_"))
    assert [photo.group for photo in found.photos] == ["cow", "cow", "sheep"]


def test_the_label_map_is_found_wherever_cvat_puts_it(tmp_path):
    write(tmp_path, "set/JPEGImages/a.jpg", "set/SegmentationClass/a.png")
    write(tmp_path, **{"set/labelmap.txt": "background:0,0,0::\ncat:1,2,3::\n"})
    assert find(tmp_path).mask_classes.names == ("background", "cat")


def test_coco_is_told_apart(tmp_path):
    write(tmp_path, "images/a.jpg")
    write(tmp_path, **{"annotations/instances.json": '{"images": [], "annotations": [], "categories": []}'})
    with pytest.raises(
        BadInput, match=r"annotations in COCO's format \(annotations/instances.json\), which are not rea"
    ):
        find(tmp_path)


def test_no_masks_at_all(tmp_path):
    write(tmp_path, "cat/a.jpg", "dog/b.jpg")
    with pytest.raises(BadInput, match=r"has no folder of masks: found cat/, dog/; expected images/ and masks/ with f"):
        find(tmp_path)


def test_masks_for_other_photos_only(tmp_path):
    write(tmp_path, "images/a.jpg", "masks/b.png")
    with pytest.raises(BadInput, match=r"images/a.jpg has no mask; expected masks/a.png, or remove the photo"):
        find(tmp_path)


def oxford(root: Path) -> None:
    lines = {"trainval": "Abyssinian_1 1 1 1\nbeagle_2 5 2 4\n", "test": "Abyssinian_3 1 1 1\nbeagle_4 5 2 4\n"}
    write(root, **{f"annotations/{name}.txt": text for name, text in lines.items()})
    write(root, **{"annotations/list.txt": "#Image CLASS-ID\n" + lines["trainval"] + lines["test"]})
    names = ("Abyssinian_1", "beagle_2", "Abyssinian_3", "beagle_4")
    write(root, *(f"images/{name}.jpg" for name in names), "annotations/xmls/beagle_2.xml")
    write(root, *(f"annotations/trimaps/{name}.png" for name in names[:3]))


def test_trimaps_are_paired_and_sidecars_of_macos_passed_over(tmp_path):
    oxford(tmp_path)
    # As in the official archive: sidecars, and trimaps of photos that no list has.
    write(tmp_path, *(f"annotations/trimaps/._{name}.png" for name in ("Abyssinian_1", "beagle_4")))
    write(tmp_path, "annotations/trimaps/beagle_9.png", "images/beagle_8.jpg", "annotations/trimaps/beagle_8.png")
    found = find(tmp_path, "oxford_iiit_pet")
    assert pairs(found) == {
        f"images/{name}.jpg": f"annotations/trimaps/{name}.png" for name in ("Abyssinian_1", "Abyssinian_3", "beagle_2")
    }
    assert {file.file_name: (file.reason, file.detail) for file in found.rejected} == {
        "annotations/trimaps/beagle_9.png": (
            "photo_missing", "annotations/trimaps/beagle_9.png is a trimap without the photo images/beagle_9.jpg."
        ),
        "images/beagle_4.jpg": (
            "mask_missing",
            "images/beagle_4.jpg has no trimap; expected annotations/trimaps/beagle_4.png, or remove the photo.",
        ),
        "images/beagle_8.jpg": (
            "not_listed", "images/beagle_8.jpg is not listed in list.txt, trainval.txt or test.txt."
        ),
    }  # fmt: skip
    assert found.mask_classes.names == ("pet", "background", "border")
    assert [photo.official_split for photo in found.photos] == ["trainval", "test", "trainval"]


def test_two_trimaps_of_a_photo(tmp_path):
    oxford(tmp_path)
    write(tmp_path, "annotations/trimaps/beagle_2.bmp")
    assert reasons(find(tmp_path, "oxford_iiit_pet").rejected)["images/beagle_2.jpg"] == "mask_ambiguous"


def test_without_segmentation_trimaps_are_passed_over(tmp_path):
    oxford(tmp_path)
    found = find(tmp_path, "oxford_iiit_pet", FolderRules())
    assert (len(found.photos), found.rejected, found.mask_classes) == (4, [], None)
    assert {photo.mask for photo in found.photos} == {""}


def test_a_data_set_without_masks_is_refused(tmp_path):
    write(tmp_path, "cat/a.jpg", "dog/b.jpg")
    with pytest.raises(BadInput, match="image_folder has no masks; expected one of oxford_iiit_pet, image_masks"):
        find(tmp_path, "image_folder")


@pytest.mark.parametrize(
    ("names", "dataset"),
    [
        (["images/a.jpg", "masks/a.png"], "image_masks"),
        (["set/images/a.jpg", "set/masks/a.png"], "image_masks"),
        (["train/Images/a.jpg", "train/Masks/a.png", "val/Images/b.jpg", "val/Masks/b.png"], "image_masks"),
        (["images/train/a.jpg", "masks/train/a.png"], "image_masks"),
        (["VOCdevkit/JPEGImages/a.jpg", "VOCdevkit/SegmentationClass/a.png"], "image_masks"),
        # Classes, each with masks of its own, as in the COVID-19 radiography database.
        (["COVID/images/a.png", "COVID/masks/a.png", "Normal/images/b.png", "Normal/masks/b.png"], "image_folder"),
        (["masks/a.jpg", "hats/b.jpg"], "image_folder"),
        (["images/cat/a.jpg", "labels/cat/a.jpg"], "image_folder"),
    ],
)
def test_the_folder_is_recognised(tmp_path, names, dataset):
    write(tmp_path, *names)
    assert layouts.guess_dataset(str(tmp_path)) == dataset


def test_an_oxford_folder_with_trimaps_is_one_of_breeds(tmp_path):
    oxford(tmp_path)
    assert layouts.guess_dataset(str(tmp_path)) == "oxford_iiit_pet"


def test_the_overview_names_the_classes(tmp_path):
    write(tmp_path, "images/a.jpg", "masks/a.png", "images/b.jpg")

    def overview(rules=RULES):
        return make_overview("photos", "image_masks", find(tmp_path, rules=rules), masks=True)

    assert overview().lines() == [
        "photos: 1 photos with masks, whose values give the classes",
        "  rejected: 1 mask_missing (images/b.jpg)",
    ]
    write(tmp_path, **{"classes.txt": "background\ncat\n"})
    where = tmp_path / "classes.txt"
    assert overview().lines()[0] == f"photos: 1 photos with masks of 2 classes, by {where} (background, cat)"
    assert overview().as_dict()["mask_classes"] == ("background", "cat")
    write(tmp_path, **{"classes.txt": "background\ncat\nrug\n"})
    without = overview(FolderRules(masks=True, ignore=("rug",)))
    assert without.lines()[0] == f"photos: 1 photos with masks of 2 classes, by {where} (background, cat; without rug)"
    assert without.as_dict()["ignored_classes"] == ("rug",)


def test_the_overview_of_classes_is_as_it_was(tmp_path):
    write(tmp_path, "cat/a.jpg", "dog/b.jpg")
    found = find(tmp_path, "image_folder", FolderRules())
    assert not {"masks", "mask_classes", "ignored_classes"} & set(
        make_overview("photos", "image_folder", found).as_dict()
    )


FOLDERS = (
    "",
    "images",
    "masks",
    "train/images",
    "train/masks",
    "images/train",
    "gtFine",
    "SegmentationObject",
    "other",
)
NAMES = ("a.jpg", "a.png", "b.jpg", "b_mask.png", "b_seg.png", "a_gtFine_color.png", "a_gtFine_labelIds.png", "c.txt")


@settings(max_examples=60, deadline=None)
@given(st.sets(st.tuples(st.sampled_from(FOLDERS), st.sampled_from(NAMES)), min_size=1, max_size=12))
def test_no_file_is_lost_in_silence(names):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = {f"{folder}/{name}".lstrip("/") for folder, name in names}
        write(root, *paths)
        try:
            found = find(root)
        except BadInput:
            return
        told = [*found.rejected, *found.left_out]
        listed = {file.file_name for file in told} | {name for pair in pairs(found).items() for name in pair}
        assert {path for path in paths - listed if not any(path in file.detail for file in told)} == set()
        assert len(set(pairs(found).values())) == len(found.photos), "a mask belongs to one photo"
