"""A job that was taken out of its work queue, kept on ``MOONTIDE_PARKED`` for a person to look at."""

import msgspec


class ParkedJob(msgspec.Struct, frozen=True, kw_only=True, tag="job.parked"):
    stream: str
    durable: str
    subject: str
    """Where the job was enqueued: publishing ``data`` there again retries it."""
    data: bytes
    deliveries: int
    reason: str
