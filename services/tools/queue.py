"""The work queue that tools reads: tool jobs, each acknowledged when its outcome is kept and published."""

from schemas import names
from shared.bus.interface import WorkQueue

TOOLS_QUEUE = WorkQueue(stream=names.STREAM_TOOLS, subjects=(names.TOOLS_ALL,), durable=names.DURABLE_TOOLS)
