"""A small server in place of a real service: python stand_in_service.py PORT [fork | die].

"fork" also starts a child in a session of its own, out of reach of a signal to the group; "die"
ends at once with words on stderr.
"""

import http.server
import subprocess
import sys


class Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


def main(port: int, manner: str) -> None:
    if manner == "die":
        sys.exit("out of cheese")
    if manner == "fork":
        sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        subprocess.Popen(sleep, start_new_session=True)
    http.server.HTTPServer(("127.0.0.1", port), Quiet).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
