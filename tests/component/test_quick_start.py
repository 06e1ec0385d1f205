"""The quick start of one node: what it leans on inside TFX, what it leaves as it was, and real nodes run with it.

Each start is a process of its own, since a process imports TFX once.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)
from deploy import quick_start
from tests.end_to_end.commands import STEPS

pytestmark = pytest.mark.slow  # many processes, each of which imports TFX

REPOSITORY = Path(__file__).parents[2]
HEAVY = ["tensorflow", "apache_beam", "tensorflow_data_validation", "tensorflow_model_analysis"]
BEAM_ARGS = ["--runner=FnApiRunner", "--direct_running_mode=in_memory", "--setup_file=unused"]
CHANGED = "TFX has changed: read deploy/quick_start.py"
PLAIN_OR_QUICK = """
import json, sys
from deploy import quick_start
{before}
went_quickly = quick_start.import_launcher({arguments})
from tfx.dsl.io import fileio
from tfx.dsl.io.plugins import tensorflow_gfile
print(json.dumps([
    went_quickly,
    quick_start.deferred(),
    fileio._get_filesystem("/x") is tensorflow_gfile.TensorflowFilesystem,
    sys.argv[1:],
]))
"""


def started(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python program in a process of its own that sees this repository."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def told(program: str, *arguments: str, **environment: str):
    """What a program prints as its last line, in JSON."""
    done = started(program, *arguments, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.release
def test_a_run_of_every_node_imports_of_the_components_those_it_has():
    found = told(
        """
import json, sys
from deploy import quick_start
went_quickly = quick_start.import_launcher()
with quick_start.importing():
    import deploy.local_runner, pipeline.graph
import components.trainer.feature_extraction, components.trainer.fine_tuning
from tfx.dsl.io import filesystem_registry
from tfx.dsl.io.plugins import tensorflow_gfile
files = filesystem_registry.DEFAULT_FILESYSTEM_REGISTRY.get_filesystem_for_path("gs://x/y")
print(json.dumps({
    "went_quickly": went_quickly,
    "deferred": quick_start.deferred(),
    "spared": [name for name in ("kubernetes", "keras_tuner", "keras") if name in sys.modules],
    "components": sorted(
        name.split(".")[2] for name in sys.modules
        if name.startswith("tfx.components.") and name.endswith(".component")
    ),
    "remote_files": files is tensorflow_gfile.TensorflowFilesystem,
}))
"""
    )
    assert found["went_quickly"], CHANGED
    assert set(found["deferred"]) == {"tfx.components", "docker"}
    assert found["spared"] == []
    assert found["components"] == [
        "evaluator", "example_gen", "example_validator", "pusher", "statistics_gen", "trainer", "transform"
    ]  # fmt: skip
    assert found["remote_files"]


# What it leans on inside TFX


@pytest.fixture(scope="module")
def quick():
    """What is so right after a quick start, before anything else is imported."""
    return told(
        """
import json, sys
from deploy import quick_start
went_quickly = quick_start.import_launcher()
import apache_beam, tensorflow_model_analysis
from tfx.dsl.component.experimental import annotations, decorators, function_parser
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import filesystem_registry
from tfx.dsl.io.plugins import local
from tfx.types import artifact, artifact_utils
registry = filesystem_registry.DEFAULT_FILESYSTEM_REGISTRY
print(json.dumps({
    "went_quickly": went_quickly,
    "deferred": quick_start.deferred(),
    "pandas": "pandas" in sys.modules,
    "components": sorted(name for name in sys.modules if name.startswith("tfx.components")),
    "beam": base_beam_executor.beam is apache_beam,
    "names": [sorted(set(vars(module)) & {"Pipeline", "sdk"}) for module in (apache_beam, tensorflow_model_analysis)],
    "pipelines": [
        module._BeamPipeline is quick_start._Pipeline
        for module in (annotations, base_beam_executor, decorators, function_parser)
    ],
    "local_files": registry.get_filesystem_for_path("/tmp/x") is local.LocalFilesystem,
    "artifacts": sorted(
        f"{each.__module__}.{each.__name__}"
        for each in artifact_utils._get_subclasses(artifact.Artifact) if each.TYPE_NAME
    ),
}))
"""
    )


@pytest.fixture(scope="module")
def plain():
    """The same of a plain start that was asked for: what it says on its way, and what is so afterwards."""
    done = started(
        PLAIN_OR_QUICK.format(before="", arguments="defer=False")
        + """
from tfx.types import artifact, artifact_utils
import pipeline.graph
print(json.dumps(sorted(
    f"{each.__module__}.{each.__name__}"
    for each in artifact_utils._get_subclasses(artifact.Artifact) if each.TYPE_NAME
)))
""",
        "--word",
        "two words",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    start, artifacts = map(json.loads, done.stdout.splitlines())
    return {"start": start, "artifacts": artifacts}


def test_the_launcher_is_imported_without_what_only_executors_need(quick):
    assert quick["went_quickly"], CHANGED
    assert set(quick["deferred"]) == set(quick_start.DEFERRED), CHANGED
    assert not quick["pandas"]
    # The second and last hold constants; the third is a package with nothing in it.
    assert quick["components"] == [
        "tfx.components",
        "tfx.components.evaluator",
        "tfx.components.evaluator.constants",
        "tfx.components.example_gen",
        "tfx.components.example_gen.utils",
    ]


def test_the_core_has_beam_and_nothing_that_took_the_place_of_something(quick):
    assert quick["beam"], CHANGED
    assert quick["names"] == [[], []]
    assert quick["pipelines"] == [True] * 4, CHANGED
    assert quick["local_files"], CHANGED


def test_the_constants_of_the_core_are_those_of_the_components():
    from tfx.components.evaluator import constants
    from tfx.components.example_gen import utils
    from tfx.dsl.input_resolution.strategies import latest_blessed_model_strategy, span_range_strategy

    with_components = (span_range_strategy._SPAN, latest_blessed_model_strategy._CURRENT_MODEL_ID)
    assert with_components == (utils.SPAN_PROPERTY_NAME, constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY)


@pytest.mark.slow
@pytest.mark.release
def test_the_launcher_knows_the_artifact_types_that_it_knows_after_a_plain_start(quick, plain):
    assert "components.artifacts.IngestReport" in plain["artifacts"]
    assert set(plain["artifacts"]) <= set(quick["artifacts"])


def test_the_launcher_takes_other_operators_and_asks_no_more_of_them():
    from tfx.orchestration.portable import base_driver_operator, base_executor_operator, launcher

    parameters = inspect.signature(launcher.Launcher).parameters
    assert set(quick_start.late_operators()) <= set(parameters), CHANGED
    source = inspect.getsource(launcher.Launcher)
    asked = {kind: set(re.findall(rf"_{kind}_operator\.(\w+)", source)) for kind in ("executor", "driver")}
    assert asked == {"executor": {"with_execution_watcher", "run_executor"}, "driver": {"run_driver"}}, CHANGED
    for ours, theirs, methods in (
        (quick_start._LateExecutor, base_executor_operator.BaseExecutorOperator, sorted(asked["executor"])),
        (quick_start._LateDriver, base_driver_operator.BaseDriverOperator, ["run_driver"]),
    ):
        for method in methods:
            taken = [list(inspect.signature(getattr(each, method)).parameters) for each in (ours, theirs)]
            assert taken[0] == taken[1], CHANGED


def test_every_kind_of_executor_and_driver_is_imported_late():
    from tfx.orchestration.portable import launcher

    late = quick_start.late_operators()
    assert late["custom_executor_operators"].keys() == launcher.DEFAULT_EXECUTOR_OPERATORS.keys()
    assert late["custom_driver_operators"].keys() == launcher.DEFAULT_DRIVER_OPERATORS.keys()
    assert {spec.__name__ for spec in late["custom_executor_operators"]} >= {
        "PythonClassExecutableSpec",
        "BeamExecutableSpec",
    }


# What is there afterwards


@pytest.mark.slow
@pytest.mark.release
def test_everything_is_real_afterwards():
    after = told(
        """
import inspect, json
from deploy import quick_start
assert quick_start.import_launcher()
from tfx.dsl.components.base import base_beam_executor, base_executor
from tfx.utils import import_utils
bases = {}
for path in (
    "tfx.components.statistics_gen.executor.Executor",
    "tfx.components.transform.executor.Executor",
    "tfx.components.trainer.executor.GenericExecutor",
    "tfx.components.evaluator.executor.Executor",
    "components.example_gen.executor.ImageExampleGenExecutor",
    "components.pusher.executor.AtomicPusherExecutor",
    "components.data_gate.component.DataGate_Executor",
    "components.feature_vector_gen.component.FeatureVectorGen_Executor",
):
    executor = import_utils.import_class_by_path(path)
    bases[path.split(".")[-3]] = [issubclass(executor, base) for base in (
        base_executor.BaseExecutor, base_beam_executor.BaseBeamExecutor
    )]
import sys
import tensorflow, apache_beam
package = sys.modules["tfx.components"]
looked_over = [hasattr(package, "__wrapped__"), inspect.getdoc(package), inspect.getsourcefile(package)]
spared = "BulkInferrer" not in vars(package)
from tfx.components import Trainer, __all__
from tfx.components.trainer import component
from tfx import components as of_tfx
print(json.dumps({
    "bases": bases,
    "spared": spared,
    "real": [int(tensorflow.constant(1)) == 1, hasattr(apache_beam, "Pipeline")],
    "same_class": Trainer is component.Trainer is of_tfx.Trainer,
    "all": "Transform" in __all__,
    "missing": [hasattr(of_tfx, "NoSuchComponent"), looked_over[0]],
}))
"""
    )
    python, beam = [True, False], [True, True]
    assert after["bases"] == {
        "statistics_gen": beam,
        "transform": beam,
        "trainer": python,
        "evaluator": beam,
        "example_gen": beam,
        "pusher": python,
        "data_gate": python,
        "feature_vector_gen": beam,
    }
    assert after["spared"]
    assert after["real"] == [True, True]
    assert after["same_class"]
    assert after["all"]
    assert after["missing"] == [False, False]


def test_a_chart_does_not_make_tensorflow_real():
    """matplotlib asks the TensorFlow in `sys.modules` whether a value is a tensor."""
    after = told(
        """
import json
from deploy import quick_start
assert quick_start.import_launcher()
import tensorflow
early = tensorflow.is_tensor
from matplotlib.figure import Figure
Figure().subplots().plot([1, 2], ["a", "b"])
deferred = "tensorflow" in quick_start.deferred()
tensor = tensorflow.constant(1)
print(json.dumps([deferred, early is tensorflow.is_tensor, early(tensor), early(1), tensorflow.is_tensor(tensor)]))
"""
    )
    assert after == [True, False, True, False, True]


@pytest.fixture(scope="module")
def first_uses():
    """What is so when something of Beam is used for the first time, and then a file of another system."""
    return told(
        """
import json, sys
from deploy import quick_start
assert quick_start.import_launcher()
from tfx.dsl.components.base import base_beam_executor

class Executor(base_beam_executor.BaseBeamExecutor):
    def Do(self, input_dict, output_dict, exec_properties): ...

before = "apache_beam" in quick_start.deferred()
pipeline = Executor()._make_beam_pipeline()
import apache_beam
from tfx.dsl.component.experimental import annotations, decorators, function_parser
pipelines = [before, isinstance(pipeline, apache_beam.Pipeline)]
pipelines += [module._BeamPipeline is apache_beam.Pipeline for module in (annotations, decorators, function_parser)]
from tfx.dsl.io import fileio, filesystem_registry
from tfx.dsl.io.plugins import tensorflow_gfile
registry = filesystem_registry.DEFAULT_FILESYSTEM_REGISTRY
paths = ["ram://x", "gs://x", "s3://x", "hdfs://x", "/x"]
before = "tensorflow" in quick_start.deferred()
with fileio.open("ram://folder/file", "w") as file:
    file.write("kept in memory")
import tensorflow as tf
print(json.dumps({
    "pipelines": pipelines,
    "before": before,
    "content": tf.io.gfile.GFile("ram://folder/file").read(),
    "tensorflows": [registry.get_filesystem_for_path(path) is tensorflow_gfile.TensorflowFilesystem for path in paths],
}))
"""
    )


@pytest.mark.slow
@pytest.mark.release
def test_a_beam_executor_makes_real_pipelines(first_uses):
    assert first_uses["pipelines"] == [True] * 5


@pytest.mark.slow
@pytest.mark.release
def test_files_of_other_systems_are_tensorflows_from_the_first_use_on(first_uses):
    files = {key: first_uses[key] for key in ("before", "content", "tensorflows")}
    assert files == {"before": True, "content": "kept in memory", "tensorflows": [True] * 5}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('"""Text."""\nfrom tfx.components.a.component import A\n__all__ = ["A"]\n', True),
        ("import sys\n", False),
        ("from tfx_bsl import a\n", False),
        ("try:\n  from tfx.components.a.component import A\nexcept ImportError:\n  A = None\n", False),
        ("A = 1\n", False),
        ("repair()\n", False),
    ],
)
def test_a_package_that_does_more_than_export_is_known(source, expected):
    assert quick_start.only_exports(source) is expected


@pytest.mark.slow
@pytest.mark.release
def test_such_a_package_runs_before_an_executor_is_imported():
    ran = told(
        """
import json, sys
from deploy import quick_start
assert quick_start.import_launcher()
package = sys.modules["tfx.components"]
ran = {}
for only_exports in (True, False):
    quick_start.only_exports = lambda source: only_exports
    quick_start._make_operator(lambda: ran.update({str(only_exports): "BulkInferrer" in vars(package)}))
print(json.dumps(ran))
"""
    )
    assert ran == {"True": False, "False": True}


# When it does not start quickly

PLAIN = [False, [], True, ["--word", "two words"]]


@pytest.mark.slow
@pytest.mark.release
def test_a_plain_start_that_was_asked_for(plain):
    assert plain["start"] == PLAIN


@pytest.mark.slow
@pytest.mark.release
def test_a_plain_start_where_tensorflow_is_imported_already():
    done = started(PLAIN_OR_QUICK.format(before="import tensorflow", arguments=""), "--word", "two words")
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == PLAIN


# The end


def test_finishing_waits_for_threads_and_runs_what_is_registered_but_goes_no_way_back():
    done = started(
        """
import atexit, concurrent.futures, tempfile, threading, time
from pathlib import Path
from deploy import quick_start
folder = tempfile.TemporaryDirectory()
pool = concurrent.futures.ThreadPoolExecutor(1)
pool.submit(lambda: (time.sleep(0.5), print("from a pool")))
threading.Thread(target=lambda: (time.sleep(0.2), print("from a thread"))).start()
atexit.register(lambda: print("at exit", Path(folder.name).exists()))
print(folder.name)
try:
    quick_start.finish(3)
finally:
    print("on the way back")
"""
    )
    folder, *words = done.stdout.splitlines()
    assert (done.returncode, words) == (3, ["from a thread", "from a pool", "at exit True"])
    assert not Path(folder).exists()


# Real nodes

NODES = """
import json, sys
from pathlib import Path
from deploy import quick_start
compiled, store, run_id, how, *node_ids = sys.argv[1:]
went_quickly = quick_start.import_launcher(defer=how == "defer")
there = lambda: [name for name in ("tensorflow", "apache_beam") if name not in quick_start.deferred()]
heavy = there()
from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher, runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2
pipeline = pipeline_pb2.Pipeline.FromString(Path(compiled).read_bytes())
runtime_parameter_utils.substitute_runtime_parameter(pipeline, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id})
config = runner_utils.extract_local_deployment_config(pipeline)
for node in (node.pipeline_node for node in pipeline.nodes):
    node_id = node.node_info.id
    if node_id in node_ids:
        launcher.Launcher(
            pipeline_node=node,
            mlmd_connection=metadata.Metadata(metadata.sqlite_metadata_connection_config(store)),
            pipeline_info=pipeline.pipeline_info,
            pipeline_runtime_spec=pipeline.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(config, node_id),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(config, node_id),
            **(quick_start.late_operators() if went_quickly else {}),
        ).launch()
from tfx.dsl.io import fileio
print(json.dumps({
    "went_quickly": went_quickly,
    "at_the_start": heavy,
    "in_the_end": there(),
    "files": fileio._get_filesystem("/x").__name__,
}))
quick_start.finish(0)
"""


class Side:
    """A root folder with a compiled pipeline, whose nodes are launched in processes of their own."""

    def __init__(self, folder: Path, make_pipeline, artifacts: str = ""):
        from tfx.dsl.compiler.compiler import Compiler

        self.artifacts, self.store = folder / "artifacts", folder / "metadata.sqlite"
        self.artifacts.mkdir(parents=True)
        self.compiled = folder / "pipeline.pb"
        pipeline = make_pipeline(folder, artifacts or str(self.artifacts))
        self.name = pipeline.id
        self.compiled.write_bytes(Compiler().compile(pipeline).SerializeToString())

    def launch(self, run_id: str, *node_ids: str, defer: bool = True):
        how = "defer" if defer else "plain"
        return told(NODES, str(self.compiled), str(self.store), run_id, how, *node_ids)

    def states(self, run_id: str) -> dict[str, str]:
        return {node_id: node.state for node_id, node in self.run(run_id).items()}

    def run(self, run_id: str):
        from ml_metadata.metadata_store import metadata_store
        from tfx.orchestration import metadata

        from pipeline.run_record import read_run

        store = metadata_store.MetadataStore(metadata.sqlite_metadata_connection_config(str(self.store)))
        return read_run(store, self.name, run_id)

    def files(self) -> dict[str, str]:
        """Path below the artifacts -> SHA-256."""
        return {
            str(path.relative_to(self.artifacts)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.artifacts.rglob("*")
            if path.is_file()
        }


def one_node(schema_file: str):
    """A function that makes a pipeline of the one node CuratedSchema."""

    def make(folder: Path, artifacts: str):
        from tfx.orchestration.pipeline import Pipeline

        from components.curated_schema.component import CuratedSchema

        return Pipeline(
            "one_node", artifacts, components=[CuratedSchema(content=Path(schema_file).read_text())], enable_cache=True
        )

    return make


@pytest.mark.slow
@pytest.mark.release
def test_a_cached_node_imports_no_executor(tmp_path, curated_schema):
    side = Side(tmp_path, one_node(curated_schema))
    first = side.launch("first", "CuratedSchema")
    assert side.states("first") == {"CuratedSchema": "complete"}
    # It writes one file, for which neither is needed.
    of_light = {"went_quickly": True, "at_the_start": [], "in_the_end": [], "files": "LocalFilesystem"}
    assert first == of_light
    again = side.launch("again", "CuratedSchema")
    assert side.states("again") == {"CuratedSchema": "cached"}
    assert again == of_light


@pytest.mark.slow
@pytest.mark.release
def test_a_node_whose_executor_cannot_be_imported_fails_in_the_metadata_too(tmp_path, curated_schema):
    side = Side(tmp_path, one_node(curated_schema))
    broken = side.compiled.read_bytes()
    name = b"components.curated_schema.component.CuratedSchema_Executor"
    assert name in broken
    side.compiled.write_bytes(broken.replace(name, b"components.curated_schema.component.CuratedSchema_Misprint"))
    done = started(NODES, str(side.compiled), str(side.store), "first", "defer", "CuratedSchema")
    assert done.returncode == 1
    assert "ImportError: Could not import components.curated_schema.component.CuratedSchema_Misprint" in done.stderr
    assert side.states("first") == {"CuratedSchema": "failed"}


@pytest.mark.slow
@pytest.mark.release
def test_a_pipeline_root_of_another_file_system(tmp_path, curated_schema):
    # TensorFlow's file system in memory is reached as those of clouds are; it ends with the process.
    side = Side(tmp_path, one_node(curated_schema), artifacts="ram://artifacts")
    then_read = NODES.replace(
        "print(json.dumps({",
        "[file] = fileio.glob('ram://artifacts/CuratedSchema/schema/*/*.pbtxt')\n"
        "print(json.dumps({'schema': fileio.open(file).read(),",
    )
    facts = told(then_read, str(side.compiled), str(side.store), "first", "defer", "CuratedSchema")
    assert facts["went_quickly"]
    assert facts["schema"] == Path(curated_schema).read_text()
    assert side.states("first") == {"CuratedSchema": "complete"}


CHAIN = STEPS[: STEPS.index("Evaluator") + 1]
# A process each, in the order of the plain start, of which the ids are; the first node of each meets nothing imported.
# Every kind of executor there is comes first in one: a function, a driver of its own, Beam, a function with Beam, a
# training.
PROCESSES = (
    ("CuratedSchema",),
    ("ImageExampleGen",),
    ("StatisticsGen", "ExampleValidator", "DataGate", "Transform"),
    ("FeatureVectorGen",),
    ("FeatureExtraction", "FineTuning", "Predictions", "Evaluator"),
)
# Hold the time of day, names that TensorFlow draws by lot, or metrics in the order of a hash.
NEVER_THE_SAME = re.compile(r"saved_model\.pb$|fingerprint\.pb$|events\.out|training\.json$|^Evaluator/evaluation/")


def evaluation(folder: str) -> list[str]:
    """Every slice's metrics in text."""
    import tensorflow as tf
    from tensorflow_model_analysis.proto import metrics_for_slice_pb2

    records = tf.data.TFRecordDataset(tf.io.gfile.glob(f"{folder}/metrics-*.tfrecord"))
    return sorted(str(metrics_for_slice_pb2.MetricsForSlice.FromString(record.numpy())) for record in records)


@pytest.mark.slow
@pytest.mark.release
def test_nodes_do_the_same_after_a_quick_start_as_after_a_plain_one(tmp_path, drawn_photos, tiny_backbone):
    from pipeline.config import load_config
    from pipeline.graph import make_pipeline
    from pipeline.places import Places

    photos = tmp_path / "photos"
    for photo in drawn_photos:
        (photos / photo.label).mkdir(parents=True, exist_ok=True)
        (photos / photo.label / photo.name).write_bytes(photo.photo_bytes)
    settings = [
        f"backbone.handle={tiny_backbone}",
        "image.size=32",
        "training.feature_extraction.epochs=2",
        "training.fine_tuning.epochs=1",
        "data.splits.train=2",
        "data.splits.eval=1",
        "data.splits.test=1",
    ]
    config = load_config("cats_vs_dogs", settings, [str(photos)])

    def make(folder: Path, artifacts: str):
        places = Places(artifacts=artifacts, serving=str(folder / "serving"), vectors=str(folder / "vectors"))
        return make_pipeline(config, places, {"cats_vs_dogs": str(photos)}, {}, None, BEAM_ARGS)

    plain, quick = Side(tmp_path / "plain", make), Side(tmp_path / "quick", make)
    assert not plain.launch("first", *CHAIN, defer=False)["went_quickly"]
    assert [node_id for node_ids in PROCESSES for node_id in node_ids] == CHAIN
    for node_ids in PROCESSES:
        facts = quick.launch("first", *node_ids)
        assert (facts["went_quickly"], facts["at_the_start"]) == (True, []), node_ids
        light = node_ids == ("CuratedSchema",)
        assert facts["files"] == ("LocalFilesystem" if light else "TensorflowFilesystem"), node_ids
    assert plain.states("first") == quick.states("first") == dict.fromkeys(CHAIN, "complete")
    outputs = [
        {
            (node_id, key, artifact.type_name): sorted(set(artifact.mlmd_artifact.custom_properties) - {"tfx_version"})
            for node_id, node in side.run("first").items()
            for key, artifacts in node.outputs.items()
            for artifact in artifacts
        }
        for side in (plain, quick)
    ]
    assert outputs[0] == outputs[1]
    files = [
        {path: None if NEVER_THE_SAME.search(path) else content for path, content in side.files().items()}
        for side in (plain, quick)
    ]
    events = re.compile(r"events\.out\S+")
    assert [events.sub("events", path) for path in sorted(files[0])] == [
        events.sub("events", path) for path in sorted(files[1])
    ]
    assert {path: content for path, content in files[0].items() if content} == {
        path: content for path, content in files[1].items() if content
    }
    assert sum(content is not None for content in files[0].values()) > 20
    metrics = [evaluation(side.run("first")["Evaluator"].outputs["evaluation"][0].uri) for side in (plain, quick)]
    assert metrics[0] == metrics[1]
    assert metrics[0]

    # Not even for ImageExampleGen's own driver, which looks at the photos before the cache is asked.
    assert quick.launch("again", *CHAIN)["in_the_end"] == []
    assert quick.states("again") == dict.fromkeys(CHAIN, "cached")
