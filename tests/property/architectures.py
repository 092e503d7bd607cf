"""Random small models and trainings, as plain data: `architectures` draws, `build` makes.

An `Architecture` prints as the code that makes it again, so a failing example is its own reproduction.
A `Block` is a layer and the way it is joined to what came before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers, ops

Options = dict[str, Any]
TOKENS, LENGTH = 5, 4  # words of a vocabulary; steps of a sequence

#: By name: what the model receives, without the batch.
INPUTS = {"vector": (5,), "sequence": (LENGTH, 3), "tokens": (LENGTH,), "signal": (6, 2), "image": (5, 4, 2)}


@dataclasses.dataclass(frozen=True)
class Block:
    """A layer by the name of its class, or a raw operation, and how it is joined to the rest."""

    kind: str
    options: Options = dataclasses.field(default_factory=dict)
    join: str = "chain"


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A model and its training.

    Attributes
    ----------
    input : str
        One of `INPUTS`.
    blocks : tuple of Block
    reduce : str
        What stands between the blocks and the head.
    loss : str
        One of `HEADS`.
    style : {"functional", "sequential", "subclassed"}
        What kind of model it is; a sequential one only if no block needs more.
    optimizer : (str, dict)
        Its class and options.
    side_input, side_output : bool
        Whether there is a second one.
    batch, ragged : int, bool
        Samples of a batch, and whether the last one has one less.
    explain_first : bool
        Whether the model is explained before its training or after it.
    seed : int
        Of weights and data.
    """

    input: str
    blocks: tuple[Block, ...]
    reduce: str = "flatten"
    loss: str = "mse"
    style: str = "functional"
    optimizer: tuple[str, Options] = ("SGD", {})
    side_input: bool = False
    side_output: bool = False
    batch: int = 4
    ragged: bool = False
    explain_first: bool = False
    seed: int = 0


# ---- layers of users -----------------------------------------------------------------------------


class Scaled(layers.Layer):
    """A user's layer with weights of its own."""

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")
        self.shift = self.add_weight(shape=(shape[-1],), initializer="zeros", name="shift", regularizer="l2")

    def call(self, inputs: Any) -> Any:
        return ops.tanh(inputs * self.factor + self.shift)


class Gated(layers.Layer):
    """A user's layer that holds layers, and a weight beside them."""

    def build(self, shape: Any) -> None:
        self.gate = layers.Dense(shape[-1], "sigmoid", name="gate")
        self.value = layers.Dense(shape[-1], name="value")
        self.gate.build(shape)
        self.value.build(shape)
        self.mix = self.add_weight(shape=(), initializer="ones", name="mix")

    def call(self, inputs: Any) -> Any:
        return self.mix * self.gate(inputs) * self.value(inputs) + inputs


class Doubling(layers.Dense):
    """A user's layer that changes what its base class does."""

    def call(self, inputs: Any) -> Any:
        return 2 * super().call(inputs)


OWN = {cls.__name__: cls for cls in (Scaled, Gated, Doubling)}
OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "halve": lambda x: x / 2,  # a number's product Keras takes for sparse, which no layer of a user expects
    "square": lambda x: x * x,
    "relu": ops.relu,
    "sine": ops.sin,
    "centre": lambda x: x - ops.mean(x, axis=-1, keepdims=True),
    "swish": lambda x: x * ops.sigmoid(x),  # not drawn: see test_found_by_architectures
    "flip": lambda x: ops.flip(x, axis=-1),
    "twice beside": lambda x: ops.concatenate([x, x], axis=-1),
}

# ---- drawing -------------------------------------------------------------------------------------

_size = st.integers(1, 4)
_flag = st.booleans()
_activation = st.sampled_from(
    ["relu", "tanh", "sigmoid", "elu", "gelu", "leaky_relu", "softplus", "hard_sigmoid", "swish", "relu6"]
)
_penalty = st.sampled_from(["l2", "l1"])
_off = st.just(False)
_linear = {"activation": _activation, "use_bias": _off, "kernel_regularizer": _penalty}
_rarely = {"bias_regularizer": _penalty, "activity_regularizer": _penalty, "trainable": _off}
_affine = {"center": _off, "scale": _off}
_window = {"strides": st.just(2), "padding": st.just("same")}
_conv = {**_linear, **_rarely, **_window}


def _block(kind: str, needs: Options | None = None, **may: Any) -> st.SearchStrategy[Block]:
    options = st.fixed_dictionaries(needs or {}, optional=may)
    join = st.sampled_from(["chain"] * 5 + ["add", "concatenate", "twice", "nested"])
    return st.builds(Block, st.just(kind), options, join)


def _dropout(kind: str) -> st.SearchStrategy[Block]:
    return _block(kind, {"rate": st.just(0.3)})


_everywhere = [
    _block("BatchNormalization", **_affine, trainable=_off),
    _block("LayerNormalization", **_affine),
    _block("GroupNormalization", {"groups": st.sampled_from([1, -1])}, **_affine),
    _block("Activation", {"activation": _activation | st.just("softmax")}),
    _block("ReLU", negative_slope=st.just(0.1), max_value=st.just(1.0), threshold=st.just(0.2)),
    _block("LeakyReLU"),
    _dropout("Dropout"),
    _dropout("GaussianDropout"),
    _block("ActivityRegularization", {"l2": st.just(0.1)}),
    *(_block(name) for name in sorted({*OWN, *OPERATIONS} - {"Doubling", "swish"})),
]
_everywhere += [_block("RMSNormalization")] if hasattr(layers, "RMSNormalization") else []
_dense = [
    _block("Dense", {"units": _size}, **_linear, **_rarely),
    _block("Doubling", {"units": _size}, **_linear),
]
_einsum = {key: value for key, value in _linear.items() if key != "use_bias"}
_of_vectors = [
    *_dense,
    _block("PReLU", alpha_initializer=st.just("ones")),
    _block(
        "EinsumDense",
        {"equation": st.just("ab,bc->ac"), "output_shape": _size},
        **_einsum,
        bias_axes=st.just("c"),
    ),
]


def _of_pixels(rank: int) -> list[st.SearchStrategy[Block]]:
    """Layers of signals (one axis of pixels) and images (two)."""
    shared = st.just(list(range(1, rank + 1)))
    wide = {"filters": _size, "kernel_size": st.integers(1, 3)}
    depth = {key: value for key, value in _conv.items() if not key.startswith("kernel_reg")}
    separate = {**depth, "depthwise_regularizer": _penalty, "pointwise_regularizer": _penalty}
    depth |= {"depth_multiplier": st.just(2), "depthwise_regularizer": _penalty}
    return [
        *[_block(f"Conv{rank}D", wide, **_conv)] * 3,
        _block(
            f"Conv{rank}D", wide, dilation_rate=st.just(2), padding=st.just("same"), activation=_activation
        ),
        _block(f"DepthwiseConv{rank}D", {"kernel_size": st.integers(2, 3)}, **depth),
        _block(
            f"SeparableConv{rank}D",
            {**wide, "kernel_size": st.integers(2, 3)},
            **separate,
            depth_multiplier=st.just(2),
        ),
        _block(f"Conv{rank}DTranspose", wide, **_conv),
        _block(f"MaxPooling{rank}D", {"pool_size": st.just(2)}, padding=st.just("same")),
        _block(f"AveragePooling{rank}D", {"pool_size": st.just(2)}, padding=st.just("same")),
        _dropout(f"SpatialDropout{rank}D"),
        _block("PReLU", shared_axes=shared),
        *_dense,
    ]


_recurrent = {
    "use_bias": _off,
    "activation": _activation,
    "recurrent_dropout": st.just(0.3),
    "dropout": st.just(0.3),
    "go_backwards": st.just(True),
    "unroll": st.just(True),
    "kernel_regularizer": _penalty,
    "recurrent_regularizer": _penalty,
    "bias_regularizer": _penalty,
}
_both_ways = {"merge_mode": st.sampled_from(["sum", "mul", "ave"])}
_per_step = "abc,cd->abd"
_of_steps = [
    _block("LSTM", {"units": _size}, **_recurrent, unit_forget_bias=_off),
    _block("GRU", {"units": _size}, **_recurrent, reset_after=_off),
    _block("SimpleRNN", {"units": _size}, **_recurrent),
    *(_block(f"Bidirectional {c}", {"units": _size}, **_both_ways) for c in ("LSTM", "GRU", "SimpleRNN")),
    _block("TimeDistributed Dense", {"units": _size}, **_linear),
    _block("MultiHeadAttention", {"num_heads": st.integers(1, 2), "key_dim": st.integers(1, 2)},
           use_bias=_off, dropout=st.just(0.3), value_dim=st.just(3)),
    _block("EinsumDense", {"equation": st.just(_per_step), "output_shape": st.tuples(st.just(LENGTH), _size)},
           **_einsum, bias_axes=st.sampled_from(["d", "bd"])),
    _block("Conv1D", {"filters": _size, "kernel_size": st.just(2)}, padding=st.just("causal"), **_linear),
    *_dense,
]  # fmt: skip
_embedding = st.builds(
    Block,
    st.just("Embedding"),
    st.fixed_dictionaries(
        {"input_dim": st.just(TOKENS), "output_dim": _size},
        optional={"mask_zero": st.just(True), "embeddings_regularizer": _penalty},
    ),
)
_FAMILIES = {
    "vector": _of_vectors,
    "sequence": _of_steps,
    "tokens": _of_steps,
    "signal": _of_pixels(1),
    "image": _of_pixels(2),
}
_REDUCE = {
    "vector": ["none"],
    "sequence": ["flatten", "mean", "none", "recurrent"],
    "tokens": ["flatten", "mean", "none", "recurrent"],
    "signal": ["flatten", "mean", "max", "none"],
    "image": ["flatten", "mean", "max", "none"],
}
_optimizer = st.tuples(
    st.sampled_from(["SGD", "Adam"]),
    st.fixed_dictionaries(
        {},
        optional={
            "use_ema": st.just(True),
            "weight_decay": st.just(0.01),
            "gradient_accumulation_steps": st.just(2),
            "loss_scale_factor": st.just(8.0),
        },
    ),
    st.sampled_from([{}, {"clipnorm": 0.1}, {"global_clipnorm": 0.1}, {"clipvalue": 0.01}]),
).map(lambda drawn: (drawn[0], drawn[1] | drawn[2]))


@st.composite
def architectures(draw: Any, input: str | None = None) -> Architecture:
    """An architecture of up to five blocks and a head."""
    input = input or draw(st.sampled_from(sorted(INPUTS)))
    family = st.one_of(*_FAMILIES[input])
    blocks = draw(st.lists(st.one_of(family, family, *_everywhere), min_size=1, max_size=4))
    blocks = [*([draw(_embedding)] if input == "tokens" else []), *blocks]
    reduce, loss = draw(st.sampled_from(_REDUCE[input])), draw(st.sampled_from(sorted(HEADS)))
    kind, options = draw(_optimizer)
    if input == "tokens":  # Keras does not divide the sparse gradient of a table
        options = {key: value for key, value in options.items() if key != "loss_scale_factor"}
    if reduce == "none" and input == "tokens" and loss == "softmax layer":
        loss = "softmax operation"  # this layer does not take the mask of a sequence
    return Architecture(
        input=input,
        blocks=tuple(_padded(block) if place else block for place, block in enumerate(blocks)),
        reduce=reduce,
        loss=loss,
        style=draw(st.sampled_from(["functional", "sequential", "subclassed"])),
        optimizer=(kind, options),
        side_input=draw(st.integers(0, 3)) == 3,
        side_output=draw(st.integers(0, 3)) == 3,
        batch=draw(st.integers(4, 8)),
        ragged=draw(_flag),
        explain_first=draw(_flag),
        seed=draw(st.integers(0, 99)),
    )


def _padded(block: Block) -> Block:
    """The block, so that a window fits however few pixels are left."""
    if "Conv" not in block.kind and "Pooling" not in block.kind:
        return block
    return dataclasses.replace(block, options={"padding": "same", **block.options})


# ---- layers --------------------------------------------------------------------------------------


def layer_of(block: Block) -> Any:
    """The layer of a block, or its operation."""
    wrapper, _, kind = block.kind.rpartition(" ")
    if block.kind in OPERATIONS:
        return OPERATIONS[block.kind]
    if wrapper == "Bidirectional":
        options = {key: value for key, value in block.options.items() if key != "merge_mode"}
        inner = getattr(layers, kind)(**options, return_sequences=True)
        return layers.Bidirectional(inner, merge_mode=block.options.get("merge_mode", "concat"))
    if wrapper == "TimeDistributed":
        return layers.TimeDistributed(layers.Dense(**block.options))
    sequences = {"return_sequences": True} if kind in ("LSTM", "GRU", "SimpleRNN") else {}
    made = (OWN.get(kind) or getattr(layers, kind))(**block.options, **sequences)
    return keras.Sequential([made]) if block.join == "nested" and kind != "MultiHeadAttention" else made


def _called(layer: Any, x: Any) -> Any:
    return layer(x, x) if isinstance(layer, layers.MultiHeadAttention) else layer(x)


def _joined(block: Block, layer: Any, x: Any) -> Any:
    """The layer's output, joined to what it read as the block says, as far as the shapes fit."""
    y = _called(layer, x)
    if block.join == "twice" and y.shape == x.shape:
        return _called(layer, y)
    if block.join == "add" and y.shape == x.shape:
        return x + y
    if block.join == "concatenate" and y.shape[:-1] == x.shape[:-1]:
        return ops.concatenate([x, y], axis=-1)
    return y


def _reducer(architecture: Architecture) -> list[Any]:
    rank = len(INPUTS[architecture.input]) - (architecture.input != "tokens")
    if architecture.reduce == "recurrent":
        return [layers.GRU(2)]
    pool = {"mean": "Average", "max": "Max"}.get(architecture.reduce)
    if pool:
        return [getattr(layers, f"Global{pool}Pooling{max(rank, 1)}D")()]
    return [layers.Flatten()] if architecture.reduce == "flatten" else []


def _dense_of(units: int, **options: Any) -> Callable[[], list[Any]]:
    return lambda: [layers.Dense(units, **options)]


_SPARSE = keras.losses.SparseCategoricalCrossentropy
#: By name: the layers of the head, the loss, and how many classes its targets have (0: real numbers).
HEADS: dict[str, tuple[Callable[[], list[Any]], Callable[[], Any], int]] = {
    "mse": (_dense_of(2), lambda: "mse", 0),
    "mse of softmax": (_dense_of(2, activation="softmax"), lambda: "mse", 0),
    "mse of relu": (_dense_of(2, activation="relu", kernel_regularizer="l2"), lambda: "mse", 0),
    "mae": (_dense_of(1, use_bias=False), lambda: "mae", 0),
    "logits": (_dense_of(3), lambda: _SPARSE(from_logits=True), 3),
    "softmax argument": (_dense_of(3, activation="softmax"), _SPARSE, 3),
    "softmax layer": (lambda: [layers.Dense(3), layers.Softmax()], _SPARSE, 3),
    "softmax activation": (lambda: [layers.Dense(3), layers.Activation("softmax")], _SPARSE, 3),
    "softmax operation": (lambda: [layers.Dense(3), ops.softmax], _SPARSE, 3),
    "sigmoid": (_dense_of(1, activation="sigmoid"), lambda: "binary_crossentropy", 2),
    "sigmoid layer": (
        lambda: [layers.Dense(1), layers.Activation("sigmoid")],
        lambda: "binary_crossentropy",
        2,
    ),
}


# ---- models --------------------------------------------------------------------------------------


class Network:
    """All layers of an architecture; call it on tensors of Keras or of TensorFlow."""

    def __init__(self, architecture: Architecture) -> None:
        self.blocks = architecture.blocks
        self.layers = [layer_of(block) for block in self.blocks]
        self.end = [*_reducer(architecture)]
        self.head = HEADS[architecture.loss][0]()
        self.side = [layers.Dense(2, "tanh")] if architecture.side_input else []
        self.second = [layers.Dense(1)] if architecture.side_output else []

    def __call__(self, inputs: Any) -> Any:
        x = inputs[0] if self.side else inputs
        for block, layer in zip(self.blocks, self.layers, strict=True):
            x = _joined(block, layer, x)
        for layer in self.end:
            x = layer(x)
        if self.side:
            aside = self.side[0](inputs[1])
            x = ops.concatenate([x, aside], axis=-1) if len(x.shape) == 2 else x * ops.mean(aside)
        y = x
        for layer in self.head:
            y = layer(y)
        return [y, self.second[0](x)] if self.second else y

    @property
    def is_a_row(self) -> bool:
        """Whether it is one layer behind another, and nothing else."""
        every = [*self.layers, *self.end, *self.head]
        plain = all(
            isinstance(layer, layers.Layer) and not isinstance(layer, layers.MultiHeadAttention)
            for layer in every
        )
        return (
            plain
            and not (self.side or self.second)
            and all(b.join in ("chain", "nested") for b in self.blocks)
        )


class Subclassed(keras.Model):
    """A user's model, built by its first batch."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.parts = [
            layer
            for layer in (*network.layers, *network.end, *network.head, *network.side, *network.second)
            if isinstance(layer, layers.Layer)
        ]

    def call(self, inputs: Any) -> Any:
        return self.network(inputs)


def _model(architecture: Architecture) -> keras.Model:
    network = Network(architecture)
    if architecture.style == "subclassed":
        return Subclassed(network)
    dtype = "int64" if architecture.input == "tokens" else "float32"
    inputs = keras.Input(INPUTS[architecture.input], dtype=dtype)
    if architecture.style == "sequential" and network.is_a_row:
        return keras.Sequential([inputs, *network.layers, *network.end, *network.head])
    inputs = [inputs, keras.Input((3,))] if architecture.side_input else inputs
    return keras.Model(inputs, network(inputs))


def build(architecture: Architecture) -> keras.Model:
    """The compiled model, from the same seeds each time."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(architecture.seed)
    model = _model(architecture)
    loss = HEADS[architecture.loss][1]()
    kind, options = architecture.optimizer
    model.compile(
        getattr(keras.optimizers, kind)(0.05, **options),
        [loss, "mse"] if architecture.side_output else loss,
        jit_compile=False,
    )
    return model


def data(architecture: Architecture) -> tuple[Any, Any]:
    """Inputs and targets of three batches."""
    rng = np.random.default_rng(architecture.seed)
    n = 3 * architecture.batch - architecture.ragged
    shape = (n, *INPUTS[architecture.input])
    tokens = architecture.input == "tokens"
    x: Any = rng.integers(0, TOKENS, shape) if tokens else rng.normal(size=shape).astype("float32")
    x = [x, rng.normal(size=(n, 3)).astype("float32")] if architecture.side_input else x
    like = _model(dataclasses.replace(architecture, style="functional")).outputs[0].shape[1:]
    classes = HEADS[architecture.loss][2]
    real = rng.normal(size=(n, *like)).astype("float32")
    y: Any = rng.integers(0, classes, (n, *like[:-1], 1)) if classes else real
    return x, [y, rng.normal(size=(n, *like[:-1], 1)).astype("float32")] if architecture.side_output else y
