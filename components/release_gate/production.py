"""The ProductionPredictions component: what the model now in production answers, on today's test split.

It runs in every run after a push, mostly to find that the winner is in production. So TensorFlow and Beam are imported
where another model is asked.
"""

from __future__ import annotations

import os
from dataclasses import replace

from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import artifact_utils, channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import path_utils

from components.artifacts import Verdict
from components.evaluator.stored_predictions import PRODUCTION
from components.records import iterate_records, split_files
from components.release_gate.decision import COMPARABLE, NONE, SAME
from components.serving_folder.files import model_identity
from components.verdict import write_verdict
from schemas import schema_files
from schemas.features import SEGMENTATION
from schemas.verdicts import ProductionStanding


class ProductionPredictionsExecutor(BaseBeamExecutor):
    """Runs the model in production over the test split, if it can be run and is another one than the winner."""

    def __init__(self, context: BaseBeamExecutor.Context | None = None):
        BaseExecutor.__init__(self, context)  # Beam's part imports Beam

    def _make_beam_pipeline(self):
        BaseBeamExecutor.__init__(self, self._context)
        return super()._make_beam_pipeline()

    def Do(self, input_dict, output_dict, exec_properties) -> None:
        """Overrides BaseExecutor.Do()."""
        schema, model, predictions, standing = (
            artifact_utils.get_single_instance({**input_dict, **output_dict}[key])
            for key in ("schema", "model", "predictions", "standing")
        )
        read_schema = schema_files.read_schema(os.path.join(schema.uri, schema_files.SCHEMA_FILE))
        production_model = exec_properties["production_model"]
        if not production_model:
            found = ProductionStanding(state=NONE, text="no model is in production yet")
        elif exec_properties["production_identity"] == model_identity(path_utils.serving_model_path(model.uri)):
            found = ProductionStanding(state=SAME, text="the winner is the model in production")
        else:
            found = self._ask(production_model, read_schema, input_dict, predictions, exec_properties)
        if production_model:
            found = replace(found, version=int(os.path.basename(production_model)))
        write_verdict(standing.uri, found)

    def _ask(self, production_model, schema, input_dict, predictions, exec_properties) -> ProductionStanding:
        import tensorflow as tf

        from components.evaluator.mask_answers import AskForMasks
        from components.evaluator.predictions import StoredInputs, store_answers
        from components.loaded_models import forget_models
        from components.release_gate.examination import examine

        kind = schema_files.task_kind(schema)
        labels = schema_files.classes(schema, kind)
        [examples] = input_dict["examples"]
        photo = next(iterate_records(split_files(examples, "test")))
        found = examine(production_model, labels, tf.constant(photo), kind)
        if found.state == COMPARABLE:
            vectors = input_dict.get("vectors")
            of_vectors = [exec_properties[key] for key in ("asked_twice", "tolerance")]
            stored = StoredInputs(vectors[0], *of_vectors) if vectors else None
            models = {PRODUCTION: production_model}
            ask = None
            if kind == SEGMENTATION:
                its_labels = found.labels or []
                ask = AskForMasks(exec_properties["mask_size"], [its_labels.index(label) for label in labels])
            pipeline = self._make_beam_pipeline()
            store_answers(pipeline, examples, ["test"], models, labels, predictions, stored=stored, ask_for_masks=ask)
        forget_models([production_model])  # the trainers may have loaded it
        return found


class ProductionPredictionsSpec(ComponentSpec):
    PARAMETERS = {  # noqa: RUF012
        "production_model": ExecutionParameter(type=str),
        "production_identity": ExecutionParameter(type=str),
        "code": ExecutionParameter(type=str),
        "mask_size": ExecutionParameter(type=int),
        "asked_twice": ExecutionParameter(type=int),
        "tolerance": ExecutionParameter(type=float),
    }
    INPUTS = {  # noqa: RUF012
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "schema": ChannelParameter(type=standard_artifacts.Schema),
        "model": ChannelParameter(type=standard_artifacts.Model),
        "vectors": ChannelParameter(type=standard_artifacts.Examples, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        "predictions": ChannelParameter(type=standard_artifacts.Examples),
        "standing": ChannelParameter(type=Verdict),
    }


class ProductionPredictions(base_beam_component.BaseBeamComponent):
    """Runs the model in production over the test split, if it can be run and is another one than the winner.

    Outputs:
      `predictions`: the examples of the split test as `Predictions` stores them, with `production_probabilities`,
        float32 [classes of the model in production]; without examples unless the two can be compared. Of masks, its
        confusions in the order of the new models' classes.
      `standing`: whether the two can be compared, see `ProductionStanding`; `other_labels`: they have no two classes in
        common.
    """

    SPEC_CLASS = ProductionPredictionsSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(ProductionPredictionsExecutor)

    def __init__(
        self,
        examples: channel.BaseChannel,
        schema: channel.BaseChannel,
        model: channel.BaseChannel,
        production_model: str,
        production_identity: str,
        code: str,
        mask_size: int = 0,
        asked_twice: int = 0,
        tolerance: float = 0.0,
        vectors: channel.BaseChannel | None = None,
    ):
        """
        Args:
          schema: of DataGate; it has the new models' classes.
          production_model: folder of the version in production; empty: there is none.
          production_identity: of its content; part of the cache key.
          mask_size: side of the new models' masks, at which the two are compared.
          vectors, asked_twice, tolerance: see `StoredInputs`.
        """
        spec = ProductionPredictionsSpec(
            examples=examples,
            schema=schema,
            model=model,
            vectors=vectors,
            production_model=production_model,
            production_identity=production_identity,
            code=code,
            mask_size=mask_size,
            asked_twice=asked_twice,
            tolerance=tolerance,
            predictions=channel.Channel(type=standard_artifacts.Examples),
            standing=channel.Channel(type=Verdict),
        )
        super().__init__(spec=spec)
