"""A Secret's volume as the kubelet creates it, and updates it when the Secret rotates.

The kubelet's atomic writer (kubernetes/pkg/volume/util/atomic_writer.go) puts the files into a new directory, points the
symbolic link `..data` at it by a rename, and removes the old directory; what the pod opens are links through `..data`.
Podman 4.3 writes a Secret once and does not decode its base64, so its own volumes are not used.
"""

import os
import secrets
import shutil


class SecretVolume:
    """A directory to mount. The files belong to root and the pod's fsGroup, mode 0440."""

    def __init__(self, directory, group):
        self.directory, self.group = directory, group
        directory.mkdir()

    def write(self, files):
        """Writes the files (name -> bytes), all at once; replaces those that exist."""
        new = self.directory / f"..{secrets.token_hex(4)}"
        new.mkdir()
        os.chown(new, 0, self.group)
        new.chmod(0o750)
        for name, content in files.items():
            path = new / name
            path.write_bytes(content)
            os.chown(path, 0, self.group)
            path.chmod(0o440)
        data, swap = self.directory / "..data", self.directory / "..data_tmp"
        old = self.directory / os.readlink(data) if data.is_symlink() else None
        swap.symlink_to(new.name)
        swap.rename(data)
        for name in files:
            link = self.directory / name
            if not link.is_symlink():
                link.symlink_to(f"..data/{name}")
        if old:
            shutil.rmtree(old)
