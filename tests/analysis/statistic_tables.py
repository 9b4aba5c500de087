"""A table of statistics for the tests of figures."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

COLUMNS = ("encoder", "layer", "head", "query", "statistic", "value", "standard_error", "ci95_low", "ci95_high", "n")

OF_HEADS = {
    ("attention_distance", "patches"): ("px", 20.0, 115.0),
    ("attention_entropy", "patches"): ("nats", 3.0, 5.2),
    ("attention_entropy", "class"): ("nats", 3.4, 5.25),
    ("row_offset", "patches"): ("px", -3.0, 3.0),
    ("column_offset", "patches"): ("px", -3.0, 3.0),
    ("normalised_mutual_information", "patches"): ("", 0.05, 0.4),
    ("self_attention", "patches"): ("", 0.005, 0.08),
    ("self_attention", "class"): ("", 0.05, 0.7),
    ("attention_to_class", "patches"): ("", 0.02, 0.4),
    ("kl_between_heads", "patches"): ("nats", 0.3, 4.0),
}
"""Unit and about which values heads have, by statistic and query."""

OF_LAYERS = {
    ("kl_between_heads", "patches"): ("nats", 0.6, 3.0),
    ("jensen_shannon_between_heads", "patches"): ("nats", 0.2, 1.4),
    ("update_magnitude", "patches"): ("", 0.05, 0.5),
    ("update_magnitude", "class"): ("", 0.05, 0.6),
    ("fourier_relative_log_amplitude", ""): ("", -3.3, -2.0),
}
"""The same for whole layers."""


def statistic_table(encoders: Sequence[str] = ("one", "two"), heads: Sequence[int] = (4, 4, 4)) -> pd.DataFrame:
    """Every encoder has a layer for each of `heads`; values are random, between those of `OF_HEADS` and `OF_LAYERS`."""
    return mixed_table({encoder: heads for encoder in encoders})


def mixed_table(heads: Mapping[str, Sequence[int]]) -> pd.DataFrame:
    """The same for encoders of their own layers and heads."""
    random = np.random.default_rng(0)
    rows = []
    for encoder, numbers in heads.items():
        for layer, number in enumerate(numbers, 1):
            for names, members in ((OF_HEADS, range(1, number + 1)), (OF_LAYERS, [pd.NA])):
                for (statistic, query), (unit, low, high) in names.items():
                    # Drawn towards an end that moves with depth, as trained encoders have it.
                    centre = low + (high - low) * (0.2 + 0.5 * layer / len(numbers))
                    for head in members:
                        value = centre + 0.15 * (high - low) * random.standard_normal()
                        error = 0.02 * (high - low)
                        place = encoder, layer, head, query, statistic
                        rows.append((*place, value, error, value - 1.96 * error, value + 1.96 * error, 50, unit, "-"))
    table = pd.DataFrame(rows, columns=[*COLUMNS, "unit", "definition"])
    return table.astype({"head": "Int64"})
