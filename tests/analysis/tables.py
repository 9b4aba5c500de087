"""Tables for the tests of figures and the report."""

import pandas as pd

from mim_jax.analysis.tables import COLUMNS


def attention_table(encoders: tuple[str, ...] = ("one", "two"), layers: int = 3, heads: int = 4) -> pd.DataFrame:
    """Distances that grow with the layer and differ between heads and encoders."""
    rows = []
    for index, encoder in enumerate(encoders):
        for layer in range(1, layers + 1):
            for head in range(1, heads + 1):
                value = 10.0 * layer + head + 100 * index
                place = (encoder, layer, head, "patches", "attention_distance")
                rows.append((*place, value, 0.5, value - 1, value + 1, 50, "px", "pixels"))
    return pd.DataFrame(rows, columns=COLUMNS)


def probe_table() -> pd.DataFrame:
    """Two encoders, two protocols, 1 and 5 labels a class and all."""
    rows = [
        (encoder, protocol, labels, 0.1 * (index + 1) + 0.01 * labels, 0.02 if labels else None, 5 if labels else 1)
        for index, encoder in enumerate(("raw pixels", "MAE"))
        for protocol in ("k-NN", "logistic")
        for labels in (1, 5, 0)
    ]
    columns = ["encoder", "protocol", "labels_per_class", "accuracy", "deviation", "draws"]
    table = pd.DataFrame(rows, columns=columns).astype({"labels_per_class": "Int64"})
    return table.replace({"labels_per_class": {0: pd.NA}})
