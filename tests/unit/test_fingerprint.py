"""The code's fingerprint: an edit changes those of the steps that use it, and no others."""

import ast
import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import fingerprint
from pipeline.fingerprint import code_fingerprint, source_files

REPOSITORY = Path(__file__).parents[2]
GRAPH = [REPOSITORY / "pipeline" / name for name in ("graph.py", "trainer_settings.py")]
# The modules whose fingerprints are part of the cache keys: code("...") in the graph and in the trainers' settings.
STEPS = sorted(
    {
        node.args[0].value
        for file in GRAPH
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "code"
    }
)
TRAINERS = {"components.trainer.feature_extraction", "components.trainer.fine_tuning"}
TRAINS = {*TRAINERS, "components.trainer.tuning"}
READS_TRANSFORM = {"components.feature_vector_gen.component", *TRAINERS}
BACKBONE = READS_TRANSFORM
READS_PREDICTIONS = {
    "components.model_selector.component",
    "components.release_gate.component",
    "components.release_gate.production",
    "components.servable_check.component",
    "components.evaluator.eval_config",
    "components.evaluator.predictions",
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A copy of the sources, whose files the fingerprints are taken of."""
    for room in ("schemas", "samples", "components", "pipeline", "deploy"):
        shutil.copytree(REPOSITORY / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "_ROOT", tmp_path)
    monkeypatch.setattr(fingerprint.metadata, "version", functools.cache(fingerprint.metadata.version))  # quicker
    return tmp_path


def fingerprints() -> dict[str, str]:
    return {step: code_fingerprint(step) for step in STEPS}


def changed_by(path: Path) -> set[str]:
    """Steps whose fingerprints change with an edit that changes no import."""
    before = fingerprints()
    with path.open("a", encoding="utf-8") as file:
        file.write("\n# An edit.\n")
    after = fingerprints()
    return {step for step in STEPS if before[step] != after[step]}


def test_the_graph_asks_for_every_step_of_ours():
    assert len(STEPS) >= 12
    for step in STEPS:
        assert REPOSITORY.joinpath(*step.split(".")).with_suffix(".py") in source_files(step), step


def test_a_fingerprint_repeats_and_tells_steps_apart():
    first = fingerprints()
    assert first == fingerprints()
    assert len(set(first.values())) == len(STEPS)


def test_a_copy_elsewhere_has_the_same_fingerprints(tmp_path, monkeypatch):
    here = fingerprints()
    shutil.copytree(REPOSITORY / "schemas", tmp_path / "schemas")
    shutil.copytree(REPOSITORY / "components", tmp_path / "components")
    monkeypatch.setattr(fingerprint, "_ROOT", tmp_path)
    assert fingerprints() == here


@pytest.mark.parametrize(
    ("edited", "steps"),
    [
        ("components/servable_check/probe.py", {"components.servable_check.component"}),
        (
            "components/example_gen/layouts.py",
            {
                "components.example_gen.executor",
                "components.data_gate.component",
                "components.window.component",
            },
        ),
        ("components/example_gen/photo.py", {"components.example_gen.executor"}),
        ("components/example_gen/tfds_source.py", {"components.example_gen.executor"}),
        (
            "components/transform/image_ops.py",
            {
                "components.transform.preprocessing",
                "components.example_gen.executor",
                "components.servable_check.component",
                *TRAINERS,
            },
        ),
        ("components/transform/graph.py", READS_TRANSFORM),
        ("components/trainer/warm_start.py", {*TRAINERS}),
        ("components/trainer/loop.py", TRAINS),
        ("components/trainer/settings.py", TRAINS),
        ("components/trainer/phase.py", {*TRAINERS}),
        (
            "components/example_gen/photo_rules.py",
            {
                *TRAINS,
                "components.data_gate.component",
                "components.ensemble.component",
                "components.example_gen.executor",
                "components.release_gate.component",
                "components.servable_check.component",
                "components.transform.preprocessing",
                "components.window.component",
            },
        ),
        ("components/backbone/unfreezing.py", {"components.feature_vector_gen.component", *TRAINS}),
        ("components/drift_gate/settings.py", {"components.drift_gate.component", "components.window.component"}),
        ("components/example_gen/settings.py", {"components.example_gen.executor"}),
        ("components/backbone/efficientnet_lite.py", BACKBONE),
        ("components/data_gate/checks.py", {"components.data_gate.component", "components.window.component"}),
        (
            "components/model_selector/paired_comparison.py",
            {
                "components.evaluator.eval_config",
                "components.evaluator.predictions",
                "components.servable_check.component",
                "components.model_selector.component",
                "components.release_gate.component",
                "components.release_gate.production",
            },
        ),
        ("components/evaluator/stored_predictions.py", READS_PREDICTIONS),
        ("components/pusher/executor.py", {"components.pusher.executor"}),
        ("components/serving_folder/files.py", {"components.pusher.executor", "components.release_gate.production"}),
        (
            "components/evaluator/metrics.py",
            {
                "components.evaluator.predictions",
                "components.servable_check.component",
                "components.evaluator.eval_config",
                "components.model_selector.component",
                "components.release_gate.component",
                "components.release_gate.production",
            },
        ),
        ("components/report/summary.py", set()),
        ("samples/sample_photos.py", set()),
        ("schemas/features.py", set(STEPS) - {"components.pusher.executor"}),
        ("components/__init__.py", set(STEPS)),  # sets the Keras version for everything
        ("components/trainer/__init__.py", {*TRAINS, "components.ensemble.component"}),
        ("pipeline/graph.py", set()),
        ("pipeline/config/data.py", set()),
    ],
)
def test_an_edit_changes_the_steps_that_use_the_file(tree, edited, steps):
    assert changed_by(tree / edited) == steps


def test_no_edit_of_the_deployment_changes_any_step(tree):
    files = sorted((tree / "deploy").rglob("*.py"))
    assert len(files) >= 5
    before = fingerprints()
    for path in files:
        path.write_text("raise SystemExit\n")
    fingerprint._imports.cache_clear()
    assert fingerprints() == before


def test_a_renamed_file_is_another_one(tree):
    before = code_fingerprint("components.trainer.fine_tuning")
    (tree / "components/trainer/warm_start.py").rename(tree / "components/trainer/copy_weights.py")
    text = (tree / "components/trainer/fine_tuning.py").read_text()
    (tree / "components/trainer/fine_tuning.py").write_text(text.replace("warm_start", "copy_weights"))
    fingerprint._imports.cache_clear()
    assert code_fingerprint("components.trainer.fine_tuning") != before


@pytest.mark.parametrize("library", ["tensorflow", "tfx", "tf-keras", "apache-beam", "pillow"])
def test_another_version_of_a_library_changes_every_step(monkeypatch, library):
    before, version = fingerprints(), fingerprint.metadata.version
    monkeypatch.setattr(fingerprint.metadata, "version", lambda name: "9.9" if name == library else version(name))
    after = fingerprints()
    assert [step for step in STEPS if before[step] == after[step]] == []


@pytest.mark.parametrize(
    "statement",
    [
        "import components.extra",
        "import components.extra as extra",
        "from components import extra",
        "from components import progress, extra as other",
        "from components.extra import VALUE",
        "from components.extra import *",
        "from .. import extra",
        "from ..extra import VALUE",
        "from . import bridge",
        "from .bridge import extra",
        "def lazy():\n    from components import extra",
        "try:\n    import components.extra\nexcept ImportError:\n    pass",
        "if True:\n    class A:\n        from ..extra import VALUE",
    ],
)
def test_an_import_of_any_form_is_followed(tree, statement):
    (tree / "components/extra.py").write_text("VALUE = 1\n")
    (tree / "components/pusher/bridge.py").write_text("from components import extra\n")
    with (tree / "components/pusher/executor.py").open("a") as file:
        file.write(f"\n\n{statement}\n")
    assert changed_by(tree / "components/extra.py") == {"components.pusher.executor"}


def test_imports_in_a_package_and_circles_are_followed(tree):
    (tree / "components/extra").mkdir()
    (tree / "components/extra/__init__.py").write_text("from .inner import VALUE\n")
    (tree / "components/extra/inner.py").write_text("VALUE = 1\nfrom components.pusher import executor\n")
    with (tree / "components/pusher/executor.py").open("a") as file:
        file.write("\nimport components.extra\n")
    assert changed_by(tree / "components/extra/inner.py") == {"components.pusher.executor"}


IMPORT_EACH = """
import importlib, json, sys
steps = json.loads(sys.argv[1])
for step in steps:  # with every library, so that the second time is quick
    importlib.import_module(step)
loaded = {}
for step in steps:
    for name in [name for name in sys.modules if name.split(".")[0] in ("components", "schemas")]:
        del sys.modules[name]
    importlib.import_module(step)
    loaded[step] = [
        module.__file__
        for name, module in list(sys.modules.items())
        if name.split(".")[0] in ("components", "schemas", "pipeline", "deploy")
    ]
print(json.dumps(loaded))
"""


@pytest.mark.slow
@pytest.mark.release
def test_python_loads_no_file_of_ours_that_a_fingerprint_misses():
    command = [sys.executable, "-c", IMPORT_EACH, json.dumps(STEPS)]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    for step in STEPS:
        really = {Path(file) for file in loaded[step]}
        assert len(really) > 1
        assert sorted(str(path) for path in really - source_files(step)) == [], step
