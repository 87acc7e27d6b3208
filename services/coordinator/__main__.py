"""``python -m services.coordinator``: one coordinator process."""

from services.coordinator.app import app
from services.coordinator.config import CoordinatorConfig
from shared.service import Service, main

if __name__ == "__main__":
    main(Service("coordinator", CoordinatorConfig, app))
