"""Records and statistics on disk: one safetensors file, no pickle, read without the model or TensorFlow.

May import `errors`, `linear_ops`, `records` and `statistics`; never `capture`, `analysis` or anything behind
them. `_kinds` knows what can be stored and what its fields hold, `_packing` makes plain values of it and
takes them back, `_agreement` refuses what does not fit together, `_archive` is the file with its checksums,
and `_replacing` puts a file in its place at once.
"""

from trainobs.storage._records import load_records, save_records

__all__ = ["load_records", "save_records"]
