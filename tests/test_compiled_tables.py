"""Do the compiled parts of mapping say what the plain ones say?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xaisim.hardware.memory import Sram
from xaisim.mapping.price import _stored_bytes
from xaisim.mapping.tiles import Edge, by_user


@given(st.integers(1, 40), st.integers(0, 300), st.integers(0, 2**32 - 1))
def test_edges_are_sorted_by_user_and_stay_in_order_where_they_are_alike(rows: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = [rng.integers(most, size=count) for most in (rows, rows, len(Edge), 2)]
    edges = np.stack(columns)
    assert by_user(edges, rows).tolist() == np.lexsort((edges[2], edges[0], edges[1])).tolist()


@pytest.mark.parametrize("word", [None, 8, 20, 64, 256])
@given(elements=st.integers(0, 10**7), bits=st.integers(1, 64))
def test_words_hold_what_the_memory_says(word: int | None, elements: int, bits: int) -> None:
    memory = Sram(
        name="m", kind="sram", size="1KiB", holds=("activation",), bytes_per_cycle=8.0, buffers=1, word_bits=word
    )
    assert _stored_bytes(elements, bits, word or 0) == memory.stored_bytes(elements, bits)
