"""Layers that scale element by element: normalisations, and PReLU's slope."""

from __future__ import annotations

import abc

import keras
import numpy as np

from trainobs.capture.layers._kind import Array, Call, Kind, Part
from trainobs.capture.layers._linear import ones_at
from trainobs.linear_ops import bias_op, scale_op


class NormalisationKind(Kind):
    """``Z = gamma · x̂ + beta``, x̂ the normalised input."""

    carries = False

    def variables(self, layer: keras.Layer) -> dict[str, keras.Variable | None]:
        return {"gamma": getattr(layer, "gamma", None), "beta": getattr(layer, "beta", None)}

    @abc.abstractmethod
    def normalised(self, call: Call, x: Array) -> Array:
        """x̂, from the input."""

    def axes(self, layer: keras.Layer, rank: int) -> tuple[int, ...]:
        """The axes that gamma and beta run along."""
        axis = layer.axis
        return tuple(sorted(a % rank for a in ((axis,) if isinstance(axis, int) else axis)))

    def parts(self, call: Call) -> list[Part]:
        gamma, beta = call.weights["gamma"], call.weights["beta"]
        if gamma is None and beta is None:
            return []
        x = np.asarray(call.input, np.float32)
        axes, hat = self.axes(call.layer, x.ndim), self.normalised(call, x)
        scale, shift = (None if w is None else _along(w, axes, x.ndim) for w in (gamma, beta))
        z = call.preactivation
        if z is None:
            z = np.asarray(
                (hat if scale is None else hat * scale) + (0 if shift is None else shift), np.float32
            )
        units = call.finish(z, shift)
        found = []
        if gamma is not None:
            found.append(Part("gamma", scale_op(x.ndim, axes, gamma.size), hat, units, "scale"))
        if beta is not None:
            found.append(Part("beta", bias_op(x.ndim, axes), ones_at(x.shape, axes), units, "bias"))
        return found


def _along(weight: Array, axes: tuple[int, ...], rank: int) -> Array:
    """A weight shaped so that it broadcasts along these axes."""
    shape = [1] * rank
    for axis, size in zip(axes, weight.shape, strict=True):
        shape[axis] = size
    return np.asarray(weight, np.float32).reshape(shape)


def _standardised(x: Array, axes: tuple[int, ...], epsilon: float, weights: Array | None = None) -> Array:
    centred = x - np.average(x, axes, weights, keepdims=True)
    variance = np.average(centred * centred, axes, weights, keepdims=True)
    centred *= 1 / np.sqrt(variance + epsilon)
    return np.asarray(centred, np.float32)


class BatchKind(NormalisationKind):
    """BatchNormalization: over the batch in training, by its moving statistics else."""

    def knows(self, layer: keras.Layer) -> bool:
        return super().knows(layer) and not (getattr(layer, "renorm", False) or layer.synchronized)

    def operands(
        self, layer: keras.Layer, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> dict[str, object]:
        found = super().operands(layer, args, kwargs)
        if not (kwargs.get("training") and layer.trainable):
            return {**found, "mean": layer.moving_mean, "variance": layer.moving_variance}
        mask = kwargs.get("mask")
        return found if mask is None else {**found, "mask": mask}

    def normalised(self, call: Call, x: Array) -> Array:
        (axis,) = self.axes(call.layer, x.ndim)
        epsilon = call.layer.epsilon
        if "mean" in call.operands:
            mean, variance = (_along(call.operands[name], (axis,), x.ndim) for name in ("mean", "variance"))
            return np.asarray((x - mean) / np.sqrt(variance + epsilon), np.float32)
        others = tuple(a for a in range(x.ndim) if a != axis)
        mask = call.operands.get("mask")
        weights = None if mask is None else np.broadcast_to(mask[..., None].astype(x.dtype), x.shape)
        return _standardised(x, others, epsilon, weights)


class LayerKind(NormalisationKind):
    """LayerNormalization: over some axes of each sample."""

    def knows(self, layer: keras.Layer) -> bool:
        return super().knows(layer) and not getattr(layer, "rms_scaling", False)

    def normalised(self, call: Call, x: Array) -> Array:
        return _standardised(x, self.axes(call.layer, x.ndim), call.layer.epsilon)


class GroupKind(NormalisationKind):
    """GroupNormalization: over all positions of a group of channels, in each sample."""

    def normalised(self, call: Call, x: Array) -> Array:
        (axis,) = self.axes(call.layer, x.ndim)
        last = np.moveaxis(x, axis, -1)
        groups = last.shape[-1] if call.layer.groups == -1 else call.layer.groups
        split = last.reshape(*last.shape[:-1], groups, -1)
        axes = (*range(1, split.ndim - 2), split.ndim - 1)
        return np.moveaxis(_standardised(split, axes, call.layer.epsilon).reshape(last.shape), -1, axis)


class RootMeanSquareKind(NormalisationKind):
    """RMSNormalization: divides by the root mean square of each sample, along some axes."""

    def variables(self, layer: keras.Layer) -> dict[str, keras.Variable | None]:
        return {"gamma": layer.scale, "beta": None}

    def normalised(self, call: Call, x: Array) -> Array:
        axes = self.axes(call.layer, x.ndim)
        mean_square = np.mean(x * x, axes, keepdims=True)
        return np.asarray(x / np.sqrt(mean_square + call.layer.epsilon), np.float32)


class NegativeSlopeKind(Kind):
    """PReLU: ``max(x, 0) + alpha · min(x, 0)``; alpha meets the negative part of the input."""

    carries = False

    def variables(self, layer: keras.Layer) -> dict[str, keras.Variable | None]:
        return {"alpha": layer.alpha}

    def parts(self, call: Call) -> list[Part]:
        alpha, x = call.weights["alpha"], np.asarray(call.input, np.float32)
        assert alpha is not None
        negative = np.minimum(x, 0)
        units = call.finish(np.maximum(x, 0) + alpha * negative, None)
        axes, shared = tuple(range(1, x.ndim)), tuple(call.layer.shared_axes or ())
        op = scale_op(x.ndim, axes, alpha.size, shared)
        return [Part("alpha", op, negative, units, "scale")]
