"""``python -m services.tools``: one tools process."""

from services.tools.app import app
from services.tools.config import ToolsConfig
from shared.service import Service, main

if __name__ == "__main__":
    main(Service("tools", ToolsConfig, app))
