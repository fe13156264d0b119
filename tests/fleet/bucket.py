"""A bucket: versitygw serves a directory as S3."""

import secrets

from peers import Peer, free_port

NAME = "rexd"
REGION = "us-east-1"


class Bucket(Peer):
    """One bucket, with keys of its own. Its objects are the files below `files`."""

    def __init__(self, directory):
        port, self.files = free_port(), directory / "s3" / NAME
        self.files.mkdir(parents=True)
        sidecar = directory / "metadata-of-objects"  # not every file system has extended attributes
        sidecar.mkdir()
        self.access_key, self.secret_key = secrets.token_hex(10), secrets.token_hex(20)
        keys = ["--access", self.access_key, "--secret", self.secret_key, "--region", REGION]
        command = ["versitygw", "--quiet", "--port", f"127.0.0.1:{port}", *keys]
        super().__init__("versitygw", [*command, "posix", "--sidecar", sidecar, self.files.parent], port, directory)

    def store(self, directory):
        """The section `cache.store` of a service that keeps its content here."""
        for name, key in (("access-key", self.access_key), ("secret-key", self.secret_key)):
            (directory / name).write_text(key)
        return {
            "url": f"s3://{NAME}/blobs",
            "endpoint": f"http://{self.address}",
            "region": REGION,
            "access_key_id_file": str(directory / "access-key"),
            "secret_access_key_file": str(directory / "secret-key"),
        }
