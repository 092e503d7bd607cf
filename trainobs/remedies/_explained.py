"""What remedies read of a report."""

from __future__ import annotations

from typing import Protocol

import pandas as pd

from trainobs.diagnosis import Diagnosis
from trainobs.statistics import Statistics
from trainobs.thresholds import NearZero


class Explained(Protocol):
    """The part of a report that remedies need."""

    @property
    def diagnosis(self) -> Diagnosis:
        """Findings and their mechanisms."""

    @property
    def statistics(self) -> Statistics:
        """What was counted."""

    @property
    def near_zero(self) -> NearZero:
        """What counted as near zero."""

    @property
    def layers(self) -> pd.DataFrame:
        """A row per trainable weight."""

    def units(self, layer: str) -> pd.DataFrame:
        """A row per unit of a layer, or of a weight that is named by its path."""
