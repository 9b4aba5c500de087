"""Table, files and texts of probes."""

import dataclasses
import json

import pandas as pd
import pytest

from mim_jax.errors import InputError
from mim_jax.probing.table import RAW_PIXELS, ProbeRow, probe_table, read_table, save_table
from mim_jax.probing.text import text_by_labels, text_by_reading

PIXELS = ("raw pixels", None, RAW_PIXELS, False)
ROWS = [
    ProbeRow(
        *PIXELS, "k-NN", 0.7512, 0.73, 0.77, 360,
        labels_per_class=5, draws=5, deviation=0.0123, details={"neighbours": 5},
    ),
    ProbeRow(*PIXELS, "k-NN", 0.9694, 0.94, 0.98, 360, details={"neighbours": 20}),
    ProbeRow("MAE", 4, "mean", True, "logistic", 0.5, 0.4, 0.6, 360, details={"converged": True}),
]  # fmt: skip
FIELDS = [field.name for field in dataclasses.fields(ProbeRow) if field.name != "details"]

OLD = """encoder,protocol,labels_per_class,accuracy_mean,accuracy_std,draws,neighbours,temperature,converged
raw pixels,k-NN,5,0.7512,0.0123,5,5.0,0.07,
MAE,linear,,0.5,,1,,,True
"""


def test_table_has_a_row_each_and_a_column_a_field_or_detail():
    table = probe_table(ROWS)
    assert list(table.columns) == [*FIELDS, "neighbours", "converged"]
    assert table["encoder"].tolist() == ["raw pixels", "raw pixels", "MAE"]
    assert table["labels_per_class"].isna().tolist() == [False, True, True]
    assert table["layer"].isna().tolist() == [True, True, False]
    assert table["neighbours"].tolist()[:2] == [5, 20]


def test_text_by_labels_is_aligned_with_labels_across():
    assert text_by_labels(probe_table(ROWS)).split("\n") == [
        "encoder     protocol  5 a class   all labels",
        "--------------------------------------------",
        "raw pixels  k-NN      75.1 ± 1.2  96.9",
        "MAE         logistic  -           50.0",
    ]


def test_text_by_reading_has_encoders_across():
    rows = [
        ProbeRow("MAE", 4, "cls", False, "trained", 0.5, 0.4, 0.6, 100, details={"learning_rate": 0.1}),
        ProbeRow("MAE", 4, "cls", False, "k-NN", 0.3, 0.2, 0.4, 100, labels_per_class=5),
        ProbeRow("DINO", 4, "cls", False, "trained", 0.7, 0.6, 0.8, 100),
        ProbeRow(*PIXELS, "k-NN", 0.2, 0.1, 0.3, 100, labels_per_class=5),
    ]
    assert text_by_reading(probe_table(rows)).split("\n") == [
        "protocol  labels     block  pooling  MAE   DINO  raw pixels",
        "-----------------------------------------------------------",
        "trained   all        4      cls      50.0  70.0  -",
        "k-NN      5 a class  4      cls      30.0  -     -",
        "k-NN      5 a class  -      pixels   -     -     20.0",
    ]


def test_files_read_back_and_nothing_else_is_left(tmp_path):
    table = probe_table(ROWS)
    save_table(table, tmp_path / "new")
    pd.testing.assert_frame_equal(read_table(tmp_path / "new"), table, check_dtype=False)
    record = json.loads((tmp_path / "new" / "probes.json").read_text())[1]
    wanted = dataclasses.asdict(ROWS[1]) | {"neighbours": 20.0, "converged": None}
    assert record == {name: value for name, value in wanted.items() if name != "details"}
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["probes.csv", "probes.json"]


def test_tables_of_older_runs_are_read_by_todays_names(tmp_path):
    (tmp_path / "probes.csv").write_text(OLD)
    table = read_table(tmp_path)
    assert set(FIELDS) <= set(table.columns) and not {"accuracy_mean", "accuracy_std"} & set(table.columns)
    assert table["protocol"].tolist() == ["k-NN", "logistic"]
    assert table["accuracy"].tolist() == [0.7512, 0.5] and table["deviation"].tolist()[0] == 0.0123
    assert table["low"].isna().all() and table["layer"].isna().all()
    assert text_by_labels(table).split("\n")[2] == "raw pixels  k-NN      75.1 ± 1.2  -"


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", None])
def test_what_is_no_table_of_probes_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / "probes.csv").write_text(content)
    with pytest.raises(InputError, match="probes.csv") as caught:
        read_table(tmp_path)
    assert "\n" not in str(caught.value)
