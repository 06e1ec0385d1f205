#!/bin/sh
# Guess:   `safetensors.numpy.save_file` writes an array's values, however it lies in memory: a kernel that was
#          transposed from PyTorch's order (OIHW) to TensorFlow's (HWIO) is read back as it was saved.
# Seen:    safetensors 0.8.0 writes the memory of a transposed array beside its new shape, without an error. The file
#          loads everywhere, with the right names, shapes and dtypes, and wrong weights. 0.7.0 wrote it rightly. The
#          cure is `np.ascontiguousarray`.
#              safetensors 0.7.0: transposed kernel read back equal: True, made contiguous: True
#              safetensors 0.8.0: transposed kernel read back equal: False, made contiguous: True
# Source:  `_flatten` in safetensors/numpy.py hands over a bare pointer since 0.8.0, `tobytes()` before; upstream
#          issue safetensors#825. The docstring asks for contiguous arrays; the PyTorch half of the library refuses
#          others.
# Matters: components/backbone/efficientnet_lite.py transposes such kernels and assigns them to variables, which copy.
#          An export to safetensors would need `np.ascontiguousarray`.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/kernel.py" <<'PYTHON'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load, save

oihw = np.arange(4 * 3 * 2 * 2, dtype=np.float32).reshape(4, 3, 2, 2)
hwio = oihw.transpose(2, 3, 1, 0)  # a view
equal = [np.array_equal(load(save({"kernel": each}))["kernel"], hwio) for each in (hwio, np.ascontiguousarray(hwio))]
print(f"safetensors {safetensors.__version__}: transposed kernel read back equal: {equal[0]}, made contiguous: {equal[1]}")
sys.exit(equal != [safetensors.__version__ == "0.7.0", True])
PYTHON
for version in 0.7.0 0.8.0; do
    "$folder/venv/bin/pip" install --quiet "safetensors==$version" numpy==2.2.6
    "$folder/venv/bin/python" "$folder/kernel.py"
done
