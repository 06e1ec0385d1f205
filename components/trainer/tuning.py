"""KerasTuner over the head and its schedule, on cached vectors: what TFX Tuner calls."""

from __future__ import annotations

import tempfile

import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.components.tuner.component import TunerFnResult

from components import progress
from components.legacy_keras import tf_keras
from components.records import matching_files
from components.trainer import loop
from components.trainer.model import Classifier, build_head
from components.trainer.optimization import loss_weights
from components.trainer.settings import TunerSettings
from components.trainer.training_data import example_files, read_rows
from schemas import features as f
from schemas import schema_files

OBJECTIVE = "eval_loss"


class HeadTuner(BaseTuner):
    """Trains one head per trial, in the loop that both phases use, instead of letting KerasTuner build Keras models.

    Bayesian optimisation (Gaussian process, upper confidence bound) of the eval loss over `search_space`.
    """

    def __init__(self, fn_args: FnArgs, folder: str):
        self._settings = TunerSettings.model_validate(fn_args.custom_config)
        self._labels = schema_files.labels(schema_files.read_schema(fn_args.schema_path))
        self._train, self._eval = (
            read_rows(example_files(matching_files(patterns), f.FEATURE_VECTOR), self._labels, f.FEATURE_VECTOR, folder)
            for patterns in (fn_args.train_files, fn_args.eval_files)
        )
        self._weights = loss_weights(self._settings, self._train.classes, len(self._labels))
        self._counter = progress.Counter("trials", self._settings.trials)
        oracle = keras_tuner.oracles.BayesianOptimizationOracle(
            objective=keras_tuner.Objective(OBJECTIVE, "min"),
            max_trials=self._settings.trials,
            seed=self._settings.seed,
            hyperparameters=search_space(self._settings),
        )
        super().__init__(oracle=oracle, directory=folder, project_name="tuner", overwrite=True)

    def run_trial(self, trial, *args, **kwargs) -> dict[str, float]:
        """The lowest eval loss reached with the trial's values."""
        settings = self._settings.replaced(**trial.hyperparameters.values)
        tf_keras.utils.set_random_seed(settings.seed)
        inputs = tf_keras.Input([self._train.values.shape[1]])
        head = build_head(inputs.shape[-1], len(self._labels), settings.hidden_units, settings.dropout, settings.seed)
        model = Classifier(inputs, head(inputs), class_weights=self._weights)
        try:
            with tempfile.TemporaryDirectory() as logs:
                history = loop.train(model, self._train, self._eval, settings, logs)
        except loop.TrainingDiverged as error:
            raise keras_tuner.errors.FailedTrialError(str(error)) from error
        except Exception as error:  # KerasTuner would take it for values that do not work, and go on
            raise keras_tuner.errors.FatalError(f"a trial failed: {error}") from error
        self._counter.add()
        return {OBJECTIVE: min([history["before"]["eval_loss"], *(e["eval_loss"] for e in history["epochs"])])}


def search_space(settings: TunerSettings) -> keras_tuner.HyperParameters:
    """The search space, with the names of the settings; it starts from the configured values if it contains them."""
    space = keras_tuner.HyperParameters()
    rate = settings.learning_rate
    space.Float("learning_rate", rate / 10, rate * 10, sampling="log", default=rate)
    space.Float("dropout", 0.0, 0.5, step=0.1, default=min(0.5, round(settings.dropout, 1)))
    space.Choice("hidden_units", sorted({0, 128, 512, settings.hidden_units}), default=settings.hidden_units)
    space.Choice("schedule", ["constant", "cosine"], default=settings.schedule)
    smoothing = min(0.2, 0.05 * round(settings.label_smoothing / 0.05))
    space.Float("label_smoothing", 0.0, 0.2, step=0.05, default=smoothing)
    return space


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """Called by TFX Tuner: a search on the vectors that FeatureVectorGen stored."""
    return TunerFnResult(tuner=HeadTuner(fn_args, fn_args.working_dir), fit_kwargs={})
