"""One endpoint without a database, as one writes it with each library: JSON in, JSON out.

    python benchmarks/endpoint.py aiohttp|fastapi|starlette PORT

`aiohttp` runs on uvloop with msgspec and nothing else; the others under uvicorn with its defaults
for speed (uvloop, httptools), without an access log.
"""

import asyncio
import sys


def by_aiohttp(port: int) -> None:
    import msgspec
    import uvloop
    from aiohttp import web

    class Greet(msgspec.Struct):
        name: str

    class Greeting(msgspec.Struct):
        text: str

    decode = msgspec.json.Decoder(Greet).decode
    encode = msgspec.json.Encoder().encode
    headers = {"Content-Type": "application/json"}

    async def greet(request: web.Request) -> web.Response:
        name = decode(await request.read()).name
        return web.Response(status=201, body=encode(Greeting(f"Hello {name}")), headers=headers)

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/greetings", greet)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()

    uvloop.run(serve())


def by_fastapi(port: int) -> None:
    import fastapi
    import pydantic
    import uvicorn

    class Greet(pydantic.BaseModel):
        name: str

    class Greeting(pydantic.BaseModel):
        text: str

    app = fastapi.FastAPI()

    @app.post("/greetings", status_code=201)
    async def greet(request: Greet) -> Greeting:
        return Greeting(text=f"Hello {request.name}")

    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="error")


def by_starlette(port: int) -> None:
    import json

    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def greet(request):
        name = json.loads(await request.body())["name"]
        return JSONResponse({"text": f"Hello {name}"}, status_code=201)

    app = Starlette(routes=[Route("/greetings", greet, methods=["POST"])])
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="error")


if __name__ == "__main__":
    {"aiohttp": by_aiohttp, "fastapi": by_fastapi, "starlette": by_starlette}[sys.argv[1]](
        int(sys.argv[2])
    )
