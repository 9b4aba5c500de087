"""What the package offers, and what importing it costs."""

import subprocess
import sys

import pytest

import mim_jax


@pytest.mark.parametrize("name", mim_jax.__all__)
def test_every_public_name_exists_and_is_documented(name):
    assert getattr(mim_jax, name).__doc__


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        mim_jax.nonsense  # noqa: B018


@pytest.mark.parametrize(
    "module, heavy", [("mim_jax", "jax"), ("mim_jax.experiments.settings", "jax"), ("mim_jax.data", "tensorflow")]
)
def test_importing_leaves_heavy_packages_alone(module, heavy):
    code = f"import sys, {module}; sys.exit('{heavy}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
