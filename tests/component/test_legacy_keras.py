"""The AutoGraph rule for tf_keras, a private list of TensorFlow's: this fails when TensorFlow changes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
WHAT_AUTOGRAPH_CONVERTS = """
import tensorflow as tf, tf_keras
from tensorflow.python.autograph.impl import conversion
from tensorflow.python.autograph.core import converter
options = converter.ConversionOptions(recursive=True)

def ours(x):
    return x

for name, function in {
    "layer": tf_keras.layers.Dense.call,
    "evaluate": tf_keras.Model.make_test_function,
    "optimizer": tf_keras.optimizers.legacy.Adam.apply_gradients,
    "loss": tf_keras.losses.SparseCategoricalCrossentropy.call,
    "ours": ours,
}.items():
    print(name, not conversion.is_unsupported(function) and not conversion.is_allowlisted(function))
"""


def converted(preamble: str) -> dict[str, bool]:
    """Whether AutoGraph rewrites the code of each, in a process of its own."""
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(
        [sys.executable, "-c", preamble + WHAT_AUTOGRAPH_CONVERTS],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {name: answer == "True" for name, answer in map(str.split, done.stdout.splitlines())}


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.skipif(sys.version_info >= (3, 11), reason="TensorFlow 2.21 has the rule itself")
def test_the_rule_is_needed():
    assert converted("") == {"layer": True, "evaluate": True, "optimizer": True, "loss": True, "ours": True}


@pytest.mark.slow
@pytest.mark.release
def test_the_rule_is_in_force():
    # Also where tf_keras was imported before it.
    after = converted("import tensorflow, tf_keras, components.legacy_keras")
    assert after == {"layer": False, "evaluate": False, "optimizer": False, "loss": False, "ours": True}


def test_the_rule_is_added_once():
    from tensorflow.python.autograph.core import config

    from components import legacy_keras

    exec(compile(Path(legacy_keras.__file__).read_text(), legacy_keras.__file__, "exec"), {})
    mentions = [str(rule) for rule in config.CONVERSION_RULES]
    assert [mentions.count(str(rule)) for rule in legacy_keras._RULES] == [1] * len(legacy_keras._RULES)
    assert len(config.CONVERSION_RULES) > 5
