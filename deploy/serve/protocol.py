"""Bodies of requests and responses. Imports neither TensorFlow nor a web framework.

TensorFlow Serving: https://www.tensorflow.org/tfx/serving/api_rest, and `util/json_tensor.cc` of tensorflow/serving for
what the page leaves open. KServe: the Open Inference Protocol (V2), `specification/protocol/inference_rest.md` of
kserve/open-inference-protocol. That has no form for binary values in JSON; here they are Base64 strings, as with
MLServer's content type `base64`, or TensorFlow Serving's `{"b64": ...}`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

INPUT = "image_bytes"
DEFAULT_SIGNATURE = "serving_default"
# Outputs of one call: name -> array [photos, ...].
Outputs = Mapping[str, np.ndarray]
_KSERVE_TYPES = {"f": "FP", "i": "INT", "u": "UINT"}


class MalformedError(ValueError):
    """A body is not what the protocol asks for; the message is a sentence."""


@dataclass(frozen=True)
class PredictRequest:
    """A `:predict` request. photos: files as they were sent. in_rows: `instances`, rather than `inputs`, was given."""

    photos: list[bytes]
    in_rows: bool
    signature: str = DEFAULT_SIGNATURE


@dataclass(frozen=True)
class InferRequest:
    """A V2 `infer` request. outputs: the names of those that are wanted; None: all."""

    photos: list[bytes]
    request_id: str | None = None
    outputs: list[str] | None = None


# ---- TensorFlow Serving


def parse_predict(body: bytes) -> PredictRequest:
    """Reads the body of `:predict`, in row or column format.

    Raises:
      MalformedError: it is neither.
    """
    request = _json_object(body)
    signature = request.get("signature_name", "")
    if not isinstance(signature, str):
        raise MalformedError("signature_name is not a string; expected the name of a signature.")
    signature = signature or DEFAULT_SIGNATURE
    if ("instances" in request) == ("inputs" in request):
        raise MalformedError("expected either `instances` or `inputs` in the JSON object.")
    if "instances" in request:
        rows = _some_list(request["instances"], "instances")
        photos = [_binary(_of_row(row, i), f"instances[{i}]") for i, row in enumerate(rows)]
        return PredictRequest(photos, True, signature)
    column = request["inputs"]
    if isinstance(column, dict) and column.keys() == {INPUT}:
        column = column[INPUT]
    return PredictRequest(
        [_binary(value, f"inputs[{i}]") for i, value in enumerate(_some_list(column, "inputs"))], False, signature
    )


def _of_row(row: Any, number: int) -> Any:
    if not isinstance(row, dict) or _is_base64(row):
        return row
    if row.keys() != {INPUT}:
        raise MalformedError(
            f'instances[{number}] has the keys {_few(row)}; expected {{"b64": ...}} or {{"{INPUT}": {{"b64": ...}}}}.'
        )
    return row[INPUT]


def predict_response(outputs: Outputs, in_rows: bool) -> dict[str, Any]:
    """The body of the answer to `:predict`; a lone output has no name in it."""
    columns = {name: _json_values(name, array) for name, array in outputs.items()}
    if not in_rows:
        return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}


# ---- KServe V2


def parse_infer(body: bytes) -> InferRequest:
    """Reads the body of V2 `infer`.

    Raises:
      MalformedError: it has not exactly one input, `image_bytes` of BYTES, with as many values as its shape says.
    """
    request = _json_object(body)
    request_id, inputs, outputs = request.get("id"), request.get("inputs"), request.get("outputs")
    if not isinstance(request_id, str | None):
        raise MalformedError("id is not a string.")
    tensor = inputs[0] if isinstance(inputs, list) and len(inputs) == 1 else None
    if not isinstance(tensor, dict) or (tensor.get("name"), tensor.get("datatype")) != (INPUT, "BYTES"):
        raise MalformedError(f"expected one tensor in `inputs`, with the name {INPUT} and the datatype BYTES.")
    values = _some_list(tensor.get("data"), "inputs[0].data")
    if tensor.get("shape") not in ([len(values)], [len(values), 1]):
        raise MalformedError(f"inputs[0].data has {len(values)} values, which is not what its shape says.")
    photos = [
        _binary({"b64": value} if isinstance(value, str) else value, f"inputs[0].data[{i}]")
        for i, value in enumerate(values)
    ]
    if outputs is None:
        return InferRequest(photos, request_id)
    if not isinstance(outputs, list) or not all(
        isinstance(o, dict) and isinstance(o.get("name"), str) for o in outputs
    ):
        raise MalformedError("expected objects with a `name` in `outputs`.")
    return InferRequest(photos, request_id, [output["name"] for output in outputs])


def infer_response(outputs: Outputs, request: InferRequest, model_name: str, version: int) -> dict[str, Any]:
    """The body of the answer to V2 `infer`.

    Raises:
      MalformedError: an output was asked for that the model does not have.
    """
    wanted = list(outputs) if request.outputs is None else request.outputs
    if missing := [name for name in wanted if name not in outputs]:
        raise MalformedError(f"the model has no output {_few(missing)}; it has {', '.join(sorted(outputs))}.")
    tensors = [
        {
            "name": name,
            "datatype": kserve_type(outputs[name].dtype),
            "shape": list(outputs[name].shape),
            "data": [
                value["b64"] if isinstance(value, dict) else value
                for value in _json_values(name, outputs[name].ravel())
            ],
        }
        for name in wanted
    ]
    named = {} if request.request_id is None else {"id": request.request_id}
    return {"model_name": model_name, "model_version": str(version), **named, "outputs": tensors}


def kserve_type(dtype: np.dtype) -> str:
    """The V2 name of a type: BOOL, BYTES, FP32, INT64, ..."""
    if dtype.kind in _KSERVE_TYPES:
        return f"{_KSERVE_TYPES[dtype.kind]}{8 * dtype.itemsize}"
    return "BOOL" if dtype.kind == "b" else "BYTES"


# ---- both


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except json.JSONDecodeError as error:
        raise MalformedError(f"the body is not JSON: {error.msg} at character {error.pos}.") from None
    except (ValueError, RecursionError):
        raise MalformedError("the body is not JSON that can be read.") from None
    if not isinstance(request, dict):
        raise MalformedError("the body is not a JSON object.")
    return request


def _some_list(values: Any, where: str) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise MalformedError(f"{where} is not a list with something in it.")
    return values


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _binary(value: Any, where: str) -> bytes:
    """The bytes of a string tensor's element: Base64 in an object, or a string as it is."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if not _is_base64(value):
        raise MalformedError(f'{where} is not a photo; expected {{"b64": "<Base64>"}}.')
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError(f"{where} is not valid Base64.") from None


def _json_values(name: str, array: np.ndarray) -> list[Any]:
    """Values in JSON's types; strings of outputs named `..._bytes` are binary."""
    if array.dtype.kind not in "OS":
        return array.tolist()
    if name.endswith("_bytes"):
        return [{"b64": base64.b64encode(value).decode()} for value in array.tolist()]
    return [value.decode("utf-8", "replace") for value in array.tolist()]


def _few(names: Sequence[str] | Mapping[str, Any]) -> str:
    """Some of the names that a stranger sent, short enough for a sentence."""
    shown = [repr(name[:40]) for name in list(names)[:3]]
    return ", ".join(shown) + (", ..." if len(names) > 3 else "") if shown else "of an empty object"
