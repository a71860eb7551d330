"""minigen's packaging. `kernels/` stands at the top of the repository because it is half of what
people come to read; it is installed and imported as `minigen.kernels`."""

from setuptools import find_packages, setup

LECTURE = ["latex2mathml>=3.77,<4", "pygments>=2.17,<3", "jinja2>=3.1,<4"]
TEST = ["pytest>=8", "pytest-xdist>=3.5", "hypothesis>=6", "ruff>=0.6"] + LECTURE

setup(
    name="minigen",
    version="0.1.0",
    description="Five university lectures on generative models, as software",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["minigen", "minigen.*"]) + ["minigen.kernels"],
    package_dir={"minigen.kernels": "kernels"},
    package_data={
        "minigen": ["py.typed", "**/*.toml", "**/*.npz", "**/*.safetensors",
                    "lecture/site/*"],
        "minigen.kernels": ["*.cu", "*.cuh", "*.h"],
    },
    install_requires=[
        "numpy>=2.0",
        "scipy>=1.13",
        "numba>=0.63",  # once.py asks it to find functions again when it loads their callers
        "pillow>=10",
        "matplotlib>=3.8",
        "tqdm>=4.66",
        "safetensors>=0.4",
        "pooch>=1.8",
        "threadpoolctl>=3.5",
    ],
    extras_require={
        "cuda13": ["cupy-cuda13x[ctk]", "cuda-toolkit[crt]==13.*", "numba-cuda", "numpy<2.5"],
        "cuda12": ["cupy-cuda12x[ctk]", "cuda-toolkit[crt]==12.*", "numba-cuda", "numpy<2.5"],
        "nvrtc": [
            "cupy-cuda13x",
            "nvidia-cuda-nvrtc",
            "nvidia-cuda-runtime",
            "nvidia-cuda-crt",
            "nvidia-cuda-cccl",
        ],
        "mpi": ["mpi4py", "mpich"],
        "lecture": LECTURE,
        "test": TEST,
        "parity": TEST + ["torch"],
    },
)
