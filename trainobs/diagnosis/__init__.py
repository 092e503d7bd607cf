"""See, walk, merge, rank: from figures to findings.

May import `errors`, `thresholds`, `records`, `statistics`, `analysis` and `mechanisms`; never `capture`,
`explanation` or anything behind them.
"""

from trainobs.diagnosis._findings import Diagnosis, Finding, diagnose
from trainobs.diagnosis._sentences import chain, evidence, remedy

__all__ = ["Diagnosis", "Finding", "chain", "diagnose", "evidence", "remedy"]
