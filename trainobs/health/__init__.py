"""Monitors of a training's health: figures per weight, rules with sources, reports, logs.

May import `errors`, `thresholds`, `findings`, `records`, `recording`, `recorder`, `selection`, `capture`,
`statistics`, `analysis` and `report`; never `views`. From figures to acts, in the order of the
files:

1. `_weight_health` is a row of figures, typed. `_figures` makes one of every weight of a recorded step:
   `_parts` puts a weight together from its calls and gates, `_gradients`, `_scales` and `_activations` add
   what they measure, and `_samples` keeps what activations looked like, to see how far they move.
2. `_oscillation` follows the loss between checks.
3. `_measured` is all that rules look at; `rules/` turns it into findings, a file per rule.
4. `_verdict` joins what rules find with the causes that an explanation finds; `_report` is the frozen
   result of one check; `_check` the front door for models and recordings.
5. `_callback` joins it all in `fit`: `_history` keeps the checks, `_logs` and `_tensorboard` write them,
   `_acts` warns and stops, `_clipping` clips by measured norms.
"""

from trainobs.health._acts import HealthWarning
from trainobs.health._callback import GradientHealth
from trainobs.health._check import check_health
from trainobs.health._measured import Measured
from trainobs.health._report import HealthReport
from trainobs.health._weight_health import WeightHealth
from trainobs.health.rules import Rule, register_health_rule, unregister_health_rule

__all__ = [
    "GradientHealth",
    "HealthReport",
    "HealthWarning",
    "Measured",
    "Rule",
    "WeightHealth",
    "check_health",
    "register_health_rule",
    "unregister_health_rule",
]
