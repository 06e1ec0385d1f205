"""Data sets as they come out of their archives, made small: what is read, left out and refused of each."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from components.example_gen import layouts
from components.example_gen.found_photos import FolderRules
from components.example_gen.layouts import find_photos
from components.example_gen.overview import make_overview
from deploy.production import find_files
from schemas.errors import BadInput

FLOWERS = ("daisy", "dandelion", "roses")
WNIDS = ("n01440764", "n02102040", "n02979186")


def photos(*folders: str, names: str = "{i}.jpg", each: int = 2) -> dict[str, bytes]:
    """A few files in each folder."""
    return {
        f"{folder}/{names.format(i=i, folder=folder.split('/')[-1])}": b"" for folder in folders for i in range(each)
    }


def under(prefix: str, *parts: str) -> list[str]:
    return [f"{prefix}/{part}" for part in parts]


def lines(*text: str) -> bytes:
    return "\n".join(text).encode() + b"\n"


class Layout(NamedTuple):
    """A tree, and what is made of it.

    photos: (class, official split) -> number. left_out: reason -> number. splits: the given ones.
    """

    files: dict[str, bytes]
    photos: dict[tuple[str, str], int]
    left_out: dict[str, int] = {}  # noqa: RUF012
    splits: tuple[str, ...] = ()
    dataset: str = "image_folder"
    labels_from: str = "folders"
    rules: FolderRules = FolderRules()


def of(classes, *splits: str, each: int = 2) -> dict[tuple[str, str], int]:
    return {(name, split): each for name in classes for split in splits or ("",)}


LAYOUTS = {
    "Intel scenes": Layout(
        {
            **photos(*under("seg_train/seg_train", "forest", "sea"), *under("seg_test/seg_test", "forest", "sea")),
            **photos("seg_pred/seg_pred"),
        },
        of(("forest", "sea"), "trainval", "test"),
        {"unlabelled": 2},
        ("test", "train"),
    ),
    "chest x-ray": Layout(
        {
            **photos(*(f"chest_xray/{s}/{c}" for s in ("train", "val", "test") for c in ("NORMAL", "PNEUMONIA"))),
            **photos(
                *(f"chest_xray/chest_xray/{s}/{c}" for s in ("train", "val", "test") for c in ("NORMAL", "PNEUMONIA"))
            ),
            **photos("chest_xray/__MACOSX/chest_xray/train/NORMAL", names="._{i}.jpg"),
            "chest_xray/chest_xray/.DS_Store": b"x",
        },
        of(("NORMAL", "PNEUMONIA"), "train", "eval", "test"),
        {"copy": 12, "hidden_folder": 2, "sidecar": 1},
        ("eval", "test", "train"),
    ),
    "cat-and-dog": Layout(
        {
            **photos(*under("training_set/training_set", "cats", "dogs"), *under("test_set/test_set", "cats", "dogs")),
            "training_set/training_set/cats/_DS_Store": b"\0",
        },
        {("cat", "trainval"): 3, ("dog", "trainval"): 2, **of(("cat", "dog"), "test")},
        {},
        ("test", "train"),
        "cats_vs_dogs",
    ),
    "cats_and_dogs_filtered": Layout(
        {
            **photos(*(f"cats_and_dogs_filtered/{s}/{c}" for s in ("train", "validation") for c in ("cats", "dogs"))),
            "cats_and_dogs_filtered/vectorize.py": b"#",
        },
        of(("cat", "dog"), "traintest", "eval"),
        {"other_file": 1},
        ("eval", "train"),
        "cats_vs_dogs",
    ),
    "dogs-vs-cats": Layout(
        {
            **photos("train", names="cat.{i}.jpg"), **photos("train", names="dog.{i}.jpg"),
            **photos("test1"), "sampleSubmission.csv": b"id,label\n1,0\n",
        },
        of(("cat", "dog")),
        {"unlabelled": 2, "other_file": 1},
        (),
        "cats_vs_dogs",
    ),
    "PetImages": Layout(
        {**photos(*under("PetImages", "Cat", "Dog")), "PetImages/Cat/Thumbs.db": b"x", "readme[1].txt": b"x"},
        of(("cat", "dog")),
        {"sidecar": 1, "other_file": 1},
        (),
        "cats_vs_dogs",
    ),
    "flower_photos": Layout(
        {**photos(*under("flower_photos", *FLOWERS)), "flower_photos/LICENSE.txt": b"x"}, of(FLOWERS), {"other_file": 1}
    ),
    "Stanford Dogs": Layout(
        {
            **photos("Images/n02085620-Chihuahua", "Images/n02085782-Japanese_spaniel"),
            **{
                f"Annotation/{breed}/{breed[:9]}_{i}": b"<annotation>\n\t<folder>02085620</folder>\n</annotation>\n"
                for breed in ("n02085620-Chihuahua", "n02085782-Japanese_spaniel")
                for i in range(2)
            },
            "lists/train_list.mat": b"MATLAB",
        },
        of(("n02085620-Chihuahua", "n02085782-Japanese_spaniel")),
        {"other_file": 5},
    ),
    "Caltech 101": Layout(
        {
            **photos(*under("101_ObjectCategories", "accordion", "airplanes", "BACKGROUND_Google")),
            **dict.fromkeys((f"Annotations/{c}/a_{i}.mat" for c in ("accordion", "airplanes") for i in (1, 2)), b"M"),
        },
        of(("accordion", "airplanes", "BACKGROUND_Google")),
        {"other_file": 4},
    ),
    "Caltech 256": Layout(photos(*under("256_ObjectCategories", "001.ak47", "002.american-flag")),
                          of(("001.ak47", "002.american-flag"))),
    "Imagenette": Layout(
        {
            **photos(*(f"imagenette2/{split}/{c}" for split in ("train", "val") for c in WNIDS), names="{i}.JPEG"),
            "imagenette2/noisy_imagenette.csv": lines(
                "path,noisy_labels_0,noisy_labels_1,is_valid",
                *(f"{s}/{c}/{i}.JPEG,{c},{c},False" for s in ("train", "val") for c in WNIDS for i in range(2)),
            ),
            "imagenette2/.DS_Store": b"x",
        },
        of(WNIDS, "traintest", "eval"),
        {"sidecar": 1, "other_file": 1},
        ("eval", "train"),
    ),
    "Food-101": Layout(
        {
            **photos(*under("food-101/images", "apple_pie", "waffles"), each=4),
            "food-101/meta/train.txt": lines(*(f"{c}/{i}" for c in ("apple_pie", "waffles") for i in range(3))),
            "food-101/meta/test.txt": lines("apple_pie/3", "waffles/3"),
            "food-101/meta/classes.txt": lines("apple_pie", "waffles"),
            "food-101/meta/train.json": b"{}", "food-101/README.txt": b"x",
        },
        {**of(("apple_pie", "waffles"), "trainval", each=3), **of(("apple_pie", "waffles"), "test", each=1)},
        {"other_file": 5},
        ("test", "train"),
    ),
    "brain tumour MRI": Layout(
        photos(*(f"{split}/{c}" for split in ("Training", "Testing") for c in ("glioma", "notumor"))),
        of(("glioma", "notumor"), "trainval", "test"),
        {},
        ("test", "train"),
    ),
    "dog breed identification": Layout(
        {
            **photos("train", names="a{i}.jpg", each=4), **photos("test", names="b{i}.jpg"),
            "labels.csv": lines("id,breed", "a0,pug", "a1,pug", "a2,boxer", "a3,boxer"),
            "sample_submission.csv": lines("id,boxer,pug", "b0,0.5,0.5", "b1,0.5,0.5"),
        },
        of(("boxer", "pug")),
        {"unlabelled": 2, "other_file": 1},
        labels_from="labels.csv (column breed)",
    ),
    "APTOS": Layout(
        {
            **photos("train_images", names="a{i}.png", each=4), **photos("test_images", names="b{i}.png"),
            "train.csv": lines("id_code,diagnosis", "a0,0", "a1,0", "a2,2", "a3,2"),
            "test.csv": lines("id_code", "b0", "b1"),
            "sample_submission.csv": lines("id_code,diagnosis", "b0,0", "b1,0"),
        },
        of(("0", "2")),
        {"unlabelled": 2, "other_file": 2},
        labels_from="train.csv (column diagnosis)",
    ),
    "HAM10000": Layout(
        {
            **photos("HAM10000_images_part_1", names="ISIC_1{i}.jpg"),
            **photos("HAM10000_images_part_2", names="ISIC_2{i}.jpg"),
            "HAM10000_metadata.csv": lines(
                "lesion_id,image_id,dx,age", "H1,ISIC_10,nv,30", "H1,ISIC_20,nv,30", "H2,ISIC_11,mel,40",
                "H3,ISIC_21,mel,50",
            ),
        },
        of(("mel", "nv")),
        labels_from="HAM10000_metadata.csv (column dx)",
        rules=FolderRules(labels="HAM10000_metadata.csv", group="column:lesion_id"),
    ),
    "100 sports": Layout(
        {
            **photos(*(f"{split}/{c}" for split in ("train", "valid", "test") for c in ("judo", "polo"))),
            "sports.csv": lines(
                "class id,filepaths,labels,data set",
                *(
                    f"0,{split}/{c}/{i}.jpg,{c},{split}"
                    for split in ("train", "valid", "test") for c in ("judo", "polo") for i in range(2)
                ),
            ),
            "EfficientNetB0-100.h5": b"x",
        },
        of(("judo", "polo"), "train", "eval", "test"),
        {"other_file": 2},
        ("eval", "test", "train"),
    ),
    "PlantVillage": Layout(
        photos(*under("PlantVillage", "Potato___healthy", "Tomato_Bacterial_spot"),
               *under("PlantVillage/PlantVillage", "Potato___healthy", "Tomato_Bacterial_spot")),
        of(("Potato___healthy", "Tomato_Bacterial_spot")),
        {"copy": 4},
    ),
    "new plant diseases": Layout(
        {
            **photos(*(f"New Plant Diseases Dataset(Augmented)/New Plant Diseases Dataset(Augmented)/{s}/{c}"
                       for s in ("train", "valid") for c in ("Apple___scab", "Apple___healthy"))),
            **photos("test/test"),
        },
        of(("Apple___scab", "Apple___healthy"), "traintest", "eval"),
        {"unlabelled": 2},
        ("eval", "train"),
    ),
    "fruits 360": Layout(
        {
            **photos(*(f"fruits-360/{s}/{c}" for s in ("Training", "Test") for c in ("Apple Red 1", "Kiwi"))),
            **photos("fruits-360/test-multiple_fruits"), "fruits-360/LICENSE": b"MIT", "fruits-360/readme.md": b"x",
        },
        of(("Apple Red 1", "Kiwi"), "trainval", "test"),
        {"unlabelled": 2, "other_file": 2},
        ("test", "train"),
    ),
    "CIFAR-10 in PNG": Layout(
        {
            **photos(*(f"cifar10/{s}/{c}" for s in ("train", "test") for c in ("airplane", "truck")), names="{i}.png"),
            "cifar10/labels.txt": lines("airplane", "truck"),
        },
        of(("airplane", "truck"), "trainval", "test"),
        {"other_file": 1},
        ("test", "train"),
    ),
    "MNIST in PNG": Layout(
        photos(*(f"mnist_png/{s}/{c}" for s in ("training", "testing") for c in "017"), names="{i}.png"),
        of("017", "trainval", "test"),
        {},
        ("test", "train"),
    ),
    "Tiny ImageNet": Layout(
        {
            **photos(*(f"tiny-imagenet-200/train/{c}/images" for c in WNIDS), names="{i}.JPEG"),
            **{f"tiny-imagenet-200/train/{c}/{c}_boxes.txt": b"x\t0\t0\t1\t1\n" for c in WNIDS},
            **photos("tiny-imagenet-200/val/images", names="val_{i}.JPEG", each=3),
            "tiny-imagenet-200/val/val_annotations.txt": lines(
                *(f"val_{i}.JPEG\t{c}\t0\t32\t44\t62" for i, c in enumerate(WNIDS))
            ),
            **photos("tiny-imagenet-200/test/images", names="test_{i}.JPEG"),
            "tiny-imagenet-200/wnids.txt": lines(*WNIDS),
            "tiny-imagenet-200/words.txt": lines(
                "n01440764\ttench, Tinca tinca", "n02102040\tEnglish springer", "n02979186\tcassette player", "n1\tx"
            ),
        },
        {
            **of(("tench", "English springer", "cassette player"), "traintest"),
            **of(("tench", "English springer", "cassette player"), "eval", each=1),
        },
        {"unlabelled": 2, "other_file": 6},
        ("eval", "train"),
    ),
    "ImageNet": Layout(
        {
            **photos(*(f"ILSVRC/Data/CLS-LOC/train/{c}" for c in WNIDS), names="{folder}_{i}.JPEG"),
            **photos("ILSVRC/Data/CLS-LOC/val", "ILSVRC/Data/CLS-LOC/test", names="{folder}_{i}.JPEG"),
            **{f"ILSVRC/Annotations/CLS-LOC/train/{c}/{c}_0.xml": b"<a/>" for c in WNIDS},
            "ILSVRC/ImageSets/CLS-LOC/train_cls.txt": b"n01440764/n01440764_0 1\n",
            "LOC_synset_mapping.txt": lines(
                "n01440764 tench, Tinca tinca", "n02102040 English springer", "n02979186 cassette player"
            ),
        },
        of(("tench", "English springer", "cassette player")),
        {"unlabelled": 4, "other_file": 5},
    ),
    "EuroSAT": Layout(photos(*under("2750", "AnnualCrop", "Forest"), names="{folder}_{i}.jpg"),
                      of(("AnnualCrop", "Forest"))),
    "garbage classification": Layout(
        {
            **photos(*under("Garbage classification/Garbage classification", "glass", "metal"), names="{folder}.{i}"),
            "one-indexed-files-notrash_train.txt": lines("glass.0 1", "metal.0 2"),
        },
        of(("glass", "metal")),
        {"other_file": 1},
    ),
    "Animals-10": Layout(
        {**photos(*under("raw-img", "cane", "gatto")), "translate.py": b"x"}, of(("cane", "gatto")), {"other_file": 1}
    ),
    "hymenoptera": Layout(
        photos(*(f"hymenoptera_data/{s}/{c}" for s in ("train", "val") for c in ("ants", "bees"))),
        of(("ants", "bees"), "traintest", "eval"),
        {},
        ("eval", "train"),
    ),
    "ASL alphabet": Layout(
        photos(*under("asl_alphabet_train/asl_alphabet_train", "A", "space"), "asl_alphabet_test/asl_alphabet_test"),
        of(("A", "space")),
        {"unlabelled": 2},
    ),
    "rock paper scissors": Layout(
        {
            **photos(*under("rps/rps", "paper", "rock"), *under("rps-test-set/rps-test-set", "paper", "rock")),
            **photos("rps-validation"),
        },
        of(("paper", "rock"), "trainval", "test"),
        {"unlabelled": 2},
        ("test", "train"),
    ),
    "classes, then splits": Layout(
        photos(*(f"{c}/{s}" for c in ("ants", "bees") for s in ("train", "val", "test"))),
        of(("ants", "bees"), "train", "eval", "test"),
        {},
        ("eval", "test", "train"),
    ),
}  # fmt: skip


def write(root: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content or Path(path).name.encode())


LAYOUTS |= {
    "splits beside pictures of something else": Layout(
        {**photos(*(f"{s}/{c}" for s in ("train", "test") for c in ("cat", "dog"))), **photos("masks")},
        of(("cat", "dog"), "trainval", "test"),
        {"unlabelled": 2},
        ("test", "train"),
    ),
    "an image_folder beside test1 and a list": Layout(
        {
            **photos(*(f"{s}/{c}" for s in ("train", "valid") for c in ("cat", "dog"))),
            **photos("test1", names="x{i}.jpg"), "labels.csv": lines("id,label", "0,cat", "1,dog"),
        },
        of(("cat", "dog"), "traintest", "eval"),
        {"unlabelled": 2, "other_file": 1},
        ("eval", "train"),
    ),
    "sidecars beside every photo": Layout(
        {
            **photos("cat", "dog"), **photos("cat", "dog", names="._{i}.jpg"), **photos("cat", names="{i}.jpg.json"),
            **photos("dog", names="{i}.jpg:Zone.Identifier"), ".DS_Store": b"x", "cat/.DS_Store": b"x",
        },
        of(("cat", "dog")),
        {"sidecar": 8, "other_file": 2},
    ),
    "one photo in a class": Layout(
        {**photos("cat", "dog"), "lynx/1.jpg": b"x"}, {**of(("cat", "dog")), ("lynx", ""): 1}
    ),
    "blanks and capitals of cats and dogs": Layout(
        photos("Cat", "dog "), of(("cat", "dog")), {}, (), "cats_vs_dogs"
    ),
    "a name in normal form D": Layout(
        photos("chat", "chien_franc\u0327ais"), of(("chat", "chien_fran\u00e7ais"))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_public_data_set_is_read_as_it_comes(name, tmp_path):
    layout = LAYOUTS[name]
    write(tmp_path, layout.files)
    found = find_photos(str(tmp_path), layout.dataset, layout.rules)
    assert Counter((photo.label, photo.official_split) for photo in found.photos) == layout.photos
    assert found.rejected == []
    assert Counter(file.reason for file in found.left_out) == layout.left_out
    assert tuple(sorted(found.splits)) == layout.splits
    assert found.labels_from == layout.labels_from
    assert set(found.classes) == {label for label, _ in layout.photos}
    tables = 0 if layout.labels_from == "folders" else 1
    assert len(found.photos) + len(found.left_out) + tables == len(layout.files)


REFUSED = {
    "Office-31": (
        photos(*(f"{domain}/images/{c}" for domain in ("amazon", "dslr") for c in ("back_pack", "bike"))),
        r"amazon/, dslr/ contain folders with the same names \(back_pack, bike\), so either level could be the "
        r"classes; give one of them as the data folder, such as .*/amazon",
    ),
    "PACS": (
        photos(*(f"pacs/{domain}/{c}" for domain in ("photo", "sketch") for c in ("dog", "horse"))),
        r"photo/, sketch/ contain folders with the same names \(dog, horse\)",
    ),
    "CUB with its segmentations": (
        photos(*(f"{part}/{c}" for part in ("images", "segmentations") for c in ("001.Albatross", "002.Auklet"))),
        r"images/, segmentations/ contain folders with the same names",
    ),
    "COVID radiography": (
        photos(*(f"{c}/{part}" for c in ("COVID", "Normal") for part in ("images", "masks"))),
        r"COVID/, Normal/ contain folders with the same names \(images, masks\)",
    ),
    "Stanford Cars": (
        photos("cars_train/cars_train", "cars_test/cars_test"),
        r"contains cars_test/, cars_train/, which are named like splits, with photos but no class folders in them",
    ),
    "photos without a label beside classes": (
        photos("cat", "dog", "test"),
        r"contains test/, which is named like a split, next to cat, dog; if its photos have no labels, move it away; "
        r"if it is a class, rename it, for example to tests",
    ),
    "one split beside classes": (
        {**photos("cat", "dog"), **photos("train/cat", "train/dog", names="more.{i}.jpg")},
        r"contains train/, which looks like a split with the classes cat, dog, next to cat, dog; give .*/train as",
    ),
    "one split beside something": (
        photos("train/cat", "train/dog", "masks"),
        r"contains train/, which looks like a split with the classes cat, dog, next to masks; give .*/train as the",
    ),
    "nothing to learn from": (
        photos("val/cat", "val/dog", "test/cat", "test/dog"),
        r"contains test/, val/ with class folders, but no train/ with any; expected photos to train on",
    ),
    "more of the same beside splits": (
        photos(*(f"{s}/{c}" for s in ("train", "test", "extra") for c in ("cat", "dog"))),
        r"extra/, test/, train/ contain folders with the same names \(cat, dog\)",
    ),
    "two pools": (
        photos("pool_a/cat", "pool_a/dog", "pool_b/cat", "pool_b/dog", "pool_b/fox"),
        r"pool_a/, pool_b/ contain folders with the same names \(cat, dog\)",
    ),
    "a changed copy": (
        {**photos("cat", "dog", "all/cat", "all/dog"), "all/cat/new.jpg": b"x"},
        r"all contains folders with the same names as those next to it \(cat, dog\), but with different photos",
    ),
    "splits beside another folder": (
        photos(*(f"ds/{s}/{c}" for s in ("train", "test") for c in ("fox", "owl")), "docs"),
        r"contains ds/ with splits in it \(test, train\), next to docs; give .*/ds as the data folder",
    ),
    "splits in several folders": (
        photos(*(f"flowers/{s}/{c}" for s in ("train", "val") for c in ("rose", "tulip")),
               *(f"pets/{s}/{c}" for s in ("train", "val") for c in ("cat", "dog"))),
        r"contains flowers/ with splits in it \(train, val\), next to pets; give .*/flowers as the data folder",
    ),
    "splits of splits": (
        photos(*(f"train/{s}/{c}" for s in ("train", "val") for c in ("fox", "owl")), "test"),
        r"train/, val/ contain folders with the same names|contains splits",
    ),
    "domains below splits": (
        photos(*(f"{s}/{d}/{c}" for s in ("train", "test") for d in ("amazon", "dslr") for c in ("bike", "mug"))),
        r"amazon/, dslr/ contain folders with the same names \(bike, mug\)",
    ),
    "photos to learn from without a class": (
        photos("train", "test/fox", "test/owl"),
        r"contains test/ with class folders, but no train/ with any; expected photos to train on",
    ),
    "a class partly split": (
        photos("cat/train", "cat/test", "fox"),
        r"contains cat/ with the splits test, train, but fox/ has no train/",
    ),
    "categories with splits of states": (
        photos(*(f"{c}/{s}" for c in ("bottle", "cable") for s in ("train/good", "test/good", "test/broken"))),
        r"bottle/",
    ),
    "flowers 102": (
        {**photos("jpg"), "imagelabels.mat": b"MATLAB"}, None,
    ),
    "UTKFace": (
        {"1_0_0.jpg": b"1", "2_1_0.jpg": b"2"},
        r"does not look like image_folder: found 1_0_0\.jpg, 2_1_0\.jpg; expected one folder of photos for each class",
    ),
    "a table without a label": (
        {**photos("images"), "ground_truth.csv": lines("image,MEL,NV", "0,1.0,0.0", "1,0.0,1.0")},
        r"are in one folder, and no table next to them can be read: .*ground_truth.csv has the columns image, MEL, NV",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_mean_two_things_is_refused_with_both(name, tmp_path):
    files, says = REFUSED[name]
    write(tmp_path, files)
    if says is None:  # one folder: the run refuses a single class
        found = find_photos(str(tmp_path), "image_folder")
        assert len(found.classes) == 1
        return
    with pytest.raises(BadInput, match=says):
        find_photos(str(tmp_path), "image_folder")


CATS_VS_DOGS = {
    "doubled levels": (
        {f"{s}/{s}/{c}.{i}.jpg": b"" for s in ("train", "test") for c in ("cat", "dog") for i in range(2)},
        of(("cat", "dog"), "trainval", "test"),
    ),
    "a folder a species": (
        {f"{f}/{c}.{i}.jpg": b"" for f, c in (("a", "cat"), ("b", "dog")) for i in range(2)}, of(("cat", "dog")),
    ),
    "the rest beside val": (
        {f"{f}{c}.{i}.jpg": b"" for f in ("", "val/") for c in ("cat", "dog") for i in range(2)},
        of(("cat", "dog"), "traintest", "eval"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CATS_VS_DOGS)
def test_every_photo_with_a_species_in_its_name_is_read(tmp_path, name):
    files, expected = CATS_VS_DOGS[name]
    write(tmp_path, files)
    found = find_photos(str(tmp_path), "cats_vs_dogs")
    assert Counter((photo.label, photo.official_split) for photo in found.photos) == expected


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            {**{f"train/{c}.0.jpg": b"" for c in ("cat", "dog")}, **photos("test/cats", "test/dogs")},
            "no train/ with any",
        ),
        ({f"{s}/{c}.0.jpg": b"" for s in ("val", "test") for c in ("cat", "dog")}, "none in a folder to learn from"),
    ],
)
def test_species_that_could_only_be_tested_on_are_refused(tmp_path, files, says):
    write(tmp_path, files)
    with pytest.raises(BadInput, match=says):
        find_photos(str(tmp_path), "cats_vs_dogs")


def test_a_few_pictures_beside_the_classes_do_not_hide_them(tmp_path):
    write(tmp_path, {**photos("ds/fox", "ds/owl", each=12), "ds/sample.png": b"x"})
    found = find_photos(str(tmp_path), "image_folder")
    assert found.classes == ["fox", "owl"]
    assert [(file.file_name, file.reason) for file in found.left_out] == [("ds/sample.png", "unlabelled")]


def test_lists_of_many_folds_are_not_mixed(tmp_path):
    write(tmp_path, {**photos("images/fox", "images/owl", each=4), **{
        f"labels/{split}{fold}.txt": lines(*(f"{c}/{(i + fold) % 4}.jpg" for c in ("fox", "owl") for i in of_split))
        for fold in (1, 2) for split, of_split in (("train", (0, 1)), ("val", (2,)), ("test", (3,)))
    }})  # fmt: skip
    with pytest.raises(
        BadInput, match=r"is listed in both labels/\w+.txt and labels/\w+.txt .*set data.labels=folders"
    ):
        find_photos(str(tmp_path), "image_folder")
    assert find_photos(str(tmp_path), "image_folder", FolderRules(labels="folders")).splits == {}


def test_a_list_that_is_a_pipe_is_not_opened(tmp_path):
    write(tmp_path, photos("cat", "dog"))
    os.mkfifo(tmp_path / "labels.csv")
    found = find_photos(str(tmp_path), "image_folder")
    assert [(file.file_name, file.reason) for file in found.left_out] == [("labels.csv", "no_file")]


def test_one_species_alone_is_not_taken_for_cats_vs_dogs(tmp_path):
    write(tmp_path, photos("dogs/Images/n02085620-Chihuahua", "dogs/Images/n02085782-Spaniel"))
    assert layouts.guess_dataset(str(tmp_path)) == "image_folder"


def test_folders_as_deep_as_a_path_can_be(tmp_path):
    deep = tmp_path
    try:
        for _ in range(1200):
            deep /= "d"
            deep.mkdir()
        write(deep, photos("cat", "dog"))
        assert find_photos(str(tmp_path), "image_folder").classes == ["cat", "dog"]
    finally:  # too deep for pytest's own way to remove it
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


def test_series_below_classes_are_no_classes_where_the_user_says_so(tmp_path):
    write(tmp_path, photos(*(f"{c}/{day}" for c in ("cat", "dog") for day in ("monday", "tuesday"))))
    found = find_photos(str(tmp_path), "image_folder", FolderRules(group="folder"))
    assert {(p.label, p.group) for p in found.photos} == {
        ("cat", "cat/monday"), ("cat", "cat/tuesday"), ("dog", "dog/monday"), ("dog", "dog/tuesday")
    }  # fmt: skip


def test_a_table_against_the_folders_is_asked_about(tmp_path):
    layout = LAYOUTS["HAM10000"]
    write(tmp_path, layout.files)
    with pytest.raises(BadInput) as error:
        find_photos(str(tmp_path), "image_folder")
    assert str(error.value) == (
        f"the folders in {tmp_path} and HAM10000_metadata.csv (column dx) disagree on the classes: "
        "the folders have HAM10000_images_part_1, HAM10000_images_part_2, the table has mel, nv; "
        "set data.labels=folders or data.labels=HAM10000_metadata.csv"
    )
    by_folder = find_photos(str(tmp_path), "image_folder", FolderRules(labels="folders"))
    assert by_folder.classes == ["HAM10000_images_part_1", "HAM10000_images_part_2"]


def test_every_class_that_is_meant_is_known_and_so_is_what_each_lost(tmp_path):
    write(tmp_path, {**photos("cat", "dog"), "rabbit/1.webp": b"x"})
    (tmp_path / "hamster").mkdir()
    os.symlink(tmp_path / "nowhere", tmp_path / "dog" / "9.jpg")
    found = find_photos(str(tmp_path), "image_folder")
    assert found.classes == ["cat", "dog", "hamster", "rabbit"]
    [lost] = found.rejected
    assert (lost.file_name, lost.reason, lost.label) == ("dog/9.jpg", "unreadable", "dog")
    assert make_overview(str(tmp_path), "image_folder", found).lines()[:2] == [
        f"{tmp_path}: 5 photos of 4 classes (cat 2, dog 2, rabbit 1, hamster 0)",
        "  without photos: hamster",
    ]


def test_linked_folders_are_classes_for_a_run_and_for_predict(tmp_path):
    write(tmp_path / "elsewhere", photos("a", "b"))
    (tmp_path / "photos").mkdir()
    for name, target in (("cat", "a"), ("dog", "b")):
        (tmp_path / "photos" / name).symlink_to(tmp_path / "elsewhere" / target)
    found = find_photos(str(tmp_path / "photos"), "image_folder")
    assert Counter(photo.label for photo in found.photos) == {"cat": 2, "dog": 2}
    assert find_files((str(tmp_path / "photos"),)) == [photo.path for photo in found.photos]


@pytest.mark.parametrize(
    "names", [("Cat", "cat"), ("dog", "dog "), ("chien_franc\u0327ais", "chien_fran\u00e7ais"), ("a\u2028b", "c")]
)
def test_class_folders_that_nobody_could_tell_apart_are_refused(tmp_path, names):
    write(tmp_path, photos("other", *names))
    with pytest.raises(BadInput, match=r"look the same|has a control character or a line break"):
        find_photos(str(tmp_path), "image_folder")


@pytest.mark.parametrize(
    ("files", "dataset"),
    [
        (LAYOUTS["PetImages"].files, "cats_vs_dogs"),
        (LAYOUTS["dogs-vs-cats"].files, "cats_vs_dogs"),
        (LAYOUTS["cats_and_dogs_filtered"].files, "cats_vs_dogs"),
        (LAYOUTS["flower_photos"].files, "image_folder"),
        (photos("cat", "dog", "rabbit"), "image_folder"),
        ({**photos("images"), "annotations/list.txt": b"x"}, "oxford_iiit_pet"),
        ({"1.0.0/dataset_info.json": b'{"name": "oxford_iiit_pet"}'}, "oxford_iiit_pet"),
    ],
)
def test_a_folder_is_known_by_its_looks(tmp_path, files, dataset):
    write(tmp_path, files)
    assert layouts.guess_dataset(str(tmp_path)) == dataset
