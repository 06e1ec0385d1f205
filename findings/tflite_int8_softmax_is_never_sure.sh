#!/bin/sh
# Guess:   a model with 8-bit integers gives coarser probabilities between 0 and 1, which still sum to 1.
# Seen:    with TensorFlow 2.21.0 the softmax of a fully quantised TFLite model never answers more than 255/256 =
#          0.99609, and answers 0 below 1/512, whatever the calibration photos showed; also where the output is asked
#          for as float. A threshold of 0.999 never passes, and one wrong certain answer makes the log loss infinite.
#              TensorFlow 2.21.0: float model 1.00000 0.00000 0.00000 0.00000, int8 model 0.99609 0.00000 0.00000 0.00000
#              TensorFlow 2.21.0: four equal logits: int8 model 0.25000 0.25000 0.25000 0.25000
# Source:  LiteRT's 8-bit quantisation specification fixes the output of SOFTMAX: scale 1/256, zero point -128.
# Matters: components/servable_check/converter.py exports TFLite in float32, so that `serving.abstain_below` means the
#          same in every export; ServableCheck compares the probabilities.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow-cpu==2.21.0
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import sys

import numpy as np
import tensorflow as tf

SURE, UNSURE = np.array([[20, -20, -20, -20]], np.float32), np.zeros((1, 4), np.float32)


@tf.function(input_signature=[tf.TensorSpec([1, 4])])
def head(logits):
    return tf.nn.softmax(logits)


def converted(in_integers: bool) -> bytes:
    converter = tf.lite.TFLiteConverter.from_concrete_functions([head.get_concrete_function()])
    if in_integers:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([np.roll(SURE, i)] for i in range(100))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return converter.convert()


def ask(model: bytes, logits: np.ndarray) -> np.ndarray:
    interpreter = tf.lite.Interpreter(model_content=model)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], logits)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]


def said(probabilities: np.ndarray) -> str:
    return " ".join(f"{value:.5f}" for value in probabilities)


model = converted(in_integers=True)
float_answer, answer, unsure = ask(converted(in_integers=False), SURE), ask(model, SURE), ask(model, UNSURE)
print(f"TensorFlow {tf.__version__}: float model {said(float_answer)}, int8 model {said(answer)}")
print(f"TensorFlow {tf.__version__}: four equal logits: int8 model {said(unsure)}")
sys.exit(not (float_answer[0] == 1 and answer.tolist() == [255 / 256, 0, 0, 0]))
PYTHON
