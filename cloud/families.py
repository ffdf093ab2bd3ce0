"""Metric families whose values are found at the moment somebody asks, on control and on hosts.

A module declares its families as constants and fills a `Found` at every scrape. What is only
counted as it happens stands in `cloud.metrics`. Pure of Django: the monitor uses it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# Every Prometheus reads this version of the format.
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


@dataclass(frozen=True)
class Family:
    """`name` as it is exported: one that ends in _total only ever grows."""

    name: str
    help: str
    labels: tuple[str, ...] = ()

    def empty(self) -> GaugeMetricFamily | CounterMetricFamily:
        kind = CounterMetricFamily if self.name.endswith("_total") else GaugeMetricFamily
        return kind(self.name, self.help, labels=self.labels)


class Found(Collector):
    """The values of one scrape; a family without any is still announced."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._metrics = {family: family.empty() for family in families}

    def add(self, family: Family, value: float, *labels: object) -> None:
        """`labels`: their values, in the order of the family."""
        self._metrics[family].add_metric([str(label) for label in labels], value)

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics.values()


def exposition(*collectors: Collector) -> bytes:
    """The text that Prometheus reads."""
    return b"".join(map(generate_latest, collectors))
