"""A pipeline with each kind of node that a process must be able to launch alone, and with nodes that misbehave."""

import os
import signal
import time

from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.importer import Importer
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy
from tfx.orchestration.pipeline import Pipeline
from tfx.types import channel, standard_artifacts


def write(uri: str, name: str) -> None:
    os.makedirs(uri, exist_ok=True)
    with open(os.path.join(uri, name), "w") as file:
        file.write(name)


@component
def Make(model: OutputArtifact[standard_artifacts.Model], good: Parameter[int]):
    """Makes a model, good or not."""
    write(model.uri, "model")
    model.set_int_custom_property("good", good)


@component
def Use(
    made: InputArtifact[standard_artifacts.Model],
    latest: InputArtifact[standard_artifacts.Model],
    used: OutputArtifact[standard_artifacts.Model],
):
    """Needs what was made, and what a resolver found."""
    write(used.uri, f"{os.listdir(made.uri)[0]}-{os.listdir(latest.uri)[0]}")


@component
def Publish(model: InputArtifact[standard_artifacts.Model], published: OutputArtifact[standard_artifacts.PushedModel]):
    """Stands under a condition."""
    write(published.uri, os.listdir(model.uri)[0])


@component
def DieOnce(mark: Parameter[str], model: OutputArtifact[standard_artifacts.Model]):
    """Is killed in the middle of its work, the first time."""
    if not os.path.exists(mark):
        write(model.uri, "half-written")
        write(os.path.dirname(mark), os.path.basename(mark))
        os.kill(os.getpid(), signal.SIGKILL)
    write(model.uri, "whole")


@component
def FailOnce(mark: Parameter[str], model: OutputArtifact[standard_artifacts.Model]):
    """Raises an error, the first time."""
    if not os.path.exists(mark):
        write(model.uri, "half-written")
        write(os.path.dirname(mark), os.path.basename(mark))
        raise RuntimeError("the disk was busy")
    write(model.uri, "whole")


@component
def Slow(model: OutputArtifact[standard_artifacts.Model], seconds: Parameter[float]):
    """Takes its time."""
    time.sleep(seconds)
    write(model.uri, "model")


def zoo(name: str, artifacts: str, marks: str, schema_file: str, external: str, good: int) -> Pipeline:
    """The pipeline.

    Args:
      name: of the pipeline.
      artifacts: TFX's pipeline root.
      marks: folder where nodes that misbehave once remember it.
      schema_file: to import.
      external: folder of a model to import.
      good: 1: the condition is met.
    """
    make = Make(good=good)
    latest = Resolver(
        strategy_class=LatestArtifactStrategy,
        model=channel.Channel(type=standard_artifacts.Model, producer_component_id="Make", output_key="model"),
    ).with_id("Latest")
    latest.add_upstream_node(make)
    use = Use(made=make.outputs["model"], latest=latest.outputs["model"])
    with Cond(make.outputs["model"].future()[0].custom_property("good") == 1):
        publish = Publish(model=use.outputs["used"])
    return Pipeline(
        pipeline_name=name,
        pipeline_root=artifacts,
        components=[
            make,
            latest,
            use,
            publish,
            DieOnce(mark=os.path.join(marks, "died")),
            FailOnce(mark=os.path.join(marks, "failed")),
            Slow(seconds=2.0),
            ImportSchemaGen(schema_file=schema_file),
            Importer(source_uri=external, artifact_type=standard_artifacts.Model).with_id("External"),
        ],
        enable_cache=True,
    )
