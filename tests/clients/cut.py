"""A TCP relay that breaks a connection once: what a caller sees when a proxy or a replica stops during a stream."""

import contextlib
import socket
import threading


class Cut:
    """Relays 127.0.0.1:`port` to `upstream`; the first connection ends after `after` bytes towards the caller."""

    def __init__(self, upstream, after):
        self.upstream, self.left, self.cuts = upstream, after, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self.listener.accept()
                service = socket.create_connection(self.upstream, timeout=10)
                service.settimeout(None)
                for source, sink in ((caller, service), (service, caller)):
                    threading.Thread(target=self.relay, args=(source, sink, caller), daemon=True).start()

    def relay(self, source, sink, caller):
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                if sink is caller and self.cuts == 0:
                    self.left -= len(piece)
                    if self.left < 0:
                        self.cuts = 1
                        break
                sink.sendall(piece)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self):
        self.listener.close()
