"""The one graph: from photos to a pushed model. Read it from top to bottom."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

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
from components.pusher.executor import AtomicPusherExecutor
from components.release_gate.component import ReleaseGate
from components.release_gate.production import ProductionPredictions
from components.servable_check.component import ServableCheck
from components.window.component import Window
from components.window.strategy import ChosenArtifacts
from pipeline.config import Config
from pipeline.fingerprint import code_fingerprint
from schemas.features import BREED, SLICES
from schemas.schema_files import curated_schema_file


@dataclass(frozen=True)
class Places:
    """Where a pipeline keeps what it makes.

    artifacts: of every step. serving: the folder production reads. vectors: feature vectors by content hash. resume:
    the state of interrupted trainings. production_model: the SavedModel in production, or empty. production_identity:
    of its content (`components.pusher.serving_folder.model_identity`). lost_version: the version last pushed, if it is
    no longer in `serving`: then it is pushed anew.
    """

    artifacts: str
    serving: str
    vectors: str = ""
    resume: str = ""
    production_model: str = ""
    production_identity: str = ""
    lost_version: str = ""


@dataclass(frozen=True)
class EarlierSpans:
    """The spans of a window before the newest, and which spans it has.

    photos, vectors, reports: numbers of their artifacts in ML Metadata, of ImageExampleGen and FeatureVectorGen, which
    have ingested and checked them. trained: numbers of all spans whose train and eval splits are learnt from. tested:
    of all whose test splits are tested on. planned: what the window was planned from.
    """

    photos: list[int] = field(default_factory=list)
    vectors: list[int] = field(default_factory=list)
    reports: list[int] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)
    tested: list[int] = field(default_factory=list)
    planned: list[str] = field(default_factory=list)


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
    """The pipeline for a configuration.

    Args:
      config: the resolved configuration.
      places: where to write.
      sources: data set -> folder of photos, or pattern of one folder a span; `tfds:` names already resolved to folders.
      further: the same of the data sets that are evaluated on only.
      metadata_connection_config: of ML Metadata.
      beam_args: arguments for Apache Beam.
      force_push: why ReleaseGate is overridden; empty: it is not.
      earlier: with `data.window`: the earlier spans; None: there are none.
    """
    code = code_fingerprint
    backbone = config.backbone.handle
    training = config.training

    example_gen = ImageExampleGen(
        sources=sources,
        label_from=config.task.label,
        split_buckets=config.data.splits.model_dump(),
        rules=config.photo_rules,
        code=code("components.example_gen.executor"),
        span=config.data.span,
        folder_rules=config.data.folder_rules,
        settle_seconds=config.data.settle_seconds,
    )
    photos = example_gen.outputs["examples"]

    curated_schema = CuratedSchema(
        content=Path(curated_schema_file(config.task.schema_name)).read_text(encoding="utf-8")
    )
    statistics = StatisticsGen(examples=photos, schema=curated_schema.outputs["schema"])
    validator = ExampleValidator(statistics=statistics.outputs["statistics"], schema=curated_schema.outputs["schema"])
    data_gate = DataGate(
        ingest_report=example_gen.outputs["ingest_report"],
        anomalies=validator.outputs["anomalies"],
        curated_schema=curated_schema.outputs["schema"],
        max_rejected_fraction=config.data.max_rejected_fraction,
        max_contradictions=config.data.max_contradictions,
        of_window=int(config.data.window is not None),
        code=code("components.data_gate.component"),
    )
    schema = data_gate.outputs["schema"]

    transform = Transform(
        examples=photos,
        schema=schema,
        preprocessing_fn="components.transform.preprocessing.preprocessing_fn",
        custom_config={**config.image.model_dump(), "code": code("components.transform.preprocessing")},
        materialize=False,
        disable_statistics=True,
    )
    transform_graph = transform.outputs["transform_graph"]

    augmentation = training.augmentation.model_dump(exclude={"mode", "views"})
    views = {**augmentation, "views": training.augmentation.views, "seed": training.seed}
    fine = training.fine_tuning
    known_backbone = registry.BACKBONES.get(backbone)
    unfreeze = {
        "pattern": fine.unfreeze,
        "blocks": fine.unfreeze_blocks,
        "last": fine.unfreeze_last,
        "fraction": fine.unfreeze_fraction,
        "default_pattern": known_backbone.unfreeze if known_backbone else None,
    }
    # Activations are cached for what may learn at most besides everything.
    caches_activations = (
        fine.from_activations
        and fine.epochs > 0
        and fine.strategy in ("top", "auto")
        and training.augmentation.mode != "online"
    )
    feature_vector_gen = FeatureVectorGen(
        examples=photos,
        transform_graph=transform_graph,
        schema=schema,
        backbone=backbone,
        backbone_fingerprint=registry.fingerprint(backbone),
        image_size=config.image.size,
        transform_fingerprint=code("components.transform.preprocessing") + config.image.model_dump_json(),
        freeze=json.dumps({"strategy": "top", **unfreeze}) if caches_activations else "",
        augmentation=json.dumps(views) if training.augmentation.mode == "views" else "",
        store=places.vectors,
        code=code("components.feature_vector_gen.component"),
    )
    vectors = feature_vector_gen.outputs["feature_vectors"]
    ingest_report = example_gen.outputs["ingest_report"]

    earlier_spans = drift_gate = window = None
    if config.data.window is not None:
        earlier = earlier or EarlierSpans()
        # Collected by number: each was ingested, checked and passed through the backbone when it was new.
        earlier_spans = Resolver(
            strategy_class=ChosenArtifacts,
            config={"ids": {"photos": earlier.photos, "vectors": earlier.vectors, "reports": earlier.reports}},
            photos=_made_by(example_gen, "examples"),
            vectors=_made_by(feature_vector_gen, "feature_vectors"),
            reports=_made_by(example_gen, "ingest_report"),
        ).with_id("EarlierSpans")
        drift_gate = DriftGate(
            feature_vectors=vectors,
            earlier_vectors=earlier_spans.outputs["vectors"],
            thresholds=config.drift.model_dump_json(),
            seed=training.seed,
            stops=0,  # Window stops, so that the verdict stays
            code=code("components.drift_gate.component"),
        )
        window = Window(
            photos=photos,
            vectors=vectors,
            ingest_report=ingest_report,
            drift=drift_gate.outputs["verdict"],
            curated_schema=curated_schema.outputs["schema"],
            earlier_photos=earlier_spans.outputs["photos"],
            earlier_vectors=earlier_spans.outputs["vectors"],
            earlier_reports=earlier_spans.outputs["reports"],
            spans=json.dumps({key: getattr(earlier, key) for key in ("trained", "tested", "planned")}),
            code=code("components.window.component"),
        )
        # From here on the window takes the place of the newest span.
        photos, vectors, ingest_report, schema = (
            window.outputs[f"window_{key}"] for key in ("photos", "vectors", "report", "schema")
        )

    head = training.feature_extraction
    shared = {
        "backbone": backbone,
        "backbone_fingerprint": registry.fingerprint(backbone),
        "image_size": config.image.size,
        **training.model_dump(
            include={
                "seed",
                "batch_size",
                "optimizer",
                "gradient_clip_norm",
                "label_smoothing",
                "class_weights",
                "mixed_precision",
            }
        ),
        **training.head.model_dump(),
        "augmentation_mode": training.augmentation.mode,
        "augmentation": augmentation,
        "calibrate": training.calibrate,
        "abstain_below": config.serving.abstain_below,
        **asdict(config.photo_rules),
        "resume_folder": places.resume,
    }
    splits = {
        "train_args": trainer_pb2.TrainArgs(splits=["train"]),
        "eval_args": trainer_pb2.EvalArgs(splits=["eval"]),
    }
    tuner = None
    if training.tuner.trials:
        from tfx.components.tuner.component import Tuner  # it imports Keras Tuner, and that Keras 3

        tuner = Tuner(
            tuner_fn="components.trainer.tuning.tuner_fn",
            examples=vectors,
            schema=schema,
            **splits,
            custom_config={
                **shared,
                **head.model_dump(),
                **training.tuner.model_dump(),
                "code": code("components.trainer.tuning"),
            },
        )
    tuned = {"hyperparameters": tuner.outputs["best_hyperparameters"]} if tuner else {}
    warm_start = training.warm_start
    start_folder = {"feature_extraction": "", "production": places.production_model}.get(
        warm_start.source, warm_start.source
    )
    starts = {
        "warm_start_from": warm_start.source,
        "warm_start_epochs": warm_start.epochs,
        "warm_start_folder": start_folder,
        "warm_start_fingerprint": _model_fingerprint(start_folder),
        "variables_to_warm_start": warm_start.variables,
        "renamed": warm_start.renamed,
    }
    # Both trainers get vectors and photos, and read the least they need.
    vectors_and_photos = channel.union([vectors, photos])
    feature_extraction = Trainer(
        run_fn="components.trainer.feature_extraction.run_fn",
        examples=vectors_and_photos,
        transform_graph=transform_graph,
        schema=schema,
        **splits,
        **tuned,
        custom_config={
            **shared,
            **head.model_dump(),
            **starts,
            "learning_rate_ratio": 1.0,
            "code": code("components.trainer.feature_extraction"),
        },
    ).with_id("FeatureExtraction")
    fine_tuning = Trainer(
        run_fn="components.trainer.fine_tuning.run_fn",
        examples=vectors_and_photos,
        transform_graph=transform_graph,
        schema=schema,
        base_model=feature_extraction.outputs["model"],
        **splits,
        **tuned,
        custom_config={
            **shared,
            **fine.model_dump(exclude={"unfreeze", "unfreeze_blocks", "unfreeze_last", "unfreeze_fraction"}),
            "unfreeze": unfreeze,
            "learning_rate": training.fine_tuning_rate,
            "learning_rate_ratio": training.fine_tuning_rate / head.learning_rate,
            **starts,
            "code": code("components.trainer.fine_tuning"),
        },
    ).with_id("FineTuning")
    models = {
        "feature_extraction": feature_extraction.outputs["model"],
        "fine_tuned": fine_tuning.outputs["model"],
    }
    ensemble = None
    if config.selection.ensemble:
        ensemble = Ensemble(**models, code=code("components.ensemble.component"))
    candidates = {**models, "ensemble": ensemble.outputs["model"]} if ensemble else models

    # Half of what ServableCheck allows, on at least the photos that it asks about.
    stored = {
        "vectors": vectors,
        "asked_twice": max(32, config.serving.golden_photos),
        "tolerance": config.serving.tolerance / 2,
    }
    predictions = Predictions(
        examples=photos,
        **stored,
        schema=schema,
        **candidates,
        code=code("components.evaluator.predictions"),
    )
    further_example_gen = further_predictions = None
    if further:
        further_example_gen = ImageExampleGen(
            sources=further,
            label_from=config.evaluation.further_label,
            split_buckets={"test": 1},
            rules=config.photo_rules,
            code=code("components.example_gen.executor"),
            folder_rules=config.data.folder_rules,
            settle_seconds=config.data.settle_seconds,
        ).with_id("FurtherExampleGen")
        further_predictions = Predictions(
            examples=further_example_gen.outputs["examples"],
            schema=schema,
            **candidates,
            learnt_from=vectors,
            code=code("components.evaluator.predictions"),
        ).with_id("FurtherPredictions")
    evaluator = Evaluator(
        examples=predictions.outputs["predictions"],
        example_splits=["eval"],
        model=models["fine_tuned"],
        baseline_model=models["feature_extraction"],
        eval_config=make_eval_config(
            config.release.minimum_accuracy,
            config.selection.minimum_gain,
            # Where breeds are learnt, the label is the breed.
            [name for name in SLICES if name != BREED or config.task.label == "species"],
            code("components.evaluator.eval_config"),
        ),
    )
    selector = ModelSelector(
        predictions=predictions.outputs["predictions"],
        blessing=evaluator.outputs["blessing"],
        **candidates,
        minimum_gain=config.selection.minimum_gain,
        confidence=config.selection.confidence,
        bootstrap_samples=config.selection.bootstrap_samples,
        seed=training.seed,
        code=code("components.model_selector.component"),
    )
    production = ProductionPredictions(
        examples=photos,
        **stored,
        schema=schema,
        model=selector.outputs["model"],
        production_model=places.production_model,
        production_identity=places.production_identity,
        code=code("components.release_gate.production"),
    )
    release = config.release.model_dump()
    release_gate = ReleaseGate(
        predictions=predictions.outputs["predictions"],
        selection=selector.outputs["verdict"],
        model=selector.outputs["model"],
        production_predictions=production.outputs["predictions"],
        production_standing=production.outputs["standing"],
        ingest_report=ingest_report,
        schema=schema,
        vectors=vectors,
        release=json.dumps({**release, "further_minimum_accuracy": config.evaluation.further_minimum_accuracy}),
        minimum_slice_examples=config.evaluation.minimum_slice_examples,
        confidence=config.selection.confidence,
        bootstrap_samples=config.selection.bootstrap_samples,
        seed=training.seed,
        force_push=force_push,
        **({"further_predictions": further_predictions.outputs["predictions"]} if further_predictions else {}),
        code=code("components.release_gate.component"),
    )
    serving = config.serving
    servable_check = ServableCheck(
        model=selector.outputs["model"],
        examples=photos,
        predictions=predictions.outputs["predictions"],
        selection=selector.outputs["verdict"],
        golden_photos=serving.golden_photos,
        tolerance=serving.tolerance,
        # Parameters of components have no empty value: 0 is no limit.
        maximum_load_seconds=serving.maximum_load_seconds or 0.0,
        maximum_latency_milliseconds=serving.maximum_latency_milliseconds or 0.0,
        maximum_batch_latency_milliseconds=serving.maximum_batch_latency_milliseconds or 0.0,
        maximum_megabytes=serving.maximum_megabytes or 0.0,
        exports=",".join(serving.exports),
        export_tolerance=serving.export_tolerance,
        code=code("components.servable_check.component"),
    )
    # What is refused stays in ML Metadata; Pusher is then skipped.
    blessings = [gate.outputs["blessing"].future()[0] for gate in (release_gate, servable_check)]
    blessed = [blessing.custom_property("blessed") == 1 for blessing in blessings]
    with Cond(logical_and(*blessed)):
        pusher = Pusher(
            model=selector.outputs["model"],
            model_blessing=release_gate.outputs["blessing"],
            infra_blessing=servable_check.outputs["blessing"],
            push_destination=pusher_pb2.PushDestination(
                filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=places.serving)
            ),
            custom_config={
                "lost_version": places.lost_version,
                "keep_versions": serving.keep_versions,
                "force_push": force_push,
                "code": code("components.pusher.executor"),
            },
            custom_executor_spec=executor_spec.ExecutorClassSpec(AtomicPusherExecutor),
        )

    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=places.artifacts,
        components=[
            component
            for component in (
                example_gen,
                curated_schema,
                statistics,
                validator,
                data_gate,
                transform,
                feature_vector_gen,
                earlier_spans,
                drift_gate,
                window,
                tuner,
                feature_extraction,
                fine_tuning,
                ensemble,
                predictions,
                further_example_gen,
                further_predictions,
                evaluator,
                selector,
                production,
                release_gate,
                servable_check,
                pusher,
            )
            if component is not None
        ],
        enable_cache=True,
        metadata_connection_config=metadata_connection_config,
        beam_pipeline_args=beam_args,
    )


def _made_by(node: BaseNode, output: str) -> channel.Channel:
    """What a node made in any run of this pipeline."""
    return channel.Channel(type=node.outputs[output].type, producer_component_id=node.id, output_key=output)


def _model_fingerprint(folder: str) -> str:
    """Of a SavedModel's content; empty where there is none to read, which FineTuning will say."""
    return registry.fingerprint(folder) if folder and registry.check_folder(Path(folder)) is None else ""
