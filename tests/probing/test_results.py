"""Table, files and text of probe results."""

import json

import pandas as pd

from mim_jax.probing.results import ProbeResult, results_table, results_text, save_results

RESULTS = [
    ProbeResult("raw pixels", "k-NN", 5, 0.7512, 0.0123, 5, {"neighbours": 5}),
    ProbeResult("raw pixels", "k-NN", None, 0.9694, None, 1, {"neighbours": 20}),
    ProbeResult("MAE", "linear", None, 0.5, None, 1, {"converged": True}),
]


def test_table_has_a_row_a_result_and_a_column_a_field_or_detail():
    table = results_table(RESULTS)
    assert list(table["encoder"]) == ["raw pixels", "raw pixels", "MAE"]
    assert table["labels_per_class"].isna().tolist() == [False, True, True]
    assert table["neighbours"].tolist()[:2] == [5, 20]
    assert "details" not in table


def test_text_is_aligned_with_labels_across():
    assert results_text(results_table(RESULTS)).split("\n") == [
        "encoder     protocol  5 a class   all labels",
        "--------------------------------------------",
        "raw pixels  k-NN      75.1 ± 1.2  96.9",
        "MAE         linear    -           50.0",
    ]


def test_files_read_back_and_nothing_else_is_left(tmp_path):
    csv, file = save_results(results_table(RESULTS), tmp_path / "new")
    assert pd.read_csv(csv)["accuracy_mean"].tolist() == [0.7512, 0.9694, 0.5]
    records = json.loads(file.read_text())
    assert records[1] == {
        "encoder": "raw pixels",
        "protocol": "k-NN",
        "labels_per_class": None,
        "accuracy_mean": 0.9694,
        "accuracy_std": None,
        "draws": 1,
        "neighbours": 20.0,
        "converged": None,
    }
    assert sorted(path.name for path in csv.parent.iterdir()) == ["probes.csv", "probes.json"]
