"""The nodes of the gradient's way back, and where the loss meets the model."""

from __future__ import annotations

import dataclasses

import numpy as np

from trainobs.records._scalars import Scalars

Array = np.ndarray
#: What stands for the data where a node's producers are listed.
DATA = -1
#: The kind of a node that is no layer: what happens between layers.
OPERATIONS = "Operations"
#: The stage that it is of, where it is within an attention layer.
SCORES = "attention scores"


@dataclasses.dataclass(frozen=True)
class NodeRecord:
    """One call of a layer without sublayers: a node of the gradient's way back.

    Attributes
    ----------
    layer, kind : str
        The layer's name and class.
    call : int
        0 for the layer's first call in the step.
    loss : int
        Which gradient of the step it belongs to, of a step that takes several.
    stage : str
        Name of the stage, where a call is made of several nodes; "" for its last.
    activation : str
        Name of the activation function that the layer applies, or is; "" without one.
    unread : {"", "unused", "order"}
        Why a recorded step did not read the gradient that comes here, if it did not: nothing that was
        asked for depends on it, or it is a term of a sum that would have been added in another order.
    normalises : bool
        Whether the layer is a normalisation: what it puts out does not depend on the scale of what it reads.
    cuts_gradient : bool
        Whether the layer can stop a gradient by what it does: it rounds, compares, or stops it, or is a
        Lambda, which may do anything.
    order : int
        1 for a gradient of a plain loss. 2 if that is made of gradients that an inner tape took (a gradient
        penalty), so that a weight's gradient has more terms than its layer's calls say; 3 of second ones.
    producers : tuple of int
        For each input, the node that made it; -1 for data.
    samples : int
        Size of the batch.
    output : Scalars
        Of the values the node put out; of size 0 where no site holds them.
    output_gradient : Scalars or None
        Of dJ/d(output), the sum over all consumers; None where backprop never came by.
    input_gradients : tuple of (Scalars or None)
        Of the gradient this node alone sends to each of its inputs, where it is known.
    """

    layer: str
    kind: str
    call: int
    producers: tuple[int, ...]
    samples: int
    output: Scalars
    output_gradient: Scalars | None
    input_gradients: tuple[Scalars | None, ...]
    loss: int = 0
    stage: str = ""
    activation: str = ""
    unread: str = ""
    normalises: bool = False
    cuts_gradient: bool = False
    order: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class OutputRecord:
    """Where the loss meets the model: one output leaf.

    Attributes
    ----------
    node : int
        The node that made it; -1 if unknown.
    value : array of shape (n, *p, K)
        The prediction.
    target : array or None
        The y that the step received for it.
    gradient : array or None
        dJ/dy, or dJ/dlogits where the loss read the logits; None if no loss touches this output.
    logits : bool
        Whether `gradient` is that of the logits.
    loss_name : str
        The loss the model was compiled with for this output; "" if it is not known.
    from_logits : bool
        Whether that loss was told to expect logits.
    own_loss : bool
        Whether the loss is not one of Keras' own: its name says nothing of what it does.
    sample_weight, mask : array or None
        What the loss was weighted with, and which positions count; None if the step did not say.
    """

    node: int
    value: Array
    target: Array | None
    gradient: Array | None
    logits: bool
    loss_name: str = ""
    from_logits: bool = False
    sample_weight: Array | None = None
    mask: Array | None = None
    own_loss: bool = False
