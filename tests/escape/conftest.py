"""Where no sandbox can be made, there is nothing to escape from."""

from tests.integration.tools.conftest import sandbox

__all__ = ["sandbox"]
