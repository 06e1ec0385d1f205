"""The linter of Kubeflow's rules on what TFX's own KubeflowV2DagRunner writes, which is for Vertex AI."""

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.components.evaluator.component import Evaluator
from tfx.components.example_gen.csv_example_gen.component import CsvExampleGen
from tfx.components.schema_gen.component import SchemaGen
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.components.trainer.component import Trainer
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import trainer_pb2
from tfx.types import standard_artifacts
from tfx.types.channel import Channel

from components.evaluator.eval_config import make_eval_config
from tests.kubeflow_lint import problems


def standard_nodes():
    example_gen = CsvExampleGen(input_base="gs://bucket/data")
    examples = example_gen.outputs["examples"]
    statistics = StatisticsGen(examples=examples)
    schema = SchemaGen(statistics=statistics.outputs["statistics"])
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
    return [example_gen, statistics, schema, trainer, production, evaluator]


def test_a_resolver_as_tfx_compiles_it_is_refused_for_kubeflow(tmp_path):
    """A file-format check finds nothing wrong with it."""

    def compiled(nodes, file):
        pipeline = Pipeline(
            pipeline_name="small-pipeline", pipeline_root="gs://bucket/root", components=nodes, enable_cache=True
        )
        config = KubeflowV2DagRunnerConfig(default_image="image:1", use_pipeline_spec_2_1=True)
        KubeflowV2DagRunner(config, output_dir=str(tmp_path), output_filename=file).run(pipeline)
        return (tmp_path / file).read_text(encoding="utf-8")

    text = compiled(standard_nodes(), "small.yaml")
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
    found = problems(compiled(without, "without.yaml"))
    assert not any("resolver executor" in sentence for sentence in found), "the resolver was the reason"
