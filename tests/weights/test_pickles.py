"""Pickles read as inert data."""

import argparse
import collections
import datetime
import functools
import io
import os
import pathlib
import pickle
import pickletools
import sys
import tracemalloc

import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.weights.files.inert import Global, Opaque
from mim_jax.weights.files.pickles import load_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def load(data, persistent=None):
    return load_pickle(io.BytesIO(data), len(data), "model.pth", persistent)


def refused(data) -> str:
    with pytest.raises(InputError) as raised:
        load(data)
    message = str(raised.value)
    assert message.startswith("model.pth") and "\n" not in message and len(message) < 400
    return message


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_come_back_as_they_were(protocol):
    shared = ["shared"]
    value = {
        "text": "añ\u2603\n", "bytes": b"\x00\xff", "none": None, "flags": (True, False), "floats": [1.5, -0.0, 1e300],
        "integers": [0, 1, -1, 255, 256, 65535, 65536, -(2**31), 2**31, 2**100, -(2**70)], "long text": "x" * 300,
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)), "empty": [[], {}, set()], "set": {1, 2},
        "frozen": frozenset([3]), (1, "pair"): "key", 5: shared, "again": shared, "many": list(range(2000)),
    }  # fmt: skip
    found = load(pickle.dumps(value, protocol))
    assert found == value
    assert found[5] is found["again"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_and_numbers_of_numpy_come_back_as_they_were(protocol):
    arrays = [
        np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3).T, np.arange(3, dtype=">i2"), np.array(True),
        np.array(["ab", "c"]), np.array([b"ab"]), np.zeros((0, 3), np.float16), np.array([1 + 2j]),
    ]  # fmt: skip
    found = load(pickle.dumps([arrays, arrays[0], np.float32(2.5), np.int64(-3)], protocol))
    for array, expected in zip(found[0], arrays, strict=True):
        assert array.dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(array, expected)
    assert found[1] is found[0][0]
    assert found[2:] == [2.5, -3]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_stay_opaque(protocol):
    counter = collections.Counter("aab")
    default = collections.defaultdict(list, a=[1])
    when = [datetime.date(2022, 1, 2), datetime.datetime(2022, 1, 2), datetime.timedelta(1)]
    value = [
        argparse.Namespace(lr=0.1),
        pathlib.PurePosixPath("/x/y"),
        counter,
        default,
        when,
        np.dtype("f4"),
        slice(1),
    ]
    settings, path, counted, plain, *rest = load(pickle.dumps(value, protocol))
    assert settings.name == "argparse.Namespace" and settings.get("lr") == 0.1 and settings.get("no", 3) == 3
    assert (path.name, path.arguments) == ("pathlib.PurePosixPath", ("/", "x", "y"))
    assert type(counted) is dict and counted == {"a": 2, "b": 1}
    assert type(plain) is dict and plain == {"a": [1]}
    assert [type(each) for each in (*rest[0], *rest[1:])] == [Opaque] * 5


class Settings(dict):
    """A dictionary with attributes, as configurations are."""


class Numbers(list):
    """A list with attributes."""


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_unknown_classes_keep_their_items_and_attributes(protocol):
    settings, numbers = Settings(size=224), Numbers([1, 2])
    settings.frozen = True
    found, values = load(pickle.dumps([settings, numbers], protocol))
    assert found.name.endswith("test_pickles.Settings") and found.items == {"size": 224}
    assert found.get("size") == 224 and found.get("frozen") is True
    assert values.values == [1, 2]


def test_arrays_of_objects_and_records_stay_opaque():
    found = load(pickle.dumps([np.array([{}, None]), np.zeros(2, [("a", "f4")])]))
    assert all(array.item().name == "numpy.ndarray" for array in found)


def test_names_are_only_names():
    assert load(b"cwarnings\nwarn\n.") == Global("warnings", "warn")
    assert load(b"ca b\n\\x\n.") == Global("a b", "\\x")  # nothing in a name is an escape
    assert str(load(b"\x80\x04\x8c\x05torch\x8c\x07float16\x93.")) == "torch.float16"


CALLS = {
    "REDUCE": b"cwarnings\nwarn\n(X\x06\x00\x00\x00calledtR.",
    "INST": b"(X\x06\x00\x00\x00callediwarnings\nwarn\n.",
    "OBJ": b"(cwarnings\nwarn\nX\x06\x00\x00\x00calledo.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x08warnings\x8c\x04warn\x93)R.",
}


@pytest.mark.parametrize("operation", CALLS)
def test_no_operation_calls_a_function(operation):
    assert "would call warnings.warn" in refused(CALLS[operation])


@pytest.mark.parametrize(
    "name",
    [
        "warnings\nwarn", "_warnings\nwarn", "torch._utils\n_rebuild_tensor_v9", "torch\nSizes", "numpy\nones",
        "collections\nChainMap", "argparse\nArgumentParser", "datetime\ntzinfo", "tests.weights.test_pickles\nSettings",
    ],
)  # fmt: skip
def test_calls_are_refused_by_exact_name(name):
    assert name.replace("\n", ".") in refused(f"c{name}\n)R.".encode())


def test_calling_what_is_no_name_is_refused():
    assert "would call list" in refused(b"])R.")
    assert "would call Opaque" in refused(b"cargparse\nNamespace\n)\x81)R.")
    refused(b"(" * 3 + b"t" * 3 + b")R.")


def test_odd_names_stay_on_one_short_line():
    refused("ctabs\tand\rsigns\u2603\ny\n)R.".encode())
    refused(b"c" + b"m" * 200 + b"\n" + b"f" * 40 + b"\n)R.")
    refused(b"c" + b"m" * 1000 + b"\nf\n)R.")


def test_attributes_of_a_dictionary_are_left_out():
    data = b"\x80\x02" + b"ccollections\nOrderedDict\n)R}X\x04\x00\x00\x00noteK\x01sb."
    assert load(data) == {} and type(load(data)) is dict


def test_a_pickle_that_ends_early_or_is_changed_is_one_clear_refusal():
    data = pickle.dumps({"a": [1, 2.5, "text", (b"bytes", None)], "array": np.arange(4)}, 2)
    for length in range(len(data)):
        refused(data[:length])


def test_bytes_behind_the_pickle_stay_unread():
    file = io.BytesIO(pickle.dumps(1) + pickle.dumps(2) + b"data")
    assert [load_pickle(file, 30, "model.pth") for _ in range(2)] == [1, 2]
    assert file.read() == b"data"


def nested(opening, closing, before=b"", after=b"."):
    return load(before + opening * 100 + b"N" + closing * 100 + after)


def test_nesting_is_read_and_printed_level_by_level():
    found = nested(b"](", b"e"), nested(b"}(K\1", b"u"), nested(b"", b"\x85"), nested(b"(", b"t")
    assert [type(each) for each in found] == [list, dict, tuple, tuple]
    assert repr(nested(b"cx\ny\n", b"\x85\x81")) == "Opaque(name='x.y')"


@pytest.mark.parametrize(("before", "after"), [(b"", b")R."), (b"}", b"Ns."), (b"\x8f(", b"\x90."), (b"(", b"\x91.")])
def test_nested_keys_are_refused(before, after):
    with pytest.raises(InputError):
        nested(b"(", b"t", before, after)


MEMORY = 2**20


@pytest.mark.parametrize(
    "data",
    [
        b"Nr" + (2**22).to_bytes(4, "little") + b".",  # a memo of so many places
        b"\x96" + (2**24).to_bytes(8, "little") + b"x.",  # an array of so many bytes
        b"\x8e" + (2**24).to_bytes(8, "little") + b"x.",
        b"\x8b" + (2**24).to_bytes(4, "little") + b"x.",
        b"X" + (2**24).to_bytes(4, "little") + b"x.",
        b"\x95" + (2**24).to_bytes(8, "little") + b"N.",
        b"cbuiltins\nlist\n(I" + b"9" * 4 + b"\ntR.",
    ],
)
def test_sizes_that_a_pickle_claims_take_no_memory(data):
    tracemalloc.start()
    try:
        load(data)
    except InputError:
        pass
    assert tracemalloc.get_traced_memory()[1] < MEMORY
    tracemalloc.stop()


def test_copying_the_same_things_again_and_again_is_refused(monkeypatch):
    monkeypatch.setattr("mim_jax.weights.files.pickles.MOST_OPERATIONS", 1000)
    values = b"\x80\x02](" + b"N" * 100 + b"e\x85q\x00"
    copies = b"(" + b"cbuiltins\nlist\nq\x01" + b"h\x01h\x00R" * 150 + b"l."
    assert "too much copying" in refused(values + copies)


def test_integers_beyond_reason_are_refused():
    assert load(b"\x8b\x00\x02\x00\x00" + b"\x01" * 512 + b".") > 2**4000
    refused(b"\x8b\x00\x10\x00\x00" + b"\x01" * 4096 + b".")
    refused(b"L" + b"9" * 5000 + b"L\n.")


def test_a_pickle_has_a_greatest_number_of_operations(monkeypatch):
    monkeypatch.setattr("mim_jax.weights.files.pickles.MOST_OPERATIONS", 100)
    assert load(b"N0" * 49 + b"N.") is None
    assert "100 operations" in refused(b"N0" * 60 + b"N.")


def test_every_operation_of_python_is_known_or_left_out_on_purpose():
    from mim_jax.weights.files.pickle_operations import OPERATIONS

    left_out = {"STRING", "PERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
    assert set(OPERATIONS) | left_out == {opcode.name for opcode in pickletools.opcodes}


def test_nothing_is_imported():
    before = set(sys.modules)
    load(b"(ccolorsys\nx\ncwave\ny\nt.")
    assert set(sys.modules) == before


def test_a_partial_function_is_inert():
    found = load(pickle.dumps(functools.partial(os.getcwd), 2))
    assert found.name == "functools.partial"
