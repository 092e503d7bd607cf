"""Monitors of a training's health: figures per weight, rules with sources, reports, logs.

May import `errors`, `thresholds`, `records`, `recording`, `selection`, `capture`, `statistics`, `analysis`,
`report`, `recorder` and `explain`; never `views`. From figures to acts, in the order of the files:

1. `_settings` holds every threshold with its source, and presets of other tools.
2. `_samples` keeps what activations looked like at a check, and how far two checks are apart.
3. `_figures` turns one recorded step into a table of figures, a row per weight.
4. `_oscillation` follows the loss between checks.
5. `_rules` turns figures into findings, `_remedies` says what to do about each.
6. `_report` is the frozen result of one check; `_check` the front door for models and recordings.
7. `_clipping` clips by measured norms; `_tensorboard` writes event files; `_callback` joins it all in `fit`.
"""

from trainobs.health._callback import GradientHealth, HealthWarning
from trainobs.health._check import check_health
from trainobs.health._report import HealthReport
from trainobs.health._settings import HealthSettings

__all__ = ["GradientHealth", "HealthReport", "HealthSettings", "HealthWarning", "check_health"]
