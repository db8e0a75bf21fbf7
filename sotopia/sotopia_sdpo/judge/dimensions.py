"""SOTOPIA's seven dimensions: names, ranges, and the column names of upstream's result files.

Facts of the SOTOPIA evaluation, in the order of upstream's model; a test holds them against the installed package.
"""

from typing import NamedTuple


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


DIMENSIONS = (
    Dimension("believability", 0, 10, "BEL"),
    Dimension("relationship", -5, 5, "REL"),
    Dimension("knowledge", 0, 10, "KNO"),
    Dimension("secret", -10, 0, "SEC"),
    Dimension("social_rules", -10, 0, "SOC"),
    Dimension("financial_and_material_benefits", -5, 5, "FIN"),
    Dimension("goal", 0, 10, "GOAL"),
)
OVERALL = "overall_score"
UPSTREAM_ORDER = ("SOC", "SEC", "FIN", "REL", "KNO", "GOAL", "BEL")
