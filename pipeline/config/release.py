"""What a model must show before it is pushed, what is kept, who is told, and what a step may use."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import DatasetName, Fraction, Section, SliceName, Source, absolute


class SelectionConfig(Section):
    """When a dearer model is preferred to a cheaper one."""

    minimum_gain: float = Field(0.0, ge=0, le=1, description="Least gain in accuracy on the eval split.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of every interval in the summary.")
    bootstrap_samples: int = Field(
        2000,
        ge=200,
        le=100_000,
        description="Draws behind every interval that has no formula.",
    )
    ensemble: bool = Field(False, description="The mean of both models' probabilities is a third candidate.")


class EvaluationConfig(Section):
    """On what the models are evaluated, besides the eval and test splits."""

    minimum_slice_examples: int = Field(
        20, ge=1, description="A slice with fewer photos is reported, and nothing is decided by it."
    )
    further: dict[DatasetName, Source] = Field(
        default_factory=dict,
        description="Further data set -> folder, also the latest as in data.sources, or tfds:NAME; scored, never "
        "learnt from.",
    )
    further_label: Literal["label", "species"] = Field(
        "species", description="Which label of the further data sets the models should answer with."
    )
    further_minimum_accuracy: float | None = Field(
        None, ge=0, le=1, description="What the winner must reach on each further data set; empty: reported only."
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
        description="Least accuracy of the winner on all test photos. Above 0 it must also beat always answering their "
        "commonest class; 0 asks for neither.",
    )
    minimum_test_photos: int = Field(
        10,
        ge=0,
        description="With fewer test photos nothing is released: they cannot show what the winner is worth. 0: any "
        "number will do.",
    )
    minimum_slice_accuracy: dict[SliceName, Fraction] = Field(
        default_factory=dict, description="Slice -> least accuracy of each of its values with enough photos."
    )
    tolerated_loss: float = Field(
        0.01, ge=0, le=1, description="What the winner may lose in accuracy against the model in production."
    )
    evidence: Literal["observed", "proven"] = Field(
        "observed",
        description="`observed`: the loss on the test photos is at most `tolerated_loss`; `proven`: so is the loss at "
        "the worse end of its interval, which takes many photos.",
    )
    guarded_slices: list[SliceName] = Field(
        ["label"],
        description="On no value of these, with enough photos, may the winner be shown to lose more than "
        "`tolerated_loss`.",
    )
    incomparable: Literal["refuse", "floors"] = Field(
        "refuse",
        description="If the model in production cannot be compared (unreadable, no common labels, other signature): "
        "refuse, or release by the floors above alone.",
    )


class ServingConfig(Section):
    """What a model must be to be served, and what is kept of those that were."""

    golden_photos: int = Field(16, ge=1, le=1000, description="Photos the servable check asks about.")
    tolerance: float = Field(1e-5, gt=0, le=0.1, description="Largest difference of a probability allowed.")
    abstain_below: float = Field(
        0.0, ge=0, lt=1, description="The served model abstains where its probability is lower; 0: it never does."
    )
    maximum_load_seconds: float | None = Field(60.0, gt=0, description="Until the model is loaded; empty: any.")
    maximum_latency_milliseconds: float | None = Field(1000.0, gt=0, description="Of one photo; empty: any.")
    maximum_batch_latency_milliseconds: float | None = Field(10_000.0, gt=0, description="Of 32 photos; empty: any.")
    maximum_megabytes: float | None = Field(1000.0, gt=0, description="Of the model on disk; empty: any.")
    exports: list[Literal["tflite", "onnx"]] = Field(
        default_factory=list, description="Further formats, put beside the SavedModel; each must answer as it does."
    )
    export_tolerance: float = Field(1e-4, gt=0, le=0.1, description="Largest difference of these allowed.")
    keep_versions: int = Field(
        5, ge=0, le=10_000, description="Old versions kept besides the one in production and the pinned ones."
    )


class StepResources(Section):
    """What a step may use where each step is a container of its own; on this machine it means nothing."""

    retries: int = Field(2, ge=0, le=100, description="Further tries of a step that failed or was killed.")
    timeout_minutes: float | None = Field(None, gt=0, description="A try that takes longer is ended; empty: never.")
    cpu: str | None = Field("1", pattern=r"^[0-9]+(\.[0-9]+)?m?$", description="Cores, such as 2 or 500m.")
    memory: str | None = Field("4G", pattern=r"^[0-9]+(E|P|T|G|M|K|Ei|Pi|Ti|Gi|Mi|Ki)?$", description="Such as 8G.")
    accelerator: str | None = Field(None, min_length=1, description="Kind, such as nvidia.com/gpu.")
    accelerators: int = Field(0, ge=0, le=64, description="How many of that kind.")

    @field_validator("cpu", mode="before")
    @classmethod
    def _as_text(cls, cpu: object) -> object:
        return f"{cpu:g}" if isinstance(cpu, int | float) and not isinstance(cpu, bool) else cpu

    @model_validator(mode="after")
    def _kind_and_number(self) -> StepResources:
        if bool(self.accelerator) != bool(self.accelerators):
            raise ValueError("expected accelerator and accelerators together, such as nvidia.com/gpu and 1")
        return self


class RuntimeConfig(Section):
    beam_pipeline_args: list[str] = Field(
        default_factory=list, description="Arguments for Apache Beam; empty: in this process, in memory."
    )
    every_step: StepResources = StepResources()
    steps: dict[str, StepResources] = Field(
        default_factory=dict, description="Step -> resources of that step, in place of `every_step` as a whole."
    )

    def resources(self, step: str) -> StepResources:
        """What a step may use."""
        return self.steps.get(step, self.every_step)


RunStatus = Literal["pushed", "not_pushed", "stopped", "failed", "restored", "skipped"]


class NotifyConfig(Section):
    """Who is told how a run ended."""

    command: list[str] | None = Field(
        None,
        description="Program and arguments, run without a shell, with the summary on standard input; empty: nobody.",
    )
    timeout_seconds: float = Field(60.0, gt=0, le=86_400, description="Until it is killed, with all that it started.")
    # Not `on`, which YAML reads as true.
    when: list[RunStatus] = Field(
        ["pushed", "not_pushed", "stopped", "failed", "restored"], description="After runs that ended so."
    )

    alert_after_refusals: int = Field(
        3, ge=1, description="So many models refused in a row are somebody's business: `retrain` then exits with 4."
    )

    @field_validator("command", mode="before")
    @classmethod
    def _a_program(cls, command: object) -> object:
        if isinstance(command, str) or (isinstance(command, list) and (not command or not command[0])):
            raise ValueError("expected a list, the program first, such as [mail, -s, warmstart, ann@example.org]")
        return command


class RetentionConfig(Section):
    """How long is kept what nothing needs (`warmstart clean`)."""

    days: int = Field(
        30,
        ge=1,
        le=36_500,
        description="What no run has used for so many days is removed; never what production, a version in serving/ "
        "or the next run needs.",
    )
