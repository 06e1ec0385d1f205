"""Which variables learn: chosen from names as real backbones have them."""

import subprocess
import sys

import pytest

from components.backbone import freezing
from components.backbone.freezing import block_of, choose_strategy, learning_variables
from components.backbone.registry import BACKBONES
from schemas.errors import BadInput


def layer(name, *leaves):
    return [f"{name}/{leaf}:0" for leaf in leaves]


def batch_norm(name):
    return layer(name, "gamma", "beta", "moving_mean", "moving_variance")


def trainable(every):
    return [name for name in every if "/moving_" not in name]


# The top of our EfficientNet-Lite0, from block6d_add downwards a part of it.
LITE0 = [
    *layer("stem_conv", "kernel"), *batch_norm("stem_bn"),
    *layer("block6d_expand_conv", "kernel"), *batch_norm("block6d_expand_bn"),
    *layer("block6d_dwconv", "depthwise_kernel"), *batch_norm("block6d_bn"),
    *layer("block6d_project_conv", "kernel"), *batch_norm("block6d_project_bn"),
    *layer("block7a_expand_conv", "kernel"), *batch_norm("block7a_expand_bn"),
    *layer("block7a_dwconv", "depthwise_kernel"), *batch_norm("block7a_bn"),
    *layer("block7a_project_conv", "kernel"), *batch_norm("block7a_project_bn"),
    *layer("top_conv", "kernel"), *batch_norm("top_bn"),
]  # fmt: skip
# Of tf_keras.applications.ResNet50, whose convolutions have biases.
RESNET50 = [
    *layer("conv1_conv", "kernel", "bias"), *batch_norm("conv1_bn"),
    *layer("conv5_block2_3_conv", "kernel", "bias"), *batch_norm("conv5_block2_3_bn"),
    *layer("conv5_block3_1_conv", "kernel", "bias"), *batch_norm("conv5_block3_1_bn"),
    *layer("conv5_block3_2_conv", "kernel", "bias"), *batch_norm("conv5_block3_2_bn"),
]  # fmt: skip
# Of InceptionV3, in whose order convolutions and their batch norms lie apart; batch norm has no gamma.
INCEPTION = [
    *layer("conv2d_92", "kernel"), *layer("conv2d_85", "kernel"),
    *layer("batch_normalization_92", "beta", "moving_mean", "moving_variance"),
    *layer("conv2d_93", "kernel"),
    *layer("batch_normalization_85", "beta", "moving_mean", "moving_variance"),
    *layer("batch_normalization_93", "beta", "moving_mean", "moving_variance"),
]  # fmt: skip
# Of TF-Hub's mobilenet_v2 feature vector.
SLIM_MOBILENET = [
    *layer("MobilenetV2/expanded_conv_15/project", "weights"),
    *batch_norm("MobilenetV2/expanded_conv_15/project/BatchNorm"),
    *layer("MobilenetV2/expanded_conv_16/depthwise", "depthwise_weights"),
    *batch_norm("MobilenetV2/expanded_conv_16/depthwise/BatchNorm"),
    *layer("MobilenetV2/expanded_conv_16/project", "weights"),
    *batch_norm("MobilenetV2/expanded_conv_16/project/BatchNorm"),
    *layer("MobilenetV2/Conv_1", "weights"), *batch_norm("MobilenetV2/Conv_1/BatchNorm"),
]  # fmt: skip
# Of ConvNeXtTiny, whose layer norm and layer scale have no moving averages.
CONVNEXT = [
    *layer("convnext_tiny_stage_3_block_1_pointwise_conv_2", "kernel", "bias"),
    *layer("convnext_tiny_stage_3_block_2_depthwise_conv", "kernel", "bias"),
    *layer("convnext_tiny_stage_3_block_2_layernorm", "gamma", "beta"),
    *layer("convnext_tiny_stage_3_block_2_pointwise_conv_2", "kernel", "bias"),
    *layer("convnext_tiny_stage_3_block_2_layer_scale", "gamma"),
]


def learning(every, strategy="top", **choice):
    return learning_variables(trainable(every), every, strategy, **choice)


def refused(every, strategy="top", **choice):
    with pytest.raises(BadInput) as error:
        learning(every, strategy, **choice)
    return str(error.value)


def test_import_needs_no_tensorflow():
    code = "import sys, components.backbone.freezing; print('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# Blocks


@pytest.mark.parametrize(
    ("variable_name", "block"),
    [
        ("block6d_expand_conv/kernel:0", "block6d"),
        ("block6d_bn/moving_mean:0", "block6d"),
        ("top_conv/kernel:0", "top_conv"),
        ("conv5_block3_2_conv/bias:0", "conv5_block3"),
        ("conv4_block10_0_bn/gamma:0", "conv4_block10"),
        ("conv1_conv/kernel:0", "conv1_conv"),
        ("block_16_project/kernel:0", "block_16"),
        ("block_1_project_BN/gamma:0", "block_1"),
        ("expanded_conv_project_BN/gamma:0", "expanded_conv"),
        ("Conv_1/kernel:0", "Conv_1"),
        ("block5_conv3/kernel:0", "block5"),
        ("block14_sepconv2/pointwise_kernel:0", "block14"),
        ("conv2d_93/kernel:0", "conv2d_93"),
        ("MobilenetV2/expanded_conv_16/project/weights:0", "MobilenetV2/expanded_conv_16"),
        ("MobilenetV2/expanded_conv/depthwise/BatchNorm/gamma:0", "MobilenetV2/expanded_conv"),
        ("MobilenetV2/Conv_1/weights:0", "MobilenetV2/Conv_1"),
        ("resnet_v2_50/block4/unit_3/bottleneck_v2/conv1/weights:0", "resnet_v2_50/block4"),
        ("InceptionV3/InceptionV3/Mixed_7c/Branch_0/Conv2d_0a_1x1/weights:0", "InceptionV3/InceptionV3/Mixed_7c"),
        ("expanded_conv_10/squeeze_excite/Conv/bias:0", "expanded_conv_10"),
        ("efficientnetv2-s/blocks_12/conv2d/kernel:0", "efficientnetv2-s/blocks_12"),
        ("convnext_tiny_stage_3_block_2_layer_scale/gamma:0", "convnext_tiny_stage_3_block_2"),
        ("a/dense/kernel:0", "a/dense"),
        ("blocking/kernel:0", "blocking"),
        ("block12mixed_conv/kernel:0", "block12mixed_conv"),
        ("kernel:0", "kernel"),
    ],
)
def test_the_block_of_a_variable(variable_name, block):
    assert block_of(variable_name) == block


def test_blocks_come_once_in_order_of_first_appearance():
    kernels = ["stem_conv", "block6d_expand_conv", "block10a_conv", "block6d_dwconv", "top_conv"]
    names = [f"{name}/kernel:0" for name in kernels]
    assert freezing.blocks(names) == ["stem_conv", "block6d", "block10a", "top_conv"]


# Strategies


def test_nothing_and_everything():
    for every in (LITE0, INCEPTION):
        assert learning(every, "feature_extraction") == []
        assert learning(every, "all") == trainable(every)
    assert "top_bn/gamma:0" in learning(LITE0, "all")
    # What `top` would be told has no say.
    assert learning(LITE0, "all", last=1) == trainable(LITE0)
    assert learning(LITE0, "feature_extraction", last=1) == []


def test_a_module_without_trainable_variables():
    assert learning_variables([], ["a/kernel:0"], "feature_extraction") == []
    for strategy in ("top", "all"):
        with pytest.raises(BadInput) as error:
            learning_variables([], ["a/kernel:0"], strategy)
        assert str(error.value) == (
            f"The backbone has no trainable variables, but training.fine_tuning.strategy (='{strategy}') trains some "
            "of them: choose feature_extraction or another backbone."
        )


@pytest.mark.parametrize("strategy", ["auto", "bottom"])
def test_auto_is_resolved_before(strategy):
    with pytest.raises(ValueError, match=rf"strategy \(='{strategy}'\) must be feature_extraction, top or all"):
        learning(LITE0, strategy)


# The top, by a pattern


def test_a_pattern_is_matched_from_the_start_and_may_name_batch_norm():
    assert learning(LITE0, pattern="top_") == ["top_conv/kernel:0", "top_bn/gamma:0", "top_bn/beta:0"]
    assert learning(LITE0, pattern=".*project_conv") == [
        "block6d_project_conv/kernel:0",
        "block7a_project_conv/kernel:0",
    ]


def test_a_pattern_that_matches_nothing():
    assert refused(LITE0, pattern="conv") == (
        "training.fine_tuning.unfreeze (='conv') matches none of the backbone's 24 trainable variables; the last ones "
        "are block7a_project_conv/kernel:0, block7a_project_bn/gamma:0, block7a_project_bn/beta:0, "
        "top_conv/kernel:0, top_bn/gamma:0, top_bn/beta:0; it must match from a name's start."
    )
    assert "matches none" in refused(LITE0, pattern=".*moving_mean")


def test_a_pattern_that_is_no_regular_expression():
    assert refused(LITE0, pattern="top_(") == (
        "training.fine_tuning.unfreeze (='top_(') is not a valid regular expression (missing ), unterminated "
        "subpattern at position 4): correct it."
    )


# The top, by blocks


def test_blocks_learn_without_their_batch_norm_in_the_modules_order():
    expected = [
        "block7a_expand_conv/kernel:0", "block7a_dwconv/depthwise_kernel:0", "block7a_project_conv/kernel:0",
        "top_conv/kernel:0",
    ]  # fmt: skip
    assert learning(LITE0, blocks=["top_conv", "block7a"]) == expected
    assert learning(RESNET50, blocks=["conv5_block2"]) == ["conv5_block2_3_conv/kernel:0", "conv5_block2_3_conv/bias:0"]
    assert learning(SLIM_MOBILENET, blocks=["MobilenetV2/expanded_conv_16"]) == [
        "MobilenetV2/expanded_conv_16/depthwise/depthwise_weights:0",
        "MobilenetV2/expanded_conv_16/project/weights:0",
    ]


def test_layer_norm_learns_with_its_block():
    assert learning(CONVNEXT, blocks=["convnext_tiny_stage_3_block_2"]) == CONVNEXT[2:]


def test_an_unknown_block_is_answered_with_the_nearest_and_all():
    assert refused(LITE0, blocks=["top_conv", "block7b"]) == (
        "training.fine_tuning.unfreeze_blocks names 'block7b', which the backbone does not have: did you mean block7a "
        "or block6d? Its 4 blocks are stem_conv, block6d, block7a, top_conv."
    )
    assert refused(LITE0, blocks=["xyz"]) == (
        "training.fine_tuning.unfreeze_blocks names 'xyz', which the backbone does not have: "
        "Its 4 blocks are stem_conv, block6d, block7a, top_conv."
    )
    # A batch norm layer alone is no block that could learn.
    assert "names 'top_bn'" in refused(LITE0, blocks=["top_bn"])


def test_no_blocks():
    assert refused(LITE0, blocks=[]) == (
        "training.fine_tuning.unfreeze_blocks is empty: name some of stem_conv, block6d, block7a, top_conv."
    )


# The top, by number


def test_the_last_kernels_with_their_biases():
    assert learning(LITE0, last=2) == ["block7a_project_conv/kernel:0", "top_conv/kernel:0"]
    expected = [f"conv5_block3_{i}_conv/{leaf}:0" for i in (1, 2) for leaf in ("kernel", "bias")]
    assert learning(RESNET50, last=2) == expected
    assert learning(INCEPTION, last=2) == ["conv2d_85/kernel:0", "conv2d_93/kernel:0"]
    assert learning(SLIM_MOBILENET, last=1) == ["MobilenetV2/Conv_1/weights:0"]
    assert learning(CONVNEXT, last=1) == layer("convnext_tiny_stage_3_block_2_pointwise_conv_2", "kernel", "bias")
    assert len(learning(LITE0, last=8)) == 8


@pytest.mark.parametrize("last", [9, 0, -1])
def test_more_kernels_than_there_are(last):
    assert refused(LITE0, last=last) == (
        f"training.fine_tuning.unfreeze_last (={last}) must be from 1 to 8, the number of the backbone's kernels "
        "without batch norm."
    )


@pytest.mark.parametrize(("fraction", "count"), [(0.01, 1), (0.125, 1), (0.2, 1), (0.25, 2), (0.49, 3), (1, 8)])
def test_a_fraction_is_rounded_down_but_at_least_one(fraction, count):
    assert learning(LITE0, fraction=fraction) == learning(LITE0, last=count)


def test_a_fraction_is_not_rounded_down_twice():
    """0.29 * 100 is 28.999999999999996."""
    assert len(learning([f"conv{i}/kernel:0" for i in range(100)], fraction=0.29)) == 29


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1])
def test_a_fraction_out_of_range(fraction):
    assert refused(LITE0, fraction=fraction) == (
        f"training.fine_tuning.unfreeze_fraction (={fraction}) must be above 0 and at most 1."
    )


def test_a_module_of_batch_norm_alone():
    every = batch_norm("bn")
    for choice in ({}, {"last": 1}, {"fraction": 0.5}):
        assert refused(every, **choice).startswith("The backbone has no trainable kernels, only batch norm")
    assert learning(every, pattern="bn/gamma") == ["bn/gamma:0"]


# The top, by default, and in two ways


def test_the_backbones_own_pattern_is_the_default_and_a_fifth_without_it():
    own = BACKBONES["efficientnet_lite0"].unfreeze
    assert learning(LITE0, default_pattern=own) == learning(LITE0, blocks=["block7a", "top_conv"])
    assert learning(LITE0, default_pattern=own, last=1) == ["top_conv/kernel:0"]
    assert learning(LITE0, default_pattern=own, fraction=1) == learning(LITE0, last=8)
    twelve = [f"conv{i}/kernel:0" for i in range(12)]
    assert learning(twelve) == twelve[-2:]


def test_two_ways_at_once():
    assert refused(LITE0, pattern="top_", fraction=0.5) == (
        "training.fine_tuning selects what learns in 2 ways (unfreeze, unfreeze_fraction): give at most one of "
        "unfreeze, unfreeze_blocks, unfreeze_last or unfreeze_fraction."
    )
    assert "in 2 ways (unfreeze_blocks, unfreeze_last)" in refused(LITE0, blocks=["top_conv"], last=1)


# auto


@pytest.mark.parametrize(
    ("photos", "classes", "accuracy", "strategy"),
    [
        (1999, 2, 0.98, "feature_extraction"),
        (2000, 2, 0.98, "top"),
        (1999, 2, 0.89, "top"),
        (2000, 2, 0.89, "top"),
        (2000, 2, 0.9, "top"),  # exactly 80 % of a guess's error
        (36_999, 37, 0.81, "feature_extraction"),
        (37_000, 37, 0.8, "top"),  # 79.4 % of a guess's error: a guess is right in one of 37
        (37_000, 37, 0.81, "top"),
        (100, 2, 0.3, "top"),  # worse than a guess
    ],
)
def test_auto_follows_the_size_similarity_matrix(photos, classes, accuracy, strategy):
    choice = choose_strategy(photos, classes, accuracy)
    assert choice.strategy == strategy
    assert choice.why.startswith(f"{strategy}: ")


def test_auto_gives_its_numbers():
    assert choose_strategy(18_000, 2, 0.976).why == (
        "top: 9,000 training photos per class are much data (much: at least 1,000). Frozen features remove 95.2% "
        "of the error of guessing (accuracy 97.6% over 2 classes), so the task is similar to ImageNet (similar: at "
        "least 80%)"
    )
    assert choose_strategy(707, 37, 0.5).why == (
        "top: 19 training photos per class are little data (much: at least 1,000). Frozen features remove 48.6% "
        "of the error of guessing (accuracy 50.0% over 37 classes), so the task is different from ImageNet (similar: "
        "at least 80%)"
    )


def test_one_class_is_no_choice():
    with pytest.raises(ValueError, match=r"classes \(=1\) must be at least 2"):
        choose_strategy(100, 1, 1.0)
