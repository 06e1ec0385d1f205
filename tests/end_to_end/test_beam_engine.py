"""The Beam steps on an engine with workers in other processes give what a run in one process gives.

The engine is Beam's own job service (`tests/beam_engine.py`), or the one that ENGINE_ARGS names, such as a Flink
cluster: `make test-engine ENGINE_ARGS="--runner=FlinkRunner --flink_master=..."`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.beam_engine import beam_engine
from tests.end_to_end.commands import ASK_ABOUT_PRODUCTION, STEPS, run, states

pytestmark = [
    pytest.mark.slow,
    pytest.mark.release,
    # Six minutes: most of them go into workers that import TensorFlow anew at each of the Beam steps of three runs.
    pytest.mark.skipif("ENGINE_ARGS" not in os.environ, reason="make test-engine starts it"),
]

ENGINE_ARGS = os.environ.get("ENGINE_ARGS", "").split()
WORKERS = [2] if ENGINE_ARGS else [1, 2]


@contextlib.contextmanager
def engine(workers: int) -> Iterator[list[str]]:
    if ENGINE_ARGS:
        yield ENGINE_ARGS
    else:
        with beam_engine(workers) as arguments:
            yield arguments


@dataclass
class Ran:
    """A run in a root of its own."""

    root: Path
    summary: dict

    def output(self, step: str, key: str) -> Path:
        """The newest output of a step."""
        return max((self.root / "artifacts" / step / key).iterdir(), key=lambda folder: int(folder.name))

    def examples(self, step: str, key: str, split: str) -> list:
        import tensorflow as tf

        files = sorted(map(str, (self.output(step, key) / f"Split-{split}").iterdir()))
        assert all(file.endswith(".gz") for file in files), files
        records = tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator()
        return [tf.train.Example.FromString(record) for record in records]

    def numbers(self, step: str, key: str, split: str, feature: str) -> dict[bytes, np.ndarray]:
        """Content hash -> the values of a feature of floats."""
        found = {}
        for example in self.examples(step, key, split):
            features = example.features.feature
            found[features["content_hash"].bytes_list.value[0]] = np.array(features[feature].float_list.value)
        return found


@pytest.fixture(scope="module")
def local(shaded, small, tmp_path_factory) -> Ran:
    root = tmp_path_factory.mktemp("local") / "root"
    code, output, summary = run(shaded, root, *small)
    assert code == 0, output
    return Ran(root, summary)


@pytest.fixture(scope="module", params=WORKERS)
def ran(request, shaded, small, tmp_path_factory) -> Iterator[tuple[Ran, list[str]]]:
    """The run on an engine with one and with two workers, and the settings that name the engine."""
    root = tmp_path_factory.mktemp("engine") / "root"
    with engine(request.param) as arguments:
        settings = [*small, f"--set=runtime.beam_pipeline_args={json.dumps(arguments)}"]
        code, output, summary = run(shaded, root, *settings)
        assert code == 0, output
        log = (root / "reports" / summary["run_id"] / "run.log").read_text(errors="replace")
        assert "ephemeral" not in log, "TFX shipped itself to the workers"
        yield Ran(root, summary), small


def test_every_step_is_done_and_the_photos_and_models_are_those_of_a_local_run(local, ran):
    summary = ran[0].summary
    assert states(summary) == dict.fromkeys(STEPS, "complete")
    assert summary["data"] == local.summary["data"]
    assert summary["winner"] == local.summary["winner"]
    for name, model in local.summary["models"].items():
        for metric in ("accuracy", "loss"):
            assert summary["models"][name][metric]["value"] == pytest.approx(model[metric]["value"], abs=1e-5), name


def test_every_worker_did_some_of_the_work(request, ran):
    """A bundle of a worker is a file of its own."""
    workers = request.node.callspec.params["ran"]
    for step, key in (("ImageExampleGen", "examples"), ("FeatureVectorGen", "feature_vectors")):
        assert len(list((ran[0].output(step, key) / "Split-train").iterdir())) >= workers


def test_a_worker_without_the_volume_says_so(shaded, small, tmp_path):
    if ENGINE_ARGS:
        pytest.skip("what the workers of this engine see is not ours to arrange")
    root = tmp_path / "root"
    root.mkdir()
    with beam_engine(1, hidden=root) as arguments:
        settings = [*small, f"--set=runtime.beam_pipeline_args={json.dumps(arguments)}"]
        code, output, summary = run(shaded, root, *settings, "--to=ImageExampleGen")
    assert code == 2, output
    assert summary["status"] == "stopped"
    assert summary["reason"].startswith("a worker of Apache Beam on ")
    assert summary["reason"].endswith("; mount the volume of the root folder on every worker, at the same path")


@pytest.mark.parametrize("split", ["train", "eval", "test"])
def test_the_examples_are_the_same(local, ran, split):
    def counted(which: Ran) -> Counter[bytes]:
        examples = which.examples("ImageExampleGen", "examples", split)
        return Counter(example.SerializeToString(deterministic=True) for example in examples)

    found = counted(ran[0])
    assert found == counted(local)
    assert sum(found.values()) > 5


@pytest.mark.parametrize("split", ["train", "eval", "test"])
def test_the_vectors_are_the_same(local, ran, split):
    found, expected = (
        which.numbers("FeatureVectorGen", "feature_vectors", split, "feature_vector") for which in (ran[0], local)
    )
    assert found.keys() == expected.keys()
    for key, vector in expected.items():
        np.testing.assert_allclose(found[key], vector, atol=1e-5)
    note = json.loads((ran[0].output("FeatureVectorGen", "feature_vectors") / "pass.json").read_text())
    assert (note["computed"], note["reused"]) == (sum(ran[0].summary["data"]["accepted"].values()), 0)


def test_the_statistics_are_the_same(local, ran):
    import tensorflow_data_validation as tfdv

    for split in ("train", "eval", "test"):
        expected, found = (
            tfdv.load_stats_binary(
                str(which.output("StatisticsGen", "statistics") / f"Split-{split}" / "FeatureStats.pb")
            )
            for which in (local, ran[0])
        )
        [ours], [theirs] = found.datasets, expected.datasets
        assert ours.num_examples == theirs.num_examples
        by_name = {feature.path.step[0]: feature for feature in ours.features}
        assert by_name.keys() == {feature.path.step[0] for feature in theirs.features}
        for feature in theirs.features:
            mine = by_name[feature.path.step[0]]
            assert mine.type == feature.type
            if feature.HasField("num_stats"):
                for number in ("mean", "std_dev", "min", "max", "median"):
                    expected_number = getattr(feature.num_stats, number)
                    assert getattr(mine.num_stats, number) == pytest.approx(expected_number, rel=1e-6)
            if feature.HasField("string_stats"):
                assert mine.string_stats.unique == feature.string_stats.unique
                top = [(one.value, one.frequency) for one in feature.string_stats.top_values]
                assert sorted(top) == sorted((one.value, one.frequency) for one in mine.string_stats.top_values)


@pytest.mark.parametrize("split", ["eval", "test"])
def test_the_answers_are_the_same(local, ran, split):
    for model in ("feature_extraction", "fine_tuned"):
        of_model = f"{model}_probabilities"
        found, expected = (which.numbers("Predictions", "predictions", split, of_model) for which in (ran[0], local))
        assert found.keys() == expected.keys()
        for key, probabilities in expected.items():
            np.testing.assert_allclose(found[key], probabilities, atol=1e-4)


def test_evaluator_measures_the_same(local, ran):
    from tensorflow_model_analysis.proto import metrics_for_slice_pb2

    def metrics(which: Ran) -> dict[tuple[str, ...], float]:
        import tensorflow as tf

        found = {}
        files = [str(file) for file in which.output("Evaluator", "evaluation").glob("metrics-*.tfrecord")]
        for record in tf.data.TFRecordDataset(files).as_numpy_iterator():
            of_slice = metrics_for_slice_pb2.MetricsForSlice.FromString(record)
            for one in of_slice.metric_keys_and_values:
                if one.value.HasField("double_value"):
                    key = (str(of_slice.slice_key), str(one.key))
                    found[key] = one.value.double_value.value
        return found

    expected, found = metrics(local), metrics(ran[0])
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-4, nan_ok=True), key


def test_on_another_engine_or_here_everything_is_cached(ran, shaded):
    """Addresses are no part of a cache key, nor is the engine."""
    here, settings = ran
    for more in ([], ["--set=runtime.beam_pipeline_args=[--runner=FnApiRunner, --direct_num_workers=1]"]):
        code, output, summary = run(shaded, here.root, *settings, *more)
        assert code == 0, output
        found = states(summary)
        assert {found[step] for step in STEPS if step not in ASK_ABOUT_PRODUCTION} == {"cached"}
