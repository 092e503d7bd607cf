"""Gradients that are lost on several branches, or for several reasons at once: each is named."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import trainobs
from tests.faults.models import small_digits

layers = keras.layers
FAR_BELOW = keras.initializers.Constant(-50)


@pytest.fixture
def first():
    """An input of digits, and a live layer that reads it."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((64,))
    return pixels, layers.Dense(16, "relu", name="first")(pixels)


def dead(name="dead", units=8):
    """A layer whose biases keep all units off."""
    return layers.Dense(units, "relu", bias_initializer=FAR_BELOW, name=name)


def head(hidden, name="head"):
    """Classes."""
    return layers.Dense(10, "softmax", name=name)(hidden)


def explained(inputs, outputs, x=None, **options):
    """A report of one batch of digits."""
    model = keras.Model(inputs, outputs)
    losses = ["sparse_categorical_crossentropy"] * len(model.outputs)
    model.compile("sgd", losses, **options)
    pixels, classes = (part[:64] for part in small_digits())
    return trainobs.explain_near_zero_gradients(
        model, pixels if x is None else x, [classes] * len(model.outputs)
    )


def causes(report):
    """The findings' causes, by their layers."""
    return dict(zip(report.findings["layer"], report.findings["cause"], strict=True))


def test_two_branches_that_are_closed(first):
    """A kernel of zeros beside a dead layer: the layer before them loses half of its gradient to each."""
    pixels, hidden = first
    zeros = layers.Dense(8, "relu", kernel_initializer="zeros", bias_initializer="ones", name="zeros")
    report = explained(pixels, head(layers.Concatenate()([zeros(hidden), dead()(hidden)])))
    assert causes(report) == {"dead": "dead_activation", "zeros": "zero_weights"}
    assert list(report.findings["affects"]) == [("first",), ("first",)]
    before, behind = 64 * 16 + 16, 16 * 8 + 8
    total = report.layers["size"].sum()
    shares = report.findings.set_index("layer")["share"]
    assert shares["dead"] == pytest.approx((behind + before / 2) / total)
    assert shares["zeros"] == pytest.approx(before / 2 / total)  # its own kernel learns
    assert report.chain("first") == (
        "50%: first/kernel ← backprop ← zeros ← zero_weights | "
        "50%: first/kernel ← backprop ← dead ← off: bias (8 of 8 units, 64 positions)"
    )


def test_a_branch_that_lets_the_gradient_through(first):
    """A dead branch beside a live one keeps nothing from the layer before them."""
    pixels, hidden = first
    live = layers.Dense(8, "relu", name="live")(hidden)
    report = explained(pixels, head(layers.Concatenate()([live, dead()(hidden)])))
    assert causes(report) == {"dead": "dead_activation"}
    assert report.findings["affects"].item() == ("head",)  # which reads it
    assert report.chain("first") == ""


def test_what_lies_behind_the_branches(first):
    """A gradient that is gone before it comes to residual blocks is not lost in them."""
    pixels, hidden = first
    for block in range(3):
        hidden = layers.Add()([hidden, layers.Dense(16, "relu", name=f"block{block}")(hidden)])
    report = explained(pixels, head(dead()(hidden)))
    assert causes(report) == {"dead": "dead_activation"}
    assert report.findings["affects"].item() == ("first", "block0", "block1", "block2", "head")
    assert "add ← " in report.chain("first") and "block" not in report.chain("first")
    assert report.chain("first").endswith("dead ← off: bias (8 of 8 units, 64 positions)")


def test_a_branch_that_is_cut_off_is_none(first):
    """Nothing was to come through stop_gradient: the other branch has all of the loss."""
    pixels, hidden = first
    target = layers.Dense(8, "relu", name="target")(keras.ops.stop_gradient(hidden))
    report = explained(pixels, head(layers.Concatenate()([target, dead()(hidden)])))
    assert causes(report) == {"dead": "dead_activation"}
    assert report.chain("first") == (
        "first/kernel ← backprop ← dead ← off: bias (8 of 8 units, 64 positions)"
    )


def test_a_slow_decay_beside_a_killer(first):
    """Eight sigmoid layers on one branch, a dead one on the other."""
    pixels, hidden = first
    slow = hidden
    for place in range(8):
        slow = layers.Dense(16, "sigmoid", name=f"slow{place}")(slow)
    report = explained(pixels, head(layers.Concatenate(name="both")([slow, dead()(hidden)])))
    assert set(causes(report).values()) == {"vanishing", "dead_activation"}
    slowly, at_once = report.chain("first").split(" | ")
    assert slowly.startswith("50%: first/kernel ← backprop ← slow0 ← slow1 ← slow2 ← … ")
    assert slowly.endswith("per layer over 8 layers, by the slopes)")
    assert at_once.startswith("50%: first/kernel ← backprop ← dead ← off: bias")
    assert "slow0" not in report.chain("slow5")  # its way does not lead through what lies before it


def test_an_output_whose_loss_counts_nothing(first):
    """A head of weight 0 gets nothing from the loss, and so does all that only it reads."""
    pixels, hidden = first
    silent = layers.Dense(8, "relu", name="silent")(hidden)
    outputs = [head(hidden, "loud"), head(silent, "quiet")]
    report = explained(pixels, outputs, loss_weights=[1.0, 0.0])
    assert causes(report) == {"quiet": "zero_loss_gradient"}
    assert report.findings["severity"].item() == "warning"
    assert report.findings["affects"].item() == ("silent",)
    assert report.chain("silent") == "silent/kernel ← backprop ← loss ← zero_loss_gradient"
    assert report.chain("first") == ""


def test_an_output_that_others_read(first):
    """A head of weight 0 that a dead layer reads: from the loss nothing was to come, so it is that layer."""
    pixels, _ = first
    early = head(pixels, "early")
    report = explained(pixels, [early, head(dead()(early), "late")], loss_weights=[0.0, 1.0])
    assert causes(report) == {"dead": "dead_activation"}
    assert report.chain("early").startswith("early/kernel ← backprop ← dead ← off: ")


def test_two_dead_layers_in_a_row(first):
    """Each alone keeps every gradient at zero: the first is named, and that the second does it too."""
    pixels, hidden = first
    report = explained(pixels, head(dead("dead2")(dead("dead1", 16)(hidden))))
    assert causes(report) == {"dead1": "dead_activation"}
    assert "Over-determined: " in report.findings["evidence"].item()
    assert report.chain("first").endswith(
        "off: bias (16 of 16 units, 64 positions); also: dead_activation at dead2"
    )


def test_nothing_to_read_and_nothing_that_would_fire():
    """Black images into a dead layer: both alone keep its gradients at zero."""
    pixels = keras.Input((64,))
    report = explained(pixels, head(dead()(pixels)), x=np.zeros((64, 64), "float32"))
    assert causes(report) == {"dead": "zero_input"}
    assert report.chain("dead").endswith("← data ← zero_input; also: dead_activation at dead")
    row = report.layers.loc["dead/kernel"]
    assert (row.share_input, row.share_activation) == (0.5, 0.5)


def test_one_reason_is_not_over_determined(first):
    """With usual biases, a layer behind a dead one is off only because it reads nothing."""
    pixels, hidden = first
    behind = layers.Dense(16, "relu", bias_initializer=keras.initializers.Constant(-0.1), name="behind")
    report = explained(pixels, head(behind(dead("dead1", 16)(hidden))))
    assert causes(report) == {"dead1": "dead_activation"}
    assert "Over-determined" not in report.findings["evidence"].item()
    assert "also" not in report.chain("behind")


def test_a_normalisation_of_one_element(first):
    """What one number is normalised to is 0: the layer is named, not its gamma, nor what lies around it."""
    pixels, hidden = first
    level = layers.LayerNormalization(name="level")(layers.Dense(1, name="narrow")(hidden))
    report = explained(pixels, head(level))
    assert causes(report) == {"level": "masked"}
    assert report.findings["affects"].item() == ("first", "narrow", "head")
    assert "one element" in report.findings["evidence"].item()
    assert report.layers.loc["level/gamma", "root_cause"] == "masked"


def test_a_normalisation_of_nothing_is_not_named(first):
    """What reads zeros puts out zeros: the scale of zero before it is the cause."""
    pixels, hidden = first
    below, above = (keras.initializers.Constant(shift) for shift in (-1, 1))
    shut = layers.BatchNormalization(gamma_initializer="zeros", beta_initializer=below, name="shut")
    behind = layers.BatchNormalization(beta_initializer=above, name="behind")
    for width, normalise in ((12, shut), (8, behind)):
        hidden = layers.ReLU()(normalise(layers.Dense(width, use_bias=False)(hidden)))
    report = explained(pixels, head(hidden))
    assert causes(report) == {"shut": "zero_weights"}


@pytest.mark.parametrize("weight", [1e-7, 0.0])
def test_a_part_of_an_output_that_counts_next_to_nothing(weight):
    """Two heads joined by a Concatenate: the loss is at fault, not the layer that joins them."""
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    start = keras.Input((8,))
    hidden = layers.Dense(16, "tanh", name="hidden")(start)
    heads = [layers.Dense(1, name=name)(hidden) for name in ("strong", "weak")]
    model = keras.Model(start, layers.Concatenate(name="both")(heads))

    def weighted(y, p):
        return tf.reduce_mean((p[:, :1] - y[:, :1]) ** 2) + weight * tf.reduce_mean((p[:, 1:] - 1) ** 2)

    model.compile("adam", weighted)
    report = trainobs.explain_near_zero_gradients(model, x, x[:, :2])
    (finding,) = report.findings.itertuples()
    assert (finding.cause, finding.layer, finding.severity) == ("zero_loss_gradient", "both", "warning")
    assert finding.affects == ("weak",)


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_one_time_step(kind):
    """Nothing recurs: that is told, and no fault."""
    x = np.random.default_rng(0).normal(size=(64, 1, 4)).astype("float32")
    model = keras.Sequential([keras.Input((1, 4)), kind(8, name="rnn"), layers.Dense(1)])
    model.compile("adam", "mse")
    found = trainobs.explain_near_zero_gradients(model, x, x[:, 0, :1]).findings
    assert set(zip(found.severity, found.cause, found.layer, strict=True)) == {
        ("info", "one_time_step", "rnn")
    }


def test_adapters_of_low_rank_wait_for_the_one_that_starts_at_zero():
    """LoRA: A gets nothing as long as B is zero, which will grow; once it has, nothing is said."""
    keras.utils.set_random_seed(0)
    x, y = small_digits()
    adapted = layers.Dense(10, name="adapted")
    model = keras.Sequential([keras.Input((64,)), layers.Dense(32, "relu"), adapted])
    adapted.enable_lora(2)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    found = trainobs.explain_near_zero_gradients(model, x[:64], y[:64]).findings
    (told,) = found[found.layer == "adapted"].itertuples()
    assert (told.severity, told.cause) == ("info", "zero_weights")
    assert "long as lora_kernel_b is zero" in told.evidence and "it will grow" in told.evidence
    assert "lora_kernel_b itself gets a gradient: it will grow" in told.evidence
    assert trainobs.check_health(model, x[:64], y[:64]).healthy
    model.fit(x[:64], y[:64], epochs=1, verbose=0)
    after = trainobs.explain_near_zero_gradients(model, x[:64], y[:64]).findings
    assert "zero_weights" not in set(after.cause)
