"""Servers that answer, but take no runs: told in one line when the store is opened."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.test_store_refused import refused


@pytest.fixture
def answering():
    """Makes a server that answers all with a status and a text; returns its address."""
    servers = []

    def answer(status, text):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_):
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield answer
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "text", "says"),
    [
        (404, "<html>\nno such page</html>", "what answers there is no MLflow server"),
        (200, "<html>Welcome</html>", "what answers there is no MLflow server"),
        (200, "[]", "what answers there is no MLflow server"),
        (200, "{}", "what answers there is no MLflow server"),
        (302, "", "what answers there is no MLflow server"),
        (401, "who?", "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (403, '{"error_code": "PERMISSION_DENIED"}', "set MLFLOW_TRACKING_USERNAME and"),
        (500, "oh", "no answer ("),
    ],
)
def test_that_is_not_one_for_us(answering, status, text, says):
    uri = answering(status, text)
    line = refused(uri)
    assert line.startswith(f"tracking.uri={uri}: ")
    assert says in line
