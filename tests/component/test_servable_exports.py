"""Exports of the model: TFLite and ONNX files answer as the SavedModel does, or the model is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf

from components.servable_check import component, exports, fresh_process, packages
from schemas.errors import BadInput
from schemas.json_records import to_json

TOLERANCE, EXPORT_TOLERANCE = 1e-5, 1e-4
SHAPE = [16, 16, 3]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).random([34, *SHAPE], dtype=np.float32)  # more than one batch


@pytest.fixture(scope="module")
def expected(exported_model, images):
    model = tf.saved_model.load(exported_model)
    return model.probabilities_of_images(tf.constant(images)).numpy()


@pytest.fixture
def images_file(images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    return str(tmp_path / "images.npy")


@pytest.fixture(scope="module")
def with_tflite(exported_model, tmp_path_factory):
    """A copy of the model with its TFLite file in it."""
    folder = str(tmp_path_factory.mktemp("with_tflite") / "model")
    shutil.copytree(exported_model, folder)
    exports.convert(folder, ["tflite"])
    return folder


@pytest.fixture(scope="module")
def with_onnx(exported_model, tmp_path_factory):
    """A copy of the model with its ONNX file in it."""
    pytest.importorskip("tf2onnx")
    folder = str(tmp_path_factory.mktemp("with_onnx") / "model")
    shutil.copytree(exported_model, folder)
    exports.convert(folder, ["onnx"])
    return folder


def test_the_tflite_file_takes_one_image_after_the_transform_graph(with_tflite, images, expected):
    interpreter = tf.lite.Interpreter(f"{with_tflite}/assets.extra/model.tflite")
    interpreter.allocate_tensors()
    [given], [result] = interpreter.get_input_details(), interpreter.get_output_details()
    # The signature's -1 would be a batch of any size, which accelerators of phones refuse.
    assert (given["dtype"], list(given["shape_signature"])) == (np.float32, [1, *SHAPE])
    assert (result["dtype"], list(result["shape_signature"])) == (np.float32, [1, 2])
    interpreter.set_tensor(given["index"], images[:1])
    interpreter.invoke()
    np.testing.assert_allclose(interpreter.get_tensor(result["index"]), expected[:1], atol=1e-5)


@pytest.mark.slow
def test_the_onnx_file_takes_any_number_of_images(with_onnx, images, expected):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(f"{with_onnx}/assets.extra/model.onnx", providers=["CPUExecutionProvider"])
    [given], [result] = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(float)", ["batch", *SHAPE])
    assert (result.name, result.type, result.shape) == ("probabilities", "tensor(float)", ["batch", 2])
    for count in (1, 5, 34):
        [found] = session.run(None, {"images": images[:count]})
        np.testing.assert_allclose(found, expected[:count], atol=1e-5)


@pytest.mark.parametrize("export_format", ["tflite", pytest.param("onnx", marks=pytest.mark.slow)])
@pytest.mark.release
def test_the_parity_report(export_format, images_file, expected, request):
    folder = request.getfixturevalue(f"with_{export_format}")
    found = to_json(exports.compare(folder, export_format, images_file, expected))
    assert found.keys() == {"largest_difference", "megabytes", "latency_milliseconds"}
    assert 0 <= found["largest_difference"] < 1e-5
    assert found["latency_milliseconds"] > 0
    file = Path(folder, "assets.extra", f"model.{export_format}")
    assert found["megabytes"] == file.stat().st_size / 1e6 > 0


@pytest.mark.slow
@pytest.mark.release
def test_one_probability_that_differs_is_told(with_tflite, images_file, expected):
    changed = expected.copy()
    changed[-1] += [0.01, -0.01]
    found = to_json(exports.compare(with_tflite, "tflite", images_file, changed))
    assert found["largest_difference"] == pytest.approx(0.01, rel=0.01)


@pytest.mark.slow
@pytest.mark.release
def test_an_export_with_other_classes_differs_beyond_measure(with_tflite, images_file, expected):
    found = to_json(exports.compare(with_tflite, "tflite", images_file, np.repeat(expected, 2, axis=1) / 2))
    assert found["largest_difference"] == np.inf


@pytest.mark.slow
@pytest.mark.release
def test_an_onnx_file_that_is_right_for_one_image_and_wrong_for_a_batch_differs(tmp_path, images_file, images):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    make_node, make_value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        make_node("ReduceMean", ["images"], ["mean"], axes=[0, 1, 2], keepdims=0),  # of the batch as well
        make_node("Reshape", ["mean", "row"], ["means"]),
        make_node("Softmax", ["means"], ["probabilities"], axis=1),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "mean_colour",
        [make_value("images", onnx.TensorProto.FLOAT, ["batch", *SHAPE])],
        [make_value("probabilities", onnx.TensorProto.FLOAT, [1, 3])],
        [onnx.numpy_helper.from_array(np.array([1, 3], np.int64), "row")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "assets.extra").mkdir()
    onnx.save(model, str(tmp_path / "assets.extra" / "model.onnx"))
    means = np.exp(images.mean(axis=(1, 2)))
    found = to_json(exports.compare(str(tmp_path), "onnx", images_file, means / means.sum(axis=1, keepdims=True)))
    assert found["largest_difference"] == np.inf


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("export_format", ["tflite", "onnx"])
def test_a_file_that_is_no_model_does_not_answer(tmp_path, export_format, images_file, expected):
    if export_format == "onnx":
        pytest.importorskip("onnxruntime")
    file = Path(exports.export_file(str(tmp_path), export_format))
    file.parent.mkdir()
    file.write_bytes(b"no model at all")
    with pytest.raises(fresh_process.ProcessFailed, match=rf"^the export to {export_format} does not answer: \S"):
        exports.compare(str(tmp_path), export_format, images_file, expected)


class OtherModel(tf.Module):
    """Only what an export is made of, and another answer than the exported model gives."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def transform_features(self, examples):
        return {"image": tf.zeros([tf.size(examples), *SHAPE])}

    @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.float32, name="images")])
    def probabilities_of_images(self, images):
        return tf.nn.softmax(tf.reduce_mean(images, axis=[1, 2])[:, :2])


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("export_format", ["tflite", "onnx"])
def test_a_model_whose_export_is_another_models_is_refused(
    export_format, request, tmp_path, odd_photos, exported_model
):
    """And with its own export it is not; the other one's file is planted."""
    folder = str(tmp_path / "model")
    shutil.copytree(request.getfixturevalue(f"with_{export_format}"), folder)
    photos = list(odd_photos.values())
    model = tf.saved_model.load(exported_model)
    wanted = model.signatures["serving_default"](image_bytes=tf.constant(photos))["probabilities"].numpy()

    def check():
        arguments = {"formats": [export_format], "export_tolerance": EXPORT_TOLERANCE}
        return to_json(component.check(folder, photos, wanted, TOLERANCE, **arguments))

    right = check()
    assert right["servable"], right["text"]
    assert right["exports"][export_format]["largest_difference"] <= EXPORT_TOLERANCE
    assert f"those of {export_format} differ from them by at most" in right["text"]

    other = OtherModel()
    tf.saved_model.save(other, str(tmp_path / "other"), signatures={"transform_features": other.transform_features})
    exports.convert(str(tmp_path / "other"), [export_format])
    shutil.copy(exports.export_file(str(tmp_path / "other"), export_format), exports.export_file(folder, export_format))
    wrong = check()
    assert not wrong["servable"]
    difference = wrong["exports"][export_format]["largest_difference"]
    assert difference > 1e-3
    assert wrong["text"].endswith(f"{export_format} differ from them by at most {difference:.1e}, more than 1e-04")


@pytest.mark.slow
@pytest.mark.release
def test_a_model_that_cannot_be_exported_is_told_in_one_sentence(tmp_path, exported_model):
    model = tf.saved_model.load(exported_model)
    module = tf.Module()
    module.model = model
    names = ("serving_default", "transform_features")
    tf.saved_model.save(module, str(tmp_path), signatures={name: model.signatures[name] for name in names})
    with pytest.raises(fresh_process.ProcessFailed, match=r"^the export to tflite failed: AttributeError: .*of_images"):
        exports.convert(str(tmp_path), ["tflite"])


def test_onnx_without_its_packages_is_told_at_once(monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "onnxruntime" else name)
    packages.require_packages([])
    packages.require_packages(["tflite"])
    with pytest.raises(BadInput, match=r"onnxruntime is not installed: pip install 'warmstart\[onnx\]'"):
        packages.require_packages(["tflite", "onnx"])
    monkeypatch.setattr(packages, "find_spec", lambda name: name)
    packages.require_packages(["tflite", "onnx"])
