"""One file per rule: what is held against what, how severe it is, its sentence and what to do about it.

May import `findings`, `errors`, `thresholds` and health's own `_measured` and `_weight_health`; never figures
of arrays, records or Keras: a rule reads numbers. `_rule` says what a rule is, `_registry` asks all of
them. The table of rules in docs/health.md is made from the docstrings (`python -m tests.docs.health_rules`).

A rule of ours is a file and a line of `_IN_ORDER`; one of yours is a class and `register_health_rule`.
"""

from trainobs.health.rules._dead_units import DeadUnits
from trainobs.health.rules._exploding import Exploding
from trainobs.health.rules._first_last import FirstLast
from trainobs.health.rules._global_norm import GlobalNorm
from trainobs.health.rules._initial_weights import InitialWeights
from trainobs.health.rules._mean_gradient import MeanGradient
from trainobs.health.rules._non_finite import NonFinite
from trainobs.health.rules._oscillation import Oscillation
from trainobs.health.rules._registry import findings, register_health_rule, registered_rules
from trainobs.health.rules._rule import Rule
from trainobs.health.rules._saturated import Saturated
from trainobs.health.rules._shift import Shift
from trainobs.health.rules._update import Update
from trainobs.health.rules._vanishing import Vanishing
from trainobs.health.rules._zero_gradients import ZeroGradients

#: The order in which a table shows findings of one severity.
_IN_ORDER = (
    NonFinite, Exploding, Vanishing, FirstLast, ZeroGradients, GlobalNorm, DeadUnits, Saturated,
    InitialWeights, Update, Oscillation, MeanGradient, Shift,
)  # fmt: skip
for _rule in _IN_ORDER:
    register_health_rule(_rule)

__all__ = ["Rule", "findings", "register_health_rule", "registered_rules"]
