"""Bodies of TensorFlow Serving's and KServe's protocols, read and written."""

import base64
import json

import numpy as np
import pytest

from deploy.serve import protocol
from deploy.serve.protocol import InferRequest, MalformedError, PredictRequest

PHOTO = b"\xff\xd8\xff\x00photo"
B64 = {"b64": base64.b64encode(PHOTO).decode()}
OUTPUTS = {
    "label": np.array([b"cat", b"d\xc3\xb6g"], object),
    "probability": np.array([0.75, 0.5], np.float32),
    "probabilities": np.array([[0.75, 0.25], [0.5, 0.5]], np.float32),
    "abstains": np.array([False, True]),
}


def body(content) -> bytes:
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("content", "request_"),
    [
        ({"instances": [B64]}, PredictRequest([PHOTO], True)),
        ({"instances": [{"image_bytes": B64}, B64]}, PredictRequest([PHOTO, PHOTO], True)),
        ({"instances": ["plain"]}, PredictRequest([b"plain"], True)),
        ({"instances": [B64], "signature_name": "feature_vector"}, PredictRequest([PHOTO], True, "feature_vector")),
        ({"instances": [B64], "signature_name": ""}, PredictRequest([PHOTO], True, "serving_default")),
        ({"inputs": [B64, B64]}, PredictRequest([PHOTO, PHOTO], False)),
        ({"inputs": {"image_bytes": [B64]}}, PredictRequest([PHOTO], False)),
    ],
)
def test_predict_is_read(content, request_):
    assert protocol.parse_predict(body(content)) == request_


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"instances": [{"b64": "AAAA', "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "either `instances` or `inputs`"),
        (body({"instances": [B64], "inputs": [B64]}), "either `instances` or `inputs`"),
        (body({"instances": []}), "instances is not a list"),
        (body({"instances": B64}), "instances is not a list"),
        (body({"inputs": B64}), "inputs is not a list"),
        (body({"instances": [1]}), r"instances\[0\] is not a photo"),
        (body({"instances": [[B64]]}), r"instances\[0\] is not a photo"),
        (body({"instances": [B64, {"b64": "?"}]}), r"instances\[1\] is not valid Base64"),
        (body({"instances": [{"b64": 3}]}), r"instances\[0\] has the keys 'b64'"),
        (body({"instances": [{"b64": "é"}]}), "not valid Base64"),
        (body({"instances": [{"examples": B64}]}), r"instances\[0\] has the keys 'examples'"),
        (body({"instances": [{}]}), r"instances\[0\] has the keys of an empty object"),
        (body({"instances": [B64], "signature_name": 3}), "signature_name is not a string"),
    ],
)
def test_what_is_not_predict_is_refused_in_a_sentence(content, reason):
    with pytest.raises(MalformedError, match=reason) as refused:
        protocol.parse_predict(content)
    assert str(refused.value).endswith(".")
    assert len(str(refused.value)) < 200


def test_rows_have_names_unless_there_is_one_output():
    rows = protocol.predict_response(OUTPUTS, in_rows=True)["predictions"]
    assert rows[1] == {"label": "dög", "probability": 0.5, "probabilities": [0.5, 0.5], "abstains": True}
    lone = {"feature_vector": np.array([[1.0, 2.0]], np.float32)}
    assert protocol.predict_response(lone, in_rows=True) == {"predictions": [[1.0, 2.0]]}


def test_columns_have_names_unless_there_is_one_output():
    columns = protocol.predict_response(OUTPUTS, in_rows=False)["outputs"]
    assert columns["label"] == ["cat", "dög"]
    assert columns["probabilities"] == [[0.75, 0.25], [0.5, 0.5]]
    assert protocol.predict_response({"x": np.array([1])}, in_rows=False) == {"outputs": [1]}


def test_binary_outputs_are_base64():
    outputs = {"mask_bytes": np.array([PHOTO], object), "label": np.array([b"cat"], object)}
    assert protocol.predict_response(outputs, in_rows=True) == {"predictions": [{"mask_bytes": B64, "label": "cat"}]}


def tensor(**changes) -> dict:
    return {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [B64["b64"]], **changes}


def test_infer_is_read():
    assert protocol.parse_infer(body({"inputs": [tensor()]})) == InferRequest([PHOTO])
    asked = {"id": "7", "inputs": [tensor(shape=[2, 1], data=[B64, B64["b64"]])], "outputs": [{"name": "label"}]}
    assert protocol.parse_infer(body(asked)) == InferRequest([PHOTO, PHOTO], "7", ["label"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "one tensor in `inputs`"),
        ({"inputs": [tensor(), tensor()]}, "one tensor in `inputs`"),
        ({"inputs": [tensor(name="x")]}, "with the name image_bytes"),
        ({"inputs": [tensor(datatype="FP32")]}, "datatype BYTES"),
        ({"inputs": [tensor(shape=[2])]}, "has 1 values"),
        ({"inputs": [tensor(data=[])]}, "is not a list with something in it"),
        ({"inputs": [tensor(data=["?"])]}, r"data\[0\] is not valid Base64"),
        ({"inputs": [tensor()], "id": 3}, "id is not a string"),
        ({"inputs": [tensor()], "outputs": ["label"]}, "objects with a `name`"),
    ],
)
def test_what_is_not_infer_is_refused_in_a_sentence(content, reason):
    with pytest.raises(MalformedError, match=reason):
        protocol.parse_infer(body(content))


def test_infer_is_answered_flat_with_types():
    response = protocol.infer_response(OUTPUTS, InferRequest([], "7"), "pets", 12)
    assert (response["model_name"], response["model_version"], response["id"]) == ("pets", "12", "7")
    tensors = {output["name"]: (output["datatype"], output["shape"]) for output in response["outputs"]}
    assert tensors == {
        "label": ("BYTES", [2]),
        "probability": ("FP32", [2]),
        "probabilities": ("FP32", [2, 2]),
        "abstains": ("BOOL", [2]),
    }
    assert response["outputs"][2]["data"] == [0.75, 0.25, 0.5, 0.5]


def test_infer_gives_the_outputs_that_were_asked_for():
    response = protocol.infer_response(OUTPUTS, InferRequest([], None, ["label"]), "pets", 12)
    assert [output["name"] for output in response["outputs"]] == ["label"]
    assert "id" not in response
    with pytest.raises(MalformedError, match="no output 'x'"):
        protocol.infer_response(OUTPUTS, InferRequest([], None, ["x"]), "pets", 12)
