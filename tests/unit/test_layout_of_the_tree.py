"""The rooms of the repository, and what lies in none of them."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from schemas import features as f
from schemas.schema_files import classes, mask_classes

REPOSITORY = Path(__file__).parents[2]
ROOMS = ("schemas", "samples", "components", "pipeline", "deploy", "warmstart")
SOURCES = [path for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py"))]
SCHEMAS = sorted((REPOSITORY / "schemas").glob("*.pbtxt"))
FEATURES = (
    f.IMAGE, f.LABEL, f.FILE_NAME, f.DATASET, f.SPECIES, f.BREED, f.IMAGE_FORMAT, f.WIDTH, f.HEIGHT, f.CONTENT_HASH,
    f.PERCEPTUAL_HASH,
)  # fmt: skip
MASK_FEATURES = (f.MASK, f.MASK_CLASSES, f.MASK_HASH)


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def imported_modules(source: str) -> set[str]:
    """Dotted names of everything that is imported, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def tracked_texts() -> dict[str, str]:
    """Path -> content of every text file that git tracks."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    texts = {}
    for path in filter(None, listed.stdout.split("\0")):
        file = REPOSITORY / path
        content = file.read_bytes() if file.is_file() else b""
        if b"\0" not in content:
            texts[path] = content.decode("utf-8", "replace")
    assert "pyproject.toml" in texts
    return texts


def found_in(texts: dict[str, str], pattern: str) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()[:120]}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]


def test_imports_are_found_wherever_they_stand():
    source = "import a.b\nfrom .c import d\ndef e():\n    from pipeline.config import Config\n"
    assert imported_modules(source) == {"a.b", ".c", "pipeline.config"}


@pytest.mark.parametrize(("room", "forbidden"), [(ROOMS[i], ROOMS[i + 1 :]) for i in range(5)])
def test_a_room_imports_none_of_the_later_ones(room, forbidden):
    wrong = [
        f"{name(path)} imports {module}"
        for path in SOURCES
        if path.is_relative_to(REPOSITORY / room)
        for module in sorted(imported_modules(path.read_text(encoding="utf-8")))
        if module.split(".")[0] in (*forbidden, "tests", "benchmarks")
    ]
    assert wrong == []


def test_imports_are_absolute_and_written_out():
    wrong = []
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        wrong += [f"{name(path)} imports {module}" for module in imported_modules(text) if module.startswith(".")]
        wrong += [name(path) for word in ("import_module(", "__import__(") if word in text]
    assert wrong == []


def test_every_folder_of_sources_is_a_package():
    assert len(SOURCES) > 50
    assert sorted({name(path.parent) for path in SOURCES if not (path.parent / "__init__.py").is_file()}) == []


def test_no_file_is_named_for_nothing():
    assert [path for path in tracked_texts() if Path(path).stem in ("utils", "util", "common", "helpers", "misc")] == []


def test_nothing_is_left_to_do():
    assert found_in(tracked_texts(), r"\b(TO" + r"DO|FIX" + r"ME)\b") == []


def test_no_file_names_a_developers_machine_or_package_registry():
    texts = tracked_texts()
    # A folder of the machine at the start of a path; inside an address it is somebody else's.
    folders = r"(?<![\w.:/-])/(root|work|home|Users)" + "/"
    assert found_in(texts, folders) == []
    registries = r"(https?|file)://[^\s\"']*(" + r"/sim" + r"ple\b|devpi|artifactory|nexus|jfrog)"
    assert found_in(texts, registries) == []


@pytest.mark.parametrize("line", ['open("/ro' + 'ot/x")', "cd /wo" + "rk/main", "path=/ho" + "me/ann/photos"])
def test_the_machines_folders_would_be_found(line):
    assert found_in({"x": line}, r"(?<![\w.:/-])/(root|work|home|Users)" + "/")


def read_schema(path: Path) -> schema_pb2.Schema:
    return text_format.Parse(path.read_text(encoding="utf-8"), schema_pb2.Schema())


def domain(schema: schema_pb2.Schema, feature: str) -> list[str]:
    return list(next(each for each in schema.feature if each.name == feature).string_domain.value)


def test_each_ready_made_config_has_its_schema():
    configs = {path.stem for path in (REPOSITORY / "pipeline" / "configs").glob("*.yaml")}
    assert {path.stem for path in SCHEMAS} == configs


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_a_schema_has_exactly_the_features_of_an_example(path):
    schema = read_schema(path)
    masks = MASK_FEATURES if path.stem.endswith("_masks") else ()
    assert [feature.name for feature in schema.feature] == [*FEATURES, *masks]
    for feature in schema.feature:
        number = feature.name in (f.WIDTH, f.HEIGHT)
        assert feature.type == (schema_pb2.INT if number else schema_pb2.BYTES), feature.name
        assert (feature.presence.min_fraction, feature.presence.min_count) == (1, 1), feature.name
        if feature.name == f.MASK_CLASSES:
            assert feature.value_count.min == 1
        else:
            assert [dim.size for dim in feature.shape.dim] == [1], feature.name
    assert domain(schema, f.IMAGE_FORMAT) == ["JPEG", "PNG", "GIF", "BMP", "WebP", "TIFF", "AVIF", "HEIC"]


def test_the_features_are_those_that_the_table_tells_of():
    assert re.findall(r"^\| `(\w+)`", f.__doc__, re.MULTILINE) == [*FEATURES, *MASK_FEATURES]


@pytest.mark.parametrize(
    ("schema", "labels", "datasets"),
    [
        ("cats_vs_dogs", ["cat", "dog"], ["cats_vs_dogs"]),
        ("species", ["cat", "dog"], ["cats_vs_dogs", "oxford_iiit_pet"]),
        ("image_folder", [], ["image_folder"]),
        ("image_masks", [], ["image_masks"]),
    ],
)
def test_labels_and_data_sets_of_a_schema(schema, labels, datasets):
    parsed = read_schema(REPOSITORY / "schemas" / f"{schema}.pbtxt")
    assert domain(parsed, f.LABEL) == labels
    assert domain(parsed, f.DATASET) == datasets


def test_the_classes_of_the_pixels_are_in_the_order_of_their_ids():
    pets = read_schema(REPOSITORY / "schemas" / "oxford_iiit_pet_masks.pbtxt")
    assert mask_classes(pets) == classes(pets, "segmentation") == ["pet", "background", "border"]
    assert classes(pets, "classification") == domain(pets, f.BREED)
    assert mask_classes(read_schema(REPOSITORY / "schemas" / "image_masks.pbtxt")) == []
    assert mask_classes(read_schema(REPOSITORY / "schemas" / "oxford_iiit_pet.pbtxt")) == []


def test_oxfords_classes_stand_in_the_official_order():
    labels = domain(read_schema(REPOSITORY / "schemas" / "oxford_iiit_pet.pbtxt"), f.LABEL)
    assert len(set(labels)) == 37
    assert labels == sorted(labels, key=str.lower)
    # The class ids of the official lists (annotations/list.txt).
    official = {"Abyssinian": 1, "american_bulldog": 2, "Bengal": 6, "Egyptian_Mau": 12, "pug": 26, "Sphynx": 34}
    assert {breed: labels.index(breed) + 1 for breed in official} == official
    cats = [breed for breed in labels if breed[0].isupper()]
    assert len(cats) == 12
