"""A DNS server that gives one name several addresses (RFC 1035), on a free UDP port of 127.0.0.1."""

import contextlib
import socket
import struct
import threading

A, IN, SECONDS_TO_LIVE = 1, 1, 1


class Dns:
    """Resolves every name to `addresses`; has only A records."""

    def __init__(self, addresses):
        self.addresses = addresses
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                query, caller = self.socket.recvfrom(512)
                self.socket.sendto(self.response(query), caller)

    def response(self, query):
        end = query.index(b"\0", 12) + 5
        [kind] = struct.unpack("!H", query[end - 4 : end - 2])
        addresses = self.addresses if kind == A else []
        # A response without an error, recursion available; one question.
        header = query[:2] + struct.pack("!HHHHH", 0x8180, 1, len(addresses), 0, 0)
        # 0xc00c points to the question's name.
        record = struct.pack("!HHHIH", 0xC00C, A, IN, SECONDS_TO_LIVE, 4)
        return header + query[12:end] + b"".join(record + socket.inet_aton(address) for address in addresses)

    def close(self):
        self.socket.close()
