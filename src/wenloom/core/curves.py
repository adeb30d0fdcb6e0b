"""Small curves in characters: every cell holds two by four dots (Braille patterns of Unicode)."""

import math
from collections.abc import Sequence

Points = Sequence[tuple[float, float]]
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a pattern by row and column of a cell (Unicode block U+2800)."""
_FULL = 0xFF


def braille(curves: Sequence[Points], width: int, height: int) -> list[list[tuple[str, int | None]]]:
    """Curves over each other in one frame, their points joined by straight lines; a lone point fills its cell.

    Args:
        curves: points by ascending x; where two share a cell, the later curve shows.
        width, height: characters.

    Returns:
        Rows of cells: the character, and the number of the curve that it is of (None where it is empty).

    >>> rows = braille([[(0, 0), (1, 1), (2, 2), (3, 3)]], 2, 1)
    >>> "".join(character for character, _ in rows[0])
    '⡠⠊'
    """
    points = [point for curve in curves for point in curve if all(map(math.isfinite, point))]
    cells: list[list[tuple[int, int | None]]] = [[(0, None)] * width for _ in range(height)]
    if points:
        left, right = min(x for x, _ in points), max(x for x, _ in points)
        low, high = min(y for _, y in points), max(y for _, y in points)
        for number, curve in enumerate(curves):
            dots = _dots(curve, (left, right), (low, high), 2 * width, 4 * height)
            for column, row in dots:
                bits, owner = cells[row // 4][column // 2]
                bits = bits if owner == number else 0
                dot = _DOTS[row % 4][column % 2] if len(dots) > 1 else _FULL
                cells[row // 4][column // 2] = bits | dot, number
    return [[(chr(0x2800 + bits), owner) for bits, owner in row] for row in cells]


def _dots(
    curve: Points, xs: tuple[float, float], ys: tuple[float, float], columns: int, rows: int
) -> list[tuple[int, int]]:
    """Column and row of a dot for every column that has points, at their mean, and those on the line between two of them."""
    sums: dict[int, list[float]] = {}
    for x, y in curve:
        if math.isfinite(x) and math.isfinite(y):
            sums.setdefault(_at(x, *xs, columns), []).append(y)
    dots = list[tuple[int, int]]()
    for column, values in sorted(sums.items()):
        row = rows - 1 - _at(sum(values) / len(values), *ys, rows)
        if dots:
            (left, start), (wide, tall) = dots[-1], (column - dots[-1][0], row - dots[-1][1])
            count = max(wide, abs(tall))
            dots += [(left + round(n * wide / count), start + round(n * tall / count)) for n in range(1, count)]
        dots.append((column, row))
    return dots


def _at(value: float, low: float, high: float, count: int) -> int:
    return round((value - low) / (high - low) * (count - 1)) if high > low else 0
