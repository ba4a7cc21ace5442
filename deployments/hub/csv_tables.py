"""Tables as a model of tables reads them: a header and rows of texts, read from CSV. Knows no model."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from cluster.errors import ModelError

DELIMITERS = ",;\t|"
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Table:
    """Every row has as many cells as the header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    first_row: int = 0  # place of the first row in the whole table

    @classmethod
    def read(cls, text: str) -> Self:
        """Of CSV with a header line; the delimiter is the one most frequent in it. Raises ModelError when there is no row."""
        head = next((line for line in text.splitlines() if line.strip()), "")
        delimiter = max(DELIMITERS, key=head.count)
        lines = [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(text.strip()), delimiter=delimiter)]
        lines = [line for line in lines if any(line)]
        if len(lines) < 2:
            raise ModelError("the text is no table: CSV with a header line and one row at least was expected")
        width = max(map(len, lines))
        header, *rows = [(*line, *[""] * (width - len(line))) for line in lines]
        return cls(header, tuple(rows))

    def halves(self) -> tuple["Table", "Table"]:
        half = len(self.rows) // 2
        later = Table(self.header, self.rows[half:], self.first_row + half)
        return Table(self.header, self.rows[:half], self.first_row), later


def number(cell: str) -> float | None:
    """$1,234.50 → 1234.5. A comma between groups of three digits separates thousands; None where no number stands."""
    found = _NUMBER.search(re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", cell))
    return float(found.group()) if found else None


def aggregated(operator: str, cells: Sequence[str]) -> str | None:
    """COUNT, SUM or AVERAGE of cells; None where a cell is no number, or for another operator."""
    if operator == "COUNT":
        return str(len(cells))
    numbers = [found for cell in cells if (found := number(cell)) is not None]
    if operator not in ("SUM", "AVERAGE") or not cells or len(numbers) < len(cells):
        return None
    return f"{sum(numbers) / (len(numbers) if operator == 'AVERAGE' else 1):.10g}"
