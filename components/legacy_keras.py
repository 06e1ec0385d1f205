"""tf_keras, made quick. Import it from here: `from components.legacy_keras import tf_keras`.

AutoGraph leaves Keras' own code alone by a list of module names that has `keras`, but not `tf_keras`, the same code
under another name. Without this rule the first call of every `fit`, `evaluate` and layer converts thousands of lines
(10 s instead of 0.2 s for the first `evaluate` of a one-layer model). The list is private to TensorFlow, which has
the rule itself in 2.21: `tests/component/test_legacy_keras.py` fails when it changes.

The same goes for our own code and for the libraries it is traced with: none of it has Python conditions or loops over
tensors, so there is nothing to convert.
"""

import tensorflow as tf  # noqa: F401  (before tf_keras)
import tf_keras
from tensorflow.python.autograph.core import config as autograph_config

_RULES = tuple(
    autograph_config.DoNotConvert(module)
    for module in ("tf_keras", "components", "tensorflow_hub", "tensorflow_transform")
)
_known = {str(rule) for rule in autograph_config.CONVERSION_RULES}
autograph_config.CONVERSION_RULES = (
    *(rule for rule in _RULES if str(rule) not in _known),
    *autograph_config.CONVERSION_RULES,
)

__all__ = ["tf_keras"]
