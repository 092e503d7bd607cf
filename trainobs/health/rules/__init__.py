"""One file per rule: which figure is compared with what, how severe it is, the sentence and what to do.

May import `findings`, `errors`, `thresholds` and health's own `_measured` and `_weight_health`; never figures
of arrays, records or Keras: a rule reads numbers.

`_rule` says what a rule is, and registers those that exist; `_asking` asks them. A new rule is one file that
subclasses `Rule`, and is imported here; one of yours stands anywhere (docs/extending). The table of rules
in docs/health.md is made from the docstrings (`python -m tests.docs.health_rules`).
"""

from trainobs.health.rules._asking import findings
from trainobs.health.rules._dead_units import DeadUnits as DeadUnits
from trainobs.health.rules._exploding import Exploding as Exploding
from trainobs.health.rules._first_last import FirstLast as FirstLast
from trainobs.health.rules._global_norm import GlobalNorm as GlobalNorm
from trainobs.health.rules._initial_weights import InitialWeights as InitialWeights
from trainobs.health.rules._mean_gradient import MeanGradient as MeanGradient
from trainobs.health.rules._non_finite import NonFinite as NonFinite
from trainobs.health.rules._oscillation import Oscillation as Oscillation
from trainobs.health.rules._rule import (
    Rule,
    register_health_rule,
    registered_rules,
    unregister_health_rule,
)
from trainobs.health.rules._saturated import Saturated as Saturated
from trainobs.health.rules._shift import Shift as Shift
from trainobs.health.rules._update import Update as Update
from trainobs.health.rules._vanishing import Vanishing as Vanishing
from trainobs.health.rules._zero_gradients import ZeroGradients as ZeroGradients

__all__ = ["Rule", "findings", "register_health_rule", "registered_rules", "unregister_health_rule"]
