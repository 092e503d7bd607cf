"""How alike n samples are, one from each of n sets: tables and a contrastive loss that stay finite.

| symbol | shape  | meaning                                                           |
|--------|--------|-------------------------------------------------------------------|
| f_k    | (B, d) | features of set k = 1 … n, B samples                              |
| u_k    | (B, d) | the same, normalised: f / max(‖f‖, eps) per row                   |
| S      | (B,)*n | table: S[i_1, …, i_n], similarity of sample i_1 of set 1, … i_n of set n |
| m      |        | n(n − 1)/2, the number of pairs of sets                           |
| C_kl   | (B, B) | C_kl[i, j] = u_k[i] · u_l[j], cosines                             |

`_checks` and `_memory` say what can be computed at all, `_tables` computes it, and `_loss` is a loss of it.

May import `errors`; never anything else of the package.
"""

from trainobs.similarity._checks import KINDS
from trainobs.similarity._loss import contrastive_loss, table_loss
from trainobs.similarity._memory import table_bytes
from trainobs.similarity._tables import similarity_table

__all__ = ["KINDS", "contrastive_loss", "similarity_table", "table_bytes", "table_loss"]
