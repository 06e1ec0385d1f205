"""Starting from an exported model: by name, by class, and with a proof that the answers are the same."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf

from components.backbone.layer import FeatureVector
from components.trainer import warm_start
from components.trainer.model import build_head
from components.trainer.warm_start import BadInput, Matches, Source, WarmStartFailed
from components.transform.graph import load_transform

LABELS = ["cat", "dog"]
HEAD = {"head/kernel:0", "head/bias:0"}
KERNEL, BIAS = "head/kernel:0", "head/bias:0"


class TwoVariables(tf.Module):
    """A SavedModel of somebody else: its signature reads one variable of two."""

    def __init__(self, first="first", second="scope/second"):
        super().__init__()
        # Attributes in another order than the names.
        self.z = tf.Variable([1.0, 2.0], name=first)
        self.a = tf.Variable([[3.0]], name=second)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def double(self, x):
        return {"y": 2 * x * self.z[0]}


class NoVariables(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def double(self, x):
        return {"y": 2 * x}


@pytest.fixture(scope="module")
def source(exported_model):
    return warm_start.read_source(exported_model)


@pytest.fixture(scope="module")
def photos(drawn_photos):
    """Photos' bytes, string [24]."""
    return tf.constant([photo.photo_bytes for photo in drawn_photos])


@pytest.fixture(scope="module")
def transform(transform_graph):
    return load_transform(transform_graph)


@pytest.fixture
def foreign(tmp_path):
    tf.saved_model.save(TwoVariables(), str(tmp_path / "foreign"))
    return warm_start.read_source(str(tmp_path / "foreign"))


def of_values(labels=None, **values) -> Source:
    """A source with these values, whose model is not looked at; `__` stands for `/` in a name."""
    named = {f"{name.replace('__', '/')}:0": np.array(value, np.float32) for name, value in values.items()}
    return Source("some/folder", named, labels, None)


def variables_of(**shapes) -> list[tf.Variable]:
    """Variables full of -1, which no source has."""
    return [tf.Variable(tf.fill(shape, -1.0), name=name.replace("__", "/")) for name, shape in shapes.items()]


def value_of(variables, name) -> list:
    return next(v for v in variables if v.name == name).numpy().tolist()


def untouched(variables) -> bool:
    return all(bool(tf.reduce_all(v == -1.0)) for v in variables)


# Reading


def test_an_exported_model_has_its_variables_under_their_own_names(source, exported_model, tiny_backbone):
    published = {v.name: v.numpy() for v in tf.saved_model.load(tiny_backbone).variables}
    assert len(published) == 10
    assert source.values.keys() == published.keys() | HEAD
    for name, value in published.items():
        np.testing.assert_array_equal(source.values[name], value)
    assert (source.values[KERNEL].shape, source.values[BIAS].shape) == ((8, 2), (2,))
    np.testing.assert_array_equal(source.values[KERNEL][:, 0], -source.values[KERNEL][:, 1])
    assert (source.labels, source.folder) == (LABELS, exported_model)
    assert "serving_default" in source.model.signatures


@pytest.mark.parametrize("with_signature", [False, True])
def test_a_model_that_is_not_ours_is_read_by_name_too(tmp_path, with_signature):
    module = TwoVariables()
    tf.saved_model.save(module, str(tmp_path), signatures={"double": module.double} if with_signature else None)
    found = warm_start.read_source(str(tmp_path))
    assert {name: value.tolist() for name, value in found.values.items()} == {
        "first:0": [1.0, 2.0],
        "scope/second:0": [[3.0]],
    }
    assert found.labels is None


def test_a_model_of_tensorflow_1_is_read_by_name_too(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None])
        kernel = tf.compat.v1.get_variable("scope/kernel", initializer=[4.0])
        session.run(kernel.initializer)
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "model"), {"x": x}, {"y": x * kernel})
    found = warm_start.read_source(str(tmp_path / "model"))
    assert {name: value.tolist() for name, value in found.values.items()} == {"scope/kernel:0": [4.0]}


def test_a_model_that_lists_its_variables_is_read_by_the_list(tmp_path):
    """As an ensemble does, whose two models have variables of the same names."""
    module = TwoVariables("twin", "twin")
    module.model_variables = [module.a]
    tf.saved_model.save(module, str(tmp_path))
    found = warm_start.read_source(str(tmp_path))
    assert {name: value.tolist() for name, value in found.values.items()} == {"twin:0": [[3.0]]}


@pytest.mark.parametrize("damage", ["absent", "empty", "truncated", "without variables", "other variables"])
def test_what_cannot_be_loaded_is_refused_with_its_folder(tmp_path, damage):
    folder = tmp_path / "model"
    if damage == "empty":
        folder.mkdir()
    elif damage != "absent":
        tf.saved_model.save(TwoVariables(), str(folder))
        data = folder / "variables" / "variables.data-00000-of-00001"
        if damage == "truncated":
            graph = folder / "saved_model.pb"
            graph.write_bytes(graph.read_bytes()[:-20])
        elif damage == "without variables":
            data.unlink()
        else:
            data.write_bytes(b"")
    with pytest.raises(BadInput, match=re.escape(f"the model {folder} cannot be loaded for a warm start (")) as refused:
        warm_start.read_source(str(folder))
    assert "\n" not in str(refused.value)


def test_a_model_without_variables_is_refused(tmp_path):
    tf.saved_model.save(NoVariables(), str(tmp_path))
    with pytest.raises(BadInput, match=re.escape(f"the model {tmp_path} has no variables; expected")):
        warm_start.read_source(str(tmp_path))


def test_two_variables_of_one_name_are_refused(tmp_path):
    tf.saved_model.save(TwoVariables("twin", "twin"), str(tmp_path))
    with pytest.raises(BadInput, match=re.escape(f"the model {tmp_path} has two variables named twin:0; expected")):
        warm_start.read_source(str(tmp_path))


# Copying


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
def test_variables_are_copied_by_name_whatever_the_order(order):
    shapes = [("b", [2]), ("scope__a", [2]), ("c", [2])]  # of one shape, so that no mistake is refused
    variables = variables_of(**dict(shapes[i] for i in order))
    found = warm_start.copy_by_name(of_values(c=[1, 2], b=[3, 4], scope__a=[5, 6]), variables, LABELS)
    assert {v.name: v.numpy().tolist() for v in variables} == {"c:0": [1, 2], "b:0": [3, 4], "scope/a:0": [5, 6]}
    assert found == Matches(matched=["b:0", "c:0", "scope/a:0"])
    assert found.is_complete


def test_only_names_that_match_from_their_start_are_copied():
    variables = variables_of(top_conv=[1], stem_conv=[1], top_bn=[1])
    source = of_values(top_conv=[1], stem_conv=[2], top_bn=[3])
    found = warm_start.copy_by_name(source, variables, LABELS, "top_|conv")
    assert found == Matches(["top_bn:0", "top_conv:0"], skipped=["stem_conv:0"], unused=["stem_conv:0"])
    assert [v.numpy().tolist() for v in variables] == [[1], [-1], [3]]
    assert not found.is_complete


def test_a_variable_that_only_one_side_has_is_told():
    variables = variables_of(new__b=[1], both=[1], new__a=[1])
    found = warm_start.copy_by_name(of_values(old__b=[1], both=[2], old__a=[3]), variables, LABELS)
    assert found == Matches(["both:0"], missing=["new/a:0", "new/b:0"], unused=["old/a:0", "old/b:0"])
    assert [v.numpy().tolist() for v in variables] == [[-1], [2], [-1]]
    assert not found.is_complete


def test_an_unused_variable_leaves_a_warm_start_complete():
    assert warm_start.copy_by_name(of_values(a=[1], b=[2]), variables_of(a=[1]), LABELS).is_complete


@pytest.mark.parametrize(
    ("few", "matches", "expected"),
    [
        (None, Matches(["a"]), 5),
        (1, Matches(["a"]), 1),
        (0, Matches(["a"], unused=["b"], dropped_classes=["cat"]), 0),
        (1, Matches(["a"], new_classes=["pug"]), 5),
        (1, Matches(["a"], skipped=["b"]), 5),
        (1, Matches(["a"], missing=["b"]), 5),
    ],
)
def test_fewer_epochs_are_enough_where_nothing_begins_anew(few, matches, expected):
    assert warm_start.epochs(5, few, matches) == expected


def test_a_renamed_variable_takes_the_value_of_its_old_name():
    variables = variables_of(new=[1], kept=[1], swapped=[1])
    source = of_values(old=[1], kept=[2], swapped=[3], other=[4])
    found = warm_start.copy_by_name(source, variables, LABELS, renamed={"new:0": "old:0", "swapped:0": "other:0"})
    assert [v.numpy().tolist() for v in variables] == [[1], [2], [4]]
    assert found == Matches(["kept:0", "new:0", "swapped:0"], unused=["swapped:0"])


def test_the_pattern_is_about_the_new_name():
    variables = variables_of(new=[1], kept=[1])
    found = warm_start.copy_by_name(of_values(old=[1], kept=[2]), variables, LABELS, "new", {"new:0": "old:0"})
    assert found == Matches(["new:0"], skipped=["kept:0"], unused=["kept:0"])
    assert value_of(variables, "new:0") == [1]


@pytest.mark.parametrize(
    ("renamed", "message"),
    [
        ({"nwe:0": "old:0"}, "maps nwe:0 to old:0, but the new model has no variable nwe:0"),
        ({"new:0": "odl:0"}, "maps new:0 to odl:0, but some/folder has no variable odl:0"),
        ({"kept:0": "kept:0", "old:0": "new:0"}, "maps old:0 to new:0, but the new model has no variable old:0"),
    ],
)
def test_a_wrong_name_among_the_renamed_is_refused_with_the_side_that_lacks_it(renamed, message):
    variables = variables_of(kept=[1], new=[1])
    with pytest.raises(BadInput, match=f"training.warm_start.renamed {message}$"):
        warm_start.copy_by_name(of_values(old=[1], kept=[2]), variables, LABELS, renamed=renamed)
    assert untouched(variables)


def test_another_shape_is_refused_and_nothing_is_assigned():
    variables = variables_of(fits=[2], wrong=[2, 3], also_wrong=[1])
    source = of_values(fits=[1, 2], wrong=[[1, 2], [3, 4], [5, 6]], also_wrong=[1, 2])
    message = (
        "the model to start from, some/folder, does not fit: 2 of 3 variables differ in shape "
        "(wrong:0 has shape (3, 2), not (2, 3); also_wrong:0 has shape (2,), not (1,))"
    )
    with pytest.raises(BadInput, match=re.escape(message)):
        warm_start.copy_by_name(source, variables, LABELS)
    assert untouched(variables)


def test_a_value_that_would_broadcast_is_refused():
    variables = variables_of(kernel=[2, 2])
    with pytest.raises(BadInput, match="differ in shape"):
        warm_start.copy_by_name(of_values(kernel=[1, 2]), variables, LABELS)
    assert untouched(variables)


def test_two_variables_of_one_name_in_the_new_model_are_refused():
    variables = [*variables_of(twin=[1], single=[1]), *variables_of(twin=[1])]
    with pytest.raises(ValueError, match=re.escape("among 3 variables, 1 names are not unique (twin:0)")):
        warm_start.copy_by_name(of_values(twin=[1], single=[2]), variables, LABELS)
    assert untouched(variables)


# The head when the classes change


def old_head() -> Source:
    """Of the classes ant, bee and cow; each class's column is told apart by its tens."""
    return of_values(["ant", "bee", "cow"], head__kernel=[[10, 20, 30], [11, 21, 31]], head__bias=[1, 2, 6])


@pytest.mark.parametrize(
    ("labels", "kernel", "bias", "new_classes", "dropped_classes"),
    [
        (["ant", "bee", "cow"], [[10, 20, 30], [11, 21, 31]], [1, 2, 6], [], []),
        (["cow", "ant", "bee"], [[30, 10, 20], [31, 11, 21]], [6, 1, 2], [], []),
        (["ant", "cow"], [[10, 30], [11, 31]], [1, 6], [], ["bee"]),
        (["ant", "bat", "bee", "cow"], [[10, 0, 20, 30], [11, 0, 21, 31]], [1, 3, 2, 6], ["bat"], []),
        # As many classes as before, so that no shape betrays a mistake.
        (["dog", "cow", "ant"], [[0, 30, 10], [0, 31, 11]], [3, 6, 1], ["dog"], ["bee"]),
        (["x", "y"], [[0, 0], [0, 0]], [3, 3], ["x", "y"], ["ant", "bee", "cow"]),
    ],
)
def test_the_rows_of_the_head_go_by_class(labels, kernel, bias, new_classes, dropped_classes):
    variables = variables_of(head__kernel=[2, len(labels)], head__bias=[len(labels)])
    found = warm_start.copy_by_name(old_head(), variables, labels)
    assert value_of(variables, KERNEL) == kernel
    assert value_of(variables, BIAS) == bias
    assert found == Matches([BIAS, KERNEL], new_classes=new_classes, dropped_classes=dropped_classes)


@given(
    *[st.permutations(["a", "b", "c", "d"]).flatmap(lambda names: st.integers(1, 4).map(lambda n: names[:n]))] * 2,
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_a_class_keeps_its_logit_whatever_the_others_do(old_labels, labels, seed):
    rng = np.random.default_rng(seed)
    old_kernel, old_bias = rng.normal(size=[3, len(old_labels)]), rng.normal(size=len(old_labels))
    variables = variables_of(head__kernel=[3, len(labels)], head__bias=[len(labels)])
    warm_start.copy_by_name(of_values(old_labels, head__kernel=old_kernel, head__bias=old_bias), variables, labels)
    vectors = rng.normal(size=[5, 3])
    before = vectors @ old_kernel + old_bias
    after = vectors @ variables[0].numpy() + variables[1].numpy()
    for i, label in enumerate(labels):
        expected = before[:, old_labels.index(label)] if label in old_labels else old_bias.mean()
        np.testing.assert_allclose(after[:, i], np.broadcast_to(expected, 5), atol=1e-5)


def test_a_hidden_layer_is_no_row_of_a_class():
    """As wide as there are classes, and in another order than theirs."""
    variables = variables_of(head_hidden__kernel=[1, 3], head_hidden__bias=[3], head__kernel=[3, 3], head__bias=[3])
    source = of_values(
        ["ant", "bee", "cow"],
        head_hidden__kernel=[[1, 2, 3]],
        head_hidden__bias=[4, 5, 6],
        head__kernel=np.diag([1, 2, 3]),
        head__bias=[7, 8, 9],
    )
    warm_start.copy_by_name(source, variables, ["cow", "bee", "ant"])
    assert value_of(variables, "head_hidden/kernel:0") == [[1, 2, 3]]
    assert value_of(variables, "head_hidden/bias:0") == [4, 5, 6]
    assert value_of(variables, KERNEL) == [[0, 0, 1], [0, 2, 0], [3, 0, 0]]
    assert value_of(variables, BIAS) == [9, 8, 7]


def test_the_rows_of_a_renamed_head_go_by_class_too():
    source = of_values(["ant", "bee"], predictions__kernel=[[1, 2]], predictions__bias=[3, 4])
    variables = variables_of(head__kernel=[1, 2], head__bias=[2])
    renamed = {KERNEL: "predictions/kernel:0", BIAS: "predictions/bias:0"}
    warm_start.copy_by_name(source, variables, ["bee", "ant"], renamed=renamed)
    assert (value_of(variables, KERNEL), value_of(variables, BIAS)) == ([[2, 1]], [4, 3])


def test_a_head_of_other_classes_than_its_source_says_is_refused():
    variables = variables_of(head__kernel=[1, 2], head__bias=[2])
    source = of_values(None, head__kernel=[[1, 2, 3]], head__bias=[1, 2, 3])
    with pytest.raises(BadInput, match=re.escape("head/kernel:0 has shape (1, 3), not (1, 2)")):
        warm_start.copy_by_name(source, variables, LABELS)
    assert untouched(variables)


@pytest.mark.parametrize(
    "labels", [["cat", "dog"], ["dog", "cat"], ["cat", "dog", "fox"], ["dog", "ape", "cat"], ["cat", "fox"]]
)
def test_a_model_of_other_classes_answers_as_its_source_on_those_they_share(
    source, photos, transform, tiny_backbone, labels
):
    backbone, head = FeatureVector(tiny_backbone), build_head(8, len(labels), 0, 0.5, 3)
    module = backbone.resolved_object
    for variable in module.variables:
        variable.assign(variable * 1.25)  # what was published is not what is started from
    found = warm_start.copy_by_name(source, [*module.variables, *head.variables], labels)
    assert found.is_complete
    assert (len(found.matched), found.unused) == (12, [])
    logits = head(backbone(transform(photos))).numpy()
    answers = tf.nn.softmax(logits).numpy()

    shared = [label for label in LABELS if label in labels]
    expected = source.model.signatures["serving_default"](image_bytes=photos)["probabilities"].numpy()
    expected = expected[:, [LABELS.index(label) for label in shared]]
    got = answers[:, [labels.index(label) for label in shared]]
    np.testing.assert_allclose(
        got / got.sum(axis=1, keepdims=True), expected / expected.sum(axis=1, keepdims=True), atol=1e-5
    )
    proof = warm_start.check_step_zero(source, labels, photos, logits)
    assert (proof.photos > 0) == (len(set(labels) & set(source.labels)) >= 2)
    assert 0 <= proof.largest <= 1e-5
    if len(shared) == 2:
        assert np.ptp(expected[:, 0]) > 0.2, "the photos are answered alike, whatever the model"
        wrong = np.roll(logits, 1, axis=1)
        with pytest.raises(WarmStartFailed):
            warm_start.check_step_zero(source, labels, photos, wrong)


# What a source must be


@pytest.fixture(scope="module")
def backbone_variables(tiny_backbone):
    module = tf.saved_model.load(tiny_backbone)
    for variable in module.variables:
        variable.assign(variable + 1)  # other values are what a warm start is for
    return module.variables


def test_a_model_of_the_same_input_and_backbone_fits(source, backbone_variables, transform, photos):
    assert warm_start.what_differs(source, backbone_variables, transform, photos) is None
    rounded = lambda photo_bytes: transform(photo_bytes) + 2e-7  # noqa: E731
    assert warm_start.what_differs(source, backbone_variables, rounded, photos) is None


@pytest.mark.parametrize("classes", [2, 3])
def test_a_head_of_other_classes_fits(source, backbone_variables, transform, photos, classes):
    variables = [*backbone_variables, *build_head(8, classes, 0, 0.0, 1).variables]
    assert warm_start.what_differs(source, variables, transform, photos) is None


def test_a_head_with_a_hidden_layer_more_is_told(source, backbone_variables, transform, photos):
    variables = [*backbone_variables, *build_head(8, 2, 4, 0.0, 1).variables]
    found = warm_start.what_differs(source, variables, transform, photos)
    missing = "3 of 14 variables are missing or have a different shape, such as head_hidden/kernel:0"
    assert found == f"its head differs: {missing}"
    found = warm_start.what_differs(source, [*variables, *variables_of(other=[1])], transform, photos)
    assert found is not None
    assert found.startswith("its backbone differs: 4 of 15")


def test_another_input_size_is_told_width_first(source, backbone_variables, transform, photos):
    wide = lambda photo_bytes: tf.image.resize(transform(photo_bytes), [16, 24])  # noqa: E731
    found = warm_start.what_differs(source, backbone_variables, wide, photos)
    assert found == "its input size is 16 x 16 pixels, not 24 x 16"


@pytest.mark.parametrize("direction", [1, -1])
def test_another_transform_is_told_by_its_largest_difference(source, backbone_variables, transform, photos, direction):
    """In one pixel of the last photo alone."""
    pixel = tf.scatter_nd([[len(photos) - 1, 3, 5, 1]], [direction * 2e-5], [len(photos), 16, 16, 3])
    other = lambda photo_bytes: transform(photo_bytes) + pixel  # noqa: E731
    found = warm_start.what_differs(source, backbone_variables, other, photos)
    assert found == "its transform differs: pixels of the same photo differ by up to 2e-05"


def test_pixels_that_are_no_numbers_are_another_transform(source, backbone_variables, transform, photos):
    broken = lambda photo_bytes: transform(photo_bytes) * np.nan  # noqa: E731
    found = warm_start.what_differs(source, backbone_variables, broken, photos)
    assert found is not None
    assert found.startswith("its transform differs")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            {"absent__kernel": [1], "absent__bias": [1]},
            "2 of 12 variables are missing or have a different shape, such as absent",
        ),
        (
            {"top_conv__kernel": [1, 1, 8, 9]},
            "1 of 11 variables are missing or have a different shape, such as top_conv",
        ),
    ],
)
def test_another_backbone_is_told_by_a_variable(source, backbone_variables, transform, photos, more, told):
    other = [*backbone_variables, *variables_of(**more)]
    assert warm_start.what_differs(source, other, transform, photos) == f"its backbone differs: {told}/kernel:0"


def test_a_source_that_does_not_say_how_it_reads_photos_is_told(foreign, backbone_variables, transform, photos):
    found = warm_start.what_differs(foreign, backbone_variables, transform, photos)
    assert found == "it has no signature transform_features, so its preprocessing cannot be compared"


def test_a_source_whose_transform_gives_something_else_is_told(source, backbone_variables, transform, photos):
    """As TFX's own examples export it: `image_xf` in the place of `image`."""
    signature = lambda examples: {"image_xf": transform(photos)}  # noqa: E731
    other = replace(source, model=SimpleNamespace(signatures={"transform_features": signature}))
    found = warm_start.what_differs(other, backbone_variables, transform, photos)
    assert found is not None
    assert "transform" in found


def test_a_source_that_does_not_say_its_classes_is_told(source, backbone_variables, transform, photos):
    found = warm_start.what_differs(replace(source, labels=None), backbone_variables, transform, photos)
    assert found == "it has no assets.extra/labels.txt, so its classes are unknown"


# The proof


def that_answers(labels, probabilities) -> Source:
    """A source whose model answers with these probabilities."""

    def serving_default(image_bytes):
        return {"probabilities": tf.constant(np.array(probabilities, np.float32)[: len(image_bytes)])}

    return Source("some/folder", {}, labels, SimpleNamespace(signatures={"serving_default": serving_default}))


def check(source, labels, probabilities) -> float:
    """Of a new model whose logits are the logarithms of `probabilities`."""
    photos = tf.constant(["photo"] * len(probabilities))
    with np.errstate(divide="ignore"):
        logits = np.log(np.array(probabilities, np.float32))
    return warm_start.check_step_zero(source, labels, photos, logits).largest


def test_the_same_answers_differ_by_nothing(source, photos):
    answers = source.model.signatures["serving_default"](image_bytes=photos)["probabilities"].numpy()
    proof = warm_start.check_step_zero(source, LABELS, photos, np.log(answers))
    assert proof.photos == len(photos)
    assert proof.largest < 1e-6


@pytest.mark.parametrize(("shift", "passes"), [(5e-5, True), (-5e-5, True), (3e-4, False), (-3e-4, False)])
def test_one_probability_that_differs_is_found(source, photos, shift, passes):
    answers = source.model.signatures["serving_default"](image_bytes=photos)["probabilities"].numpy()
    answers[-1] += shift, -shift
    if passes:
        proof = warm_start.check_step_zero(source, LABELS, photos, np.log(answers))
        assert proof.largest == pytest.approx(abs(shift), rel=0.01)
    else:
        message = re.escape(
            f"the model warm-started from {source.folder} gives different answers: the probabilities of "
            "24 photos differ by up to 0.0003, expected at most 0.0001"
        )
        with pytest.raises(WarmStartFailed, match=message):
            warm_start.check_step_zero(source, LABELS, photos, np.log(answers))


THREE = that_answers(["ant", "bee", "cow"], [[0.2, 0.3, 0.5], [0.6, 0.1, 0.3]])


@pytest.mark.parametrize(
    ("labels", "right", "wrong"),
    [
        (["cow", "ant", "bee"], [[0.5, 0.2, 0.3], [0.3, 0.6, 0.1]], [[0.2, 0.3, 0.5], [0.6, 0.1, 0.3]]),
        (["bee", "ant"], [[0.6, 0.4], [1 / 7, 6 / 7]], [[0.4, 0.6], [6 / 7, 1 / 7]]),
        (
            ["bat", "cow", "bee", "ant"],
            [[0.5, 0.25, 0.15, 0.1], [0.0, 0.3, 0.1, 0.6]],
            [[0.5, 0.25, 0.1, 0.15], [0.0, 0.3, 0.1, 0.6]],
        ),
        # As many classes as before.
        (["dog", "cow", "bee"], [[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]], [[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]),
    ],
)
def test_classes_that_both_know_are_compared_by_name(labels, right, wrong):
    assert check(THREE, labels, right) < 1e-6
    with pytest.raises(WarmStartFailed):
        check(THREE, labels, wrong)


def test_a_photo_that_both_give_to_other_classes_says_nothing():
    old = that_answers(["ant", "bee", "cow"], [[0.004, 0.001, 0.995], [0.5, 0.25, 0.25]])
    assert check(old, ["ant", "bee"], [[0.5, 0.5], [2 / 3, 1 / 3]]) < 1e-6
    with pytest.raises(WarmStartFailed, match="the probabilities of 1 photos differ"):
        check(old, ["ant", "bee"], [[0.8, 0.2], [0.5, 0.5]])
    # A little more, and it does say something.
    old = that_answers(["ant", "bee", "cow"], [[0.016, 0.004, 0.98], [0.5, 0.25, 0.25]])
    with pytest.raises(WarmStartFailed, match="the probabilities of 2 photos differ"):
        check(old, ["ant", "bee"], [[0.5, 0.5], [2 / 3, 1 / 3]])


def test_every_answer_counts_where_the_classes_are_the_same():
    """However sure the model is, nothing is left out or divided."""
    old = that_answers(["ant", "bee"], [[1.0, 0.0]])
    with pytest.raises(WarmStartFailed):
        check(old, ["ant", "bee"], [[0.999, 0.001]])


def test_a_source_that_serves_more_than_it_lists_is_asked_for_what_it_lists():
    """As an ensemble, which serves the mean of two models and lists the variables of one."""
    answers = {"warm_start_probabilities": lambda photos: tf.constant([[0.9, 0.1], [0.3, 0.7]])[: len(photos)]}
    old = that_answers(["ant", "bee"], [[0.5, 0.5], [0.5, 0.5]])
    old = replace(old, model=SimpleNamespace(signatures=old.model.signatures, **answers))
    assert check(old, ["ant", "bee"], [[0.9, 0.1], [0.3, 0.7]]) < 1e-6
    with pytest.raises(WarmStartFailed):
        check(old, ["ant", "bee"], [[0.5, 0.5], [0.5, 0.5]])


@pytest.mark.parametrize("labels", [["ant"], ["bat", "cow"], ["bat", "dog"]])
def test_one_shared_class_alone_has_no_ratio(labels):
    assert check(THREE, labels, [[1.0] * len(labels)] * 2) == 0


@pytest.mark.parametrize(
    "labels",
    [
        ["ant", "bee", "cow"],
        ["ant", "bee"],
    ],
)
def test_answers_that_are_no_numbers_fail(labels):
    with pytest.raises(WarmStartFailed):
        check(THREE, labels, [[np.nan] * len(labels)] * 2)


# The proof of a calibrated source


def softmax(logits) -> np.ndarray:
    exponentials = np.exp(logits - np.max(logits, axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def check_logits(source, labels, logits) -> float:
    photos = tf.constant(["photo"] * len(logits))
    return warm_start.check_step_zero(source, labels, photos, np.array(logits, np.float32)).largest


@pytest.fixture
def calibrated_source(exported_model):
    """A function from a temperature to a source that answers with it."""

    def at(temperature):
        source = warm_start.read_source(exported_model)
        source.model.temperature.assign(temperature)
        return replace(source, temperature=temperature)

    return at


@pytest.fixture(scope="module")
def logits(source, photos):
    """Of a model that starts from `source`, float32 [photos, 2]."""
    vectors = source.model.signatures["feature_vector"](image_bytes=photos)["feature_vector"].numpy()
    return vectors @ source.values[KERNEL] + source.values[BIAS]


def test_the_temperature_of_a_source_is_read(source, calibrated_model):
    assert source.temperature == 1
    assert warm_start.read_source(calibrated_model).temperature == np.float32(0.7)


def test_an_export_from_before_there_were_temperatures_can_be_started_from(
    older_model, backbone_variables, transform, photos, logits
):
    older = warm_start.read_source(older_model)
    assert set(older.model.signatures["serving_default"].structured_outputs) == {
        "label",
        "probability",
        "probabilities",
    }
    assert not hasattr(older.model, "temperature")
    assert (older.temperature, older.labels) == (1, LABELS)
    assert warm_start.what_differs(older, backbone_variables, transform, photos) is None
    assert warm_start.check_step_zero(older, LABELS, photos, logits).largest < 1e-6
    with pytest.raises(WarmStartFailed):
        warm_start.check_step_zero(older, LABELS, photos, logits * 1.1)


@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 2.5, 20.0])
def test_a_calibrated_source_is_compared_at_its_temperature(calibrated_source, photos, logits, temperature):
    source = calibrated_source(temperature)
    assert warm_start.check_step_zero(source, LABELS, photos, logits).largest < 1e-5
    for wrong in (logits * 1.02, logits + np.array([0.02, 0.0]), logits[:, ::-1]):
        with pytest.raises(WarmStartFailed):
            warm_start.check_step_zero(source, LABELS, photos, wrong)


@pytest.mark.parametrize("temperature", [0.05, 0.7, 2.5, 20.0])
@pytest.mark.parametrize("believed", ["none", "its inverse", "nearly its own"])
def test_a_source_that_answers_with_another_temperature_fails(calibrated_source, photos, logits, temperature, believed):
    wrong = {"none": 1.0, "its inverse": 1 / temperature, "nearly its own": temperature * 1.03}[believed]
    source = replace(calibrated_source(temperature), temperature=wrong)
    with pytest.raises(WarmStartFailed):
        warm_start.check_step_zero(source, LABELS, photos, logits)


@pytest.mark.parametrize("temperature", [0.05, 1.0, 20.0])
def test_answers_next_to_nothing_are_compared_too(temperature):
    """A softmax of these logits in float32 has zeros, which no temperature brings back."""
    surest = np.array([[0.0, 120.0, 90.0], [300.0, 0.0, 299.0], [3.0, 2.0, 1.0]])
    old = replace(that_answers(["ant", "bee", "cow"], softmax(surest / temperature)), temperature=temperature)
    assert check_logits(old, ["ant", "bee", "cow"], surest) < 1e-6
    assert check_logits(old, ["cow", "ant", "bee"], surest[:, [2, 0, 1]]) < 1e-6
    with pytest.raises(WarmStartFailed):
        check_logits(old, ["ant", "bee", "cow"], surest[:, [2, 0, 1]])


@pytest.mark.parametrize("temperature", [0.3, 4.0])
def test_the_classes_that_both_know_are_compared_at_the_temperature(temperature):
    old_logits = np.array([[0.2, 0.3, 0.5], [2.0, 1.0, 1.5]])
    old = replace(that_answers(["ant", "bee", "cow"], softmax(old_logits / temperature)), temperature=temperature)
    assert check_logits(old, ["bee", "ant"], old_logits[:, [1, 0]]) < 1e-6
    with_another = np.insert(old_logits, 1, 0.7, axis=1)
    assert check_logits(old, ["ant", "bat", "bee", "cow"], with_another) < 1e-6
    for uncalibrated in (replace(old, temperature=1.0), replace(old, temperature=1 / temperature)):
        with pytest.raises(WarmStartFailed):
            check_logits(uncalibrated, ["bee", "ant"], old_logits[:, [1, 0]])


@pytest.mark.parametrize(("temperature", "tolerance"), [(0.05, 2e-3), (0.5, 2e-4), (1.0, 1e-4), (20.0, 1e-4)])
def test_the_tolerance_is_of_logits_where_a_low_temperature_magnifies_them(temperature, tolerance):
    """Of two equal logits, one greater by 4 x temperature x tolerance shifts the probabilities by the tolerance."""
    old = replace(that_answers(["ant", "bee"], [[0.5, 0.5]]), temperature=temperature)
    shift = 4 * temperature * tolerance
    assert check_logits(old, ["ant", "bee"], [[0.8 * shift, 0.0]]) == pytest.approx(0.8 * tolerance, rel=0.01)
    with pytest.raises(WarmStartFailed, match=f"expected at most {tolerance:g};"):
        check_logits(old, ["ant", "bee"], [[1.2 * shift, 0.0]])


@pytest.mark.parametrize("damaged", [np.nan, 0.0, -2.0, 0.03125, 21.0, np.inf, [2.0, 2.0]])
def test_a_source_with_a_damaged_temperature_is_refused(tmp_path, damaged):
    module = TwoVariables()
    module.temperature = tf.Variable(damaged, trainable=False)
    tf.saved_model.save(module, str(tmp_path))
    message = f"the model {tmp_path} has the temperature {np.array(damaged)}; expected a single number from"
    with pytest.raises(BadInput, match=re.escape(message)):
        warm_start.read_source(str(tmp_path))


def test_a_temperature_that_is_no_variable_is_refused(tmp_path):
    module = TwoVariables()
    module.temperature = module.double
    tf.saved_model.save(module, str(tmp_path))
    with pytest.raises(BadInput, match=r"has the temperature nan; expected a single number from 0\.05 to 20"):
        warm_start.read_source(str(tmp_path))
