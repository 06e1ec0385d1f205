"""The optimizer of both phases: its schedule, clipping, a learning rate for each block, and gradual unfreezing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from components.backbone import freezing
from components.legacy_keras import tf_keras
from components.trainer.settings import OptimizerSettings, TrainingSettings


def make_optimizer(
    settings: OptimizerSettings,
    steps_per_epoch: int,
    epochs: int,
    multipliers: Mapping[str, float] | None = None,
    stages: Mapping[str, int] | None = None,
) -> tf_keras.optimizers.Optimizer:
    """Adam or RMSprop as configured; Keras' own class unless multipliers or stages are given.

    Args:
      settings: `learning_rate` is the peak; for its schedule see `learning_rate_schedule`. `gradient_clip_norm` is the
        largest norm of all gradients together, or None.
      steps_per_epoch, epochs: the schedule ends after their product.
      multipliers: variable name -> its share of the learning rate, see `layer_multipliers`; 1 for the others.
      stages: variable name -> the stage from which it learns, see `unfreeze_stages`; 0, from the start, for the
        others. `OpenStages` has to be among the callbacks, or only stage 0 ever learns.
    """
    arguments = {
        "learning_rate": learning_rate_schedule(
            settings.learning_rate, settings.schedule, settings.warmup_fraction, steps_per_epoch * epochs
        ),
        "global_clipnorm": settings.gradient_clip_norm,
    }
    plain, by_variable = _OPTIMIZERS[settings.optimizer]
    if not multipliers and not stages:
        return plain(**arguments)
    return by_variable(multipliers=multipliers or {}, stages=stages or {}, **arguments)


def learning_rate_schedule(peak: float, schedule: str, warmup_fraction: float, steps: int):
    """The learning rate by step.

    It rises linearly from 0 to the peak in the first `warmup_fraction` of the steps (Goyal et al. 2017, "Accurate,
    Large Minibatch SGD", arXiv:1706.02677, section 2.2). Then it stays there (`constant`) or falls in half a cosine
    to 0, which it reaches when the last step is done (`cosine`; Loshchilov & Hutter 2017, "SGDR",
    arXiv:1608.03983, equation 5, without restarts).

    Args:
      peak: above 0.
      schedule: `constant` or `cosine`.
      warmup_fraction: range [0, 1).
      steps: of the whole training.

    Returns:
      The peak itself if it never changes, else a Keras schedule.
    """
    warmup_steps = int(warmup_fraction * steps)
    if schedule == "constant" and not warmup_steps:
        return peak
    return tf_keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else peak,
        warmup_target=peak if warmup_steps else None,
        warmup_steps=warmup_steps,
        decay_steps=max(1, steps - warmup_steps),
        # The share of the peak that is left in the end: all of it makes the cosine a constant.
        alpha=1.0 if schedule == "constant" else 0.0,
    )


class _ByVariable(tf_keras.optimizers.Optimizer):
    """Mixed into an optimizer: each variable takes its share of every update, and none before its stage is open.

    The update is scaled and not the gradient, since Adam and RMSprop divide by the gradient's own size (Howard &
    Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", arXiv:1801.06146: discriminative
    fine-tuning and gradual unfreezing).

    A variable whose stage is closed keeps its value to the last bit. Its moments are already gathered: Adam corrects
    their bias by the count of all steps, and moments that began late would make its first steps too large. Its
    gradient also counts in the norm that is clipped.
    """

    def __init__(self, *args, multipliers: Mapping[str, float], stages: Mapping[str, int], **kwargs):
        """
        Args:
          multipliers: variable name -> factor of its updates, 0 or more; 1 for the others.
          stages: variable name -> first stage in which it moves; 0 for the others.
        """
        super().__init__(*args, **kwargs)
        # Without this, checkpoints would track the dictionaries.
        self._multipliers = self._no_dependency(dict(multipliers))
        self._stages = self._no_dependency(dict(stages))
        # A variable, so that a traced training step sees it change and a checkpoint holds it.
        self._stage = self.add_variable([], tf.int32, name="stage")

    def open_stage(self, stage: int) -> None:
        """From the next step on, variables of this stage and of those before it move."""
        self._stage.assign(stage)

    def build(self, var_list):
        """Raises ValueError if a multiplier or a stage belongs to none of the variables: it would have no effect."""
        known = {_name(variable) for variable in var_list}
        unknown = [name for name in (*self._multipliers, *self._stages) if name not in known]
        if unknown:
            raise ValueError(f"{unknown[0]} has a multiplier or a stage, but is not one of the {len(known)} variables")
        super().build(var_list)

    def update_step(self, gradient, variable):
        multiplier = self._multipliers.get(_name(variable), 1.0)
        stage = self._stages.get(_name(variable), 0)
        if multiplier == 1 and stage == 0:
            super().update_step(gradient, variable)
            return
        before = variable.read_value()
        super().update_step(gradient, variable)
        moved = before + multiplier * (variable.read_value() - before)
        # Not a multiplier of 0, which would let infinities through.
        variable.assign(tf.where(self._stage >= stage, moved, before))

    def get_config(self):
        return {**super().get_config(), "multipliers": dict(self._multipliers), "stages": dict(self._stages)}


class AdamByVariable(_ByVariable, tf_keras.optimizers.Adam):
    """Adam with a share of the learning rate and a stage for each variable."""


class RMSpropByVariable(_ByVariable, tf_keras.optimizers.RMSprop):
    """RMSprop with a share of the learning rate and a stage for each variable."""


_OPTIMIZERS = {
    "adam": (tf_keras.optimizers.Adam, AdamByVariable),
    "rmsprop": (tf_keras.optimizers.RMSprop, RMSpropByVariable),
}


def _name(variable: tf.Variable) -> str:
    """The variable's name, whichever of its copies on several devices this is (`a/kernel/replica_1:0`)."""
    return re.sub(r"/replica_\d+(?=:|$)", "", variable.name)


def layer_multipliers(learning: Sequence[str], decay: float) -> dict[str, float]:
    """Lower learning rates for lower blocks: 1 for the top block, `decay` for the one below, then its square.

    Howard & Ruder 2018, "discriminative fine-tuning", arXiv:1801.06146, section 3.2; they divide by 2.6.

    Args:
      learning: names of the backbone's variables that learn, from the input upwards.
      decay: range (0, 1].

    Returns:
      Variable name -> multiplier. The head is not among them: it learns at the full rate.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay (={decay}) must be above 0 and at most 1")
    from_the_top = freezing.blocks(learning)[::-1]
    return {name: decay ** from_the_top.index(freezing.block_of(name)) for name in learning}


def unfreeze_stages(learning: Sequence[str], stages: int) -> dict[str, int]:
    """Gradual unfreezing: the head begins alone, and blocks join it from the top down, in as equal groups as can be.

    Howard & Ruder 2018, "gradual unfreezing", arXiv:1801.06146, section 3.3.

    Args:
      learning: names of the backbone's variables that learn, from the input upwards.
      stages: how many, the head's own included; 1: everything learns from the start.

    Returns:
      Variable name -> stage: 1 for the top blocks, up to `stages` - 1 for the lowest (0 for all with one stage).
      Of more stages than there are blocks, some bring nothing new.
    """
    if stages < 1:
        raise ValueError(f"stages (={stages}) must be at least 1")
    if stages == 1:
        return dict.fromkeys(learning, 0)
    from_the_top = freezing.blocks(learning)[::-1]
    stage_of = {block: 1 + i * (stages - 1) // len(from_the_top) for i, block in enumerate(from_the_top)}
    return {name: stage_of[freezing.block_of(name)] for name in learning}


class OpenStages(tf_keras.callbacks.Callback):
    """Opens stage k of the optimizer when epoch floor(epochs * k / stages) begins, counted from 0.

    It goes by the epoch's number, so that training which resumes in the middle has the right stages open.
    """

    def __init__(self, stages: int, epochs: int):
        super().__init__()
        self._first_epochs = [epochs * stage // stages for stage in range(stages)]

    def on_epoch_begin(self, epoch, logs=None):
        stage = sum(first <= epoch for first in self._first_epochs) - 1
        optimizer = self.model.optimizer
        # Mixed precision wraps the optimizer.
        getattr(optimizer, "inner_optimizer", optimizer).open_stage(stage)


def class_weights(classes: np.ndarray, count: int) -> dict[int, float]:
    """The weight of each class's photos, in inverse proportion to their number.

    examples / (classes present * examples of the class): every class that is present has the same total weight, and
    the mean over the examples is 1, so that the learning rate keeps its meaning. King & Zeng 2001, "Logistic
    Regression in Rare Events Data", as `class_weight="balanced"` in scikit-learn.

    Args:
      classes: integers [examples], the class indices of the training split, range [0, count).
      count: of all classes.

    Returns:
      Class index -> weight, for every class, as `Model.fit(class_weight=...)` takes it. A class without examples has
      no photo to weigh; it gets 1 and does not count as present.
    """
    examples = np.bincount(classes, minlength=count)
    if len(examples) != count:
        raise ValueError(f"class {len(examples) - 1} is not among {count} classes")
    present = int(np.count_nonzero(examples))
    return {i: len(classes) / (present * int(n)) if n else 1.0 for i, n in enumerate(examples)}


def loss_weights(settings: TrainingSettings, classes: np.ndarray, count: int) -> dict[int, float] | None:
    """The `class_weights` of a training, or None where every photo weighs the same."""
    return class_weights(classes, count) if settings.class_weights == "balanced" else None
