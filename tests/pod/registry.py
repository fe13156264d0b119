"""A registry that answers `GET /v2/` and nothing else, and only to one user: a Ping through it shows that the pod read
its pull Secret. Prints its port, then serves until it is ended."""

import base64
import http.server

USER, PASSWORD = "pod", "secret-of-the-pod"
WANTED = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        known = self.headers.get("Authorization") == WANTED
        self.send_response(404 if self.path != "/v2/" else 200 if known else 401)
        self.send_header("Docker-Distribution-API-Version", "registry/2.0")
        if not known:
            self.send_header("WWW-Authenticate", 'Basic realm="pod"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Quiet: the test prints facts."""


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
