"""The command: `python images/standin/mirror --root DIR`, or `python -m mirror --root DIR` beside the package."""

import argparse
import signal
import ssl
import sys
import threading
from pathlib import Path

if not __package__:  # started by its path: sys.path[0] is the package itself, not its parent folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from mirror import Mirror, behaviour


def main() -> None:
    """Serve until a signal arrives."""
    parser = argparse.ArgumentParser(prog="mirror", description="Serve the files below a folder, or misbehave.")
    parser.add_argument("--root", type=Path, required=True, help="the folder to serve")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=18190, help="the port to listen on; 0: any (%(default)s)")
    parser.add_argument("--hub", action="store_true", help="answer /OWNER/REPO/resolve/REV/FILE as Hugging Face does")
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"), help="serve HTTPS with this certificate (PEM files)")
    options = parser.parse_args()
    if not options.root.is_dir():
        parser.error(f"{options.root} is not a folder")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    tls = None
    if options.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*options.tls)
    with Mirror(root=options.root, host=options.host, port=options.port, tls=tls, control_api=True) as mirror:
        if options.hub:
            mirror.behave("/*/*/resolve/*", behaviour("hub"))
        sys.stdout.write(f"{mirror.url('/')}\n")
        sys.stdout.flush()
        stop.wait()


if __name__ == "__main__":
    main()
