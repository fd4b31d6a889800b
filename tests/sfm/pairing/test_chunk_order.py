"""The order of pairs: the same set whatever the input's order, and few photographs in a chunk."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfm.pairing.chunk_order import near_together


def photographs_per_chunk(pairs: list[tuple[str, str]], size: int) -> int:
    chunks = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    return sum(len(set(itertools.chain(*chunk))) for chunk in chunks)


def test_a_chain_is_walked_from_an_end() -> None:
    """By hand: a-c-b-d. Ends have one pair, so the walk begins at a and never jumps."""
    assert near_together([("b", "d"), ("c", "b"), ("a", "c")]) == [("a", "c"), ("b", "c"), ("b", "d")]


def test_nothing() -> None:
    assert near_together([]) == []


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("ijklabcd")), max_size=40))
def test_every_pair_once_whatever_the_order(pairs: list[tuple[str, str]]) -> None:
    pairs = [pair for pair in pairs if pair[0] != pair[1]]
    turned = [(second, first) for first, second in reversed(pairs)]
    found = near_together(pairs)
    assert found == near_together(turned)
    assert sorted(found) == sorted({(min(pair), max(pair)) for pair in pairs})


@pytest.mark.parametrize("seed", range(3))
def test_chunks_of_a_collection_of_places_hold_few_photographs(seed: int) -> None:
    """40 places of 10 photographs under shuffled names: a chunk of 45 pairs should be one place."""
    names = [f"{number:03d}" for number in range(400)]
    random.Random(seed).shuffle(names)
    places = [names[start : start + 10] for start in range(0, 400, 10)]
    pairs = [(min(p), max(p)) for place in places for p in itertools.combinations(place, 2)]
    stray = [
        (min(p), max(p)) for p in zip(names, names[11:], strict=False) if random.Random(p[0]).random() < 0.1
    ]
    everything = sorted({*pairs, *stray})
    least = photographs_per_chunk(near_together(everything), 45)
    assert least < 0.5 * photographs_per_chunk(everything, 45)
