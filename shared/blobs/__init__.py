"""Bytes by reference: content-addressed blobs, derived results and named records, over obstore.

store = BlobStore.open("file:///…" | "s3://…")
ref = await store.put(data)                    # BlobRef(key="sha256/<hex>", size_bytes)
async with store.spool(max_bytes=n) as spool:  # hashing while writing, never whole in memory
    await spool.write(chunk)
ref = spool.ref
data = await store.get(ref)                    # NotFound(code "blob.not_found"); Internal on a hash mismatch
await store.written(ref)                       # Unix seconds, or None
await store.save(ref, path)                    # stream into a file
data = await store.resolve(payload)            # bytes | BlobRef → bytes
payload = await store.inline_or_put(data)      # bytes up to INLINE_MAX_BYTES, BlobRef above
await store.put_record(kind, name, data) / get_record(kind, name) -> bytes | None / delete_record / list_records
key = derived_key(input_key, operation, parameters: bytes, code_version)   # pure, hex
await store.put_derived(key, data) / get_derived(key) -> bytes | None
await store.collect(now_unix_seconds, lifetimes) -> CollectReport          # expiry, oldest first

Import from the files: ``shared.blobs.store.BlobStore``, ``shared.blobs.derived.derived_key``,
``shared.blobs.lifetimes.Lifetimes``.
"""
