#!/bin/sh
# Guess:   a program that defers the import of TensorFlow with Python's own importlib.util.LazyLoader, and then plots
#          plain numbers with matplotlib, never imports it.
# Seen:    with matplotlib 3.10.8 the first `plot` of two integers loads all of TensorFlow 2.20.0.
#              version of matplotlib, TensorFlow is loaded before the plot, and after it: 3.10.8 False True
# Source:  `_is_tensorflow_array` in matplotlib/cbook.py: it asks `sys.modules` for `is_tensor`, so that TensorFlow is not
#          imported where it is not, and for a module that is still to be loaded this is the first use.
# Matters: deploy/quick_start.py answers `is_tensor` itself until TensorFlow is there: a run whose steps all came from the
#          cache took 8.9 s, of which TensorFlow's import for four charts was 3.5.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow-cpu==2.20.0 matplotlib==3.10.8
cat >"$folder/plot.py" <<'PYTHON'
import importlib.util
import sys

import matplotlib
from matplotlib.figure import Figure

spec = importlib.util.find_spec("tensorflow")
spec.loader = importlib.util.LazyLoader(spec.loader)
module = importlib.util.module_from_spec(spec)
sys.modules["tensorflow"] = module
spec.loader.exec_module(module)


def loaded():
    return "tensorflow.python" in sys.modules


before = loaded()
Figure().subplots().plot([1, 2], [3, 4])
print(matplotlib.__version__, before, loaded())
PYTHON
seen=$(TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES='' "$folder/venv/bin/python" "$folder/plot.py" 2>/dev/null)
echo "version of matplotlib, TensorFlow is loaded before the plot, and after it: $seen"
[ "$seen" = "3.10.8 False True" ]
