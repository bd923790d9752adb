"""What processes wrote into a folder of metrics, as a scrape shows it."""

from collections.abc import Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families


def families(folder: Path) -> dict[str, Metric]:
    """Return what a reader of the format makes of the text, by the name of each family without
    `_total`."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]  # the library has no types here
    return {
        family.name: family
        for family in text_string_to_metric_families(generate_latest(registry).decode())
    }


def numbers(folder: Path) -> Mapping[tuple[str, ...], float]:
    """Return all numbers, by the name of the sample and the values of its labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(folder).values()
        for sample in family.samples
    }
