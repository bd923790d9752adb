"""Metrics that processes wrote into a folder, as a scrape returns them."""

from collections.abc import Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families


def families(folder: Path) -> dict[str, Metric]:
    """Parse the text and return its families by name without `_total`."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]  # the library has no types here
    return {
        family.name: family
        for family in text_string_to_metric_families(generate_latest(registry).decode())
    }


def numbers(folder: Path) -> Mapping[tuple[str, ...], float]:
    """Return all samples by name and label values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(folder).values()
        for sample in family.samples
    }
