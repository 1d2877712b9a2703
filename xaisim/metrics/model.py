"""The model as metrics see it: logits of pictures, asked for a batch at a time.

    scores(batch: (N, C, H, W)) -> (N, classes)

Any function will do: a float graph, a fixed-point device, PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np

from xaisim.ir.graph import Array

Scores = Callable[[Array], Array]


def batches(pictures: Iterable[Array], batch_size: int) -> Iterator[Array]:
    """Yield pictures (C, H, W) as arrays of at most ``batch_size``; raises ``ValueError`` for a size below 1."""
    if batch_size < 1:
        raise ValueError(f"a batch has at least one picture, not {batch_size}")
    rest = iter(pictures)
    while batch := list(islice(rest, batch_size)):
        yield np.stack(batch)


def logits(scores: Scores, pictures: Iterable[Array], batch_size: int) -> Array:
    """Return the logits (N, classes) of pictures (C, H, W), which may be made one by one.

    Raises ``ValueError`` where the model does not give a row of logits for every picture.
    """
    rows = []
    for batch in batches(pictures, batch_size):
        rows.append(np.asarray(scores(batch)))
        if rows[-1].ndim != 2 or len(rows[-1]) != len(batch):
            shape = rows[-1].shape
            raise ValueError(f"the model must give (N, classes) logits, got shape {shape} for {len(batch)} pictures")
    return np.concatenate(rows)


def softmax(rows: Array) -> Array:
    """Return the probabilities of logits (N, classes)."""
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def chosen(row: Array, target: int | None) -> int:
    """Return ``target``, or the class of the largest logit where none is named; raises ``ValueError`` if it is none."""
    if target is None:
        return int(row.argmax())
    if not 0 <= target < len(row):
        raise ValueError(f"class {target} does not exist; the model has classes 0 to {len(row) - 1}")
    return target
