"""Reinforcement learning: values, policies, and what is lost between environment and tape."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tests.faults.models import dense
from tests.faults.strangers.cases import KERAS_IO, TENSORFLOW, Built, Family, normal

CASES = Family()

ACTIONS = np.random.default_rng(0).integers(0, 3, 128)
RETURNS = normal(128, seed=1)


def _net(outputs: int, name: str) -> keras.Model:
    return keras.Sequential(
        [keras.Input((6,)), dense(32, "q1"), dense(32, "q2"), dense(outputs, name, None)], name="net"
    )


def _actor_critic() -> keras.Model:
    start = keras.Input((6,))
    common = dense(32, "common")(start)
    return keras.Model(start, [dense(3, "actor", "softmax")(common), dense(1, "critic", None)(common)])


def _policy_loss(policy: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    chosen = tf.reduce_sum(tf.one_hot(ACTIONS, 3) * policy, axis=1)
    advantage = RETURNS - value[:, 0]
    return tf.reduce_mean(-tf.math.log(chosen) * tf.stop_gradient(advantage)) + tf.reduce_mean(advantage**2)


@CASES("DQN, one update of the values", KERAS_IO + "rl/deep_q_network_breakout.py")
def dqn() -> Built:
    """Huber loss of the values of chosen actions, against those of a target network."""
    net, target = _net(3, "values"), _net(3, "target_values")
    states, following = normal(128, 6), normal(128, 6, seed=2)
    goal = RETURNS + 0.9 * tf.reduce_max(target(following), axis=1)

    def loss() -> tf.Tensor:
        chosen = tf.reduce_sum(tf.one_hot(ACTIONS, 3) * net(states, training=True), axis=1)
        return keras.losses.Huber()(goal, chosen)

    return Built((net,), loss=loss)


@CASES("actor and critic", KERAS_IO + "rl/actor_critic_cartpole.py")
def actor_critic() -> Built:
    """Two heads, one of which weights the other's logarithms."""
    net, states = _actor_critic(), normal(128, 6)
    return Built((net,), loss=lambda: _policy_loss(*net(states, training=True)))


@CASES(
    "actor and critic, the tape opens after the forward pass",
    "https://github.com/keras-team/keras-io/issues/406: moving the tape to where it is used, no gradients are"
    " provided",
    truth=(("disconnected", "actor"), ("disconnected", "critic")),
    tape={"common": "none", "actor": "none", "critic": "none"},
)
def late_tape() -> Built:
    """What the net computed is a constant for the tape."""
    net, states = _actor_critic(), normal(128, 6)
    outputs: list[tf.Tensor] = []
    return Built(
        (net,),
        before=lambda: outputs.extend(net(states, training=True)),
        loss=lambda: _policy_loss(*outputs[-2:]),
    )


@CASES(
    "policy gradient, logarithms kept as numbers",
    "https://github.com/Quantum-Cheese/DeepReinforcementLearning_Pytorch/issues/1: a list of numbers "
    "made into a"
    f" tensor has no gradient; {TENSORFLOW}43065",
    truth=(("disconnected", "logits"),),
    tape={"q1": "none", "q2": "none", "logits": "none"},
)
def numbers_in_memory() -> Built:
    """The memory of the episode contains NumPy numbers."""
    net, states = _net(3, "logits"), normal(128, 6)

    def loss() -> tf.Tensor:
        logarithms = tf.nn.log_softmax(net(states, training=True)).numpy()
        memory = [float(row[action]) for row, action in zip(logarithms, ACTIONS, strict=True)]
        return -tf.reduce_mean(tf.constant(memory) * RETURNS)

    return Built((net,), loss=loss)


def _actor_through_critic(gain: float) -> Built:
    """An actor whose loss is what a critic says of its actions."""
    start = keras.Input((6,))
    action = dense(2, "action", "tanh")(dense(32, "a1")(start))
    actor = keras.Model(start, action, name="actor")
    state, done = keras.Input((6,)), keras.Input((2,))
    value = dense(1, "value", None)(dense(32, "c1")(layers.Concatenate()([state, done])))
    critic = keras.Model([state, done], value, name="critic_net")
    actor.get_layer("action").bias.assign([gain, gain])
    states = tf.constant(normal(128, 6))
    return Built((actor,), loss=lambda: -tf.reduce_mean(critic([states, actor(states, training=True)])))


@CASES("DDPG, the actor's step", KERAS_IO + "rl/ddpg_pendulum.py")
def ddpg() -> Built:
    """The gradient comes through a critic that is not trained in this step."""
    return _actor_through_critic(0.0)


@CASES(
    "DDPG, all actions are 1",
    "https://github.com/pemami4911/deep-rl/issues/11: the actor's outputs go to 1 and stay there",
    truth=(("saturated_activation", "action"),),
    tape={"a1": "zero", "action": "zero"},
)
def stuck_actions() -> Built:
    """The tanh of the actions is saturated."""
    return _actor_through_critic(12.0)


@CASES("PPO, a policy's clipped step", KERAS_IO + "rl/ppo_cartpole.py")
def ppo() -> Built:
    """Ratios that left the trusted interval pass nothing on, by design."""
    net, states = _net(3, "logits"), normal(128, 6)
    old = tf.nn.log_softmax(net(states)) + 0.15 * normal(128, 3, seed=3)

    def loss() -> tf.Tensor:
        now = tf.nn.log_softmax(net(states, training=True))
        chosen = tf.one_hot(ACTIONS, 3)
        ratio = tf.exp(tf.reduce_sum(chosen * (now - old), axis=1))
        return -tf.reduce_mean(tf.minimum(ratio * RETURNS, tf.clip_by_value(ratio, 0.8, 1.2) * RETURNS))

    return Built((net,), loss=loss)
