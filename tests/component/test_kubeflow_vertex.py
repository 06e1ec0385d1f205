"""The way to Vertex AI: what runs there is written, what does not is refused by name, and Kubeflow takes none of it."""

import json
import sys
from types import SimpleNamespace

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.components.evaluator.component import Evaluator
from tfx.components.example_gen.csv_example_gen.component import CsvExampleGen
from tfx.components.example_gen.driver import FileBasedDriver
from tfx.components.infra_validator.component import InfraValidator
from tfx.components.pusher.component import Pusher
from tfx.components.schema_gen.component import SchemaGen
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.components.trainer.component import Trainer
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.base import executor_spec
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.dsl.input_resolution.strategies.span_range_strategy import SpanRangeStrategy
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import infra_validator_pb2, pusher_pb2, range_config_pb2, trainer_pb2
from tfx.types import Artifact, channel, standard_artifacts
from tfx.types.channel import Channel

from components.evaluator.eval_config import make_eval_config
from components.pusher.executor import AtomicPusherExecutor
from deploy.kubeflow.lint import problems
from deploy.kubeflow.vertex import compile_for_vertex, refused_nodes
from pipeline.config import load_config
from pipeline.graph import make_pipeline
from pipeline.places import Places
from schemas.errors import BadInput

IMAGE = "europe-docker.pkg.dev/project/images/warmstart:1"
ROOT = "gs://bucket/root"


class Note(Artifact):
    """An artifact type with a name that says nothing of where it is."""

    TYPE_NAME = "SomeNote"


class Remark(Artifact):
    """An artifact type called by where it could be imported from."""

    TYPE_NAME = "remarks.Remark"


@component
def CountExamples(
    examples: InputArtifact[standard_artifacts.Examples],
    count: OutputArtifact[standard_artifacts.Integer],
    at_least: Parameter[int],
    share: Parameter[float],
    schema: InputArtifact[standard_artifacts.Schema] = None,
):
    """A function component with an optional input."""
    assert (schema, type(at_least), type(share)) == (None, int, float)
    count.value = at_least + len(examples.uri)


@component
def TakeNotes(note: OutputArtifact[Note]):
    """Of a type of its own."""


@component
def TakeRemarks(remark: OutputArtifact[Remark]):
    """Of another type of its own."""


class OwnDriver(FileBasedDriver):
    pass


class CsvWithItsOwnDriver(CsvExampleGen):
    DRIVER_CLASS = OwnDriver


class StatisticsWithADriver(StatisticsGen):
    DRIVER_CLASS = OwnDriver


def pushed_to(address):
    return pusher_pb2.PushDestination(filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=address))


def standard_nodes():
    """Nodes of every kind that Vertex AI runs."""
    example_gen = CsvExampleGen(input_base="gs://bucket/data")
    examples = example_gen.outputs["examples"]
    statistics = StatisticsGen(examples=examples)
    schema = SchemaGen(statistics=statistics.outputs["statistics"])
    count = CountExamples(examples=examples, at_least=3, share=0.5)
    trainer = Trainer(
        run_fn="components.trainer.feature_extraction.run_fn",
        examples=examples,
        schema=schema.outputs["schema"],
        train_args=trainer_pb2.TrainArgs(num_steps=1),
        eval_args=trainer_pb2.EvalArgs(num_steps=1),
    )
    production = Resolver(
        strategy_class=LatestBlessedModelStrategy,
        model=Channel(type=standard_artifacts.Model),
        model_blessing=Channel(type=standard_artifacts.ModelBlessing),
    ).with_id("production-model")
    evaluator = Evaluator(
        examples=examples,
        model=trainer.outputs["model"],
        baseline_model=production.outputs["model"],
        eval_config=make_eval_config(0.5, 0.0, [], "code"),
    )
    blessing = evaluator.outputs["blessing"].future()[0]
    with Cond(blessing.custom_property("blessed") == 1):
        pusher = Pusher(model=trainer.outputs["model"], push_destination=pushed_to("gs://bucket/serving"))
    return [example_gen, statistics, schema, count, trainer, production, evaluator, pusher]


def make(nodes, root=ROOT, name="small_pipeline"):
    return Pipeline(pipeline_name=name, pipeline_root=root, components=nodes, enable_cache=True)


def test_a_pipeline_that_can_run_is_written_whole(tmp_path):
    output = tmp_path / "jobs" / "small.json"
    pipeline = make(standard_nodes())
    assert refused_nodes(pipeline) == {}
    result = compile_for_vertex(pipeline, IMAGE, output)
    assert (result.file, result.name) == (output, "small-pipeline")
    assert pipeline.pipeline_info.pipeline_name == "small_pipeline", "the pipeline itself is left as it was"
    assert [file.name for file in output.parent.iterdir()] == ["small.json"]

    job = json_format.Parse(output.read_text(encoding="utf-8"), pipeline_spec_pb2.PipelineJob())
    assert job.runtime_config.gcs_output_directory == ROOT
    spec = json_format.ParseDict(json_format.MessageToDict(job.pipeline_spec), pipeline_spec_pb2.PipelineSpec())
    assert (spec.schema_version, spec.pipeline_info.name) == ("2.1.0", "small-pipeline")
    resolvers = {"production-model-model-resolver", "production-model-model-blessing-resolver"}
    assert set(result.tasks) == set(spec.root.dag.tasks)
    assert set(result.tasks) - resolvers == {node.id for node in pipeline.components} - {"production-model"}
    assert resolvers < set(result.tasks)

    executors = json_format.MessageToDict(spec.deployment_spec)["executors"]
    images = {name: each["container"]["image"] for name, each in executors.items() if "container" in each}
    assert set(images.values()) == {IMAGE}
    assert {name for name in executors if name not in images} == {f"{name}_executor" for name in resolvers}
    assert "FileBasedExampleGen" not in images
    assert executors["CsvExampleGen_executor"]["container"]["lifecycle"], "TFX's driver of FileBasedExampleGen"
    condition = spec.root.dag.tasks["Pusher"].trigger_policy.condition
    assert "metadata['blessed'] == 1.0" in condition
    assert "schema" not in spec.root.dag.tasks["CountExamples"].inputs.artifacts


def test_a_compiled_step_runs_by_tfx_entry_point(tmp_path):
    """The container's own arguments, in this process: an optional input is absent, numbers keep their types."""
    job = compile_for_vertex(make(standard_nodes()), IMAGE, tmp_path / "job.json").file.read_text(encoding="utf-8")
    spec = json.loads(job)["pipelineSpec"]
    container = spec["deploymentSpec"]["executors"]["CountExamples_executor"]["container"]
    assert container["command"][:2] == ["python", "-m"]
    inputs = spec["root"]["dag"]["tasks"]["CountExamples"]["inputs"]
    declared = spec["components"]["CountExamples"]
    count = declared["outputDefinitions"]["artifacts"]["count"]["artifactType"]
    executor_input = {
        "inputs": {
            "parameterValues": {name: each["runtimeValue"]["constant"] for name, each in inputs["parameters"].items()},
            "artifacts": {
                name: {"artifacts": [{"name": "1", "uri": "12345", "type": each["artifactType"]}]}
                for name, each in declared["inputDefinitions"]["artifacts"].items()
            },
        },
        "outputs": {
            "artifacts": {"count": {"artifacts": [{"name": "2", "uri": str(tmp_path / "count"), "type": count}]}},
            "outputFile": str(tmp_path / "outputs" / "executor_output.json"),
        },
    }
    arguments = [argument.replace("{{$}}", json.dumps(executor_input)) for argument in container["args"]]
    kubeflow_v2_run_executor.main(kubeflow_v2_run_executor._parse_flags(["run", *arguments]))
    assert (tmp_path / "count").read_text() == "8"
    assert "count" in json.loads((tmp_path / "outputs" / "executor_output.json").read_text())["artifacts"]


def test_a_resolver_compiled_the_vertex_way_is_refused_for_kubeflow(tmp_path):
    """KubeflowV2DagRunner's own output, of which a file-format check finds nothing wrong."""
    pipeline = make(standard_nodes(), name="small-pipeline")
    config = KubeflowV2DagRunnerConfig(default_image=IMAGE, use_pipeline_spec_2_1=True)
    KubeflowV2DagRunner(config, output_dir=str(tmp_path), output_filename="small.yaml").run(pipeline)
    text = (tmp_path / "small.yaml").read_text(encoding="utf-8")
    json_format.ParseDict(yaml.safe_load(text), pipeline_spec_pb2.PipelineSpec())

    found = problems(text)
    for part in ("model", "model-blessing"):
        assert (
            f"task 'production-model-{part}-resolver' needs a resolver executor (production-model-{part}-resolver_"
            "executor); the backend has those for containers and importers only"
        ) in found
    assert any(sentence.startswith("task 'CsvExampleGen' has a driver of its own") for sentence in found)
    assert "input artifact 'examples' of StatisticsGen has a schema of its own, and arrives with an empty one" in found

    without = [node for node in standard_nodes() if node.id in ("CsvExampleGen", "StatisticsGen", "SchemaGen")]
    KubeflowV2DagRunner(config, output_dir=str(tmp_path), output_filename="without.yaml").run(
        make(without, name="small-pipeline")
    )
    found = problems((tmp_path / "without.yaml").read_text(encoding="utf-8"))
    assert not any("resolver executor" in sentence for sentence in found), "the resolver was the reason"


def resolved(strategy, config=None):
    return Resolver(strategy_class=strategy, config=config, examples=Channel(type=standard_artifacts.Examples))


def model():
    return Channel(type=standard_artifacts.Model)


def joined():
    first = CsvExampleGen(input_base="gs://bucket/a").with_id("First")
    second = CsvExampleGen(input_base="gs://bucket/b").with_id("Second")
    both = channel.union([first.outputs["examples"], second.outputs["examples"]])
    return [first, second, StatisticsGen(examples=both)]


def taken_from_a_step():
    example_gen = CsvExampleGen(input_base="gs://bucket/data")
    first = CountExamples(examples=example_gen.outputs["examples"], at_least=1, share=0.5).with_id("First")
    value = first.outputs["count"].future()[0].value
    second = CountExamples(examples=example_gen.outputs["examples"], at_least=value, share=0.5).with_id("Second")
    return [example_gen, first, second]


def checked_infrastructure():
    spec = infra_validator_pb2.ServingSpec(
        tensorflow_serving=infra_validator_pb2.TensorFlowServing(tags=["latest"]),
        local_docker=infra_validator_pb2.LocalDockerConfig(),
    )
    return [InfraValidator(model=model(), serving_spec=spec)]


REFUSED = {
    "a file of this machine": (
        lambda: [CsvExampleGen(input_base="/data/photos")],
        {"CsvExampleGen": "its input_base is /data/photos, on this machine; expected a gs:// address"},
    ),
    "a relative path": (
        lambda: [CsvExampleGen(input_base="photos")],
        {"CsvExampleGen": "its input_base is photos, on this machine; expected a gs:// address"},
    ),
    "a folder inside a setting": (
        lambda: [Pusher(model=model(), push_destination=pushed_to("/serving"))],
        {"Pusher": "its base_directory is /serving, on this machine; expected a gs:// address"},
    ),
    "a union": (
        joined,
        {
            "StatisticsGen": "its input examples joins examples of First and examples of Second; on Vertex AI an input "
            "is one output of one step"
        },
    ),
    "a driver of its own in an ExampleGen": (
        lambda: [CsvWithItsOwnDriver(input_base="gs://bucket/data")],
        {"CsvWithItsOwnDriver": "in place of its driver OwnDriver Vertex AI runs TFX's FileBasedDriver"},
    ),
    "a driver of its own": (
        lambda: [StatisticsWithADriver(examples=Channel(type=standard_artifacts.Examples))],
        {"StatisticsWithADriver": "Vertex AI never runs its driver OwnDriver"},
    ),
    "a type of artifacts": (
        lambda: [TakeNotes()],
        {
            "TakeNotes": "its artifacts are of type SomeNote; on Vertex AI the name of a type must be "
            "<module>.<class>, by which the container imports it"
        },
    ),
    "a module file": (
        lambda: [
            Trainer(
                module_file=__file__,
                examples=Channel(type=standard_artifacts.Examples),
                train_args=trainer_pb2.TrainArgs(),
                eval_args=trainer_pb2.EvalArgs(),
            )
        ],
        {
            "Trainer": "its module_file would be packaged into the bucket while compiling; expected a dotted name of a "
            "function"
        },
    ),
    "local files": (
        lambda: [
            Pusher(
                model=model(),
                push_destination=pushed_to("gs://bucket/serving"),
                custom_executor_spec=executor_spec.ExecutorClassSpec(AtomicPusherExecutor),
            )
        ],
        {"Pusher": "it renames folders under a file lock; a bucket has neither"},
    ),
    "a span range": (
        lambda: [
            resolved(
                SpanRangeStrategy,
                {"range_config": range_config_pb2.RangeConfig(rolling_range={"num_spans": 2})},
            )
        ],
        {
            "Resolver": "it resolves by SpanRangeStrategy; Vertex AI knows LatestArtifactStrategy and "
            "LatestBlessedModelStrategy only"
        },
    ),
    "several artifacts": (
        lambda: [resolved(LatestArtifactStrategy, {"desired_num_of_artifacts": 2})],
        {"Resolver": "it resolves 2 artifacts; Vertex AI gives the latest one only"},
    ),
    "a parameter from a step": (
        taken_from_a_step,
        {"Second": "its parameter at_least is another step's output, for which TFX names no task"},
    ),
    "what TFX does not compile": (
        checked_infrastructure,
        {"InfraValidator": "TFX does not compile it for Vertex AI: "},
    ),
    "many settings": (
        lambda: [CsvExampleGen(input_base="gs://" + "x" * 140_000)],
        {"CsvExampleGen": "its parameters have 140,"},
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_step_that_cannot_run_is_named_with_the_reason(case, tmp_path):
    make_nodes, expected = REFUSED[case]
    pipeline = make(make_nodes())
    found = refused_nodes(pipeline)
    assert found.keys() == expected.keys()
    for node_id, reason in found.items():
        assert reason.startswith(expected[node_id])
        with pytest.raises(BadInput) as raised:
            compile_for_vertex(pipeline, IMAGE, tmp_path / "job.json")
        assert f"{node_id}: {reason}" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_type_that_the_container_can_import_is_no_reason(monkeypatch):
    assert "TakeRemarks" in refused_nodes(make([TakeRemarks()])), "there is no such module yet"
    monkeypatch.setitem(sys.modules, "remarks", SimpleNamespace(Remark=Remark))
    assert refused_nodes(make([TakeRemarks()])) == {}


def test_root_and_file_name_are_refused_together(tmp_path):
    pipeline = make([CsvExampleGen(input_base="gs://bucket/data")], root="/data/root")
    with pytest.raises(BadInput) as raised:
        compile_for_vertex(pipeline, IMAGE, tmp_path / "job.yaml")
    assert str(raised.value).splitlines() == [
        "Vertex AI cannot run the pipeline small_pipeline, and nothing was written: 2 problems",
        "  - the pipeline root is /data/root; expected a gs:// address",
        "  - the file is to be called job.yaml; expected .json at its end",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "job.json").mkdir(parents=True)
    for folder in ("file", "folder"):
        with pytest.raises(BadInput, match=r"job.json cannot be written \(.+\); give another file"):
            compile_for_vertex(
                make([CsvExampleGen(input_base="gs://bucket/data")]), IMAGE, tmp_path / folder / "job.json"
            )
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["job.json"]


def test_our_own_graph_is_refused_step_by_step(tmp_path, drawn_photos):
    """With everything in a bucket: what is left are reasons that no address mends."""
    for photo in drawn_photos:
        folder = tmp_path / "photos" / photo.label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / photo.name).write_bytes(photo.photo_bytes)
    config = load_config("cats_vs_dogs", [], [str(tmp_path / "photos")])
    places = Places(artifacts=ROOT, serving=f"{ROOT}/serving", vectors=f"{ROOT}/vectors", resume=f"{ROOT}/resume")
    pipeline = make_pipeline(config, places, {"cats_vs_dogs": "gs://bucket/photos"}, {}, None, [])
    found = refused_nodes(pipeline)
    for node_id, part in {
        "ImageExampleGen": "its driver ImageExampleGenDriver",
        "DataGate": "its artifacts are of type WarmstartIngestReport",
        "FeatureExtraction": "its input examples joins feature_vectors of FeatureVectorGen and examples of Image",
        "FineTuning": "its input examples joins ",
        "ReleaseGate": "its artifacts are of type WarmstartIngestReport and WarmstartVerdict",
        "ProductionPredictions": "it reads models as local files",
        "Pusher": "it renames folders under a file lock",
    }.items():
        assert part in found[node_id]
    compiled = {"CuratedSchema", "StatisticsGen", "ExampleValidator", "Transform", "FeatureVectorGen", "Evaluator"}
    assert compiled.isdisjoint(found)
    with pytest.raises(BadInput) as raised:
        compile_for_vertex(pipeline, IMAGE, tmp_path / "job.json")
    assert [line.split(":")[0] for line in str(raised.value).splitlines()[1:]] == [
        f"  - {node_id}" for node_id in found
    ]
    assert not (tmp_path / "job.json").exists()
