"""An OpenAI-compatible API of this process that answers by a script."""

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import log
from threading import Thread

ARGUMENTS = {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}


def completion(text="Yes", shares=None, tokens=(7, 1)):
    """A chat completion that says a text; shares are probabilities of first tokens, None where the API tells none."""
    top = [{"token": token, "logprob": log(share)} for token, share in (shares or {}).items()]
    logprobs = {"content": [{"token": text, "logprob": -0.1, "top_logprobs": top}]} if shares else None
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": logprobs}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


@contextmanager
def scripted_chat(script):
    """Address of an API, and all requests that it has had, each a body with the key that came along.

    The script takes a request and how often its last message has come, from 1, and returns a status and what to answer.
    """
    requests, times = [], {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            text = request["messages"][-1]["content"]
            times[text] = times.get(text, 0) + 1
            requests.append(request | {"key": self.headers["authorization"]})
            status, answer = script(request, times[text])
            content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "text/html" if isinstance(answer, str) else "application/json")
            self.send_header("content-length", str(len(content)))
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", requests
    finally:
        server.shutdown()
        server.server_close()
