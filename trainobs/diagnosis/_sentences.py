"""Findings in words: the evidence as numbers in a sentence, and the first thing to try."""

from __future__ import annotations

from collections.abc import Callable

from trainobs.diagnosis._findings import Finding
from trainobs.diagnosis._origins import Origin

Detail = dict[str, float | str]


def evidence(finding: Finding) -> str:
    """A sentence with the numbers that show the mechanism, and more where there is more to say."""
    d = finding.detail
    sentences = [_EVIDENCE[finding.cause](finding.layer, d)]
    if "gates" in d:
        sentences.append(f"Near-zero gradients: {d['gates']}.")
    if "also" in d:
        sentences.append(f"Over-determined: most of them would be near zero without it, too, by {d['also']}.")
    return " ".join(sentences)


def remedy(finding: Finding) -> str:
    """What to try first."""
    text = _REMEDY[finding.cause]
    return text if isinstance(text, str) else text(finding.detail)


def chain(origins: tuple[Origin, ...]) -> str:
    """The way from a weight to where its gradient is lost, in one line; of several each with its share."""
    if len(origins) == 1:
        return _way(origins[0])
    return " | ".join(f"{origin.share:.0%}: {_way(origin)}" for origin in origins)


def _way(origin: Origin, most: int = 8) -> str:
    """One way, the middle of a long one left out."""
    steps: list[str] = []
    for step in origin.steps:
        layer, off, reason = step.partition(" off: ")
        steps += [layer] if steps[-1:] != [layer] else []
        steps += [f"off: {reason}"] if off else []
    if not steps[-1].startswith("off: "):
        there = steps[-1] in ("data", "loss") or origin.layer in steps[-1].split(" ← ") or _is_slow(origin)
        steps += [origin.cause] if there else [origin.layer, origin.cause]
    if len(steps) > most:
        steps[most // 2 : 1 - most // 2] = [f"… {len(steps) - most + 1} more …"]
    besides = "; also: " + ", ".join(f"{cause} at {layer}" for cause, layer in origin.also)
    return " ← ".join(steps) + _numbers(origin) + (besides if origin.also else "")


def _is_slow(origin: Origin) -> bool:
    """Whether a gradient is lost little by little on its way, and not at its end."""
    return origin.detail.get("direction") == "backward"


def _numbers(origin: Origin) -> str:
    """What a chain ends with, in brackets."""
    d = origin.detail
    if origin.cause in ("dead_activation", "saturated_activation", "unscaled_input"):
        where = f"{_count(d['positions'])} positions"
        if float(d["dead"]):
            return f" ({_count(d['dead'])} of {_count(d['units'])} units, {where})"
        return f" ({float(d['off']):.0%} of the values, {where})"
    if origin.cause == "vanishing" and "mean_gain" in d:
        many = _many(d["layers"], "layer")
        return f" (to {float(d['mean_gain']):.2g} per layer over {many}, by the {d['factor']}s)"
    return ""


def _count(value: float | str) -> str:
    return f"{int(float(value)):,}"


def _many(value: float | str, what: str) -> str:
    return f"{_count(value)} {what}" + ("" if float(value) == 1 else "s")


def _of_input(layer: str, d: Detail) -> str:
    if d.get("where") == "layer":
        return f"All that {layer} reads is near zero."
    if d.get("own"):
        return f"What {d['own']} of {layer} multiplies is near zero, though what {layer} reads is not."
    where = f" (inputs {d['named']})" if d.get("named") else ""
    return (
        f"{_count(d['zero_inputs'])} of the {_count(d['inputs'])} inputs of {layer} are near zero at all "
        f"{_count(d['positions'])} positions{where}; the input's rms is {d['input_rms']:.2g}."
    )


_REASONS = {
    "input": "no live input ever reaches them",
    "weights": "no live input meets a weight of its own sign",
    "bias": "the bias pushes them below zero",
    "combination": "inputs, weights and bias together push them below zero",
}
_BOUNDED_REASONS = {
    "input": "the inputs are too large",
    "weights": "the kernel is too large",
    "bias": "the bias is too large",
    "combination": "inputs, kernel and bias together are too large",
}


def _reached(d: Detail) -> str:
    if d["reason"] == "input":
        return ""
    return f"where live input reaches them, in {_share(d)} of the cases "


def _share(d: Detail) -> str:
    return f"{float(d['reason_share']):.0%}"


def _gate(layer: str, d: Detail) -> str:
    return f"the {d['part']} of {layer}" if d["part"] else layer


def _dead(layer: str, d: Detail) -> str:
    if d["reason"] == "bias":
        of, rms = f" of {d['shift']}" if d["shift"] else "", float(d["bias_rms"])
        scale = f" (rms of the bias{of} {rms:.2g})" if rms == rms else ""
    else:
        scale = f" (rms of the inputs {d['input_rms']:.2g})" if d["reason"] == "input" else ""
    return (
        f"{_count(d['dead'])} of the {_count(d['units'])} {d['activation']} units of {_gate(layer, d)} are "
        f"off at all {_count(d['positions'])} positions; {_reached(d)}{_REASONS[str(d['reason'])]}{scale}."
    )


def _saturated(layer: str, d: Detail) -> str:
    return (
        f"{float(d['off']):.0%} of the {d['activation']} values of {_gate(layer, d)} are saturated over "
        f"{_count(d['positions'])} positions; in {_share(d)} of the cases "
        f"{_BOUNDED_REASONS[str(d['reason'])]} (rms of inputs {d['input_rms']:.2g}, of weights "
        f"{d['kernel_rms']:.2g}, He's scale {d['healthy_weight']:.2g})."
    )


def _unscaled(layer: str, d: Detail) -> str:
    return (
        f"The input of {layer} has an rms of {d['input_rms']:.3g}, where about 1 is expected; "
        f"{float(d['off']):.0%} of its {d['activation']} values are off."
    )


def _zero_weights(layer: str, d: Detail) -> str:
    if "constant" in d:
        return f"All {_count(d['units'])} units of {layer} have the same weights: nothing tells them apart."
    if "scale" in d:
        grows = f" But {d['scale']} itself gets a gradient: it will grow." if d["learns"] else ""
        return (
            f"{d['scale']} of {layer} has an rms of {d['kernel_rms']:.2g}, where 1 is usual: neither signal "
            f"nor gradient passes.{grows}"
        )
    if d["role"] == "table":
        return (
            f"The table of {layer} has an rms of {d['kernel_rms']:.2g}: all that is looked up is near zero."
        )
    name = "recurrent kernel" if d["role"] == "recurrent" else "kernel"
    return (
        f"The {name} of {layer} has an rms of {d['kernel_rms']:.2g}, where He's scale is "
        f"{d['healthy_weight']:.2g}: neither signal nor gradient passes."
    )


def _vanishing(layer: str, d: Detail) -> str:
    if d["direction"] == "node":
        grows = " But its own weights get a gradient: they will grow." if d["learns"] else ""
        return f"{layer} passes on only {float(d['gain']):.2g} of the gradient that arrives at it.{grows}"
    if d.get("role") == "table":
        return (
            f"The table of {layer} has an rms of {d['kernel_rms']:.2g}, where about 1 is expected: next to "
            f"no signal goes forward."
        )
    kernel = f"kernels too small (rms {d['kernel_rms']:.2g} against He's scale {d['healthy_weight']:.2g})"
    if d["direction"] == "forward":
        why = f": {kernel}" if d["factor"] == "kernel" else ""
        return f"The signal dies out on its way forward through {_many(d['layers'], 'layer')}{why}."
    numbers = f"rms {d['kernel_rms']:.2g} against He's scale {d['healthy_weight']:.2g}"
    small = "kernels too small" if float(d["kernel_rms"]) < float(d["healthy_weight"]) else "the kernels"
    kernels = f"{small} (most by that of {d.get('kernel_of')}: {numbers})"
    driver = "the slopes of the activations" if d["factor"] == "slope" else kernels
    return (
        f"From the loss back, the gradient shrinks to {float(d['mean_gain']):.2g} of itself per layer over "
        f"{_many(d['layers'], 'layer')}, driven by {driver}; the strongest loss is at {layer}."
    )


def _zero_loss(layer: str, d: Detail) -> str:
    if "below" in d:
        part = 10 ** -float(d["below"])
        return f"Of the gradient that the loss sends to another output, {layer} gets {part:.2g}."
    return (
        f"The loss (now {float(d.get('loss', float('nan'))):.3g}) sends a gradient of only "
        f"{float(d.get('g_out', 0.0)):.2g} per position into {layer}; about 1 is usual for a wrong "
        f"prediction."
    )


def _mismatch(layer: str, d: Detail) -> str:
    reach = "" if d["low"] != d["low"] else f" Targets reach from {d['low']:g} to {d['high']:g}."
    return f"At {layer}, {d['why']}.{reach}"


def _disconnected(layer: str, d: Detail) -> str:
    if d.get("where") == "unused":
        return f"No gradient comes to {layer}: no differentiable path leads from there to the loss."
    if d.get("where") == "gradient":
        return f"A gradient arrives at {layer}, but none goes on from there."
    if d.get("where") == "before":
        return f"The gradient ends before {layer}: what {layer} reads was computed without one."
    return f"The gradient ends at {layer}: {d['reader']} behind it has one, but none comes through."


def _masked(layer: str, d: Detail) -> str:
    if "weightless" in d:
        part = float(d["weightless"])
        many = "All" if part == 1.0 else f"{part:.0%} of the"
        return f"{many} positions of {layer} have weight 0 in the loss: they send no gradient."
    levels = " It levels what it normalises: groups of one element, or of equal ones."
    zeros = f"{layer} puts out zeros only: neither signal nor gradient passes it."
    return zeros + (levels if "normalises" in d else "")


def _exploding(layer: str, d: Detail) -> str:
    return (
        f"Going back from the output, the gradient grows to {float(d['growth']):.3g} times its size, "
        f"with kernel gradients of {float(d['mean']):.3g} on average; the kernel of {layer} has an rms of "
        f"{float(d['kernel_rms']):.2g}, where He's scale is {float(d['healthy_weight']):.2g}."
    )


def _non_finite(layer: str, d: Detail) -> str:
    places = {
        "input": f"The data that {layer} reads holds",
        "kernel": f"The kernel of {layer} holds",
        "gradient": f"Going back from the loss, the gradient at {layer} is the first to hold",
        "kernel gradient": f"The kernel gradient of {layer} holds",
    }
    place = places.get(str(d["where"]), f"The output of {layer} is the first to hold")
    return f"{place} NaN or infinite values."


def _unexplained(layer: str, d: Detail) -> str:
    if d.get("where") == "layer":
        return (
            f"Values and gradients arrive at {layer}, but next to none reach its weights: what happens "
            f"inside of a layer of its kind is not known."
        )
    return (
        f"The terms of the weights of {layer} do not add up to their gradient (relative residual "
        f"{float(d['residual']):.2g}): something else than its layer's calls contributes to it."
    )


_EVIDENCE: dict[str, Callable[[str, Detail], str]] = {
    "zero_input": _of_input,
    "dead_activation": _dead,
    "saturated_activation": _saturated,
    "zero_weights": _zero_weights,
    "vanishing": _vanishing,
    "zero_loss_gradient": _zero_loss,
    "output_mismatch": _mismatch,
    "unscaled_input": _unscaled,
    "disconnected": _disconnected,
    "masked": _masked,
    "underflow": lambda layer, d: (
        f"{float(d['flushed']):.0%} of the gradients of {layer} that are not zero in float32 are exactly 0 "
        f"in {d['dtype']}."
    ),
    "frozen": lambda layer, d: (
        f"{layer} is not trainable: no gradient is taken of its {_count(d['weights'])} weights."
    ),
    "exploding": _exploding,
    "non_finite": _non_finite,
    "cancellation": lambda layer, d: (
        f"The terms of the gradients of {layer} are large, but cancel in the sum."
    ),
    "unexplained": _unexplained,
}

_REMEDY: dict[str, str | Callable[[Detail], str]] = {
    "zero_input": "Check the data pipeline: scale the inputs to unit variance and drop constant ones.",
    "dead_activation": lambda d: (
        "Reset the bias to 0 and lower the learning rate."
        if d.get("reason") == "bias"
        else "Re-initialise the layer (He) and lower the learning rate; or use leaky_relu, elu or gelu."
    ),
    "saturated_activation": lambda d: {
        "input": "Normalise the inputs of the layer (BatchNormalization, LayerNormalization).",
        "weights": "Re-initialise the kernel (Glorot) and lower the learning rate.",
        "bias": "Reset the bias to 0.",
    }.get(str(d.get("reason")), "Normalise before the activation, or use a ReLU-like activation."),
    "zero_weights": lambda d: (
        "Initialise the scale with ones."
        if "scale" in d
        else "Initialise the kernel at random (He for ReLU-like, Glorot for tanh and sigmoid)."
    ),
    "masked": lambda d: (
        "Check the sample weights, class weights or mask that the loss is given."
        if "weightless" in d
        else "Normalise over an axis of more than one element, or leave this layer out."
        if "normalises" in d
        else "Check the mask, or whatever this layer multiplies with."
    ),
    "underflow": "Use loss scaling (keras.optimizers.LossScaleOptimizer), or mixed_bfloat16.",
    "vanishing": lambda d: (
        "Scale what this layer reads to unit size (embeddings times √d, or a normalisation before it)."
        if d.get("direction") == "node" or d.get("role") == "table"
        else "Use ReLU-like activations, normalisation or residual connections."
        if d.get("factor") == "slope" and d.get("rectifies") != "True"
        else "Use He initialisation (Glorot for tanh, sigmoid), normalisation or residual connections."
    ),
    "zero_loss_gradient": lambda d: (
        "Check loss_weights: this output's loss counts next to nothing."
        if "below" in d
        else "If the loss is as low as it should be, training is done; else check the head."
    ),
    "output_mismatch": lambda d: {
        "single": "Use one sigmoid unit (or two softmax units).",
        "twice": "Leave one of the two out: the activation, or from_logits=True.",
        "range": "Use a linear output, or scale the targets into the activation's range.",
    }.get(str(d.get("kind")), "Use a loss with from_logits=True, or an output that gives probabilities."),
    "unscaled_input": "Scale the inputs to zero mean and unit variance (keras.layers.Normalization).",
    "disconnected": "Remove what has no gradient: stop_gradient, argmax, rounding, casts to integers.",
    "frozen": "Set `layer.trainable = True` and compile again, if it should learn.",
    "exploding": "Clip gradients (clipnorm=1.0), scale the targets, or lower learning rate and weights.",
    "non_finite": "Look at this layer first: its data, its learning rate, logarithms and divisions.",
    "cancellation": "Use a larger or more varied batch.",
    "unexplained": "Look for losses (add_loss) or code that use this kernel outside of its layer.",
}
