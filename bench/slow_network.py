"""Forwards what is posted to `/{delay_ms}/{port}/...` to that port of this machine, after the delay.

python -m bench.slow_network     prints its own port, and runs until it is ended
"""

import asyncio
import sys
from collections.abc import AsyncIterator

from aiohttp import ClientSession, TCPConnector, web

HOST = "127.0.0.1"
SESSION = web.AppKey("SESSION", ClientSession)
LARGEST_BODY = 64 * 2**20


async def forward(request: web.Request) -> web.Response:
    """One request, late; connections are kept on both sides."""
    body = await request.read()
    await asyncio.sleep(float(request.match_info["delay_ms"]) / 1000)
    url = f"http://{HOST}:{request.match_info['port']}/{request.match_info['path']}?{request.query_string}"
    headers = {name: request.headers[name] for name in ("Authorization", "Content-Type")}
    async with request.app[SESSION].post(url, data=body, headers=headers) as answer:
        return web.Response(status=answer.status, body=await answer.read())


async def one_session(app: web.Application) -> AsyncIterator[None]:
    """For all requests, so that connections are kept."""
    async with ClientSession(connector=TCPConnector(limit=0)) as app[SESSION]:
        yield


async def serve() -> None:
    """Serve for ever on a port of the system's choice."""
    app = web.Application(client_max_size=LARGEST_BODY)
    app.cleanup_ctx.append(one_session)
    app.router.add_post("/{delay_ms}/{port}/{path:.*}", forward)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
