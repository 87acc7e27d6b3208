"""Builds the CPU kernels when a compiler is there; without one the installation goes on, and plain torch is used."""

from pathlib import Path

from setuptools import Extension, setup

FOLDER = Path("kernels/cpu")

setup(
    ext_modules=[
        Extension(
            "kernels.cpu._native",
            sources=sorted(str(path) for path in FOLDER.glob("*.cpp")),
            depends=sorted(str(path) for path in FOLDER.glob("*.h")),
            language="c++",
            # No contraction: which products and sums are fused is written down, not left to the compiler.
            extra_compile_args=[
                "-std=c++17",
                "-O3",
                "-fvisibility=hidden",
                "-ffp-contract=off",
                "-fno-math-errno",
                "-w",
            ],
            extra_link_args=["-pthread"],
            optional=True,
        )
    ]
)
