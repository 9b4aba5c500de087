"""Poolings from text."""

import pytest

from mim_jax.errors import InputError
from mim_jax.probing.pooling import POOLINGS, Pooling, make_pooling
from mim_jax.probing.pooling.from_attention import CentralAttention
from mim_jax.probing.pooling.frozen import check_choice
from mim_jax.probing.pooling.naming import options
from mim_jax.probing.pooling.plain import GeneralizedMean

ORIGINAL_NAMES = {
    *("cls", "both", "attn-mn", "attn-lcte"),
    *(f"{kind}{size}" for kind in ("cp", "ca") for size in (1, 2, 3, 4)),
    *(f"tcut-{kind}{suffix}" for kind in ("bip", "eig", "eigbip", "eigsft") for suffix in ("", "-f")),
}


@pytest.mark.parametrize("name", POOLINGS)
def test_every_name_makes_a_pooling_that_says_what_it_needs(name: str):
    pooling = make_pooling(name)
    assert isinstance(pooling, Pooling)
    assert isinstance(pooling.needs, tuple)


def test_the_names_of_the_original_are_known():
    assert ORIGINAL_NAMES <= set(POOLINGS)


@pytest.mark.parametrize("text", ["gem(start=2.5, per_feature=true)", " gem ( per_feature=True,start=2.5 ) "])
def test_options_are_read_by_their_types(text: str):
    assert make_pooling(text) == GeneralizedMean(start=2.5, per_feature=True)


def test_a_name_that_fixes_an_option_leaves_the_others():
    assert make_pooling("ca3(scale=sum)") == CentralAttention(3, "sum")
    assert list(options(POOLINGS["ca3"])) == ["scale"]
    assert make_pooling("cp2()").size == 2


@pytest.mark.parametrize(
    "text, near", [("attn-mm", "attn-mn"), ("pos", "mean"), ("gap", "mean"), ("dino", "oracle"), ("attn", "attn-mn")]
)
def test_an_unknown_name_is_answered_with_the_nearest(text: str, near: str):
    with pytest.raises(InputError, match=f"unknown pooling '{text}'; did you mean '{near}'"):
        make_pooling(text)


def test_a_name_like_no_other_is_answered_with_all():
    with pytest.raises(InputError, match="unknown pooling 'xyzzy'; known are cls, mean, both"):
        make_pooling("xyzzy")


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("ca2(scal=sum)", "pooling 'ca2' has no option 'scal'; did you mean 'scale'"),
        ("ca2(size=3)", "pooling 'ca2' has no option 'size'"),
        ("mean(scale=sum)", "pooling 'mean' has no option 'scale'; it has none"),
        ("gem(per=true)", "pooling 'gem' has no option 'per'; did you mean 'per_feature'"),
        ("mean(name=x)", "pooling 'mean' has no option 'name'"),
        ("ca2(scale=total)", "option scale must be one of mean, sum, not 'total'"),
        ("gem(start=three)", "option start of the pooling 'gem' must be a number, not 'three'"),
        ("gem(per_feature=maybe)", "option per_feature of the pooling 'gem' must be true or false, not 'maybe'"),
        ("gem(start)", "options of the pooling 'gem' are written option=value"),
        ("gem(start=1, start=2)", "options of the pooling 'gem' are written option=value, each once"),
        ("gem(start=2", "'gem.start=2' is no pooling; write a name"),
        ("", "'' is no pooling"),
    ],
)
def test_mistakes_are_explained(text: str, sentence: str):
    with pytest.raises(InputError, match=sentence):
        make_pooling(text)


def test_a_field_takes_only_its_choices():
    check_choice("scale", "sum", ("mean", "sum"))
    with pytest.raises(InputError, match="option scale must be one of mean, sum, not 'x'"):
        check_choice("scale", "x", ("mean", "sum"))
