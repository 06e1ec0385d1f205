"""The one graph: from photos to a pushed model. Read it from top to bottom."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tfx.components.evaluator.component import Evaluator
from tfx.components.example_validator.component import ExampleValidator
from tfx.components.pusher.component import Pusher
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.components.trainer.component import Trainer
from tfx.components.transform.component import Transform
from tfx.dsl.components.base import executor_spec
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.dsl.placeholder.placeholder import logical_and
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import pusher_pb2, trainer_pb2
from tfx.types import channel

from components.backbone import registry
from components.curated_schema.component import CuratedSchema
from components.data_gate.component import DataGate
from components.drift_gate.component import DriftGate
from components.ensemble.component import Ensemble
from components.evaluator.eval_config import make_eval_config
from components.evaluator.predictions import Predictions
from components.example_gen.component import ImageExampleGen
from components.feature_vector_gen.component import FeatureVectorGen
from components.model_selector.component import ModelSelector
from components.pusher.executor import AtomicPusherExecutor, PushSettings
from components.release_gate.component import ReleaseGate
from components.release_gate.production import ProductionPredictions
from components.servable_check.component import ServableCheck
from components.transform.preprocessing import PreprocessingSettings
from components.window.component import ChosenArtifacts, Window
from pipeline.config import Config
from pipeline.fingerprint import code_fingerprint as code
from pipeline.places import EarlierSpans, Places
from pipeline.trainer_settings import most_epochs, trainer_settings, unfreezing, unfreezing_far
from schemas.features import BREED, SLICES
from schemas.schema_files import curated_schema_file

Node = TypeVar("Node", bound=BaseNode)

# Keys of `drift` that do not belong to a check.
_OF_CHANCE = {"false_alarms", "far_quantile", "listed_photos"}


def make_pipeline(
    config: Config,
    places: Places,
    sources: dict[str, str],
    further: dict[str, str],
    metadata_connection_config: Any,
    beam_args: list[str],
    force_push: str = "",
    earlier: EarlierSpans | None = None,
) -> Pipeline:
    """Makes the pipeline of a configuration.

    Args:
      sources: data set -> folder of photos, or pattern with one folder for each span; `tfds:` names are resolved.
      further: the same for data sets to evaluate on only.
      beam_args: arguments for Apache Beam, which become part of the cache keys; deploy adds them later instead.
      force_push: why to override ReleaseGate; empty: do not.
      earlier: with `data.window`, the earlier spans; None: there are none.
    """
    nodes = Nodes()
    ingested = ingest(nodes, config, sources)
    data = embed(nodes, config, places, ingested)
    if config.data.window is not None:
        data = join_window(nodes, config, ingested, data, earlier or EarlierSpans())
    models = train(nodes, config, places, data)
    judgement = judge(nodes, config, places, data, models, further, force_push)
    publish(nodes, config, places, judgement, force_push)
    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=places.artifacts,
        components=nodes.added,
        enable_cache=True,
        metadata_connection_config=metadata_connection_config,
        beam_pipeline_args=beam_args,
    )


class Nodes:
    """The nodes of a pipeline, in the order in which the stages add them; a node that is not added does not run."""

    def __init__(self) -> None:
        self.added: list[BaseNode] = []

    def add(self, node: Node) -> Node:
        self.added.append(node)
        return node


class IngestNodes(NamedTuple):
    """The nodes that read and check the photos of the newest span."""

    example_gen: BaseNode
    curated_schema: BaseNode
    data_gate: BaseNode


def ingest(nodes: Nodes, config: Config, sources: dict[str, str]) -> IngestNodes:
    """Reads the photos, and stops the run if too many are rejected or their labels contradict each other."""
    example_gen = nodes.add(
        ImageExampleGen(
            sources=sources,
            label_from=config.task.label,
            split_buckets=config.data.splits.model_dump(),
            rules=config.photo_rules,
            code=code("components.example_gen.executor"),
            span=config.data.span,
            folder_rules=config.folder_rules,
            settle_seconds=config.data.settle_seconds,
            corrections=config.data.corrections or "",
        )
    )
    content = Path(curated_schema_file(config.task.schema_name)).read_text(encoding="utf-8")
    curated_schema = nodes.add(CuratedSchema(content=content))
    schema = curated_schema.outputs["schema"]
    statistics = nodes.add(StatisticsGen(examples=example_gen.outputs["examples"], schema=schema))
    validator = nodes.add(ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema))
    data_gate = nodes.add(
        DataGate(
            ingest_report=example_gen.outputs["ingest_report"],
            anomalies=validator.outputs["anomalies"],
            curated_schema=schema,
            max_rejected_fraction=config.data.max_rejected_fraction,
            max_contradictions=config.data.max_contradictions,
            of_window=int(config.data.window is not None),
            code=code("components.data_gate.component"),
        )
    )
    return IngestNodes(example_gen, curated_schema, data_gate)


class Data(NamedTuple):
    """The data to train and test on: the newest span, or with `data.window` all spans of the window."""

    photos: channel.BaseChannel
    vectors: channel.BaseChannel
    ingest_report: channel.BaseChannel
    schema: channel.BaseChannel
    transform_graph: channel.BaseChannel
    feature_vector_gen: BaseNode


def embed(nodes: Nodes, config: Config, places: Places, ingested: IngestNodes) -> Data:
    """Traces the preprocessing, and passes each photo through the frozen backbone once."""
    photos, schema = ingested.example_gen.outputs["examples"], ingested.data_gate.outputs["schema"]
    preprocessing = PreprocessingSettings(**config.image.model_dump(), code=code("components.transform.preprocessing"))
    transform = nodes.add(
        Transform(
            examples=photos,
            schema=schema,
            preprocessing_fn="components.transform.preprocessing.preprocessing_fn",
            custom_config=preprocessing.model_dump(),
            materialize=False,
            disable_statistics=True,
        )
    )
    transform_graph, backbone = transform.outputs["transform_graph"], config.backbone.handle
    augmentation, fine = config.training.augmentation, config.training.fine_tuning
    views = {**augmentation.model_dump(exclude={"mode"}), "seed": config.training.seed}
    if augmentation.mode == "mirror":
        views |= {"views": 1, "mirror": 1}
    # TFX's parameters hold no None within a dictionary.
    far = unfreezing_far(config)
    unfreezes = [each.model_dump(exclude_none=True) for each in (far, unfreezing(config)) if each is not None]
    # Activations are cached for the largest part that may train, short of the whole backbone.
    reads_activations = fine.from_activations and fine.epochs != 0 and fine.strategy in ("top", "auto")
    caches_activations = reads_activations and augmentation.mode != "online"
    feature_vector_gen = nodes.add(
        FeatureVectorGen(
            examples=photos,
            transform_graph=transform_graph,
            schema=schema,
            backbone=backbone,
            backbone_fingerprint=registry.fingerprint(backbone),
            image_size=config.image.size,
            transform_fingerprint=preprocessing.model_dump_json(),
            store=places.vectors,
            code=code("components.feature_vector_gen.component"),
            unfreeze=unfreezes[0] if caches_activations else None,
            unfreeze_instead=unfreezes[1] if caches_activations and far else None,
            augmentation=views if augmentation.mode in ("mirror", "views") else None,
            **config.stored_taps,
        )
    )
    return Data(
        photos,
        feature_vector_gen.outputs["feature_vectors"],
        ingested.example_gen.outputs["ingest_report"],
        schema,
        transform_graph,
        feature_vector_gen,
    )


def join_window(nodes: Nodes, config: Config, ingested: IngestNodes, newest: Data, earlier: EarlierSpans) -> Data:
    """The newest span together with the earlier ones, unless its photos have drifted away from them."""
    # Collected by number: each was ingested, checked and passed through the backbone when it was new.
    earlier_spans = nodes.add(
        Resolver(
            strategy_class=ChosenArtifacts,
            config={"ids": {"photos": earlier.photos, "vectors": earlier.vectors, "reports": earlier.reports}},
            photos=_made_by(ingested.example_gen, "examples"),
            vectors=_made_by(newest.feature_vector_gen, "feature_vectors"),
            reports=_made_by(ingested.example_gen, "ingest_report"),
        ).with_id("EarlierSpans")
    )
    drift_gate = nodes.add(
        DriftGate(
            feature_vectors=newest.vectors,
            earlier_vectors=earlier_spans.outputs["vectors"],
            thresholds=config.drift.model_dump(exclude=_OF_CHANCE, exclude_none=True),
            **config.drift.model_dump(include=_OF_CHANCE),
            seed=config.training.seed,
            stops=0,  # Window stops, so that the verdict stays
            code=code("components.drift_gate.component"),
        )
    )
    window = nodes.add(
        Window(
            photos=newest.photos,
            vectors=newest.vectors,
            ingest_report=newest.ingest_report,
            drift=drift_gate.outputs["verdict"],
            curated_schema=ingested.curated_schema.outputs["schema"],
            earlier_photos=earlier_spans.outputs["photos"],
            earlier_vectors=earlier_spans.outputs["vectors"],
            earlier_reports=earlier_spans.outputs["reports"],
            trained=earlier.trained,
            tested=earlier.tested,
            planned=earlier.planned,
            code=code("components.window.component"),
        )
    )
    return newest._replace(
        photos=window.outputs["window_photos"],
        vectors=window.outputs["window_vectors"],
        ingest_report=window.outputs["window_report"],
        schema=window.outputs["window_schema"],
    )


def train(nodes: Nodes, config: Config, places: Places, data: Data) -> dict[str, channel.BaseChannel]:
    """Trains the candidates: a head on the frozen backbone, a model fine-tuned from it and, if set, their ensemble.

    Both trainers get vectors and photos, and read only what they need. Returns the models by name.
    """
    settings = trainer_settings(config, places)
    inputs = {
        "transform_graph": data.transform_graph,
        "schema": data.schema,
        "train_args": trainer_pb2.TrainArgs(splits=["train"]),
        "eval_args": trainer_pb2.EvalArgs(splits=["eval"]),
    }
    tuned = {}
    if config.training.tuner.trials:
        from tfx.components.tuner.component import Tuner  # it imports Keras Tuner, and that Keras 3

        tuner = nodes.add(
            Tuner(
                tuner_fn="components.trainer.tuning.tuner_fn",
                examples=data.vectors,
                **{name: value for name, value in inputs.items() if name != "transform_graph"},
                custom_config=settings.tuner.model_dump(),
            )
        )
        tuned = {"hyperparameters": tuner.outputs["best_hyperparameters"]}
    examples = channel.union([data.vectors, data.photos])
    feature_extraction = nodes.add(
        Trainer(
            run_fn="components.trainer.feature_extraction.run_fn",
            examples=examples,
            **inputs,
            **tuned,
            custom_config=settings.feature_extraction.model_dump(),
        ).with_id("FeatureExtraction")
    )
    fine_tuning = nodes.add(
        Trainer(
            run_fn="components.trainer.fine_tuning.run_fn",
            examples=examples,
            base_model=feature_extraction.outputs["model"],
            **inputs,
            **tuned,
            custom_config=settings.fine_tuning.model_dump(),
        ).with_id("FineTuning")
    )
    models = {"feature_extraction": feature_extraction.outputs["model"], "fine_tuned": fine_tuning.outputs["model"]}
    if config.selection.ensemble:
        ensemble = nodes.add(Ensemble(**models, code=code("components.ensemble.component")))
        models["ensemble"] = ensemble.outputs["model"]
    return models


class Judgement(NamedTuple):
    """The better candidate, and whether it may replace the one in production."""

    model: channel.BaseChannel
    release_gate: BaseNode
    servable_check: BaseNode


def judge(
    nodes: Nodes,
    config: Config,
    places: Places,
    data: Data,
    models: dict[str, channel.BaseChannel],
    further: dict[str, str],
    force_push: str,
) -> Judgement:
    """Chooses a candidate on the eval split, and compares it on the test split with the model in production."""
    selection = config.selection
    # Half of what ServableCheck allows, on at least the photos that it asks about.
    stored = {
        "vectors": data.vectors,
        "asked_twice": max(32, config.serving.golden_photos),
        "tolerance": config.serving.tolerance / 2,
    }
    predictions = nodes.add(
        Predictions(
            examples=data.photos, **stored, schema=data.schema, **models, code=code("components.evaluator.predictions")
        )
    ).outputs["predictions"]
    of_further = {"further_predictions": _ask_further(nodes, config, data, models, further)} if further else {}
    selector = _select(nodes, config, data, predictions, models)
    model, verdict = selector.outputs["model"], selector.outputs["verdict"]
    production = nodes.add(
        ProductionPredictions(
            examples=data.photos,
            **stored,
            schema=data.schema,
            model=model,
            production_model=places.production_model,
            production_identity=places.production_identity,
            code=code("components.release_gate.production"),
            mask_size=config.mask_size,
        )
    )
    release_gate = nodes.add(
        ReleaseGate(
            predictions=predictions,
            selection=verdict,
            model=model,
            production_predictions=production.outputs["predictions"],
            production_standing=production.outputs["standing"],
            ingest_report=data.ingest_report,
            schema=data.schema,
            vectors=data.vectors,
            **config.release.model_dump(exclude={"license"}),
            further_minimum_accuracy=config.evaluation.further_minimum_accuracy,
            minimum_slice_examples=config.evaluation.minimum_slice_examples,
            confidence=selection.confidence,
            bootstrap_samples=selection.bootstrap_samples,
            seed=config.training.seed,
            force_push=force_push,
            **of_further,
            code=code("components.release_gate.component"),
        )
    )
    return Judgement(model, release_gate, _check_servable(nodes, config, data, predictions, model, verdict))


def _ask_further(
    nodes: Nodes, config: Config, data: Data, models: dict[str, channel.BaseChannel], further: dict[str, str]
) -> channel.BaseChannel:
    example_gen = nodes.add(
        ImageExampleGen(
            sources=further,
            label_from=config.evaluation.further_label,
            split_buckets={"test": 1},
            rules=config.photo_rules,
            code=code("components.example_gen.executor"),
            folder_rules=config.folder_rules,
            settle_seconds=config.data.settle_seconds,
        ).with_id("FurtherExampleGen")
    )
    return nodes.add(
        Predictions(
            examples=example_gen.outputs["examples"],
            schema=data.schema,
            **models,
            learnt_from=data.vectors,
            code=code("components.evaluator.predictions"),
        ).with_id("FurtherPredictions")
    ).outputs["predictions"]


def _select(
    nodes: Nodes, config: Config, data: Data, predictions: channel.BaseChannel, models: dict[str, channel.BaseChannel]
) -> BaseNode:
    """TFMA's comparison on the eval split, and the choice that follows from it."""
    selection = config.selection
    evaluator = nodes.add(
        Evaluator(
            examples=predictions,
            example_splits=["eval"],
            model=models["fine_tuned"],
            baseline_model=models["feature_extraction"],
            eval_config=make_eval_config(
                config.floor,
                selection.minimum_gain,
                # Where breeds are learnt, the label is the breed.
                [name for name in SLICES if name != BREED or config.task.label == "species"],
                code("components.evaluator.eval_config"),
                config.task.kind,
            ),
        )
    )
    return nodes.add(
        ModelSelector(
            predictions=predictions,
            blessing=evaluator.outputs["blessing"],
            **models,
            minimum_gain=selection.minimum_gain,
            fine_tuning_epochs=most_epochs(config),
            confidence=selection.confidence,
            bootstrap_samples=selection.bootstrap_samples,
            seed=config.training.seed,
            code=code("components.model_selector.component"),
            **({"schema": data.schema, **config.guard} if config.guard else {}),
        )
    )


def _check_servable(
    nodes: Nodes,
    config: Config,
    data: Data,
    predictions: channel.BaseChannel,
    model: channel.BaseChannel,
    verdict: channel.BaseChannel,
) -> BaseNode:
    serving = config.serving
    return nodes.add(
        ServableCheck(
            model=model,
            examples=data.photos,
            predictions=predictions,
            selection=verdict,
            golden_photos=serving.golden_photos,
            tolerance=serving.tolerance,
            maximum_load_seconds=serving.maximum_load_seconds,
            maximum_latency_milliseconds=serving.maximum_latency_milliseconds,
            maximum_batch_latency_milliseconds=serving.maximum_batch_latency_milliseconds,
            maximum_megabytes=serving.maximum_megabytes,
            exports=serving.exports,
            export_tolerance=serving.export_tolerance,
            code=code("components.servable_check.component"),
        )
    )


def publish(nodes: Nodes, config: Config, places: Places, judgement: Judgement, force_push: str) -> None:
    """Pushes the model if both gates let it through; otherwise Pusher is skipped, and the verdicts are kept."""
    gates = (judgement.release_gate, judgement.servable_check)
    blessings = [gate.outputs["blessing"].future()[0] for gate in gates]
    with Cond(logical_and(*(blessing.custom_property("blessed") == 1 for blessing in blessings))):
        nodes.add(
            Pusher(
                model=judgement.model,
                model_blessing=judgement.release_gate.outputs["blessing"],
                infra_blessing=judgement.servable_check.outputs["blessing"],
                push_destination=pusher_pb2.PushDestination(
                    filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=places.serving)
                ),
                custom_config=PushSettings(
                    lost_version=places.lost_version,
                    keep_versions=config.serving.keep_versions,
                    force_push=force_push,
                    code=code("components.pusher.executor"),
                ).model_dump(),
                custom_executor_spec=executor_spec.ExecutorClassSpec(AtomicPusherExecutor),
            )
        )


def _made_by(node: BaseNode, output: str) -> channel.Channel:
    """The outputs of a node in all runs of this pipeline."""
    return channel.Channel(type=node.outputs[output].type, producer_component_id=node.id, output_key=output)
