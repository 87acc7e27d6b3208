"""What every span says of the request that it belongs to: without a tenant only the local principal sees it.

Input: a ``RequestContext``. Output: attributes for the span that a service opens when a message arrives.
"""

from schemas.request import RequestContext
from schemas.telemetry import ATTR_KEY_ID, ATTR_REQUEST_ID, ATTR_TENANT, AttributeValue


def request_attributes(context: RequestContext) -> dict[str, AttributeValue]:
    """A new dictionary, to be extended."""
    principal = context.principal
    return {
        ATTR_REQUEST_ID: context.request_id,
        ATTR_TENANT: principal.tenant,
        ATTR_KEY_ID: principal.key_id,
    }
