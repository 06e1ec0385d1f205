"""What the Beam steps must do for workers in other processes, on other machines, and several at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import apache_beam as beam
import tensorflow as tf
from apache_beam.metrics.execution import MetricKey, MetricResult
from apache_beam.metrics.metricbase import MetricName
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.orchestration.portable.beam_executor_operator import BeamExecutorOperator
from tfx.proto import example_gen_pb2
from tfx.proto.orchestration import executable_spec_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import proto_utils

from components import loaded_models
from components.artifacts import IngestReport
from components.backbone import registry
from components.beam_records import read_splits, remove_leftovers, runs_here, write_splits
from components.evaluator.predictions import _Unknown
from components.example_gen.executor import PHOTOS_KEY, ImageExampleGenExecutor
from components.example_gen.photo_rules import PhotoRules
from components.example_gen.settings import IngestSettings
from components.feature_vector_gen import component as feature_vector_gen
from components.feature_vector_gen.worker_backbone import WorkerBackbone
from components.records import read_examples, split_files
from components.shared_folder import require_shared
from deploy.beam_operator import BeamOperator
from schemas.errors import BadInput


def examples_artifact(folder, *splits) -> standard_artifacts.Examples:
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = artifact_utils.encode_split_names(list(splits))
    return artifact


# ---- spreading


@pytest.mark.parametrize(
    ("arguments", "here"),
    [
        (["--runner=FnApiRunner"], True),
        (["--runner=FnApiRunner", "--direct_running_mode=in_memory"], True),
        (["--runner=DirectRunner"], True),
        (["--runner=FnApiRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2"], False),
        (["--runner=DirectRunner", "--direct_running_mode=multi_threading"], False),
        (["--runner=FnApiRunner", "--direct_num_workers=2"], False),
        (["--runner=PortableRunner", "--job_endpoint=localhost:1"], False),
        (["--runner=FlinkRunner"], False),
    ],
)
def test_whether_a_job_runs_here_is_a_matter_of_its_arguments(arguments, here):
    assert runs_here(beam.Pipeline(options=PipelineOptions(arguments))) is here


def steps(pipeline: beam.Pipeline) -> list[str]:
    """Names of the steps of a job, and what Beam calls them."""
    return [step.spec.urn for step in pipeline.to_runner_api().components.transforms.values()]


def test_records_are_spread_away_from_this_process_and_stay_in_order_here(
    tmp_path, make_example, drawn_photos, write_records
):
    write_records(tmp_path / "Split-train", map(make_example, drawn_photos))
    examples = examples_artifact(tmp_path, "train")
    spread = "beam:transform:reshuffle:v1"
    away = beam.Pipeline(options=PipelineOptions(["--runner=FlinkRunner"]))
    _ = read_splits(away, examples, ["train"])
    assert spread in steps(away)
    copy = examples_artifact(tmp_path / "copy", "train")
    with beam.Pipeline(runner=FnApiRunner()) as here:
        records = read_splits(here, examples, ["train"])
        assert spread not in steps(here)
        write_splits({"train": records | beam.Map(lambda row: row[1])}, copy, ["train"])
    read, written = (list(read_examples(split_files(each, "train"))) for each in (examples, copy))
    assert read == written
    assert len(read) == len(drawn_photos)


# ---- nothing that grows with the photos


class Sizes(FnApiRunner):
    """Measures the graphs of jobs, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[int] = []

    def run_pipeline(self, pipeline, options):
        self.found.append(len(pipeline.to_runner_api().SerializeToString()))
        return super().run_pipeline(pipeline, options)


def test_the_graph_of_a_job_does_not_grow_with_the_photos(tmp_path, drawn_photos):
    sizes = Sizes()
    for count in (4, 20):
        # Paths of equal length, since the graph names folders.
        folder, out = tmp_path / f"{count:02}", tmp_path / f"out{count:02}"
        for photo in drawn_photos[:count]:
            (folder / photo.label).mkdir(parents=True, exist_ok=True)
            (folder / photo.label / photo.name).write_bytes(photo.photo_bytes)
        examples, report = standard_artifacts.Examples(), IngestReport()
        examples.uri, report.uri = str(out / "examples"), str(out / "report")
        buckets = [example_gen_pb2.SplitConfig.Split(name="train", hash_buckets=1)]
        output = example_gen_pb2.Output(split_config=example_gen_pb2.SplitConfig(splits=buckets))
        settings = IngestSettings({"image_folder": str(folder)}, "label", PhotoRules(min_side=1, max_pixels=10**6))
        context = BaseBeamExecutor.Context(
            tmp_dir=str(out), unique_id="1", make_beam_pipeline_fn=lambda: beam.Pipeline(runner=sizes)
        )
        ImageExampleGenExecutor(context).Do(
            {},
            {"examples": [examples], "ingest_report": [report]},
            {PHOTOS_KEY: settings.to_json(), "output_config": proto_utils.proto_to_json(output)},
        )
        assert len(list(read_examples(split_files(examples, "train")))) == count
        assert not (out / "report" / "parts").exists()
    few, many = sizes.found
    assert abs(many - few) < 200


def test_the_photos_learnt_from_are_read_by_the_worker(tmp_path, make_example, drawn_photos, write_records):
    write_records(tmp_path / "Split-train", map(make_example, drawn_photos[:3]))
    step = _Unknown(split_files(examples_artifact(tmp_path, "train"), "train"))
    assert not hasattr(step, "_known")
    step.setup()
    rows = [("test", make_example(photo).SerializeToString()) for photo in drawn_photos[:5]]
    assert [row for given in rows for row in step.process(given)] == rows[3:]


# ---- folders


def test_a_folder_that_a_worker_does_not_see_is_one_sentence(tmp_path):
    require_shared(str(tmp_path))
    require_shared("gs://bucket/folder")  # the same everywhere, and not asked for
    with pytest.raises(BadInput, match=r"does not see .*; mount the photos on every worker, at the same path") as error:
        require_shared(str(tmp_path / "absent"), "the photos")
    assert "\n" not in str(error.value)


def test_what_beam_did_not_finish_is_no_record_and_is_removed(tmp_path, make_example, drawn_photos, write_records):
    write_records(tmp_path / "Split-train", map(make_example, drawn_photos[:2]))
    unfinished = tmp_path / "Split-train" / "beam-temp-data_tfrecord-1f2e"
    unfinished.mkdir()
    (unfinished / "part").write_bytes(b"half")
    examples = examples_artifact(tmp_path, "train")
    assert len(list(read_examples(split_files(examples, "train")))) == 2
    remove_leftovers(examples, ["train"])
    assert not unfinished.exists()
    assert len(split_files(examples, "train")) == 1


# ---- the backbone and the models


def test_a_worker_elsewhere_finds_its_own_backbone_and_no_other(tiny_backbone, tmp_path):
    fingerprint = registry.fingerprint(str(tiny_backbone))
    there = str(tmp_path / "cache of the driver")
    backbone = WorkerBackbone(str(tiny_backbone), fingerprint, there)
    assert backbone.found_here() == str(tiny_backbone)
    other = WorkerBackbone(str(tiny_backbone), "f" * 64, there)
    with pytest.raises(
        BadInput, match=r"has the fingerprint .*, expected ffffffffffff; install the same version there"
    ):
        other.found_here()
    assert WorkerBackbone("unheard of", "", str(tmp_path)).found_here() == str(tmp_path)


def test_threads_that_ask_for_a_model_at_once_load_it_once(monkeypatch):
    loaded = []

    def load(folder: str) -> object:
        loaded.append(folder)
        time.sleep(0.2)
        return object()

    monkeypatch.setattr(tf.saved_model, "load", load)
    monkeypatch.setattr(loaded_models, "_loaded", {})
    together = threading.Barrier(6)

    def ask(_: int) -> object:
        together.wait()
        return loaded_models.load_model("folder")

    with ThreadPoolExecutor(6) as threads:
        assert len(set(threads.map(ask, range(6)))) == 1
    assert loaded == ["folder"]


# ---- the answers of an engine


def test_counts_come_from_engines_that_report_attempts_only():
    def counter(step: str, name: str, committed: int | None, attempted: int | None) -> MetricResult:
        return MetricResult(MetricKey(step, MetricName("vectors", name)), committed, attempted)

    counters = [
        counter("a", "computed", None, 3),
        counter("b", "computed", 4, 5),
        counter("a", "reused", None, None),
    ]
    result = SimpleNamespace(metrics=lambda: SimpleNamespace(query=lambda: {"counters": counters}))
    counts = feature_vector_gen._counts(result)
    assert (counts["computed"], counts["reused"], counts["dropped_as_damaged"]) == (7, 0, 0)


REMOTE = """Pipeline BeamApp-1 failed in state FAILED: Traceback (most recent call last):
  File "/env/apache_beam/runners/common.py", line 1498, in process
    return self.do_fn_invoker.invoke_process(windowed_value)
schemas.errors.BadInput: a worker of Apache Beam on w does not see /runs; mount it [while running 'Read']

During handling of the above exception, another exception occurred:
"""


@pytest.mark.parametrize(
    ("error", "raised", "told"),
    [
        (RuntimeError(REMOTE), BadInput, "a worker of Apache Beam on w does not see /runs; mount it"),
        (RuntimeError("Pipeline failed: out of memory"), RuntimeError, "Pipeline failed: out of memory"),
        (BadInput("here"), BadInput, "here"),
    ],
)
def test_the_sentence_of_a_worker_comes_out_of_the_text_of_the_runner(monkeypatch, error, raised, told):
    def fail(*_) -> None:
        raise error

    monkeypatch.setattr(BeamExecutorOperator, "run_executor", fail)
    spec = executable_spec_pb2.BeamExecutableSpec()
    spec.python_executor_spec.class_path = "components.example_gen.executor.ImageExampleGenExecutor"
    with pytest.raises(raised) as found:
        BeamOperator(spec).run_executor(None)
    assert str(found.value) == told


def test_arguments_of_the_launch_come_after_those_of_the_pipeline():
    spec = executable_spec_pb2.BeamExecutableSpec()
    spec.python_executor_spec.class_path = "components.example_gen.executor.ImageExampleGenExecutor"
    spec.beam_pipeline_args_placeholders.add().value.string_value = "--streaming"
    operator = BeamOperator(spec, arguments=["--runner=FlinkRunner"])
    assert [each.value.string_value for each in operator.beam_pipeline_args] == ["--streaming", "--runner=FlinkRunner"]
