"""An object storage on this machine that speaks S3, and buckets in it."""

import logging
from contextlib import contextmanager
from itertools import count

import fsspec

numbers = count(1)


@contextmanager
def serve():
    """Serve an empty storage from a thread of this process; its address."""
    from moto.server import ThreadedMotoServer
    from werkzeug.serving import WSGIRequestHandler

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request
    WSGIRequestHandler.protocol_version = "HTTP/1.1"  # connections are kept, as a real storage does
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


class Bucket:
    """A bucket that is empty at first.

    Attributes:
        address: where it is.
        options: what fsspec needs to use it.
    """

    def __init__(self, endpoint):
        name = f"bucket-{next(numbers)}"
        self.address = f"s3://{name}"
        self.options = {
            "key": "a key",
            "secret": "a secret",
            "client_kwargs": {"endpoint_url": endpoint},
        }
        self.files = fsspec.filesystem("s3", use_listings_cache=False, **self.options)
        self.files.mkdir(name)

    def objects(self, folder=""):
        """The objects in a folder, by their names in it."""
        root = f"{self.address}/{folder}".removeprefix("s3://").rstrip("/")
        return sorted(name.removeprefix(f"{root}/") for name in self.files.find(root))

    def put(self, name, content):
        self.files.pipe_file(f"{self.address}/{name}", content)
