"""Pairs in an order in which neighbours share photographs.

Matching loads a photograph's features and indexes them once per chunk of pairs, which costs more than
matching a pair. So pairs are cut into chunks along an order that walks through the graph of pairs.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

Pair = tuple[str, str]


def near_together(pairs: Iterable[Pair]) -> list[Pair]:
    """The same pairs, each once and its smaller photograph first, in an order that depends on the set only.

    Photographs are visited one by one, next always the one with the largest share of its pairs leading to
    visited ones (then fewest pairs, then by name); a pair comes when its second photograph is visited. Time:
    K log K.
    """
    neighbours: dict[str, list[str]] = {}
    for first, second in sorted({(min(pair), max(pair)) for pair in pairs}):
        neighbours.setdefault(first, []).append(second)
        neighbours.setdefault(second, []).append(first)
    met = dict.fromkeys(neighbours, 0)
    visited: set[str] = set()
    result: list[Pair] = []
    waiting = [(0.0, len(others), name) for name, others in neighbours.items()]
    heapq.heapify(waiting)
    while waiting:
        _, _, name = heapq.heappop(waiting)
        if name in visited:
            continue
        visited.add(name)
        for other in neighbours[name]:
            if other in visited:
                result.append((min(name, other), max(name, other)))
            else:
                met[other] += 1
                count = len(neighbours[other])
                heapq.heappush(waiting, (-met[other] / count, count, other))
    return result
