"""The oracle itself against examples worked out by hand."""

import math

import numpy as np
import pytest

from .attribution import CAUSES, REASONS, attribute
from .layers import BiasProblem, EinsumProblem, LookupProblem, ScaleProblem
from .linear import (
    ConvProblem,
    ConvTransposeProblem,
    DenseProblem,
    DepthwiseConvProblem,
    forward,
    weight_sums,
)
from .pseudo_inverse import designs, estimate, projector

DENSE = DenseProblem()


def one_weight(a, s, g, **changes):
    """attribute() of a dense kernel with one weight of 1: a, s, g per position, d = s * g, g* = 1."""
    a, s, g = (np.array(values, float)[:, None] for values in (a, s, g))
    arguments = dict(input=a, kernel=[[1.0]], bias_offset=[0.0], preactivation=a, slope=s, output_gradient=g)
    arguments |= dict(preactivation_gradient=s * g, g_star=1.0, piecewise_linear=True)
    arguments |= dict(rectifies=True, saturation_point=math.inf)
    return attribute(DENSE, **arguments | changes)


def causes(found):
    """The causes of the only weight with their parts."""
    return {name: part.item() for name, part in found["parts"].items() if part.any()}


def reason(a, w, bias, **changes):
    """Why the only position of a dense unit, which is off, is off."""
    a, w = np.array([a], float), np.array(w, float)[:, None]
    arguments = dict(input=a, kernel=w, bias_offset=[bias], preactivation=a @ w + bias, slope=[[0.0]])
    arguments |= dict(output_gradient=[[1.0]], preactivation_gradient=[[0.0]], g_star=1.0)
    arguments |= dict(piecewise_linear=False, rectifies=True, saturation_point=math.inf)
    found = attribute(DENSE, **arguments | changes)
    (name,) = [name for name in REASONS if found[f"off_by_{name}"].any()]
    return name


# How kernel meets input


def test_dense_by_hand():
    a = [[1, 2], [0, 4]]
    assert forward(DENSE, a, [[1, -1], [2, 0.5]]).tolist() == [[5, 0], [8, 2]]
    assert weight_sums(DENSE, a, [[1, 0], [2, -1]], (2, 2)).tolist() == [[1, 0], [10, -4]]
    assert len(list(DENSE.terms((5, 3, 2), (2, 4)))) == 5 * 3 * 2 * 4


def test_causal_conv_by_hand():
    op, a = ConvProblem(padding="causal"), np.reshape([1, 2, 3, 4], (1, 4, 1))
    kernel = np.reshape([10, 1], (2, 1, 1))
    assert list(op.terms((1, 2, 1), (2, 1, 1))) == [
        ((1, 0, 0), (0, 0, 0), (0, 0, 0)),
        ((0, 0, 0), (0, 0, 0), (0, 1, 0)),
        ((1, 0, 0), (0, 1, 0), (0, 1, 0)),
    ]
    assert forward(op, a, kernel).ravel().tolist() == [1, 12, 23, 34]
    assert weight_sums(op, a, np.ones((1, 4, 1)), (2, 1, 1)).ravel().tolist() == [6, 10]
    dilated = ConvProblem(padding="causal", dilation=2)
    assert forward(dilated, a, kernel).ravel().tolist() == [1, 2, 13, 24]
    strided = ConvProblem(padding="causal", strides=2)
    assert forward(strided, a, kernel).ravel().tolist() == [1, 23]


def test_same_and_valid_padding_by_hand():
    kernel = np.reshape([100, 10, 1], (3, 1, 1))
    odd, even = np.reshape([1, 2, 3, 4, 5], (1, 5, 1)), np.reshape([1, 2, 3, 4], (1, 4, 1))
    same = ConvProblem(padding="same", strides=2)
    assert forward(same, odd, kernel).ravel().tolist() == [12, 234, 450]
    assert forward(same, even, kernel).ravel().tolist() == [123, 340]  # one pad, and it comes after
    assert forward(ConvProblem(strides=2), odd, kernel).ravel().tolist() == [123, 345]
    assert forward(ConvProblem(dilation=2), odd, kernel).ravel().tolist() == [135]
    assert forward(ConvProblem(), odd[:, :2], kernel).shape == (1, 0, 1)


def test_axes_have_their_own_stride_and_padding():
    op = ConvProblem(padding="same", strides=(1, 2))
    image = np.reshape([1, 2, 3, 4, 5, 6], (1, 2, 3, 1))
    kernel = np.reshape([1000, 100, 10, 1], (2, 2, 1, 1))  # columns are padded before by 0, rows too
    assert op.output_shape(image.shape, kernel.shape) == (1, 2, 2, 1)
    assert forward(op, image, kernel)[0, :, :, 0].tolist() == [[1245, 3060], [4500, 6000]]


def test_groups_keep_to_their_channels():
    op, a = ConvProblem(groups=2), np.reshape([1, 2, 3, 4], (1, 1, 4))
    kernel = np.ones((1, 2, 4)) * [1, 10, 100, 1000]
    assert forward(op, a, kernel).ravel().tolist() == [3, 30, 700, 7000]
    sums = weight_sums(op, a, np.ones((1, 1, 4)), kernel.shape)
    assert sums[0].tolist() == [[1, 1, 3, 3], [2, 2, 4, 4]]


def test_depthwise_by_hand():
    """Output channel i * m + m_index reads channel i only."""
    op, a = DepthwiseConvProblem(), np.reshape([1, 2, 3, 4], (1, 2, 2))
    kernel = np.reshape([1, 10, 100, 1000, 5, 50, 500, 5000], (2, 2, 2))
    assert forward(op, a, kernel).tolist() == [[[1 + 15, 10 + 150, 200 + 2000, 2000 + 20000]]]
    assert weight_sums(op, a, np.reshape([1, 0, 2, 0], (1, 1, 4)), kernel.shape).tolist() == [
        [[1, 0], [4, 0]],
        [[3, 0], [8, 0]],
    ]


def test_transposed_by_hand():
    """Each input element adds its multiple of the window; "same" crops, a stride leaves gaps."""
    a, kernel = np.reshape([1, 2, 3], (1, 3, 1)), np.reshape([100, 10, 1], (3, 1, 1))
    expected = {
        ConvTransposeProblem(): [100, 210, 321, 32, 3],
        ConvTransposeProblem(padding="same"): [210, 321, 32],
        ConvTransposeProblem(strides=2): [100, 10, 201, 20, 302, 30, 3],
        ConvTransposeProblem(strides=2, padding="same"): [100, 10, 201, 20, 302, 30],
        ConvTransposeProblem(strides=2, padding="same", output_padding=0): [10, 201, 20, 302, 30],
        ConvTransposeProblem(strides=4): [100, 10, 1, 0, 200, 20, 2, 0, 300, 30, 3, 0],
        ConvTransposeProblem(strides=4, output_padding=0): [100, 10, 1, 0, 200, 20, 2, 0, 300, 30, 3],
        ConvTransposeProblem(dilation=2): [100, 200, 310, 20, 31, 2, 3],
    }
    for op, values in expected.items():
        assert forward(op, a, kernel).ravel().tolist() == values, op
    cropped = ConvTransposeProblem(padding="same")
    assert weight_sums(cropped, a, np.ones((1, 3, 1)), kernel.shape).ravel().tolist() == [5, 6, 3]


def test_einsum_by_hand():
    """A letter of the kernel that the output lacks is summed; the unit counts the others."""
    op = EinsumProblem("abc,dec->abed")
    a, kernel = np.reshape([1, 2], (1, 1, 2)), np.arange(12).reshape(2, 3, 2)
    assert forward(op, a, kernel).tolist() == [[[[2, 20], [8, 26], [14, 32]]]]
    assert op.units((2, 3, 2)) == 6
    assert op.unit_of_kernel((1, 2, 0), (2, 3, 2)) == op.unit_of_output((0, 0, 2, 1), (2, 3, 2)) == 5
    shared_first = EinsumProblem("abc,dcb->abd")  # b is in all three, d in kernel and output
    assert shared_first.unit_of_kernel((1, 0, 2), (2, 4, 3)) == 2 * 2 + 1
    assert shared_first.unit_of_output((0, 2, 1), (2, 4, 3)) == 2 * 2 + 1


def test_bias_and_scale_by_hand():
    """Every output element has one weight; along a shared axis it is the same one."""
    op = BiasProblem((1, -1))
    assert forward(op, np.ones(2), [[1, 2], [3, 4]]).tolist() == [[[1, 2], [3, 4]]] * 2
    assert weight_sums(op, np.ones(2), np.arange(8).reshape(2, 2, 2), (2, 2)).tolist() == [[4, 6], [8, 10]]
    assert op.unit_of_output((0, 1, 0), (2, 2)) == 2
    op, a = ScaleProblem((1, 2)), np.arange(6).reshape(1, 2, 3)
    assert forward(op, a, [[1, 10, 100]]).tolist() == [[[0, 10, 200], [3, 40, 500]]]
    assert weight_sums(op, a, np.ones((1, 2, 3)), (1, 3)).tolist() == [[3, 5, 7]]
    assert op.units((1, 3)) == 3 and op.unit_of_output((0, 1, 2), (1, 3)) == 2


def test_lookup_by_hand():
    """A row has a term for each position that looks it up."""
    op, ones = LookupProblem(np.array([[2, 0], [2, 2]])), np.ones((2, 2))
    table, d = [[1, 2], [3, 4], [5, 6]], np.arange(8).reshape(2, 2, 2)
    assert forward(op, ones, table).tolist() == [[[5, 6], [1, 2]], [[5, 6], [5, 6]]]
    assert weight_sums(op, ones, d, (3, 2)).tolist() == [[2, 3], [0, 0], [10, 13]]


def test_weight_sums_are_the_adjoint_of_forward():
    rng = np.random.default_rng(0)
    op = ConvProblem(padding="same", strides=(2, 1, 1), dilation=(1, 2, 1), groups=2)
    a, w = rng.normal(size=(2, 3, 4, 3, 4)), rng.normal(size=(2, 3, 1, 2, 2))
    z = forward(op, a, w)
    d = rng.normal(size=z.shape)
    assert np.sum(weight_sums(op, a, d, w.shape) * w) == pytest.approx(np.sum(z * d))


# Weights


def dense_2x2():
    """attribute() of a ReLU layer of two inputs, two units and two samples; its second unit is dead."""
    return attribute(
        DENSE, input=[[1, 0], [-1, 2]], kernel=[[1, 0], [1, -1]], bias_offset=[0, 0],
        preactivation=[[1, 0], [1, -2]], slope=[[1, 0], [1, 0]], output_gradient=[[1, 1], [1, 0]],
        preactivation_gradient=[[1, 0], [1, 0]], g_star=2.0, piecewise_linear=True, rectifies=True,
        saturation_point=math.inf,
    )  # fmt: skip


def test_dense_weights_by_hand():
    found = dense_2x2()
    assert found["terms"].tolist() == [[2, 2], [2, 2]]
    assert found["data_gradient"].tolist() == [[0, 0], [2, 0]]
    assert found["near_zero"].tolist() == found["exact_zero"].tolist() == [[True, True], [False, True]]
    assert found["p_input"].tolist() == [[0, 0], [0.5, 0.5]]
    assert found["p_activation"].tolist() == [[0, 1], [0, 1]]
    assert found["p_backprop"].tolist() == [[0, 0.5], [0, 0.5]]
    assert found["p_input_activation"].tolist() == [[0, 1], [0.5, 1]]
    assert found["p_activation_backprop"].tolist() == [[0, 1], [0, 1]]
    assert found["parts"]["cancellation"].tolist() == [[1, 0], [0, 0]]
    assert found["parts"]["activation"].tolist() == [[0, 1], [0, 0.5]]
    assert found["parts"]["input_backprop"].tolist() == [[0, 0], [0, 0.5]]  # (0, 2) meets (1, 0)
    assert found["p_weights"].tolist() == [0, 1]
    assert found["gradient_rms"] == pytest.approx([math.sqrt(2), 0])
    assert found["dead"].tolist() == [False, True] and found["off"].tolist() == [0, 2]
    assert found["off_by_weights"].tolist() == [0, 2]


def test_dense_layer_by_hand():
    layer = dense_2x2()["layer"]
    assert layer["near_zero"] == layer["exact_zero"] == 0.75
    assert layer["gradient_rms"] == 1  # D is 0, 0, 2, 0
    assert layer["threshold"] == pytest.approx(1e-3 * 2 * math.sqrt(2) / 2)
    assert (layer["p_input"], layer["p_backprop"], layer["p_weights"]) == (0.25, 0.25, 0.5)
    assert layer["share_activation"] == pytest.approx(1 / 2)
    assert layer["share_input_backprop"] == pytest.approx(1 / 6)
    assert layer["share_cancellation"] == pytest.approx(1 / 3)
    assert sum(layer[f"share_{name}"] for name in CAUSES) == pytest.approx(1)
    assert layer["dead_units"] == 1 and layer["off_by_weights"] == 1 and layer["off_by_input"] == 0


@pytest.mark.parametrize(
    ("a", "s", "g", "expected"),
    [
        ([0, 0], [1, 1], [1, 1], {"input": 1}),
        ([1, 1], [0, 0], [1, 1], {"activation": 1}),
        ([1, 1], [1, 1], [0, 0], {"backprop": 1}),
        ([0, 0], [1, 1], [0, 0], {"input": 0.5, "backprop": 0.5}),
        ([0, 1], [1, 0], [1, 1], {"input_activation": 1}),
        ([0, 1], [1, 1], [1, 0], {"input_backprop": 1}),
        ([1, 1], [0, 1], [1, 0], {"activation_backprop": 1}),
        ([0, 1, 1], [1, 0, 1], [1, 1, 0], {"input_activation_backprop": 1}),
        ([0, 1], [1, 0], [1, 0], {"input_activation": 0.5, "input_backprop": 0.5}),
        ([1, -1], [1, 1], [1, 1], {"cancellation": 1}),
        ([1, 1], [1, 1], [1, 1], {}),
    ],
)
def test_causes_by_hand(a, s, g, expected):
    found = one_weight(a, s, g)
    assert causes(found) == expected
    assert found["near_zero"].item() == bool(expected)


def test_activation_with_backprop_reads_the_measured_gradient():
    found = one_weight([1, 1], [1, 1], [1, 1], preactivation_gradient=[[0], [0]])
    assert causes(found) == {"activation_backprop": 1}


def test_a_factor_is_sufficient_up_to_a_root_mean_square_of_rtol():
    for a, expected in ((0.99e-3, {"input": 1}), (1.01e-3, {"cancellation": 1})):
        assert causes(one_weight([a, -a], [1, 1], [1, 1])) == expected


def test_a_unit_is_dead_only_if_it_is_off_at_all_positions():
    found = one_weight([-1, 1], [0, 1], [1, 1])
    assert found["off"].tolist() == [1] and found["dead"].tolist() == [False]
    assert found["off_by_weights"].tolist() == [1] and found["layer"]["off_by_weights"] == 1


def test_thresholds_by_hand():
    # T = n = 4, g* = 1: the threshold is 1e-3 * 2 / 4 = 5e-4
    for factor, near in ((0.99, True), (1.01, False)):
        found = one_weight([1, 0, 0, 0], [1] * 4, [5e-4 * factor] * 4)
        assert found["near_zero"].item() == near and not found["exact_zero"].item()
        assert found["p_backprop"].item() == 0  # n * g is 2e-3
    assert one_weight([1e-3, -1.1e-3], [1, 1], [0, 0])["p_input"].item() == 0.5
    assert one_weight([1, 1], [1, 1], [5e-4, -5.1e-4])["p_backprop"].item() == 0.5
    assert one_weight([1, 1], [1e-2, 2e-2], [1, 1])["p_activation"].item() == 0
    assert one_weight([1, 1], [-1e-2, 2e-2], [1, 1], piecewise_linear=False)["p_activation"].item() == 0.5


def test_weight_without_terms_and_causal_terms():
    a = np.reshape([1.0], (1, 1, 1))
    found = attribute(
        ConvProblem(padding="causal"), input=a, kernel=np.ones((2, 1, 1)), bias_offset=0, preactivation=a,
        slope=a, output_gradient=a, preactivation_gradient=a, g_star=1.0, piecewise_linear=True,
        rectifies=True, saturation_point=math.inf,
    )  # fmt: skip
    assert found["terms"].ravel().tolist() == [0, 1]
    assert found["near_zero"].ravel().tolist() == found["exact_zero"].ravel().tolist() == [True, False]
    assert found["p_input"].ravel().tolist() == found["p_input_activation"].ravel().tolist() == [1, 0]
    for name in ("p_activation", "p_backprop", "p_activation_backprop"):
        assert found[name].ravel().tolist() == [0, 0]
    assert found["parts"]["input"].ravel().tolist() == [1, 0]
    assert found["layer"]["threshold"] == 1e-3


def test_shares_are_nan_where_there_is_nothing_to_share():
    layer = one_weight([1, 1], [1, 1], [1, 1])["layer"]
    assert all(math.isnan(layer[f"share_{name}"]) for name in CAUSES)
    assert all(math.isnan(layer[f"off_by_{name}"]) for name in REASONS)


# Units


def test_reasons_below_zero():
    assert reason([0, 1e-3], [1, -1], -1) == "input"
    assert reason([1, 0], [-1, 5], 0) == "weights"
    assert reason([1, 0], [-1, 5], 0, normalised=True) == "combination"
    assert reason([1, 1], [2, -1], -3) == "bias"
    assert reason([1, 1], [1, -2], -3) == "combination"


def test_reasons_in_saturation():
    saturates = dict(rectifies=False, saturation_point=5.0)
    assert reason([1, 1], [1, 1], 10, **saturates) == "bias"
    assert reason([10, 10], [0.5, 0.5], 0, **saturates) == "input"  # r_a = 10, r_w = 1
    assert reason([1, 1], [5, 5], 0, **saturates) == "weights"  # r_a = 1, r_w = 5
    assert reason([10, 10], [5, 5], 0, **saturates) == "combination"  # 100 / 10 is still beyond 5
    assert reason([2, 2], [5, 5], 0, rectifies=False, saturation_point=11.0) == "weights"  # 20 / 2 < 11 too
    assert reason([1, 1], [4, 4], 0, rectifies=False, saturation_point=2.5) == "weights"  # r_w = 4
    assert reason([0, 0], [-1, -1], -7, **saturates) == "bias"
    assert reason([1, 1], [5, 5], 0, rectifies=True, saturation_point=5.0) == "weights"  # Z > 0


def test_receptive_field_leaves_padding_out():
    a = np.reshape([6.0, 6.0], (1, 2, 1))
    kernel = np.ones((2, 1, 1))
    op = ConvProblem(padding="causal")
    zeros, z = np.zeros((1, 2, 1)), forward(op, a, kernel)
    found = attribute(
        op, input=a, kernel=kernel, bias_offset=0, preactivation=z, slope=zeros, output_gradient=zeros,
        preactivation_gradient=zeros, g_star=1.0, piecewise_linear=False, rectifies=False,
        saturation_point=1.5,
    )  # fmt: skip
    # Z = 6 and 12 with r_a = 6 at both pixels: 6 / 6 < 1.5, 12 / 6 >= 1.5
    assert found["off_by_input"].tolist() == [1] and found["off_by_combination"].tolist() == [1]


# Problems that are others in disguise


def random_site(op, input, kernel_shape, **changes):
    """The arguments of attribute() for a site of random arrays: half of the slopes are 0, as is the input's
    first channel, the first unit is dead, and to the last one hardly any gradient arrives."""
    rng = np.random.default_rng(3)
    input = np.array(input)
    if changes.pop("gaps", True):
        input[..., 0] = 0
    kernel = rng.normal(size=kernel_shape)
    z = forward(op, input, kernel)
    bias, slope, g = rng.normal(size=z.shape[-1]), 1.0 * (rng.random(z.shape) > 0.5), rng.normal(size=z.shape)
    slope[..., 0] = 0
    g[..., -1] *= 1e-6
    arguments = dict(input=input, kernel=kernel, bias_offset=bias, preactivation=z + bias, slope=slope)
    arguments |= dict(output_gradient=g, preactivation_gradient=slope * g, g_star=1.0)
    arguments |= dict(piecewise_linear=True, rectifies=True, saturation_point=1.5)
    return arguments | changes


def same_figures(found, expected, to_found=np.asarray):
    """Both attributions are equal; to_found brings an array of the kernel's shape to the other's layout."""
    for name, value in expected.items():
        if name == "layer":
            assert found[name] == pytest.approx(value, nan_ok=True)
        elif name == "parts":
            for cause, part in value.items():
                np.testing.assert_allclose(found[name][cause], to_found(part), err_msg=cause)
        else:
            by_weight = np.shape(value) == np.shape(expected["terms"])
            np.testing.assert_allclose(found[name], to_found(value) if by_weight else value, err_msg=name)


def normal(*shape):
    """A random array, the same every time."""
    return np.random.default_rng(4).normal(size=shape)


@pytest.mark.parametrize("rectifies", [True, False])
def test_einsum_of_a_dense_layer_has_its_figures(rectifies):
    """An einsum of two letters of units is the dense layer with these units in a row."""
    given = random_site(DENSE, normal(3, 4, 5), (5, 6), rectifies=rectifies)
    names = ("kernel", "bias_offset", "preactivation", "slope", "output_gradient", "preactivation_gradient")
    split = {name: given[name].reshape(*given[name].shape[:-1], 2, 3) for name in names}
    found = attribute(EinsumProblem("abc,cde->abde"), **given | split)
    same_figures(found, attribute(DENSE, **given), lambda array: array.reshape(5, 2, 3))


@pytest.mark.parametrize("rectifies", [True, False])
def test_depthwise_has_the_figures_of_a_grouped_convolution(rectifies):
    """A depthwise convolution is one with a group for each channel."""
    options = dict(padding="same", strides=2, dilation=1)
    grouped = ConvProblem(groups=2, **options)
    given = random_site(grouped, normal(2, 5, 2), (3, 1, 4), rectifies=rectifies)
    own = dict(kernel=given["kernel"].reshape(3, 2, 2))
    found = attribute(DepthwiseConvProblem(**options), **given | own)
    same_figures(found, attribute(grouped, **given), lambda array: array.reshape(3, 2, 2))


@pytest.mark.parametrize("rectifies", [True, False])
def test_transposed_has_the_figures_of_the_convolution_with_the_turned_kernel(rectifies):
    """Without strides, a transposed convolution is one whose kernel is mirrored."""

    def turned(array):
        return array[::-1].swapaxes(1, 2)

    op = ConvProblem(padding="same")
    given = random_site(op, normal(2, 5, 2), (3, 2, 4), rectifies=rectifies)
    found = attribute(ConvTransposeProblem(padding="same"), **given | dict(kernel=turned(given["kernel"])))
    same_figures(found, attribute(op, **given), turned)


@pytest.mark.parametrize("rectifies", [True, False])
def test_bias_has_the_figures_of_a_dense_layer_on_ones(rectifies):
    """A bias is a kernel with a single input that is 1."""
    given = random_site(DENSE, np.ones((3, 4, 1)), (1, 5), rectifies=rectifies, gaps=False)
    own = dict(kernel=given["kernel"][0], input=np.ones((3, 4)))
    same_figures(attribute(BiasProblem((2,)), **given | own), attribute(DENSE, **given), np.ravel)


@pytest.mark.parametrize("rectifies", [True, False])
def test_scale_has_the_figures_of_a_depthwise_convolution(rectifies):
    """A scale of the channels is a depthwise convolution with a window of one pixel."""
    op = DepthwiseConvProblem()
    given = random_site(op, normal(3, 4, 5), (1, 5, 1), rectifies=rectifies)
    own = dict(kernel=given["kernel"].reshape(5))
    same_figures(attribute(ScaleProblem((-1,)), **given | own), attribute(op, **given), np.ravel)
    shared = dict(kernel=given["kernel"].reshape(1, 5))
    same_figures(
        attribute(ScaleProblem((1, 2)), **given | shared), attribute(op, **given), lambda array: array[..., 0]
    )


def test_rows_without_lookup_belong_to_input():
    """A row that nobody looks up has no terms; those of the others are 1 times the gradient."""
    op, d = LookupProblem(np.array([2, 0, 2])), np.array([[1.0, 2], [0, 1], [-1, 2]])
    table = np.array([[0.5, 0.5], [1, 1], [2, -2]])
    found = attribute(
        op, input=np.ones(3), kernel=table, bias_offset=0, preactivation=table[op.ids],
        slope=np.ones((3, 2)), output_gradient=d, preactivation_gradient=d, g_star=1.0,
        piecewise_linear=True, rectifies=False, saturation_point=math.inf,
    )  # fmt: skip
    assert found["terms"].tolist() == [[1, 1], [0, 0], [2, 2]]
    assert found["data_gradient"].tolist() == [[0, 1], [0, 0], [0, 4]]
    assert found["p_input"].tolist() == [[0, 0], [1, 1], [0, 0]]
    assert found["parts"]["input"].tolist() == [[0, 0], [1, 1], [0, 0]]
    assert found["parts"]["backprop"].tolist() == [[1, 0], [0, 0], [0, 0]]
    assert found["parts"]["cancellation"].tolist() == [[0, 0], [0, 0], [1, 0]]
    assert found["p_weights"] == pytest.approx([0, 1 / 3])
    assert found["layer"]["threshold"] == pytest.approx(1e-3 * math.sqrt(2) / 3)


# Pseudo-inverse


def test_pseudo_inverse_by_hand():
    # dJ/dW = d0 + d1 in each column; the least norm splits it evenly
    found, rank, n = estimate(DENSE, [[1], [1]], [[4, -2]], (2, 2))
    assert found == pytest.approx(np.array([[2, -1], [2, -1]])) and (rank, n) == (1, 2)
    assert projector(DENSE, [[1], [1]], (1, 2), (2, 2)) == pytest.approx(np.full((2, 2, 2), 0.5))
    a, d = [[1, 2], [0, 4]], np.array([[1, 0], [2, -1]])
    found, rank, n = estimate(DENSE, a, weight_sums(DENSE, a, d, (2, 2)), (2, 2))
    assert found == pytest.approx(d) and rank == n == 2


def test_pseudo_inverse_of_causal_conv_by_hand():
    op, a = ConvProblem(padding="causal"), np.reshape([1, 2], (1, 2, 1))
    assert designs(op, a, (2, 1, 1), (1, 2, 1)).tolist() == [[[0, 1], [1, 2]]]
    found, rank, n = estimate(op, a, np.reshape([3, 10], (2, 1, 1)), (1, 2, 1))
    assert found.ravel() == pytest.approx([4, 3]) and rank == n == 2


def test_pseudo_inverse_is_the_projection_of_the_truth_in_every_group():
    rng = np.random.default_rng(1)
    op = ConvProblem(padding="same", groups=2)
    a = rng.normal(size=(2, 3, 3, 4))
    a[..., 2:] = 0  # the second group sees nothing
    d = rng.normal(size=(2, 3, 3, 4))
    found, rank, n = estimate(op, a, weight_sums(op, a, d, (2, 2, 2, 4)), d.shape)
    projections = projector(op, a, (2, 2, 2, 4), d.shape)
    for channel in range(4):
        assert found[..., channel].ravel() == pytest.approx(projections[channel] @ d[..., channel].ravel())
    assert np.trace(projections[0]) == pytest.approx(8) and not found[..., 2:].any()
    assert (rank, n) == (0, 18)
