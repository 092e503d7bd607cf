"""A plan of a step: of every call, node, output and weight what is known, and what is read of it.

A traced step returns a flat list of tensors. The plan made beside it says where each of them belongs:
its fields are values, or reads that stand where values go. `plan_step` makes it, `to_record` turns it
and the values of an executed step into a record. A plan holds no tensor of the graph.
"""

from __future__ import annotations

import dataclasses
from typing import Generic, TypeVar

import keras

from trainobs.capture.layers import Kind, Probed
from trainobs.capture.reading._reads import GradientRead
from trainobs.capture.reading._values import SumsRead, TensorRead
from trainobs.records import Place

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False)
class WeightPlan:
    """A variable and its gradient.

    Attributes
    ----------
    path : str
        Its path, numbered where layers of one model have the same name.
    shape : tuple of int
    trainable : bool
        Whether the step differentiated it.
    value, gradient, penalty : reads or None
        What it was, its gradient, and that of its own regulariser.
    """

    path: str
    shape: tuple[int, ...]
    trainable: bool
    value: TensorRead | None
    gradient: GradientRead | None
    penalty: TensorRead | None


@dataclasses.dataclass(frozen=True, eq=False)
class OtherWeightPlan:
    """A weight that no call explains, with the innermost layer that holds it and the nodes of its calls."""

    layer: keras.Layer
    nodes: tuple[int, ...]
    weight: WeightPlan
    all_zero: TensorRead | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class CallTensors(Generic[T]):
    """The tensors of a call, read in this order: a plan has reads here, a step's values are arrays.

    Attributes
    ----------
    offset : T or None
        What a normalisation between kernel and activation adds last.
    preactivation, activation_input : T or None
        Z, and what the activation reads, as far as they are read anyway.
    returned : T or None
        What the call put out, where its weights are not read.
    output : T or None
        What comes out behind the activation, where it can't be worked out or is read anyway.
    output_gradient, preactivation_gradient : T or None
        What arrives behind the activation, and in front of it.
    output_gradients : tuple of (T or None)
        By leaf, of a call that puts out several or has stages.
    """

    offset: T | None
    preactivation: T | None
    activation_input: T | None
    returned: T | None
    output: T | None
    output_gradient: T | None
    preactivation_gradient: T | None
    output_gradients: tuple[T | None, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class CallPlan:
    """A call of a layer whose kind is known.

    Attributes
    ----------
    layer, kind, call, loss
        The layer and its kind, the number of its call and the gradient of the step it belongs to.
    node, activation_node : int
        Its last node, and that of the activation behind it.
    stages : int
        How many nodes come before its last one.
    activations : tuple of Probed
        What the preactivation goes through, in order.
    opaque : bool
        Whether one of them is neither element-wise nor a softmax, so that nothing can be worked out.
    sloped : int
        How many of them gradients went through: the last is left out where the loss read the logits.
    logits, normalised : bool
        See `SiteRecord`.
    projects_keys : bool
        Whether the call makes the keys of an attention.
    consumers : tuple of str
        Paths of the kernels that read the output.
    operands : dict of str to TensorRead
        What the kind asked for.
    weights : dict of str to WeightPlan
        By the names that the kind gives them.
    tensors : CallTensors
    """

    layer: keras.Layer
    kind: Kind
    call: int
    loss: int
    node: int
    activation_node: int
    stages: int
    activations: tuple[Probed, ...]
    opaque: bool
    sloped: int
    logits: bool
    normalised: bool
    projects_keys: bool
    consumers: tuple[str, ...]
    operands: dict[str, TensorRead]
    weights: dict[str, WeightPlan]
    tensors: CallTensors[TensorRead]

    @property
    def functions(self) -> tuple[Probed, ...]:
        """The activations, as far as they can be applied once more."""
        return () if self.opaque else self.activations


@dataclasses.dataclass(frozen=True, eq=False)
class NodePlan:
    """A node; fields as in `NodeRecord`, but for these.

    Attributes
    ----------
    sample : int or None
        Where its batch size stands among those that are read; None where it is not known.
    output_gradients : tuple of reads
        Sums over what arrives at each of its outputs; empty where nothing does.
    sole_makers : tuple of int
        For each input the node whose whole gradient comes from this one; -1 where there is none.
    """

    layer: str
    kind: str
    call: int
    loss: int
    producers: tuple[int, ...]
    sample: int | None
    sole_makers: tuple[int, ...]
    output_gradients: tuple[TensorRead | SumsRead, ...] = ()
    stage: str = ""
    activation: str = ""
    unread: str = ""
    normalises: bool = False
    cuts_gradient: bool = False
    adds_loss: bool = False
    order: int = 1
    cut_at: Place | None = None
    made_at: Place | None = None


@dataclasses.dataclass(frozen=True)
class CompiledLoss:
    """The loss that a model was compiled with for one of its outputs; fields as in `OutputRecord`."""

    loss_name: str = ""
    from_logits: bool = False
    own_loss: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class OutputPlan:
    """One output of the model; other fields as in `OutputRecord`."""

    node: int
    logits: bool
    loss: CompiledLoss
    value: TensorRead
    target: TensorRead | None
    sample_weight: TensorRead | None
    mask: TensorRead | None
    gradient: TensorRead | None
    cut_at: Place | None = None
    changed: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class StepPlan:
    """Which returned tensor belongs where in a `StepRecord`.

    Attributes
    ----------
    losses : tuple of TensorRead
        What adds up to the loss.
    loss_scale, samples : TensorRead or None
        The loss's scale, and the batch sizes of all calls that put something out.
    calls, nodes, outputs, weights : tuples of plans
        Calls with known weights, nodes, outputs and all other weights.
    scaled : frozenset of int
        Positions of tensors that are unscaled afterwards (see `Reads`).
    idle : int
        See `StepRecord.idle`.
    """

    losses: tuple[TensorRead, ...]
    loss_scale: TensorRead | None
    samples: TensorRead | None
    calls: tuple[CallPlan, ...]
    nodes: tuple[NodePlan, ...]
    outputs: tuple[OutputPlan, ...]
    weights: tuple[OtherWeightPlan, ...]
    scaled: frozenset[int]
    idle: int
