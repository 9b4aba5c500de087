from setuptools import find_packages, setup

setup(
    name="mim_jax",
    version="0.1.0",
    description="Masked image modeling in JAX: pre-train, probe and understand vision encoders.",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=find_packages(include=["mim_jax", "mim_jax.*"]),
    package_data={"mim_jax.weights": ["known_checkpoints.json"]},
    install_requires=[
        "absl-py>=2.1",
        "array_record>=0.8",
        "einops>=0.8",
        "etils>=1.12",
        "flax>=0.12.8,<0.13",
        "grain>=0.2.18,<0.3",
        "importlib_resources>=6",  # tensorflow-datasets needs it and does not say so
        "jax>=0.10.2,<0.11",
        "jaxtyping>=0.3.4",
        "matplotlib>=3.9",
        "ml_dtypes>=0.5",
        "ml-collections>=1.1,<2",
        "numpy>=2.0",
        "optax>=0.2.8,<0.3",
        "orbax-checkpoint>=0.12.8,<0.13",
        "pandas>=2.2",
        "pillow>=11",
        "pyarrow>=17",
        "scikit-learn>=1.5",
        "scipy>=1.13",
        "tensorboardX>=2.6.2",
        "tensorflow-datasets>=4.9.10,<5",
        "tqdm>=4.66",
    ],
    extras_require={
        "test": [
            "beartype>=0.22",
            "jax[tpu]; sys_platform == 'linux' and platform_machine == 'x86_64'",  # its compiler; no TPU is needed
            "pytest>=8.3",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "safetensors>=0.5",
        ],
        "torch": ["torch>=2.6", "transformers>=4.50"],
        "wandb": ["wandb>=0.18"],
    },
)
