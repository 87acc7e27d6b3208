"""The work queue that ingest reads: media jobs, each acknowledged when its outcome is published."""

from schemas import names
from shared.bus.interface import WorkQueue

MEDIA_QUEUE = WorkQueue(stream=names.STREAM_MEDIA, subjects=(names.MEDIA_ALL,), durable=names.DURABLE_INGEST)
