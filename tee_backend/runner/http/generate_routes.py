"""The route by which owners have secrets made (RN142): `POST /secrets/generate`.

Example:
    surface = RunnerSurface(runner, limits, calls)
    GenerateSurface(surface, SecretMaker(runner, backend, tags)).mount(app)
"""

from aiohttp import web

from sealspace.apps.run_calls import SIGN_IN_HEADER

from ...errors import KeepingError
from ..calls.answers import Answer, status_of
from ..calls.generated_secrets import MAX_GENERATION_BODY_BYTES, SecretMaker, refused
from ..reasons import RunRefused
from .routes import RunnerSurface, respond


class GenerateSurface:
    """Answers owners who have secrets made.

    Args:
        surface: reads bodies within the bounds of the runner.
        maker: makes them.
    """

    def __init__(self, surface: RunnerSurface, maker: SecretMaker) -> None:
        self._surface = surface
        self._maker = maker

    def mount(self, app: web.Application) -> None:
        """Add the route to an application whose server does not decompress bodies."""
        app.router.add_post("/secrets/generate", self._generate)

    async def _generate(self, request: web.Request) -> web.Response:
        try:
            async with self._surface.body(request, most_bytes=MAX_GENERATION_BODY_BYTES) as body:
                headers = request.headers
                made = await self._maker.make(headers.get("Authorization"), headers.get(SIGN_IN_HEADER), body)
        except RunRefused as refusal:
            made = refused(refusal)
        except KeepingError:
            made = refused(RunRefused("runner-failed"))
        return respond(Answer(200 if made.code is None else status_of(made.code), made.body))
