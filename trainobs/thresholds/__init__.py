"""Every number that a verdict depends on, with its source: two frozen objects, and presets.

`NearZero` says what counts as near zero: sums are counted with it, and carry it. `Thresholds` has it,
and all that turns figures into findings, of an explanation and of a health check.

May import `errors`; never anything else of the package.
"""

from trainobs.thresholds._near_zero import NearZero
from trainobs.thresholds._thresholds import Thresholds

__all__ = ["NearZero", "Thresholds"]
