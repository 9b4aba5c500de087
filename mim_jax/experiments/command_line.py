"""A configuration on the command line: what its keys may be, and what is said where they are wrong."""

import re
from collections.abc import Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from mim_jax.errors import ranked
from mim_jax.experiments.building import build_settings, leaf_keys, unknown_key

FREE = ("options", "encoders", "stated")
"""Groups whose keys are up to the user."""


class WholeNumber(flags.IntegerParser):
    """Reads whole numbers, also such as 1e3, as in a configuration file."""

    def convert(self, argument: str | int) -> int:
        """The number; raises ValueError if it is not whole."""
        try:
            return super().convert(argument)
        except ValueError:
            number = float(argument)
        if not number.is_integer():
            raise ValueError(f"'{argument}' is no whole number")
        return int(number)


config_flags.register_flag_parser_for_type(int, WholeNumber())


def mistake(error: Exception, flag: flags.Flag, arguments: Sequence[str]) -> str:
    """The sentence about flags that cannot be parsed; `flag` is that of the configuration."""
    if isinstance(error, flags.UnrecognizedFlagError):
        near = ranked(error.flagname.partition(".")[0], list(flags.FLAGS))[:1]
        return f"there is no flag --{error.flagname}" + f"; did you mean --{near[0]}?" * bool(near)
    if isinstance(error, (AttributeError, KeyError, TypeError)) and (sentence := _unknown(flag, arguments)):
        return sentence
    reason = (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[-1].strip()
    return reason if isinstance(error, flags.Error) else f"the configuration cannot be loaded: {reason}"


def demand_what_is_given(flag: flags.Flag) -> None:
    """Keys that the command line sets are no wishes (`where_possible`): what they name has to be there."""
    config: Any = flag.value
    if "where_possible" not in (config or {}):
        return
    from mim_jax.experiments.probe_settings import ProbeSettings, wishes

    named, demanded = wishes(build_settings(ProbeSettings, config)), getattr(flag, "override_values", {})
    config.where_possible = tuple(key for key in named if key not in demanded)


def _unknown(flag: flags.Flag, arguments: Sequence[str]) -> str:
    """The sentence about the first key on the command line that the configuration does not have; "" if it has all."""
    try:
        config: Any = flag.parser.parse(_file(arguments))
        known = list(leaf_keys(_kind(config), "config"))
    except Exception:
        return ""  # the file itself is at fault, and its own error says so
    for argument in arguments:
        found = re.match(r"--?(?:no)?(config\.[^=]+)", argument)
        if found and not any(f"{key}.".startswith(f"{found[1]}.") for key in known):
            group, _, key = found[1].rpartition(".")
            if group in known and group.rpartition(".")[2] in FREE:
                return f"keys of {group} are given together, as in --{group}='{{\"{key}\": VALUE}}'"
            return unknown_key(found[1], known)
    return ""


def _kind(config: ml_collections.ConfigDict) -> type:
    """The settings that a configuration is of."""
    from mim_jax.experiments.analyze_settings import AnalyzeSettings
    from mim_jax.experiments.probe_settings import ProbeSettings
    from mim_jax.experiments.settings import Settings

    kinds = {"probe": ProbeSettings, "analyze": AnalyzeSettings}
    return kinds.get(config.get("experiment", ""), Settings)


def _file(arguments: Sequence[str]) -> str:
    """What --config is on a command line."""
    for argument, following in zip(arguments, [*arguments[1:], ""]):
        name, _, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "config":
            return value or following
    return ""
