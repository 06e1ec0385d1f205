"""What a model must show to be pushed, what is kept, who is notified, and what a step may use."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import DatasetName, Fraction, Section, SliceName, Source, absolute


class SelectionConfig(Section):
    """When the more expensive model is preferred to the cheaper one."""

    minimum_gain: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Gain in accuracy, of masks in mean IoU, that it must show at least on the eval split.",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence level of every interval in the summary.")
    bootstrap_samples: int = Field(
        2000, ge=200, le=100_000, description="Bootstrap samples behind every interval that has no formula."
    )
    ensemble: bool = Field(False, description="Adds a third candidate: the mean of the probabilities of both models.")


class EvaluationConfig(Section):
    """How the models are evaluated, in addition to the eval and test splits."""

    minimum_slice_examples: int = Field(
        20, ge=1, description="A slice with fewer photos is reported, but decides nothing."
    )
    further: dict[DatasetName, Source] = Field(
        default_factory=dict,
        description="Folder of each further data set, with patterns as in data.sources, or tfds:NAME. The models are "
        "scored on it and never train on it.",
    )
    further_label: Literal["label", "species"] = Field(
        "species", description="The label of the further data sets that the models should predict."
    )
    further_minimum_accuracy: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Accuracy that the winner must reach on each further data set; empty: only reported.",
    )

    @field_validator("further")
    @classmethod
    def _absolute_folders(cls, further: dict[str, str]) -> dict[str, str]:
        return {dataset: absolute(folder) for dataset, folder in further.items()}


class ReleaseConfig(Section):
    """What the winner must show on the test split before it may be pushed."""

    minimum_accuracy: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Accuracy that the winner must reach on the test photos. Unless this is 0, it must also beat a "
        "model that always answers with the most common class.",
    )
    minimum_mean_iou: float = Field(
        0.3,
        ge=0,
        le=1,
        description="For segmentation, in place of `minimum_accuracy`: mean IoU over the classes of the pixels that "
        "the winner must reach on the test photos. Unless this is 0, it must also beat a model that answers the same "
        "class for every pixel.",
    )
    minimum_test_photos: int = Field(
        10,
        ge=0,
        description="With fewer test photos nothing is released: they cannot show what the winner is worth. 0: any "
        "number will do.",
    )
    minimum_slice_accuracy: dict[SliceName, Fraction] = Field(
        default_factory=dict,
        description="Accuracy, of masks mean IoU, that the winner must reach on every value of a slice with enough "
        "photos, by slice.",
    )
    tolerated_loss: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Accuracy, of masks mean IoU, that the winner may lose against the model in production.",
    )
    evidence: Literal["observed", "proven"] = Field(
        "observed",
        description="`observed`: the loss on the test photos must be at most `tolerated_loss`; `proven`: so must the "
        "worse end of its interval, which takes many photos.",
    )
    guarded_slices: list[SliceName] = Field(
        ["label"],
        description="Slices on which the winner must not be shown to lose more than `tolerated_loss`, for any value "
        "with enough photos.",
    )
    guarded_classes: list[str] = Field(
        default_factory=list,
        description="For segmentation: classes of the pixels whose IoU must not be shown to lose more than "
        "`tolerated_loss`, neither against the model in production nor by fine-tuning; empty: every class. A class in "
        "fewer photos than `evaluation.minimum_slice_examples` decides nothing.",
    )
    incomparable: Literal["refuse", "floors"] = Field(
        "refuse",
        description="What to do if the model in production cannot be compared: unreadable, no common labels or another "
        "signature. `refuse`: push nothing; `floors`: decide by the required values above alone.",
    )
    license: str = Field(
        "unknown",
        min_length=1,
        description="Licence of the models, for their cards: one of Hugging Face's names, such as apache-2.0 or "
        "cc-by-nc-4.0; `unknown`: not stated.",
    )


class ServingConfig(Section):
    """What a model must do to be served, and how many served versions are kept."""

    golden_photos: int = Field(16, ge=1, le=1000, description="How many photos the servable check asks about.")
    tolerance: float = Field(1e-5, gt=0, le=0.1, description="Largest difference of a probability that is allowed.")
    abstain_below: float = Field(
        0.0, ge=0, lt=1, description="The served model abstains if its probability is lower; 0: never."
    )
    maximum_load_seconds: float | None = Field(60.0, gt=0, description="Longest time to load the model; empty: any.")
    maximum_latency_milliseconds: float | None = Field(
        1000.0, gt=0, description="Longest time to answer one photo; empty: any."
    )
    maximum_batch_latency_milliseconds: float | None = Field(
        10_000.0, gt=0, description="Longest time to answer 32 photos; empty: any."
    )
    maximum_megabytes: float | None = Field(1000.0, gt=0, description="Largest size of the model on disk; empty: any.")
    exports: list[Literal["tflite", "onnx"]] = Field(
        default_factory=list,
        description="Further formats, stored next to the SavedModel; each must give the same answers.",
    )
    export_tolerance: float = Field(
        1e-4, gt=0, le=0.1, description="Largest difference of a probability that is allowed for them."
    )
    keep_versions: int = Field(
        5,
        ge=0,
        le=10_000,
        description="How many old versions to keep, besides the one in production and the pinned ones.",
    )


class StepResources(Section):
    """Resources of a step on Kubeflow, where each step has its own container; a local run ignores them."""

    retries: int = Field(2, ge=0, le=100, description="How often to retry a step that failed or was killed.")
    timeout_minutes: float | None = Field(None, gt=0, description="A try that takes longer is stopped; empty: never.")
    cpu: str | None = Field(
        "1", pattern=r"^[0-9]+(\.[0-9]+)?m?$", description="CPU cores, such as 2 or 500m; empty: no limit."
    )
    memory: str | None = Field(
        "4G", pattern=r"^[0-9]+(E|P|T|G|M|K|Ei|Pi|Ti|Gi|Mi|Ki)?$", description="Memory, such as 8G; empty: no limit."
    )
    accelerator: str | None = Field(None, min_length=1, description="Kind of accelerator, such as nvidia.com/gpu.")
    accelerators: int = Field(0, ge=0, le=64, description="How many accelerators.")

    @field_validator("cpu", mode="before")
    @classmethod
    def _as_text(cls, cpu: object) -> object:
        return f"{cpu:g}" if isinstance(cpu, int | float) and not isinstance(cpu, bool) else cpu

    @model_validator(mode="after")
    def _kind_and_number(self) -> StepResources:
        if bool(self.accelerator) != bool(self.accelerators):
            raise ValueError("expected accelerator and accelerators together, such as nvidia.com/gpu and 1")
        return self


# Every step that runs on Apache Beam.
BeamStep = Literal[
    "ImageExampleGen",
    "FurtherExampleGen",
    "StatisticsGen",
    "Transform",
    "FeatureVectorGen",
    "Predictions",
    "FurtherPredictions",
    "ProductionPredictions",
    "Evaluator",
]


class RuntimeConfig(Section):
    beam_pipeline_args: list[str] = Field(
        default_factory=list, description="Arguments for Apache Beam; empty: runs in this process, in memory."
    )
    beam_steps: list[BeamStep] | None = Field(
        None,
        description="Steps that run with `beam_pipeline_args`, while the others stay in this process; empty: all of "
        "them. A job on an engine costs 5 to 15 seconds, so small steps are faster here.",
    )
    deadline_hours: float | None = Field(
        None,
        gt=0,
        le=24 * 365,
        description="A run on Kubeflow (2.17 or newer) that takes longer is ended, and has no summary; empty: never.",
    )
    workflow_days: float | None = Field(
        None,
        gt=0,
        le=3650,
        description="How long Kubernetes keeps the pods of a run on Kubeflow (2.17 or newer) after its end; empty: as "
        "the cluster does.",
    )
    every_step: StepResources = StepResources()
    steps: dict[str, StepResources] = Field(
        default_factory=dict, description="Resources by step, which replace `every_step` as a whole."
    )

    @model_validator(mode="after")
    def _steps_of_an_engine(self) -> RuntimeConfig:
        if self.beam_steps is not None and not self.beam_pipeline_args:
            raise ValueError("beam_steps needs beam_pipeline_args, which name the engine; give both, or neither")
        return self

    def resources(self, step: str) -> StepResources:
        """The resources of a step."""
        return self.steps.get(step, self.every_step)


RunStatus = Literal["pushed", "not_pushed", "stopped", "failed", "restored", "skipped"]


class NotifyConfig(Section):
    """How people are told that a run has ended."""

    command: list[str] | None = Field(
        None,
        description="Program and arguments, run without a shell, with the summary on standard input; empty: nobody is "
        "notified.",
    )
    timeout_seconds: float = Field(
        60.0, gt=0, le=86_400, description="Time after which the program, and all that it started, is killed."
    )
    # Not `on`, which YAML reads as true.
    when: list[RunStatus] = Field(
        ["pushed", "not_pushed", "stopped", "failed", "restored"], description="How a run must end to run the program."
    )
    alert_after_refusals: int = Field(
        3, ge=1, description="After this many refused models in a row, `retrain` raises an alert and exits with 4."
    )

    @field_validator("command", mode="before")
    @classmethod
    def _a_program(cls, command: object) -> object:
        if isinstance(command, str) or (isinstance(command, list) and (not command or not command[0])):
            raise ValueError("expected a list, the program first, such as [mail, -s, warmstart, ann@example.org]")
        return command


class TrackingConfig(Section):
    """Where else runs and models are recorded."""

    mlflow: str | None = Field(
        None,
        pattern=r"^(https?://[^\s]+|databricks(-uc)?(://[^\s]*)?)$",
        description="Address of an MLflow server that is told about every run, such as http://localhost:5000; empty: "
        "that of the variable MLFLOW_TRACKING_URI, or none. Needs the extra `mlflow`.",
    )
    experiment: str | None = Field(
        None, min_length=1, description="MLflow's experiment; empty: the name of the configuration."
    )
    registered_model: str | None = Field(
        None,
        pattern=r"^[^/:'\"]+$",
        description="Name of the model in MLflow's registry; empty: the name of the configuration.",
    )
    alias: str = Field(
        "production",
        pattern=r"^[\w-]+$",
        description="Alias of the registered version that is in production; a push or a rollback moves it.",
    )


class RetentionConfig(Section):
    """How long files that nothing needs are kept (`warmstart clean`)."""

    days: int = Field(
        30,
        ge=1,
        le=36_500,
        description="Files that no run has used for this many days are removed, except those that production, a "
        "version in serving/ or the next run needs.",
    )
