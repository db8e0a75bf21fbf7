"""SOTOPIA's seven dimensions: names, ranges, and the column names of upstream's result files.

Facts of the SOTOPIA evaluation, in the order of upstream's model; a test holds them against the installed package.
"""

from typing import NamedTuple

from sotopia_sdpo.outcomes import Outcome


class Dimension(NamedTuple):
    """One dimension."""

    name: str
    low: int
    high: int
    short: str

    @property
    def column(self) -> str:
        """The column of upstream's result files."""
        return f"{self.short} [{self.low}, {self.high}]"

    def outcome(self, score: float) -> Outcome:
        """Return a score on this dimension as an outcome."""
        return Outcome(self.name, score, self.low, self.high)


DIMENSIONS = (
    Dimension("believability", 0, 10, "BEL"),
    Dimension("relationship", -5, 5, "REL"),
    Dimension("knowledge", 0, 10, "KNO"),
    Dimension("secret", -10, 0, "SEC"),
    Dimension("social_rules", -10, 0, "SOC"),
    Dimension("financial_and_material_benefits", -5, 5, "FIN"),
    Dimension("goal", 0, 10, "GOAL"),
)
BY_NAME = {dimension.name: dimension for dimension in DIMENSIONS}
OVERALL = "overall_score"
UPSTREAM_ORDER = ("SOC", "SEC", "FIN", "REL", "KNO", "GOAL", "BEL")
