#!/bin/sh
# Guess:   `TFLiteConverter.from_concrete_functions([function], model)` puts the weights of the model into the file,
#          be it of tf-keras or of Keras 3; or it fails.
# Seen:    with TensorFlow 2.21.0 and Keras 3.15.1 it returns a file without weights, and no error. The layer, which
#          with tf-keras has its weights in the file, reads a variable that nobody sets. `from_saved_model` of what
#          `tf.saved_model.save` wrote does the same, though the SavedModel itself answers rightly. Without the second
#          argument, or by `from_keras_model` or `model.export(format="litert")`, the weights are there.
#              tf_keras 2.21.0: 40,000 bytes of kernel, with the model 40,916 bytes: answers; without 40,772 bytes: answers
#              keras 3.15.1: 40,000 bytes of kernel, with the model 1,628 bytes: reads an unset variable; without 40,776 bytes: answers
# Source:  `_convert_concrete_functions_to_saved_model` in tensorflow/lite/python/lite.py: with a second argument the
#          conversion goes by way of a SavedModel, without it the function is frozen first.
# Matters: components/servable_check/converter.py passes a loaded tf-keras SavedModel, and ServableCheck asks the file
#          in a fresh process before it is published: an answer that is NaN or missing refuses the model.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow-cpu==2.21.0 keras==3.15.1 tf-keras==2.21.0
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import sys

import keras
import numpy as np
import tensorflow as tf
import tf_keras

PLAIN = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
vectors = np.ones((1, 100), np.float32)


def asked(model: bytes, expected: np.ndarray) -> str:
    interpreter = tf.lite.Interpreter(model_content=model, experimental_op_resolver_type=PLAIN)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], vectors)
    try:
        interpreter.invoke()
    except RuntimeError as error:
        return "reads an unset variable" if "READ_VARIABLE" in str(error) else str(error)
    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return "answers" if np.allclose(answer, expected, atol=1e-4) else "answers wrongly"


seen = {}
for library in (tf_keras, keras):
    model = library.Sequential([library.layers.Input((100,)), library.layers.Dense(100)])
    function = tf.function(lambda x: model(x, training=False), input_signature=[tf.TensorSpec([1, 100])])
    concrete, expected = function.get_concrete_function(), function(vectors).numpy()
    convert = tf.lite.TFLiteConverter.from_concrete_functions
    files = [convert([concrete], model).convert(), convert([concrete]).convert()]
    seen[library.__name__] = [asked(file, expected) for file in files]
    print(f"{library.__name__} {library.__version__}: 40,000 bytes of kernel, with the model {len(files[0]):,} bytes: "
          f"{seen[library.__name__][0]}; without {len(files[1]):,} bytes: {seen[library.__name__][1]}")
sys.exit(seen != {"tf_keras": ["answers"] * 2, "keras": ["reads an unset variable", "answers"]})
PYTHON
