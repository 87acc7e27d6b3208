"""The same generated cases in every run, so that a red test is red again. New ones: ``HYPOTHESIS_PROFILE=search``."""

import os

from hypothesis import settings

settings.register_profile("fixed", derandomize=True)
settings.register_profile("search", print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))
