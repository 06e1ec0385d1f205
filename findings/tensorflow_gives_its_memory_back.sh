#!/bin/sh
# Guess:   TensorFlow keeps the memory of its tensors on a CPU as it does on a GPU, so that the tenth step of a network
#          takes no new pages from the system.
# Seen:    with TensorFlow 2.20.0 a step of three convolutions on 16 photos takes 41,020 new pages from the system,
#          which fills each with zeros, and so does every later step: tensors come from `malloc` and go back. With the
#          environment variable TF_CPU_ALLOCATOR_USE_BFC a step takes 3,436. The answers are the same to the last bit.
#              page faults in a step, answers, version
#              by default:                    41020 e8085e2b84e0 2.20.0
#              TF_CPU_ALLOCATOR_USE_BFC=true: 3436 e8085e2b84e0 2.20.0
# Source:  `ProcessState::GetCPUAllocator` in tensorflow/core/common_runtime/process_state.cc (TSL's in later versions).
# Matters: components/__init__.py sets it: a pass of the backbone at 224 pixels took 25 ms a photo instead of 41.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow-cpu==2.20.0
cat >"$folder/steps.py" <<'PYTHON'
import hashlib
import resource

import tensorflow as tf

kernels = [tf.random.stateless_normal([3, 3, a, b], [1, a]) * 0.1 for a, b in ((3, 32), (32, 64), (64, 64))]


@tf.function
def network(photos):
    for kernel in kernels:
        photos = tf.nn.relu(tf.nn.conv2d(photos, kernel, 1, "SAME"))
    return photos


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


photos = tf.random.stateless_uniform([16, 128, 128, 3], [1, 2])
for _ in range(10):
    network(photos)
before = faults()
for _ in range(10):
    answers = network(photos)
print((faults() - before) // 10, hashlib.sha256(answers.numpy().tobytes()).hexdigest()[:12], tf.__version__)
PYTHON
run() { TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES='' "$folder/venv/bin/python" "$folder/steps.py" 2>/dev/null; }
plain=$(run)
kept=$(TF_CPU_ALLOCATOR_USE_BFC=true run)
echo "page faults in a step, answers, version"
echo "by default:                    $plain"
echo "TF_CPU_ALLOCATOR_USE_BFC=true: $kept"
[ "${plain%% *}" -gt $((5 * ${kept%% *})) ] && [ "${plain#* }" = "${kept#* }" ]
