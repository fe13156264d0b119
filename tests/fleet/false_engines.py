"""What may listen on the engine's port instead of it: a server that responds with garbage, and a relay that is slow."""

import contextlib
import random
import socket
import threading
import time

GARBAGE = {
    "random bytes": lambda: random.Random(1).randbytes(64),
    "a number for everything": lambda: b":7\r\n",
    "a string of 4 GiB that never comes": lambda: b"$4294967296\r\n",
    "other bytes for everything": lambda: b"$5\r\nother\r\n",
    "no response": lambda: b"",
}


class Server:
    """Listens on a port and serves each connection in a thread."""

    def __init__(self, port):
        self.connections = []
        self.listener = socket.create_server(("127.0.0.1", port), backlog=128)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self._serve_until_closed, args=[connection], daemon=True).start()

    def _serve_until_closed(self, connection):
        with contextlib.suppress(OSError), connection:
            self.serve(connection)


class GarbageEngine(Server):
    """Responds to whatever it receives with the same bytes."""

    def __init__(self, port, kind):
        self.response = GARBAGE[kind]()
        super().__init__(port)

    def serve(self, connection):
        while connection.recv(1 << 16):
            connection.sendall(self.response)


class SlowRelay(Server):
    """Passes on what the engine on another port responds, some seconds later."""

    def __init__(self, port, engine_port, seconds):
        self.engine_port, self.seconds = engine_port, seconds
        super().__init__(port)

    def serve(self, connection):
        with socket.create_connection(("127.0.0.1", self.engine_port)) as engine:
            self.connections.append(engine)
            threading.Thread(target=self._pass_on, args=[connection, engine, 0], daemon=True).start()
            self._pass_on(engine, connection, self.seconds)

    @staticmethod
    def _pass_on(source, target, seconds):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                time.sleep(seconds)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
