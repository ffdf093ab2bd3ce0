"""`python -m deploy.images {debian,micro} [--cache DIR] [--quiet]`: build a guest image.

Says what it does with the seconds since it began, and prints the image's directory last.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from cloud.errors import CumuletError
from deploy.images import GUESTS, build, default_cache


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.images", description=build.__doc__)
    parser.add_argument("guest", choices=sorted(GUESTS))
    parser.add_argument("--cache", type=Path, default=default_cache(), metavar="DIR")
    parser.add_argument("--quiet", action="store_true", help="print the directory only")
    options = parser.parse_args(arguments)
    began = time.monotonic()

    def progress(text: str) -> None:
        if not options.quiet:
            elapsed = time.monotonic() - began
            print(f"[{elapsed:5.1f} s] {options.guest}: {text}", file=sys.stderr, flush=True)

    try:
        image = build(options.guest, options.cache, progress)
    except CumuletError as error:
        print(f"deploy.images: {error}", file=sys.stderr)
        return 1
    progress("ready")
    print(image.disk.file.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
