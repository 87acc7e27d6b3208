"""HTTP handlers of ``/v1/media``: what the model saw of an input, for whoever asked about it.

Input: the manifest's key, as an answer names it in ``moontide.media``. Output: the manifest as JSON, its frames and its
contact sheet as JPEG, and no other blob.
"""

from aiohttp import web

from services.gateway.error_body import json_response
from services.gateway.identity import PRINCIPAL
from services.gateway.seen_media import SeenMedia

MANIFEST = r"/v1/media/{manifest:sha256/[0-9a-f]{64}}"
HEADERS = {"Cache-Control": "private, max-age=86400, immutable", "X-Content-Type-Options": "nosniff"}


class MediaHandlers:
    def __init__(self, seen: SeenMedia) -> None:
        self._seen = seen

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(MANIFEST, self.manifest),
            web.get(rf"{MANIFEST}/frames/{{position:\d{{1,6}}}}.jpg", self.frame),
            web.get(f"{MANIFEST}/contact-sheet.jpg", self.contact_sheet),
        ]

    async def manifest(self, request: web.Request) -> web.Response:
        return json_response(await self._seen.manifest(request[PRINCIPAL], request.match_info["manifest"]))

    async def frame(self, request: web.Request) -> web.Response:
        position = int(request.match_info["position"])
        return _jpeg(await self._seen.frame(request[PRINCIPAL], request.match_info["manifest"], position))

    async def contact_sheet(self, request: web.Request) -> web.Response:
        return _jpeg(await self._seen.contact_sheet(request[PRINCIPAL], request.match_info["manifest"]))


def _jpeg(data: bytes) -> web.Response:
    return web.Response(body=data, content_type="image/jpeg", headers=HEADERS)
