"""Runs an experiment from a configuration file.

    python main.py --config=configs/quickstart.py
    python main.py --config=configs/pretrain/mae_vit_b16.py --workdir=runs/mae --config.data.source=/data/imagenet
    python main.py --config=configs/probe/poolings.py --encoder=MAE=runs/mae --config.data.source=/data/imagenet
    python main.py --config=configs/analyze.py --encoder=MAE=runs/mae --encoder=DeiT=deit.pth --config.data.source=/data

Any key of the configuration can be changed with --config.group.key=value.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file (a Python file with get_config()).")
_ENCODERS = flags.DEFINE_multi_string("encoder", [], "An encoder to probe or analyse, NAME=PATH; may be repeated.")
_COMPAT = flags.DEFINE_bool("compat", False, "Analysis: print beside ours what the code of other papers would give.")
_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the run; runs/NAME_OF_THE_CONFIGURATION if not given.")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Join a run of many processes, found from the cluster.")
_COORDINATOR = flags.DEFINE_string("coordinator", "", "Address of process 0 (host:port), where there is no cluster.")
_PROCESSES = flags.DEFINE_integer("processes", 1, "Number of processes, with --coordinator.")
_PROCESS = flags.DEFINE_integer("process", 0, "Number of this process, with --coordinator.")


def main(arguments: list[str]) -> int:
    """Runs the experiment; a user's mistake ends in one sentence and status 2."""
    from mim_jax.errors import InputError

    try:
        if len(arguments) > 1:
            raise InputError(f"unexpected argument '{arguments[1]}'; flags begin with --")
        if _CONFIG.value is None:
            raise InputError("no configuration given; try --config=configs/quickstart.py")
        return _run(_resolve(_CONFIG.value))  # resolved before JAX is imported: a wrong key is told at once
    except InputError as error:
        return _fail(error)


def _resolve(config: Any) -> Any:
    """Settings of the experiment that a configuration is of."""
    from mim_jax.errors import InputError

    experiment = config.get("experiment", "pretrain")
    if _COMPAT.value and experiment != "analyze":
        raise InputError(f"--compat is not for the experiment '{experiment}'; leave it out")
    if _ENCODERS.value:
        config = _with_encoders(config, experiment)
    if experiment == "pretrain":
        from mim_jax.experiments.settings import resolve

        return resolve(config)
    if experiment == "probe":
        from mim_jax.experiments.probe_settings import resolve_probe

        return resolve_probe(config)
    if experiment == "analyze":
        from mim_jax.experiments.analyze_settings import resolve_analyze, with_compat

        return with_compat(resolve_analyze(config)) if _COMPAT.value else resolve_analyze(config)
    raise InputError(f"unknown experiment '{experiment}'; known are pretrain, probe, analyze")


def _with_encoders(config: Any, experiment: str) -> Any:
    """The configuration with the encoders of the command line instead of its own."""
    from mim_jax.errors import InputError

    if "encoders" not in config:
        raise InputError(f"--encoder is not for the experiment '{experiment}'; leave it out")
    pairs = [pair.partition("=") for pair in _ENCODERS.value]
    for name, sign, path in pairs:
        if not (name and sign and path):
            raise InputError(f"--encoder={name}{sign}{path} is no NAME=PATH, such as MAE=runs/mae")
    return config.to_dict() | {"encoders": {name: path for name, _, path in pairs}}


def _experiment(settings: Any) -> Any:
    """The module that runs it."""
    return importlib.import_module(f"mim_jax.experiments.{getattr(settings, 'experiment', 'pretrain')}")


def _run(settings: Any) -> int:
    from mim_jax.errors import InputError
    from mim_jax.training.distributed import join
    from mim_jax.training.loop import Interrupted

    logging.set_verbosity(logging.WARNING)  # JAX tells every backend that it does not find
    join(cluster=_DISTRIBUTED.value, coordinator=_COORDINATOR.value, processes=_PROCESSES.value, process=_PROCESS.value)
    if "://" in _WORKDIR.value:
        raise InputError(f"--workdir={_WORKDIR.value} is no local folder; mount the bucket and give its path")
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    try:
        _experiment(settings).run(settings, Path(_WORKDIR.value or f"runs/{name}"))
    except (Interrupted, KeyboardInterrupt) as interruption:
        print(f"{str(interruption) or 'interrupted'}; start the same command again to go on", file=sys.stderr)
        return 130
    return 0


def _parse(arguments: list[str]) -> list[str]:
    """Parses the flags; what is wrong with them or with a configuration ends in one sentence."""
    from mim_jax.experiments.command_line import demand_what_is_given, mistake

    try:
        rest = flags.FLAGS(arguments)
        getattr(_CONFIG.value, "keys", None)  # a file that cannot be loaded is reported when it is first used
        demand_what_is_given(flags.FLAGS["config"])
        return rest
    except Exception as error:
        sys.exit(_fail(mistake(error, flags.FLAGS["config"], arguments)))


def _fail(message: object) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
