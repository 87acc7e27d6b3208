"""``python -m services.gateway``: one gateway, configured by ``MOONTIDE_GATEWAY_*``."""

from services.gateway.app import SERVICE
from shared.service import main

if __name__ == "__main__":
    main(SERVICE)
