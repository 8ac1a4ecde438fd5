"""A server on this machine that speaks as much of OpenAI's chat API as is asked for."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

Reply = tuple[int, bytes, dict[str, str]]


class Asked(NamedTuple):
    """A request: its path, headers by lower-case names, and its JSON."""

    path: str
    headers: dict[str, str]
    body: Any

    @property
    def prompt(self) -> str:
        return str(self.body["messages"][-1]["content"])


def saying(text: object) -> Reply:
    return 200, json.dumps({"choices": [{"message": {"content": text}}]}).encode(), {}


@contextmanager
def chat_server(reply: Callable[[Asked, int], Reply]) -> Iterator[tuple[str, list[Asked]]]:
    """The base address, and all requests so far; ``reply`` gets a request and its number."""
    asked: list[Asked] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with lock:
                asked.append(Asked(self.path, headers, json.loads(content)))
                number = len(asked) - 1
            status, body, more = reply(asked[number], number)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            """What a redirected request becomes."""
            with lock:
                asked.append(Asked(self.path, {}, {}))
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
