"""Embedding: a table of which each position takes a row."""

from __future__ import annotations

import keras
import numpy as np

from trainobs.capture.layers._kind import Call, Kind, Part
from trainobs.linear_ops import LookupOp


class LookupKind(Kind):
    """The table is never copied: the rows that were looked up stand in the output."""

    reads_weights = False

    def variables(self, layer: keras.Layer) -> dict[str, keras.Variable | None]:
        return {"embeddings": layer.embeddings}

    def parts(self, call: Call) -> list[Part]:
        assert call.output is not None
        ids = np.asarray(call.input).astype(np.int64)
        op = LookupOp(call.layer.input_dim)
        rows, _ = op.rows_of(ids)
        return [Part("embeddings", op, ids, call.finish(call.output, None), "table", rows=rows)]
