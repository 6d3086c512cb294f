"""Certificates of a small authority of our own, as files, for tests of TLS."""

from pathlib import Path

import trustme


class Authority:
    """Signs for 127.0.0.1 and localhost."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._ca, self._folder = trustme.CA(), folder
        self.ca = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.ca)

    def pair(self, name: str) -> tuple[Path, Path]:
        """Return a new certificate and its key."""
        issued = self._ca.issue_cert("127.0.0.1", "localhost", common_name=name)
        cert, key = self._folder / f"{name}.pem", self._folder / f"{name}-key.pem"
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(cert, append=number > 0)
        issued.private_key_pem.write_to_path(key)
        return cert, key

    def servers(self, **more) -> dict:
        """Return the settings of a server that it signed for."""
        cert, key = self.pair("server")
        return {"tls_cert": cert, "tls_key": key} | more

    def clients(self, **more) -> dict:
        """Return the settings of a client that trusts it, and that it signed for."""
        cert, key = self.pair("client")
        return {"tls_ca": self.ca, "tls_client_cert": cert, "tls_client_key": key} | more
