"""The command `dreamer4-play`: play in a world model with the keyboard."""

import argparse
import errno
import sys
import threading
import webbrowser
from argparse import ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dreamer4_impl.play.errors import RequestError, UsageError
from dreamer4_impl.streams import safe_streams

if TYPE_CHECKING:
    from dreamer4_impl.play.server import PlayServer

DESCRIPTION = """\
Opens a local web page to play in a world model: every frame is generated from your actions.

  dreamer4-play                                  the demo (pip install 'dreamer4-conformance[demo]')
  dreamer4-play runs/dynamics --data breakout    your model, starting in the middle of held-out episodes
  dreamer4-play runs/dynamics --clip my.npz      starting from a clip of --export
  dreamer4-play --export runs/dynamics --data breakout --out my-demo
                                                 small copy to share, for `dreamer4-play my-demo`
  dreamer4-play --export runs/imagine --full --out my-model
                                                 all weights, for load_model and the Hugging Face Hub
  dreamer4-play runs/imagine --data boxing --gif boxing.gif --frames 150
                                                 what the trained agent does, without a page
"""

EXIT = """\
exit status:
  0  stopped with Ctrl-C, or exported, or the GIF is written
  2  error in the command line, or a file that cannot be read or written
  130  interrupted before the server has started, or the file is written
"""

PACKAGES = ("matplotlib", "PIL", "safetensors", "tensorboard")


@safe_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments after the name of the command; None for those of the process.

    Returns:
        Exit status: 0 after Ctrl-C, an export or a GIF, 2 for an error, 130 if interrupted before the server has
        started.

    Raises:
        SystemExit: after --help (status 0), or if the arguments cannot be parsed (status 2).
        ModuleNotFoundError: if a package is missing that the extra `train` does not install.
    """
    options = _parser().parse_args(argv)
    try:
        return (_export if options.export else _animate if options.gif else _play)(options)
    except KeyboardInterrupt:
        print("dreamer4-play: interrupted", file=sys.stderr)
        return 130
    except (UsageError, RequestError, OSError) as error:
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
        help="directory of a run or a checkpoint of dreamer4-train (default: the demo)",
    )
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--data", metavar="DIR", type=Path, help="dataset to start from")
    begin.add_argument(
        "--clip",
        metavar="FILE",
        type=Path,
        help="clip to start from (default: the clip in the directory of the checkpoint)",
    )
    parser.add_argument("--steps", metavar="K", type=int, default=4, help="sampling steps per frame (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (default: 0)")
    parser.add_argument("--fps", type=speed, default=15, help="maximum number of frames per second (default: 15)")
    parser.add_argument(
        "--device", metavar="cpu|cuda", choices=("cpu", "cuda"), help="device of the model (default: cuda if available)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, only this machine)"
    )
    parser.add_argument(
        "--port", type=port, default=8000, help="port to listen on; 0 for any free port (default: 8000)"
    )
    parser.add_argument("--no-browser", action="store_true", help="print the address without opening a browser")
    parser.add_argument(
        "--export", metavar="RUN", type=Path, help="write a small copy of RUN and a clip of --data to --out"
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="export all weights as they are, instead of tokenizer and dynamics in float16; --data is then optional",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="output directory of --export")
    parser.add_argument(
        "--gif", metavar="FILE", type=Path, help="write a GIF of the autopilot's play, at --fps, instead of the page"
    )
    parser.add_argument("--frames", metavar="N", type=count, default=150, help="frames of --gif (default: 150)")
    return parser


def speed(text: str) -> float:
    """Parse a number of frames per second.

    Args:
        text: the option's value as typed.

    Returns:
        Frames per second, in [1, 60].

    Raises:
        ArgumentTypeError: if the text is not a number in this range.

    Example:
        >>> speed("15")
        15.0
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 1 <= number <= 60:
        raise ArgumentTypeError(f"{text!r} is not a number from 1 to 60")
    return number


def port(text: str) -> int:
    """Parse the number of a port.

    Args:
        text: the option's value as typed.

    Returns:
        Port, in [0, 65535].

    Raises:
        ArgumentTypeError: if the text is not an integer in this range.

    Example:
        >>> port("8000")
        8000
    """
    if not text.isdecimal() or int(text) > 65535:
        raise ArgumentTypeError(f"{text!r} is not an integer from 0 to 65535")
    return int(text)


def count(text: str) -> int:
    """Parse a number of frames.

    Args:
        text: the option's value as typed.

    Returns:
        Frames, in [1, 100000].

    Raises:
        ArgumentTypeError: if the text is not an integer in this range.

    Example:
        >>> count("150")
        150
    """
    if not text.isdecimal() or not 1 <= int(text[:9]) <= 100_000:
        raise ArgumentTypeError(f"{text!r} is not an integer from 1 to 100000")
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
    # Fails before the server starts if a session cannot start, and loads what the first frame needs.
    Session(world, **api.defaults).step({})
    try:
        return PlayServer(options.host, options.port, api)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {options.port} is in use: choose another, or --port 0 for any free port") from None
        raise UsageError(f"cannot listen on {options.host}, port {options.port}: {error.strerror or error}") from None


def open_page(url: str) -> None:
    """Open the page in a browser, unless the only browser runs in the terminal.

    Args:
        url: address of the page.
    """
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    if type(browser) is not webbrowser.GenericBrowser:
        threading.Thread(target=browser.open, args=(url,), daemon=True).start()


def _animate(options: argparse.Namespace) -> int:
    from dreamer4_impl.play.animation import write_gif
    from dreamer4_impl.play.loading import open_world
    from dreamer4_impl.play.session import Session

    world = open_world(options.target, options.data, options.clip, options.device)
    size = write_gif(Session(world, 0, options.seed, options.steps), options.gif, options.frames, options.fps)
    print(f"{options.gif}: {options.frames} frames, {size / 1e6:.2f} MB; {world.about['autopilot']['about']}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from dreamer4_impl.play.export import export

    extra = options.target or options.clip or options.gif
    if extra or not options.out or not (options.data or options.full):
        raise UsageError(
            "--export needs --out DIR, and --data DIR without --full; it takes no checkpoint to play, no --clip and no "
            "--gif"
        )
    size = export(options.export, options.data, options.out, options.full)
    play = f"dreamer4-play {options.out}" + ("" if options.data else " --data DIR")
    print(f"{options.out}: {size / 1e6:.2f} MB. Play it with: {play}")
    return 0
