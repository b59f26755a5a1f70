"""The command `dreamer4-play`: a world model, driven from the keyboard."""

import argparse
import errno
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dreamer4_impl.play.errors import RequestError, UsageError

if TYPE_CHECKING:
    from dreamer4_impl.play.server import PlayServer

DESCRIPTION = """\
Opens a page on this machine where you play in a world model: every frame is generated, from what you do.

  dreamer4-play                                  the demo that comes with the package
  dreamer4-play runs/dynamics --data breakout    your own, from the middle of held-out episodes
  dreamer4-play runs/dynamics --clip my.npz      from a clip that --export wrote
  dreamer4-play --export runs/dynamics --data breakout --out my-demo
                                                 a small copy to give away: play it with `dreamer4-play my-demo`
"""

EXIT = """\
exit status:
  0  stopped with Ctrl-C, or exported
  2  a mistake in the command line, or something that cannot be read
"""

PACKAGES = ("matplotlib", "PIL", "safetensors", "tensorboard")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = _parser().parse_args(argv)
    try:
        return _export(options) if options.export else _play(options)
    except KeyboardInterrupt:
        print("dreamer4-play: interrupted", file=sys.stderr)
        return 130
    except (UsageError, RequestError) as error:
        print(f"dreamer4-play: {error}", file=sys.stderr)
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        print(f"dreamer4-play needs {error.name}: pip install 'dreamer4-conformance[train]'", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    verbatim = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("dreamer4-play", description=DESCRIPTION, epilog=EXIT, formatter_class=verbatim)
    parser.add_argument(
        "target",
        metavar="CHECKPOINT_OR_RUN",
        nargs="?",
        type=Path,
        help="what dreamer4-train wrote (default: the demo)",
    )
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--data", metavar="DIR", type=Path, help="dataset to begin from")
    begin.add_argument(
        "--clip", metavar="FILE", type=Path, help="clip to begin from (default: the one in the checkpoint)"
    )
    parser.add_argument("--steps", metavar="K", type=int, default=4, help="sampling steps of a frame (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    parser.add_argument("--fps", type=speed, default=15, help="frames a second, at most (default: 15)")
    parser.add_argument(
        "--device", metavar="cpu|cuda", choices=("cpu", "cuda"), help="(default: a GPU where there is one)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine alone)"
    )
    parser.add_argument("--port", type=port, default=8000, help="0 takes any that is free (default: 8000)")
    parser.add_argument("--no-browser", action="store_true", help="print the address and open nothing")
    parser.add_argument(
        "--export", metavar="RUN", type=Path, help="write a small copy of RUN and a clip of --data to --out"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="where --export writes")
    return parser


def speed(text: str) -> float:
    """Frames a second, from 1 to 60.

    >>> speed("15")
    15.0
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 1 <= number <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 60")
    return number


def port(text: str) -> int:
    """Number of a port.

    >>> port("8000")
    8000
    """
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to 65535")
    return int(text)


def _play(options: argparse.Namespace) -> int:
    server = _server(options)
    print(f"Playing {server.api.world.name} at {server.url} (Ctrl-C stops)", flush=True)
    if not options.no_browser:
        open_page(server.url)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("\nStopped")
    finally:
        server.server_close()
        server.api.close()
    return 0


def _server(options: argparse.Namespace) -> "PlayServer":
    from dreamer4_impl.play.api import Api
    from dreamer4_impl.play.loading import open_world
    from dreamer4_impl.play.server import PlayServer
    from dreamer4_impl.play.session import Session

    world = open_world(options.target, options.data, options.clip, options.device)
    api = Api(world, fps=options.fps, steps=options.steps, seed=options.seed)
    # What cannot begin is said here, and what the first frame has to load is loaded.
    Session(world, **api.defaults).step({})
    try:
        return PlayServer(options.host, options.port, api)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {options.port} is taken: name another, or --port 0 for any that is free") from None
        raise UsageError(f"cannot listen at {options.host}, port {options.port}: {error.strerror or error}") from None


def open_page(url: str) -> None:
    """Show the page, where there is a browser that does not take the terminal."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    if type(browser) is not webbrowser.GenericBrowser:
        threading.Thread(target=browser.open, args=(url,), daemon=True).start()


def _export(options: argparse.Namespace) -> int:
    from dreamer4_impl.play.export import export

    if options.target or options.clip or not options.data or not options.out:
        raise UsageError("--export needs --data DIR and --out DIR, and nothing else to play")
    size = export(options.export, options.data, options.out)
    print(f"{options.out}: {size / 1e6:.2f} MB. Play it with: dreamer4-play {options.out}")
    return 0
