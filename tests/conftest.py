"""Settings that every test needs before JAX starts; processes that tests start inherit them."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Many tests run the same small programs: each is compiled once. Every worker has a folder of its own, for an entry that
# another one is writing is not whole.
_CACHE = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(Path(__file__).parents[1] / ".pytest_cache" / "compiled")
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(_CACHE, os.environ.get("PYTEST_XDIST_WORKER", "alone"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

# Most of the time goes into compiling programs that run for milliseconds: half of it is the optimisation of their code.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")
