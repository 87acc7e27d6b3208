"""Names of derived results: the hash of (input, operation, parameters, code version), so that every stage is a cache.

Pure. It must not know where results are kept.
"""

import hashlib


def derived_key(input_key: str, operation: str, parameters: bytes, code_version: str) -> str:
    """Hex sha256 of the four fields, each preceded by its length so that no two different quadruples run together."""
    digest = hashlib.sha256()
    for field in (input_key.encode(), operation.encode(), parameters, code_version.encode()):
        digest.update(len(field).to_bytes(8, "little"))
        digest.update(field)
    return digest.hexdigest()
