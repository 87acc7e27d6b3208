"""The same real media files as the unit tests."""

from tests.unit.ingest.conftest import media_directory

__all__ = ["media_directory"]
