#!/bin/sh
# Guess:   an `int` parameter of a Kubeflow pipeline is an integer of at least 64 bits, all the way from the
#          pipeline's default to the component that is annotated with `int`.
# Seen:    with kfp 2.17.3 every number travels as a double. Above 2**53 an integer becomes its even neighbour,
#          without an error, and arrives as an `int` all the same: a hash or a row's id is then another one. The
#          numbers in an artifact's metadata arrive as floats, small ones too.
#              kfp 2.17.3: default 9007199254740993, compiled 9007199254740992.0, component got 9007199254740992 (int)
#              kfp 2.17.3: metadata {'photos': 3} came back as {'photos': 3.0}
# Source:  `to_protobuf_value` in kfp/compiler/pipeline_spec_builder.py (google.protobuf.Value has one kind of
#          number); a maintainer in kubeflow/pipelines#9976: at most 2**53 - 1, pass more as a string.
# Matters: every parameter of the pipelines that deploy/kubeflow/compiler.py makes is a string.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet kfp==2.17.3
cat > "$folder/pipeline.py" <<'PYTHON'
import sys

import kfp
import yaml
from kfp import compiler, dsl, local

SEED = 2**53 + 1
folder = sys.argv[1]


@dsl.component(install_kfp_package=False)
def draw(seed: int, photos: dsl.Output[dsl.Dataset]) -> str:
    photos.metadata["photos"] = 3
    return f"{seed} ({type(seed).__name__})"


@dsl.component(install_kfp_package=False)
def count(photos: dsl.Input[dsl.Dataset]) -> str:
    return str({key: value for key, value in photos.metadata.items() if key == "photos"})


@dsl.pipeline(name="numbers")
def numbers(seed: int = SEED) -> str:
    drawn = draw(seed=seed)
    return count(photos=drawn.outputs["photos"]).output


compiler.Compiler().compile(numbers, f"{folder}/numbers.yaml")
with open(f"{folder}/numbers.yaml") as file:
    compiled = yaml.safe_load(file)["root"]["inputDefinitions"]["parameters"]["seed"]["defaultValue"]
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=f"{folder}/root")
got, metadata = draw(seed=SEED).outputs["Output"], numbers().output
print(f"kfp {kfp.__version__}: default {SEED}, compiled {compiled!r}, component got {got}", file=sys.stderr)
print(f"kfp {kfp.__version__}: metadata {{'photos': 3}} came back as {metadata}", file=sys.stderr)
sys.exit((compiled, got, metadata) != (2.0**53, f"{2**53} (int)", "{'photos': 3.0}"))
PYTHON
cd "$folder" && PATH="$folder/venv/bin:$PATH" python -W ignore pipeline.py "$folder" > "$folder/log"
