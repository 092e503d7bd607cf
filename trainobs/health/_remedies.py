"""What to do about each finding, in one sentence."""

from __future__ import annotations

REMEDIES = {
    "non_finite": "Look at the first layer that is named: lower the learning rate, clip gradients, and check "
    "the data and the loss for divisions by 0 and logarithms of 0.",
    "no_gradient": "No path leads from the weight to the loss: use the layer's output, or freeze the layer.",
    "vanishing": "Ask `trainobs.explain_near_zero_gradients` for the cause; often a layer further on is "
    "saturated or dead: ReLU-like activations, He's initialisation, residual connections or "
    "normalisation help.",
    "exploding": 'Clip gradients (`act=("clip",)`, or the optimizer\'s `global_clipnorm=1.0`) or lower the '
    "learning rate; check the scale of data, targets and initial weights.",
    "global_norm_high": "Lower the learning rate or clip gradients (`global_clipnorm`); check the scale "
    "of the targets and of a summed loss.",
    "global_norm_low": "Fine for a training that converges; early on, raise the learning rate or ask "
    "`trainobs.explain_near_zero_gradients` what keeps gradients small.",
    "mean_gradient_high": "Clip gradients or lower the learning rate; check the scale of the layer's inputs.",
    "mean_gradient_low": "Fine for a large kernel; if the layer does not learn, ask "
    "`trainobs.explain_near_zero_gradients` why.",
    "first_last_low": "Shorten the way back: residual connections, normalisation, ReLU-like activations.",
    "first_last_high": "Clip gradients, lower the learning rate, or add normalisation between the layers.",
    "zero_gradients": "Ask `trainobs.explain_near_zero_gradients` which layer cuts gradients off; "
    "where ReLUs are dead, use leaky ReLU, or lower the learning rate.",
    "dead_units": "Lower the learning rate, look at the layer's biases, or use leaky ReLU, ELU or GELU.",
    "saturated": "Scale the layer's inputs or weights down (normalisation, smaller initial weights), or use "
    "a ReLU-like activation.",
    "shift": "Expected in the first steps; later lower the learning rate, or add "
    "normalisation before the layer.",
    "initial_weights_low": "Initialise with he_normal or glorot_uniform: signals shrink by this kernel.",
    "initial_weights_high": "Initialise with he_normal or glorot_uniform: signals grow by this kernel.",
    "update_low": "Raise the learning rate, or ask `trainobs.explain_near_zero_gradients` why gradients "
    "are small.",
    "update_high": "Lower the learning rate, or warm it up: one step replaces much of the kernel.",
    "oscillation": "Lower the learning rate, raise the batch size, or clip gradients.",
}
