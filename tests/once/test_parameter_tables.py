"""The papers' tables of parameters, as the example prints them."""

import pytest

from examples import parameter_tables


@pytest.mark.parametrize("row", parameter_tables.ROWS, ids=lambda row: f"{row.table} {row.keys}")
def test_counts_are_those_of_the_papers(row):
    for network, printed, counted in zip(
        parameter_tables.NETWORKS, row.printed, row.counted, strict=True
    ):
        digits = len(printed.partition(".")[2])
        near = abs(counted - float(printed)) <= 0.001
        assert near or f"{counted:.{digits}f}" == printed, (network.__name__, printed, counted)


def test_example_prints_both_tables(capsys):
    parameter_tables.main()
    printed = capsys.readouterr().out
    for text in ("Table 8", "Table 4", "ResNet152", "group, printed", "2.4628", "0.0494"):
        assert text in printed
