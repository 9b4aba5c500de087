"""Settings that every test needs before JAX starts."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
