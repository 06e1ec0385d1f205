"""Heat maps: their formulas by hand, the choice of the method, and what they show where the truth was planted."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf

from components.ensemble.component import export_ensemble
from components.explanation.explained_model import ExplainedModel, load_model
from components.explanation.heat_maps import (
    BASELINES,
    GRAD_CAM,
    INTEGRATED_GRADIENTS,
    OCCLUSION,
    heat_map,
    heat_maps,
    integrated_gradients,
    occlusion,
)
from samples import sample_photos
from schemas.errors import BadInput

pytestmark = [pytest.mark.slow, pytest.mark.release]

SIDE = 20  # of the images of models made here


@pytest.fixture(scope="module")
def model(exported_model) -> ExplainedModel:
    return load_model(exported_model)


@pytest.fixture(scope="module")
def images(model, drawn_photos) -> np.ndarray:
    return model.images([photo.photo_bytes for photo in drawn_photos[:6]])


def log_odds(model: ExplainedModel, images: np.ndarray, class_index: int) -> np.ndarray:
    """Of one of two classes."""
    probabilities = model.probabilities(tf.constant(images)).numpy().astype(np.float64)
    return np.log(probabilities[:, class_index] / probabilities[:, 1 - class_index])


def explained(logit, **keywords) -> ExplainedModel:
    """A model of two classes: `logit` of images is that of the second one."""

    def probabilities(images):
        second = tf.sigmoid(logit(images))
        return tf.stack([1 - second, second], axis=1)

    return ExplainedModel(probabilities, SIDE, ["no", "yes"], **keywords)


def top_left_brightness(images):
    """Of the 5 x 5 pixels in the corner."""
    return tf.reduce_mean(images[:, :5, :5], axis=[1, 2, 3]) - 0.5


# ---- Grad-CAM


def activations_by_hand(folder: str, images: np.ndarray) -> np.ndarray:
    """What the tiny backbone's last activation is, from the stored variables alone: float32 [images, 8, 8, 8]."""
    values = {v.name: v for v in tf.saved_model.load(folder).model_variables}
    maps = tf.constant(images)
    for name, stride in (("stem", 2), ("top", 1)):
        maps = tf.nn.conv2d(maps, values[f"{name}_conv/kernel:0"], stride, "SAME")
        parts = [values[f"{name}_bn/{part}:0"] for part in ("moving_mean", "moving_variance", "beta", "gamma")]
        maps = tf.nn.relu(tf.nn.batch_normalization(maps, *parts, 1e-3))
    return maps.numpy()


def test_grad_cam_is_the_sum_of_the_last_activations_weighted_by_the_head(model, images, exported_model):
    """With mean pooling and a linear head it is the class activation map (Selvaraju et al. 2017, section 3.1)."""
    kernel = next(v.numpy() for v in tf.saved_model.load(exported_model).model_variables if v.name == "head/kernel:0")
    activations = activations_by_hand(exported_model, images)
    classes = [0, 1, 0, 1, 0, 1]
    found = heat_maps(model, images, classes)
    assert (found.method, found.why) == (GRAD_CAM, "")
    for heat, maps, class_index in zip(found.maps, activations, classes, strict=True):
        coarse = np.maximum(maps @ kernel[:, class_index], 0)
        expected = tf.image.resize(coarse[..., np.newaxis], [16, 16]).numpy()[..., 0]
        np.testing.assert_allclose(heat, expected / (expected.max() or 1), atol=1e-4)
    # Its two classes have opposite weights: what speaks for one does not speak for the other, and its bias is large.
    assert [bool(heat.any()) for heat in found.maps] == [False, True] * 3


def test_the_layer_is_the_last_one_before_the_pooling(model):
    layer = model.last_places()
    assert (layer.name, layer.height, layer.width, layer.channels) == ("top_activation", 8, 8, 8)


def test_a_heat_map_of_one_is_that_of_many(model, images):
    many = heat_maps(model, np.repeat(images, 4, axis=0), [1] * 24).maps
    heat, method = heat_map(model, images[2], 1)
    assert method == GRAD_CAM
    assert (heat.dtype, heat.shape, heat.min() >= 0, heat.max()) == (np.float32, (16, 16), True, 1.0)
    np.testing.assert_allclose(many[8:12], np.repeat(heat[np.newaxis], 4, axis=0), atol=1e-5)


def test_a_calibrated_model_looks_where_it_looked_before(model, calibrated_model, images):
    classes = [0, 1] * 3
    np.testing.assert_allclose(
        heat_maps(load_model(calibrated_model), images, classes).maps, heat_maps(model, images, classes).maps, atol=1e-5
    )


def test_where_nothing_speaks_for_a_class_the_map_is_empty():
    kernel = tf.Variable(tf.ones([1, 1, 3, 4]))
    against = explained(lambda images: -tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(images, kernel, 2, "SAME")), [1, 2, 3]))
    grey = np.full([1, SIDE, SIDE, 3], 0.5, np.float32)
    assert heat_maps(against, grey, [1]).method == GRAD_CAM
    assert not heat_maps(against, grey, [1]).maps.any()
    assert heat_maps(against, grey, [0]).maps.all()


# ---- integrated gradients


@pytest.mark.parametrize("class_index", [0, 1])
def test_attributions_sum_up_to_the_difference_from_the_baselines(model, images, class_index):
    baselines = np.stack([np.full_like(images[0], value) for value in BASELINES])
    for image in images:
        expected = log_odds(model, image[np.newaxis], class_index)[0] - log_odds(model, baselines, class_index).mean()
        assert abs(expected) > 0.1
        assert integrated_gradients(model, image, class_index).sum() == pytest.approx(expected, rel=0.05, abs=0.05)


def test_pixels_that_a_model_does_not_read_get_nothing():
    attributions = integrated_gradients(explained(top_left_brightness), np.full([SIDE, SIDE, 3], 0.9, np.float32), 1)
    assert (attributions[:5, :5] > 0).all()
    attributions[:5, :5] = 0
    assert not attributions.any()


def test_a_probability_that_is_one_still_has_a_gradient():
    """A float32 so near to 1 does not change any more, and its logarithm is 0."""
    certain = explained(lambda images: 40 * top_left_brightness(images) + 30)
    white = np.ones([SIDE, SIDE, 3], np.float32)
    assert float(certain.probabilities(white[np.newaxis])[0, 0]) < 1e-6
    # The complement is what the model gives, so the class 0 is the one whose own digits are all there.
    attributions = integrated_gradients(certain, white, 0)
    assert np.isfinite(attributions).all()


# ---- occlusion


def test_occlusion_finds_the_corner_that_is_read():
    image = np.full([SIDE, SIDE, 3], 0.2, np.float32)
    image[:5, :5] = 1.0
    fall = occlusion(explained(top_left_brightness), image, 1)
    assert fall.shape == (SIDE, SIDE)
    assert np.unravel_index(fall.argmax(), fall.shape) < (5, 5)
    assert fall[:5, :5].min() > 0
    # A square of 4 pixels that covers the pixel at 8 does not reach the corner.
    assert max(np.abs(fall[9:]).max(), np.abs(fall[:, 9:]).max()) < 1e-6
    np.testing.assert_allclose(occlusion(explained(top_left_brightness), image, 0), -fall, atol=1e-5)


# ---- which method


def test_a_model_with_control_flow_gets_integrated_gradients_and_the_page_can_say_why():
    def looped(images):
        return tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * 1.1), [0, top_left_brightness(images)])[1]

    opaque = explained(looped)
    found = heat_maps(opaque, np.full([1, SIDE, SIDE, 3], 0.9, np.float32), [1])
    assert found.method == INTEGRATED_GRADIENTS
    assert "layers, which cannot be reached: operation" in found.why
    assert "control flow" in found.why
    assert found.maps[0, :5, :5].mean() > 10 * found.maps[0, 10:, 10:].mean()
    with pytest.raises(BadInput, match="Grad-CAM needs the model's layers, which cannot be reached: operation"):
        heat_maps(opaque, np.zeros([1, SIDE, SIDE, 3], np.float32), [1], GRAD_CAM)


def test_a_model_without_a_gradient_gets_occlusion():
    steps = explained(lambda images: tf.round(20 * top_left_brightness(images)) / 5)
    image = np.full([1, SIDE, SIDE, 3], 0.2, np.float32)
    image[:, :5, :5] = 1.0
    found = heat_maps(steps, image, [1])
    assert found.method == OCCLUSION
    assert "Grad-CAM needs its layers" in found.why
    assert "no gradient reaches the photo" in found.why
    assert found.maps[0, :5, :5].min() > 0
    assert found.maps[0].max() == 1
    assert not found.maps[0, 9:].any()
    with pytest.raises(BadInput, match="integrated gradients cannot be computed for this model: no gradient"):
        heat_maps(steps, image, [1], INTEGRATED_GRADIENTS)


def test_a_layer_near_the_photo_is_no_layer_for_grad_cam():
    """As in a vision transformer: the only layer with places in it is the one that cuts the photo into patches."""
    patches, *above = (tf.Variable(tf.random.stateless_normal(shape, [1, i])) for i, shape in
                       enumerate([[5, 5, 3, 4], [64, 64], [64, 64], [64, 1]]))  # fmt: skip

    def logit(images):
        tokens = tf.reshape(tf.nn.conv2d(images, patches, 5, "VALID"), [-1, 64])
        for weights in above:
            tokens = tf.tanh(tokens @ weights)
        return tokens[:, 0]

    transformer = explained(logit)
    assert [layer.height for layer in transformer.layers] == [4]
    assert transformer.last_places() is None
    assert heat_maps(transformer, np.full([1, SIDE, SIDE, 3], 0.4, np.float32), [1]).method == INTEGRATED_GRADIENTS


def test_a_model_that_takes_files_alone_is_explained_through_files(older_model, exported_model, drawn_photos):
    older = load_model(older_model)
    images = older.images([photo.photo_bytes for photo in drawn_photos[:3]])
    np.testing.assert_allclose(
        older.probabilities(tf.constant(images)), load_model(exported_model).probabilities(images), atol=0.02
    )
    found = heat_maps(older, images[:1], [0])
    assert found.method == OCCLUSION
    assert "it accepts only encoded photos" in found.why


def test_an_ensemble_has_no_layer_that_all_paths_pass_through(tmp_path, exported_model, calibrated_model, images):
    export_ensemble(exported_model, calibrated_model, str(tmp_path / "both"))
    both = load_model(str(tmp_path / "both"))
    assert both.layers
    assert both.last_places() is None
    found = heat_maps(both, images[:1], [1])
    assert found.method == INTEGRATED_GRADIENTS
    assert "no spatial layer" in found.why


# ---- the planted case

PLANTED_SIDE = 224  # pixels; what the backbone was made for
SPECIES = (sample_photos.CAT, sample_photos.DOG)
CORNERS = ("top left", "top right", "bottom left", "bottom right")
LEARNT_FROM, HELD_OUT, EMPTY = 144, 16, 24


def planted(rng: np.random.Generator, animals: dict[int, int]) -> np.ndarray:
    """Drawn animals (corner -> species), cut out, each laid into its quarter of a plain picture."""
    half = PLANTED_SIDE // 2
    picture = Image.new("RGB", (PLANTED_SIDE, PLANTED_SIDE), tuple(int(value) for value in rng.integers(90, 200, 3)))
    for corner, species in animals.items():
        photo, animal = sample_photos.draw_mongrel(rng, species)
        box = animal.getbbox()
        share = (half - 8) / max(box[2] - box[0], box[3] - box[1])
        size = [max(1, round((end - start) * share)) for start, end in zip(box[:2], box[2:], strict=True)]
        photo, animal = (part.crop(box).resize(size) for part in (photo, animal))
        top, left = divmod(corner, 2)
        picture.paste(photo, (left * half + (half - size[0]) // 2, top * half + (half - size[1]) // 2), animal)
    return np.asarray(picture, np.float32) / 255


def share_in_corner(heat: np.ndarray, corner: int) -> float:
    """Of the map's mass; a quarter of it, if it is everywhere the same."""
    half = PLANTED_SIDE // 2
    top, left = divmod(corner, 2)
    quarter = heat[top * half : (top + 1) * half, left * half : (left + 1) * half]
    return float(quarter.sum() / heat.sum()) if heat.any() else 0.0


def likeness(maps: np.ndarray, others: np.ndarray) -> float:
    """The mean correlation of maps of the same photos; that of an empty map with any is 0."""
    pairs = [
        np.corrcoef(one.ravel(), other.ravel())[0, 1] if one.any() and other.any() else 0.0
        for one, other in zip(maps, others, strict=True)
    ]
    return float(np.mean(pairs))


class Planted:
    """The real backbone with heads that learnt cat, dog and nothing from planted pictures, and pictures held out.

    The class of the empty pictures makes sure that the other two are read from the animal.
    """

    def __init__(self):
        from components.backbone.feature_vector import load

        rng = np.random.default_rng(5)
        count = LEARNT_FROM + HELD_OUT
        self.corners = np.arange(count) // 2 % 4
        self.classes = np.arange(count) % 2
        pictures = np.stack([planted(rng, {self.corners[i]: SPECIES[i % 2]}) for i in range(count)])
        colours = rng.uniform(0.35, 0.8, [EMPTY, 1, 1, 3])
        empty = np.broadcast_to(colours, [EMPTY, PLANTED_SIDE, PLANTED_SIDE, 3]).astype(np.float32)

        self.backbone = load("efficientnet_lite0", PLANTED_SIDE)
        vectors_of = tf.function(lambda images: self.backbone(images, training=False))
        everything = np.concatenate([pictures, empty])
        self.vectors = np.concatenate(
            [vectors_of(tf.constant(everything[i : i + 16])).numpy() for i in range(0, len(everything), 16)]
        )
        self.targets = np.concatenate([self.classes, np.full(EMPTY, 2)])
        self.pictures, self.corners, self.classes = (
            part[LEARNT_FROM:count] for part in (pictures, self.corners, self.classes)
        )
        learnt_from = [*range(LEARNT_FROM), *range(count, count + EMPTY)]
        self.weights = self.learn(learnt_from)
        self.model = self.with_head(*self.weights)

    def learn(self, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.linear_model import LogisticRegression

        head = LogisticRegression(C=0.1, max_iter=500).fit(self.vectors[rows], self.targets[rows])
        return head.coef_.T.astype(np.float32), head.intercept_.astype(np.float32)

    def with_head(self, kernel: np.ndarray, bias: np.ndarray) -> ExplainedModel:
        kernel, bias = tf.Variable(kernel), tf.Variable(bias)
        return ExplainedModel(
            lambda images: tf.nn.softmax(self.backbone(images, training=False) @ kernel + bias),
            PLANTED_SIDE,
            ["cat", "dog", "nothing"],
        )

    def maps(self, model: ExplainedModel) -> np.ndarray:
        return heat_maps(model, self.pictures, list(self.classes), GRAD_CAM).maps


@pytest.fixture(scope="module")
def case() -> Planted:
    return Planted()


@pytest.fixture(scope="module")
def grad_cams(case) -> np.ndarray:
    return case.maps(case.model)


def test_the_planted_animals_are_told_apart(case):
    answers = case.model.probabilities(tf.constant(case.pictures)).numpy().argmax(axis=1)
    assert (answers == case.classes).mean() > 0.7


@pytest.mark.parametrize("corner", range(4), ids=CORNERS)
def test_grad_cam_lies_in_the_corner_where_the_animal_is(case, grad_cams, corner):
    shares = [share_in_corner(heat, corner) for heat in grad_cams[case.corners == corner]]
    assert len(shares) == HELD_OUT / 4
    assert min(shares) > 0.5, shares


@pytest.mark.parametrize("corner", range(4), ids=CORNERS)
def test_integrated_gradients_lie_in_the_corner_where_the_animal_is(case, corner):
    row = int(np.flatnonzero(case.corners == corner)[0])
    found = heat_maps(case.model, case.pictures[[row]], [case.classes[row]], INTEGRATED_GRADIENTS)
    assert share_in_corner(found.maps[0], corner) > 0.5


@pytest.mark.parametrize("corner", range(4), ids=CORNERS)
def test_occlusion_lies_in_the_corner_where_the_animal_is(case, corner):
    row = int(np.flatnonzero(case.corners == corner)[0])
    heat = heat_maps(case.model, case.pictures[[row]], [case.classes[row]], OCCLUSION).maps[0]
    assert share_in_corner(heat, corner) > 0.5


def test_of_a_cat_and_a_dog_in_one_picture_each_is_what_speaks_for_its_own_class(case):
    """Where the heat lies depends on the class that is asked for, not only on where something is."""
    rng = np.random.default_rng(9)
    of_cat = [i % 4 for i in range(8)]
    pictures = np.stack([planted(rng, {corner: SPECIES[0], 3 - corner: SPECIES[1]}) for corner in of_cat])
    cat, dog = (heat_maps(case.model, pictures, [i] * 8, GRAD_CAM).maps for i in (0, 1))
    more = [
        share_in_corner(cat[i], corner)
        - share_in_corner(dog[i], corner)
        + share_in_corner(dog[i], 3 - corner)
        - share_in_corner(cat[i], 3 - corner)
        for i, corner in enumerate(of_cat)
    ]
    assert np.mean(more) > 0.3, more
    assert np.mean(np.array(more) > 0) > 0.6, more


def test_a_random_head_looks_elsewhere_and_a_head_that_learnt_the_same_does_not(case, grad_cams):
    """Sanity checks for saliency maps (Adebayo et al. 2018, arXiv:1810.03292)."""
    rng = np.random.default_rng(1)
    kernel, bias = case.weights
    shuffled = [rng.permutation(kernel.ravel()).reshape(kernel.shape) for _ in range(3)]
    random_maps = [case.maps(case.with_head(one, bias)) for one in shuffled]
    assert np.mean([likeness(grad_cams, maps) for maps in random_maps]) < 0.6
    shares = [
        share_in_corner(heat, corner) for maps in random_maps for heat, corner in zip(maps, case.corners, strict=True)
    ]
    assert np.mean(np.array(shares) > 0.5) < 0.75
    # The measure can say the opposite: of a head that saw every other pair of the pictures.
    rows = [i for i in range(LEARNT_FROM) if i // 8 % 2] + [*range(LEARNT_FROM + HELD_OUT, len(case.targets))]
    assert likeness(grad_cams, case.maps(case.with_head(*case.learn(rows)))) > 0.9


def test_a_backbone_whose_upper_weights_are_shuffled_looks_elsewhere(case, grad_cams):
    rng = np.random.default_rng(2)
    shuffled = [v for v in case.backbone.variables if v.name.startswith(("block6", "block7", "top_conv"))]
    kernels = {v.name: v.numpy() for v in shuffled if "kernel" in v.name}
    assert len(kernels) > 10
    try:
        for variable in shuffled:
            if variable.name in kernels:
                values = kernels[variable.name]
                variable.assign(rng.permutation(values.ravel()).reshape(values.shape))
        assert likeness(grad_cams, case.maps(case.model)) < 0.4
    finally:
        for variable in shuffled:
            if variable.name in kernels:
                variable.assign(kernels[variable.name])
    np.testing.assert_allclose(case.maps(case.model), grad_cams, atol=1e-5)


# ---- photographs


def test_on_photographs_more_of_the_heat_lies_on_the_pet_than_chance_would_put_there(shared_data):
    """Of Oxford-IIIT Pets, whose trimaps say where the pet is; the head learnt from other photos."""
    from sklearn.linear_model import LogisticRegression

    from components.backbone.feature_vector import load
    from components.transform.image_ops import photos_to_unit_range

    side, count = 160, 12
    trimaps = [
        (trimap, shared_data / "oxford_iiit_pet" / "images" / f"{trimap.stem}.jpg")
        for trimap in sorted((shared_data / "oxford_iiit_pet" / "annotations" / "trimaps").glob("[!.]*.png"))
    ]
    trimaps = [(trimap, photo) for trimap, photo in trimaps if photo.is_file()]
    learnt = {kind: sorted((shared_data / "cats_vs_dogs" / kind).glob("*.jpg"))[:30] for kind in ("cat", "dog")}
    if len(trimaps) < count or min(map(len, learnt.values())) < 30:
        pytest.skip(f"too few real photos in {shared_data}")
    trimaps = trimaps[:: len(trimaps) // count][:count]

    def images_of(files) -> np.ndarray:
        photos = tf.constant([file.read_bytes() for file in files])
        return photos_to_unit_range(photos, side, "bilinear", antialias=False).numpy()

    backbone = load("efficientnet_lite0", side)
    vectors_of = tf.function(lambda images: backbone(images, training=False))
    vectors = np.concatenate([vectors_of(tf.constant(images_of(files))).numpy() for files in learnt.values()])
    head = LogisticRegression(C=0.1, max_iter=500).fit(vectors, np.repeat([0, 1], 30))
    kernel = tf.Variable(np.concatenate([-head.coef_, head.coef_]).T.astype(np.float32))
    model = ExplainedModel(lambda images: tf.nn.softmax(backbone(images, training=False) @ kernel), side, list(learnt))
    # Breeds of dogs are written small.
    classes = [int(trimap.stem[0].islower()) for trimap, _ in trimaps]
    assert set(classes) == {0, 1}
    maps = heat_maps(model, images_of([photo for _, photo in trimaps]), classes).maps
    gains = []
    for heat, (trimap, _) in zip(maps, trimaps, strict=True):
        with Image.open(trimap) as picture:
            pet = np.asarray(picture.resize((side, side), Image.Resampling.NEAREST)) != 2
        gains.append((heat * pet).sum() / max(heat.sum(), 1e-9) - pet.mean())
    assert np.mean(gains) > 0.08, gains
    assert np.mean(np.array(gains) > 0) > 0.8, gains
