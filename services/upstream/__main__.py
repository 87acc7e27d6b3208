"""``python -m services.upstream``: the service, configured by ``MOONTIDE_UPSTREAM_*``."""

from services.upstream.app import app
from services.upstream.config import UpstreamConfig
from shared import service


def main() -> None:
    service.main(service.Service(name="upstream", config=UpstreamConfig, app=app))


if __name__ == "__main__":
    main()
