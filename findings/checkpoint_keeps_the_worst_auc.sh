#!/bin/sh
# Guess:   `ModelCheckpoint(monitor="val_auc", save_best_only=True)` keeps the epoch with the highest AUC, as
#          `EarlyStopping(monitor="val_auc")` stops by it: both find out the direction by themselves (mode="auto").
# Seen:    in tf-keras 2.21.0 the two callbacks disagree. EarlyStopping maximises what ends in "acc", "accuracy" or
#          "auc"; ModelCheckpoint only what has "acc" in it, so it keeps the lowest AUC (and precision, recall, F1,
#          IoU). Keras 3.15.1 asks the metric, and keeps the highest.
#              tf_keras 2.21.0: val_auc by epoch 1.0 0.82 0.0 0.0; ModelCheckpoint kept 0.0, EarlyStopping's best 1.0
#              keras 3.15.1: val_auc by epoch 1.0 0.82 0.0 0.0; ModelCheckpoint kept 1.0, EarlyStopping's best 1.0
# Source:  `__init__` of the two callbacks in tf_keras/src/callbacks.py; keras/src/callbacks/monitor_callback.py.
# Matters: whoever trains with TF_USE_LEGACY_KERAS=1, as TFX does. components/trainer/loop.py keeps the epoch with the
#          lowest eval loss itself, and uses neither callback.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow-cpu==2.21.0 keras==3.15.1 tf-keras==2.21.0
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - "$folder" 2>/dev/null <<'PYTHON'
import sys

import keras
import numpy as np
import tf_keras

x = np.linspace(-1, 1, 20, dtype="float32")[:, None]
y = (x > 0).astype("float32")
expected = {"tf_keras": (0.0, 1.0), "keras": (1.0, 1.0)}
seen = {}
for library in (tf_keras, keras):
    layers = library.layers
    model = library.Sequential([layers.Input((1,)), layers.Dense(1, "sigmoid", kernel_initializer="ones")])
    model.compile(library.optimizers.SGD(1.5), "binary_crossentropy", metrics=[library.metrics.AUC(name="auc")])
    weights = f"{sys.argv[1]}/{library.__name__}.weights.h5"
    checkpoint = library.callbacks.ModelCheckpoint(weights, "val_auc", save_best_only=True, save_weights_only=True)
    stopping = library.callbacks.EarlyStopping("val_auc", patience=9)
    # It learns the opposite of what is asked of it, so that the AUC falls.
    fitted = model.fit(x, 1 - y, 20, 4, 0, validation_data=(x, y), callbacks=[checkpoint, stopping])
    model.load_weights(weights)
    aucs = [round(value, 2) for value in fitted.history["val_auc"]]
    kept = round(model.evaluate(x, y, verbose=0, return_dict=True)["auc"], 2)
    seen[library.__name__] = (kept, round(float(stopping.best), 2))
    print(f"{library.__name__} {library.__version__}: val_auc by epoch {' '.join(map(str, aucs))}; "
          f"ModelCheckpoint kept {kept}, EarlyStopping's best {seen[library.__name__][1]}")
sys.exit(seen != expected)
PYTHON
