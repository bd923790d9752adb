"""The results of a run, as JSON and as a table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from floors import Floors
from measuring import OTHER, OURS, Total

MANY = 16  # the number of connections at which a node's cost is compared with one that bears fewer


@dataclass(frozen=True, slots=True)
class Report:
    """The results of one run.

    Attributes:
        loads: a row for each load, node and number of connections; see `Total.figures`, and besides
            `floors` (CPU time as a multiple of HTTP server and signature check), and in rows of the
            other node `ratio` (its CPU time to ours at as many connections) and `ratio_16` (to ours
            at sixteen, whatever its own number).
        floor_cpu_us: the floors by name.
        scenarios: figures of each scenario by name.
    """

    loads: Sequence[Mapping[str, str | int | float]]
    floor_cpu_us: Mapping[str, float]
    scenarios: Mapping[str, Mapping[str, float]]

    def to_json(self) -> str:
        """Return the run as a text."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode() + "\n"


def report_of(
    totals: Sequence[Total], floors: Floors, scenarios: Mapping[str, Mapping[str, float]]
) -> Report:
    """Work out the rows of a run."""
    ours = {(total.load, total.connections): total.cpu_us for total in totals if total.node == OURS}
    rows = []
    for total in totals:
        row = total.figures() | {"floors": round(total.cpu_us / floors.of(total.connections), 2)}
        if total.node == OTHER:
            row |= {
                name: round(total.cpu_us / ours[total.load, at], 2)
                for name, at in (("ratio", total.connections), (f"ratio_{MANY}", MANY))
                if (total.load, at) in ours
            }
        rows.append(row)
    named = {name: round(us, 1) for name, us in floors.named().items()}
    return Report(rows, named, {**_steps_of_a_release(ours, floors), **scenarios})


def _steps_of_a_release(
    ours: Mapping[tuple[str, int], float], floors: Floors
) -> dict[str, dict[str, float]]:
    """Put the steps of a release to a backend together, over sixteen connections or else one, where
    all are there."""
    steps = ("challenge", "session", "decrypt, attested", "decrypt, in person")
    counts = [count for count in (MANY, 1) if all((step, count) in ours for step in steps)]
    if not counts:
        return {}
    figures = {f"{step}: CPU µs": ours[step, counts[0]] for step in steps}
    attested, in_person = (ours[step, counts[0]] for step in steps[2:])
    figures["evidence, share of an attested decrypt"] = (attested - in_person) / attested
    floor = floors.of_release(counts[0])
    figures |= {
        "floor of a decrypt: CPU µs": floor,
        "decrypt, in person: floors": in_person / floor,
    }
    return {"steps of a release": figures}


_COLUMNS = {
    "req/s": "requests_per_s",
    "CPU µs": "cpu_us",
    "median": "cpu_us_median",
    "p50 ms": "p50_ms",
    "p99 ms": "p99_ms",
    "RSS MiB": "rss_mib",
    "floors": "floors",
    "ratio": "ratio",
    f"to {MANY}": f"ratio_{MANY}",
}


def printed(report: Report) -> Iterator[str]:
    """Yield the lines of the tables."""
    yield f"{'load':<22}{'conn':>5}{'node':>7}{''.join(f'{name:>9}' for name in _COLUMNS)}"
    for row in report.loads:
        cells = "".join(f"{row.get(key, ''):>9}" for key in _COLUMNS.values())
        yield f"{row['load']:<22}{row['connections']:>5}{row['node']:>7}{cells}"
    yield ""
    yield from (f"floor: {name:<40}{us:>9.1f} CPU µs" for name, us in report.floor_cpu_us.items())
    for name, figures in report.scenarios.items():
        yield f"\n{name}"
        yield from (f"  {figure:<66}{value:>10.2f}" for figure, value in figures.items())
