"""The numbers as text, in the exposition format that Prometheus reads.

Source: Prometheus, exposition formats, text format 0.0.4. No label contains anything that needs escaping: all of them
are defined in `series`.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, TypeAlias

from .series import SERIES, Series

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_Labels: TypeAlias = dict[str, str]
_Numbers: TypeAlias = Sequence[int]


def exposition(rows: Mapping[str, _Numbers]) -> str:
    """Return every series.

    Args:
        rows: the cells of each process, by its name: `supervisor`, `storekeeper`, `worker-0` and so on.
    """
    together = [sum(cells) for cells in zip(*rows.values(), strict=True)]
    lines: list[str] = []
    for series in SERIES:
        shown: list[tuple[_Labels, _Numbers]] = [({}, together)]
        if series.writers:
            shown = [({"process": name}, row) for name, row in rows.items() if name.partition("-")[0] in series.writers]
        numbers = [({**labels, **own}, block) for labels, row in shown for own, block in _blocks(series, row)]
        lines += _histogram(series, numbers) if series.kind == "histogram" else _plain(series, numbers)
    return "\n".join(lines) + "\n"


def _blocks(series: Series, row: _Numbers) -> Iterator[tuple[_Labels, _Numbers]]:
    names = [label.name for label in series.labels]
    for at, values in enumerate(series.label_sets):
        start = series.start + at * series.width
        yield dict(zip(names, values, strict=True)), row[start : start + series.width]


def _plain(series: Series, numbers: Sequence[tuple[_Labels, _Numbers]]) -> Iterator[str]:
    yield from _head(series.name, series.kind, series.help)
    yield from [_line(series.name, labels, _scaled(block[0], series)) for labels, block in numbers]


def _histogram(series: Series, numbers: Sequence[tuple[_Labels, _Numbers]]) -> Iterator[str]:
    if series.counted is not None:
        name, counted = series.counted
        yield from _head(name, "counter", counted)
        yield from [_line(name, labels, sum(block[:-1])) for labels, block in numbers]
        numbers = _without_last_label(series, numbers)
    yield from _head(series.name, series.kind, series.help)
    bounds = [*[str(bound / series.unit if series.unit > 1 else bound) for bound in series.bounds], "+Inf"]
    for labels, block in numbers:
        *buckets, total = block
        for bound, count in zip(bounds, accumulate(buckets), strict=True):
            yield _line(f"{series.name}_bucket", {**labels, "le": bound}, count)
        yield _line(f"{series.name}_sum", labels, _scaled(total, series))
        yield _line(f"{series.name}_count", labels, sum(buckets))


def _without_last_label(
    series: Series, numbers: Sequence[tuple[_Labels, _Numbers]]
) -> Sequence[tuple[_Labels, _Numbers]]:
    """Add up the numbers that differ only in the last label."""
    last = series.labels[-1]
    step = len(last.values)
    merged = []
    for at in range(0, len(numbers), step):
        labels = {name: value for name, value in numbers[at][0].items() if name != last.name}
        blocks = [block for _, block in numbers[at : at + step]]
        merged.append((labels, [sum(cells) for cells in zip(*blocks, strict=True)]))
    return merged


def _scaled(number: int, series: Series) -> float:
    return number / series.unit if series.unit > 1 else number


def _head(name: str, kind: str, counted: str) -> tuple[str, str]:
    return f"# HELP {name} {counted}", f"# TYPE {name} {kind}"


def _line(name: str, labels: _Labels, number: float) -> str:
    listed = ",".join([f'{label}="{value}"' for label, value in labels.items()])
    return f"{name}{{{listed}}} {number!r}" if listed else f"{name} {number!r}"
