"""Runs an experiment from a configuration file.

    python main.py --config=configs/quickstart.py
    python main.py --config=configs/pretrain/mae_vit_b16.py --config.data.source=data/imagenet
    python main.py --config=configs/probe/poolings.py --encoder=MAE=runs/mae_vit_b16 --config.data.source=data/imagenet
    python main.py --config=configs/analyze.py --encoder=MAE=runs/mae_vit_b16 --encoder=DeiT=deit_base_patch16_224.pth

Any key of the configuration can be changed with --config.group.key=value.
"""

from mim_jax.command_line import INTERRUPTED, interruptible, leave_on_interrupt, run_command, tell_mistake

if __name__ == "__main__":
    leave_on_interrupt()  # before anything else is imported

import importlib
import sys
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from mim_jax.errors import InputError

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file (a Python file with get_config()).")
_ENCODERS = flags.DEFINE_multi_string("encoder", [], "An encoder to probe or analyse, NAME=PATH; may be repeated.")
_COMPAT = flags.DEFINE_bool("compat", False, "Analysis: print beside ours what the code of other papers would give.")
_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the run; runs/NAME_OF_THE_CONFIGURATION if not given.")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Join a run of many processes, found from the cluster.")
_COORDINATOR = flags.DEFINE_string("coordinator", "", "Address of process 0 (host:port), where there is no cluster.")
_PROCESSES = flags.DEFINE_integer("processes", 1, "Number of processes, with --coordinator.")
_PROCESS = flags.DEFINE_integer("process", 0, "Number of this process, with --coordinator.")

GO_ON = "{}; start the same command again to go on"


def main(arguments: list[str]) -> int:
    """Runs the experiment; raises InputError for a user's mistake."""
    if len(arguments) > 1:
        raise InputError(f"unexpected argument '{arguments[1]}'; flags begin with --")
    if _CONFIG.value is None:
        raise InputError("no configuration given; try --config=configs/quickstart.py")
    from mim_jax.experiments.early_checks import check_run

    settings, workdir = _resolve(_CONFIG.value), _workdir()
    check_run(settings, workdir)  # what is wrong with keys and paths is told at once, before JAX is imported
    return _run(settings, workdir)


def _workdir() -> Path:
    """The folder of the run."""
    from mim_jax.paths import local_path

    if "://" in _WORKDIR.value:
        raise InputError(f"--workdir={_WORKDIR.value} is no local folder; mount the bucket and give its path")
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    return local_path(_WORKDIR.value or f"runs/{name}")


def _resolve(config: Any) -> Any:
    """Settings of the experiment that a configuration is of, with full paths."""
    from mim_jax.experiments.places import with_full_paths

    experiment = config.get("experiment", "pretrain")
    if _COMPAT.value and experiment != "analyze":
        raise InputError(f"--compat is not for the experiment '{experiment}'; leave it out")
    if _ENCODERS.value:
        config = _with_encoders(config, experiment)
    config = with_full_paths(config)
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


def _run(settings: Any, workdir: Path) -> int:
    from mim_jax.training.distributed import join
    from mim_jax.training.loop import Interrupted

    logging.set_verbosity(logging.WARNING)  # JAX tells every backend that it does not find
    join(cluster=_DISTRIBUTED.value, coordinator=_COORDINATOR.value, processes=_PROCESSES.value, process=_PROCESS.value)
    experiment = _experiment(settings)
    try:
        with interruptible():  # everything is imported; from here on files are written
            experiment.run(settings, workdir)
    except Interrupted as interruption:
        print(GO_ON.format(interruption), file=sys.stderr)
        return INTERRUPTED
    return 0


def _parse(arguments: list[str]) -> list[str]:
    """Parses the flags; what is wrong with them or with a configuration ends in one sentence."""
    from mim_jax.experiments.command_line import demand_what_is_given, mistake

    try:
        rest = flags.FLAGS(arguments)
        getattr(_CONFIG.value, "keys", None)  # a file that cannot be loaded is reported when it is first used
        demand_what_is_given(flags.FLAGS["config"])
        return rest
    except BrokenPipeError:
        raise  # nobody reads the help to its end
    except Exception as error:
        sys.exit(tell_mistake(mistake(error, flags.FLAGS["config"], arguments)))


def _at_home(argument: str) -> str:
    """The flag of the configuration with `~` as the home folder: behind "=" the shell leaves it as it is."""
    flag, _, path = argument.partition("=")
    return f"{flag}={Path(path).expanduser()}" if flag.lstrip("-") == "config" and path.startswith("~") else argument


if __name__ == "__main__":
    start = lambda: app.run(main, flags_parser=lambda arguments: _parse([*map(_at_home, arguments)]))
    sys.exit(run_command(start, interrupted=GO_ON.format("interrupted")))
