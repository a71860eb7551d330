"""`python -m minigen info`: what minigen found on this machine, and how to fix what is missing."""

import argparse
import sys

from minigen.info import facts


def main(argv=None):
    """Print a line for each fact and, if something is broken, the command that fixes it."""
    parser = argparse.ArgumentParser(prog="python -m minigen", description=__doc__)
    parser.add_argument("command", choices=["info"], help="print versions, devices and caches")
    parser.parse_args(argv)
    sys.stdout.reconfigure(errors="replace")  # the terminal may lack characters of a path
    for name, found, fix in facts():
        print(f"{name:10} {found}")
        if fix:
            print(f"{'':10} fix it: {fix}")


if __name__ == "__main__":
    main()
