"""Sequences: CTC, attention, masks, recurrent layers."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.faults.models import classifier, dense, rows_of_digits, sentences, transformer
from tests.faults.strangers.cases import KERAS, KERAS_IO, Built, Family, compiled, normal

CASES = Family()


def _ctc(steps: int, letters: int) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """A bidirectional GRU over noisy one-hot frames; labels of `letters` of 1…5, 0 is blank."""
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 6, (64, letters))
    spoken = np.repeat(labels, max(steps // letters, 1), axis=1)[:, :steps]
    x = np.eye(6, dtype="float32")[np.pad(spoken, ((0, 0), (0, steps - spoken.shape[1])))]
    start = keras.Input((steps, 6))
    hidden = layers.Bidirectional(layers.GRU(16, return_sequences=True, name="gru"), name="both")(start)
    return keras.Model(start, layers.Dense(6, name="letters")(hidden)), x + 0.1 * normal(*x.shape), labels


@CASES("CTC", KERAS_IO + "audio/ctc_asr.py")
def ctc() -> Built:
    """24 frames, 6 letters."""
    model, x, labels = _ctc(24, 6)
    return compiled(model, keras.losses.CTC(), x, labels)


@CASES(
    "CTC, labels longer than the input",
    "https://github.com/tensorflow/tensorflow/issues/16450 (ignore_longer_outputs_than_inputs); also "
    "https://github.com/keras-team/keras/issues/11516: no valid path",
    truth=(("zero_loss_gradient", "letters"), ("masked", "letters")),
    tape={"letters": "zero", "gru_cell": "zero"},
)
def long_labels() -> Built:
    """5 frames can't say 12 letters: with that option every sample of the batch is left out of the loss."""
    model, x, labels = _ctc(5, 12)
    sparse = tf.sparse.map_values(lambda letter: letter - 1, tf.sparse.from_dense(tf.cast(labels, tf.int32)))

    def loss() -> tf.Tensor:
        logits, lengths = model(x, training=True), tf.fill((64,), 5)
        options = {"time_major": False, "ignore_longer_outputs_than_inputs": True}
        return tf.reduce_mean(tf.compat.v1.nn.ctc_loss(sparse, logits, lengths, **options))

    return Built((model,), loss=loss)


def _translation() -> tuple[list[np.ndarray], np.ndarray]:
    """Sentences, what the decoder has said so far, and the sentence backwards."""
    source = sentences()[0][:192]
    target = source[:, ::-1]
    return [source, np.pad(target, ((0, 0), (1, 0)))[:, :-1]], target


def _seq2seq() -> keras.Model:
    start, said = keras.Input((12,), dtype="int32"), keras.Input((12,), dtype="int32")
    table = layers.Embedding(20, 16, name="table")
    memory, *state = layers.LSTM(24, return_sequences=True, return_state=True, name="encoder")(table(start))
    hidden = layers.LSTM(24, return_sequences=True, name="decoder")(table(said), initial_state=state)
    context = layers.Attention(name="attention")([hidden, memory])
    return keras.Model([start, said], dense(20, "tokens", "softmax")(layers.Concatenate()([hidden, context])))


@CASES("seq2seq with attention", KERAS_IO + "nlp/lstm_seq2seq.py")
def seq2seq() -> Built:
    """Teacher forcing, a shared table."""
    return compiled(_seq2seq(), "sparse_categorical_crossentropy", *_translation())


@CASES(
    "seq2seq, every position of the batch is padding",
    KERAS
    + "545: sparse sample_weight, batches without a valid sample have no loss to speak of; "
    + KERAS
    + "7917",
    truth=(("masked", "tokens"),),
    tape={"table": "zero", "encoder": "zero", "decoder": "zero", "tokens": "zero"},
)
def all_padding() -> Built:
    """Temporal weights that are all zero."""
    built = compiled(_seq2seq(), "sparse_categorical_crossentropy", *_translation())
    return Built(built.models, built.x, built.y, np.zeros((192, 12), "float32"))


@CASES("transformer that reads a text", KERAS_IO + "nlp/text_classification_with_transformer.py")
def text_transformer() -> Built:
    """Two blocks behind a table whose padding is masked."""
    x, y = sentences(padded=True)
    return compiled(transformer(), "sparse_categorical_crossentropy", x[:192], y[:192])


@CASES("masked language model", KERAS_IO + "nlp/masked_language_modeling.py")
def masked_language() -> Built:
    """One token in six is hidden (20), and only those count in the loss."""
    x = sentences()[0][:192]
    hidden = np.random.default_rng(0).random(x.shape) < 1 / 6
    start = keras.Input((12,), dtype="int32")
    places = layers.Embedding(12, 24, name="places")(ops.arange(12))
    tokens = layers.Embedding(21, 24, name="words")(start) + places
    read = layers.MultiHeadAttention(2, 12, name="attention")(tokens, tokens)
    block = layers.LayerNormalization(name="norm")(tokens + read)
    block = layers.LayerNormalization(name="norm2")(block + dense(24, "wide", "gelu")(block))
    model = keras.Model(start, dense(21, "guess", "softmax")(block))
    model.compile("adam", "sparse_categorical_crossentropy")
    return Built((model,), np.where(hidden, 20, x), x, hidden.astype("float32"))


def _pooled_by_attention(axis: int) -> Built:
    """Scores of time steps, a softmax over an axis, and the weighted sum."""
    x, y = rows_of_digits()
    start = keras.Input((8, 8))
    states = layers.GRU(24, return_sequences=True, name="gru")(start)
    weights = layers.Softmax(axis=axis, name="weights")(dense(1, "score", None)(states))
    context = ops.sum(states * weights, axis=1)
    model = classifier(start, context)
    return Built((model,), x[:192], y[:192])


@CASES(
    "attention over time steps",
    "https://www.tensorflow.org/text/tutorials/nmt_with_attention (Bahdanau's scores)",
    tape={"score/bias": "small"},
)
def attention_pooling() -> Built:
    """A bias that all scores share cancels in the softmax."""
    return _pooled_by_attention(axis=1)


@CASES(
    "attention, the softmax has one element",
    KERAS
    + "18909: softmax over an axis of one element puts out ones only; it is about the axis, and valid for "
    "any layer",
    truth=(("constant_output", "weights"),),
    tape={"score": "zero", "gru": "live", "head": "live"},
)
def softmax_of_one() -> Built:
    """Over the last axis: all weights are 1, the scores are never learned."""
    return _pooled_by_attention(axis=-1)


@CASES("bidirectional LSTM of a text", KERAS_IO + "nlp/bidirectional_lstm_imdb.py")
def bidirectional() -> Built:
    """Two layers of them."""
    x, y = sentences()
    start = keras.Input((12,), dtype="int32")
    hidden = layers.Embedding(20, 16, name="table")(start)
    hidden = layers.Bidirectional(layers.LSTM(12, return_sequences=True), name="first")(hidden)
    model = classifier(start, layers.Bidirectional(layers.LSTM(12), name="second")(hidden))
    return Built((model,), x[:192], y[:192])


@CASES(
    "LSTM of ReLUs, predictions are all zero",
    KERAS
    + "3687: LSTM layers and a Dense layer of one ReLU unit, mean squared error; all predictions are zero",
    truth=(("dead_activation", "out"),),
    tape={"lstm1": "zero", "lstm2": "zero", "out": "zero"},
)
def zero_predictions() -> Built:
    """What it reads is never negative, and its weights all are."""
    x, _ = rows_of_digits()
    hidden = [
        layers.LSTM(16, activation="relu", return_sequences=True, name="lstm1"),
        layers.LSTM(12, activation="relu", return_sequences=True, name="lstm2"),
    ]
    model = keras.Sequential([keras.Input((8, 8)), *hidden, dense(1, "out")])
    kernel = model.get_layer("out").kernel
    kernel.assign(-tf.abs(kernel))
    return compiled(model, "mse", x[:192], 1 + x[:192].sum(axis=2, keepdims=True))


@CASES(
    "recurrent layer, states that explode",
    "https://d2l.ai/chapter_recurrent-neural-networks/bptt.html: powers of the recurrent matrix",
    truth=(("exploding", "rnn"),),
    tape={"recurrent_kernel": "live"},
)
def exploding_states() -> Built:
    """A linear recurrence over 40 steps whose matrix is 1.6 times an orthogonal one."""
    layer = layers.SimpleRNN(
        16,
        activation="linear",
        recurrent_initializer=keras.initializers.Orthogonal(1.6, seed=0),
        name="rnn",
    )
    model = keras.Sequential([keras.Input((40, 4)), layer, dense(1, "out", None)])
    return compiled(model, "mse", normal(192, 40, 4), normal(192, 1, seed=1))
