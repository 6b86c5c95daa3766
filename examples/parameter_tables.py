"""Prints Table 8 of "Instance-Level Meta Normalization" and Table 4 of "Associate Normalization".

What the methods add to the parameters of residual networks with group normalization (stem for
ImageNet, 1000 classes), in percent, as printed and as counted here. "Group" and "instance" is where
the key features come from: groups of channels, or each channel by itself.

    python examples/parameter_tables.py
"""

import dataclasses
import functools

from kerasnorm import models

NETWORKS = (
    models.ResNet18,
    models.ResNet34,
    models.ResNet50,
    models.ResNet101,
    models.ResNet152,
)


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        table: where it is printed.
        keys: as the row is named there.
        spec: the norm.
        printed: percent for each of `NETWORKS`, as text, since its digits count.
    """

    table: str
    keys: str
    spec: dict
    printed: tuple[str, ...]

    @functools.cached_property
    def counted(self) -> list[float]:
        """What we count, in percent."""
        plain = [parameters(network, "group") for network in NETWORKS]
        with_norm = [parameters(network, self.spec) for network in NETWORKS]
        return [100 * (b - a) / a for a, b in zip(plain, with_norm, strict=True)]


ILM, ASSOCIATE = "Instance-Level Meta Normalization, Table 8", "Associate Normalization, Table 4"
ROWS = (
    Row(
        ILM,
        "group",
        {"name": "ilm_group", "key_group_size": 16},
        ("0.015", "0.015", "0.086", "0.086", "0.086"),
    ),
    Row(
        ILM,
        "instance",
        {"name": "ilm_group", "key_group_size": 1},
        ("2.792", "2.462", "20.696", "20.313", "20.178"),
    ),
    Row(ASSOCIATE, "group", {"name": "associate"}, ("0.03", "0.03", "0.04", "0.04", "0.05")),
    Row(
        ASSOCIATE,
        "instance",
        {"name": "associate", "key_features": "instance"},
        ("2.79", "2.46", "20.70", "20.31", "20.18"),
    ),
)


def parameters(network, norm) -> int:
    """The parameters of a network with a norm."""
    plan = models.plan(network, (224, 224, 3), 1000, norm=norm, stem="imagenet")
    return plan.parameters()


def main() -> None:
    """Print the tables."""
    for table in (ILM, ASSOCIATE):
        print(f"{table} (percent)\n")
        print("".join(["keys".ljust(19), *(n.__name__.rjust(11) for n in NETWORKS)]))
        for row in ROWS:
            if row.table == table:
                print(
                    "".join([f"{row.keys}, printed".ljust(19), *(p.rjust(11) for p in row.printed)])
                )
                counted = (f"{value:.4f}".rjust(11) for value in row.counted)
                print("".join([f"{row.keys}, counted".ljust(19), *counted]))
        print()


if __name__ == "__main__":
    main()
