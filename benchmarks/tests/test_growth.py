import json

import pytest

from benchmarks.growth import DIRECTIONS, LENGTHS, RESULTS, growth_cases, table


@pytest.fixture
def data():
    return json.loads((RESULTS / "growth.json").read_text())


def test_committed_table_is_generated_from_the_committed_data(data):
    assert (RESULTS / "growth.md").read_text() == table(data)


def test_every_length_has_a_row_for_eager(data):
    rows = {(row["axis"], row["direction"], row["length"]) for row in data["rows"] if row["contender"] == "eager"}
    assert rows == {(case.axis, case.name, length) for length, case in growth_cases()}
    assert len(rows) == 2 * len(DIRECTIONS) * len(LENGTHS)


def test_a_length_that_a_contender_does_not_support_has_a_dash():
    row = {"axis": "time", "direction": "forward", "length": 16, "contender": "flex", "products": 1.5, "peak_bytes": 0}
    drawn = table({"machine": "none", "torch": "none", "rows": [row]})
    assert "| flex | 1.50 | – | – | – | – | – |" in drawn
