"""The figures of a run as one HTML page: bars in SVG, no script, no request for anything, the same
bytes each time."""

from collections.abc import Iterator, Mapping
from html import escape
from math import log

from measuring import OURS
from report import Report

_WIDTH, _BAR, _GAP, _LABEL = 920, 16, 4, 250
_LEAST = 0.01  # below it nothing is measured
_COLOURS = {OURS: "#2f6f8f"}
_OTHER_COLOUR = "#c98a3d"
_STYLE = (
    "body{font:14px/1.4 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0"
    " 1em;color:#222;background:#fff}table{border-collapse:collapse}td,th{padding:.15em"
    " .8em;text-align:right;border-bottom:1px solid"
    " #ddd}td:first-child,th:first-child{text-align:left}svg text{font:12px"
    " system-ui,sans-serif;fill:#222}"
)

Row = Mapping[str, str | int | float]


def page(report: Report) -> str:
    """Return the page."""
    counts = sorted({int(row["connections"]) for row in report.loads})
    parts = [
        (
            "<!doctype html><html lang=en><meta"
            f" charset=utf-8><title>Benchmark</title><style>{_STYLE}</style>"
        ),
        "<h1>What requests cost</h1>",
        (
            "<p>CPU time of the server, all of its processes, per request, in the best round."
            " Scales are logarithmic.</p>"
        ),
    ]
    for connections in counts:
        rows = [row for row in report.loads if row["connections"] == connections]
        parts += [
            f"<h2>{_connections(connections)}</h2>",
            _chart(rows, "cpu_us", "µs"),
            "<h3>Latency, p99</h3>",
        ]
        parts += [_chart(rows, "p99_ms", "ms")]
    parts += ["<h2>Floors</h2>", _table(report.floor_cpu_us, "CPU µs")]
    for name, figures in report.scenarios.items():
        parts += [f"<h2>{escape(name[:1].upper() + name[1:])}</h2>", _table(figures, "")]
    return "\n".join(parts) + "\n</html>\n"


def _connections(count: int) -> str:
    return "One connection" if count == 1 else f"{count} connections"


def _chart(rows: list[Row], figure: str, unit: str) -> str:
    height = len(rows) * (_BAR + _GAP) + _GAP
    lines = "".join(_bars(rows, figure, unit))
    return (
        f'<svg role="img" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH}'
        f' {height}">{lines}</svg>'
    )


def _bars(rows: list[Row], figure: str, unit: str) -> Iterator[str]:
    """Draw the bars; loads differ by a thousand, so their length is the logarithm."""
    values = [max(float(row[figure]), _LEAST) for row in rows]
    low, high = log(min(values) / 2), log(max(values))
    room = _WIDTH - _LABEL - 110
    for at, row in enumerate(rows):
        value = values[at]
        top = _GAP + at * (_BAR + _GAP)
        width = round(room * (log(value) - low) / (high - low))
        colour = _COLOURS.get(str(row["node"]), _OTHER_COLOUR)
        name = f"{row['load']}{'' if row['node'] == OURS else ' (' + str(row['node']) + ')'}"
        yield f'<text x="{_LABEL - 8}" y="{top + 12}" text-anchor="end">{escape(name)}</text>'
        yield f'<rect x="{_LABEL}" y="{top}" width="{width}" height="{_BAR}" fill="{colour}"/>'
        yield f'<text x="{_LABEL + width + 6}" y="{top + 12}">{value:,.2f} {unit}</text>'


def _table(figures: Mapping[str, float], unit: str) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{value:,.2f} {unit}</td></tr>"
        for name, value in figures.items()
    )
    return f"<table>{rows}</table>"
