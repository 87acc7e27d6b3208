"""``python -m services.ingest``: one ingest process."""

from services.ingest.app import app
from services.ingest.config import IngestConfig
from shared.service import Service, main

if __name__ == "__main__":
    main(Service("ingest", IngestConfig, app))
