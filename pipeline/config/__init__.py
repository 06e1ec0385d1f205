"""The configuration: typed, read from YAML, validated completely before TensorFlow or TFX is imported."""

from pipeline.config.config import Config, all_keys
from pipeline.config.data import CompletenessOfSpans, DataConfig, DriftConfig
from pipeline.config.loading import CONFIGS_FOLDER, dump_config, known_configs, load_config, read_dumped_config
from pipeline.config.release import NotifyConfig, ReleaseConfig, RetentionConfig, ServingConfig, StepResources
from pipeline.config.section import Section
from pipeline.config.training import BackboneConfig, FineTuningConfig, ImageConfig, TrainingConfig

__all__ = [
    "CONFIGS_FOLDER",
    "BackboneConfig",
    "CompletenessOfSpans",
    "Config",
    "DataConfig",
    "DriftConfig",
    "FineTuningConfig",
    "ImageConfig",
    "NotifyConfig",
    "ReleaseConfig",
    "RetentionConfig",
    "Section",
    "ServingConfig",
    "StepResources",
    "TrainingConfig",
    "all_keys",
    "dump_config",
    "known_configs",
    "load_config",
    "read_dumped_config",
]
