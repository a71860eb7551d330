"""`python -m minigen info`: what minigen found on this machine, and what mends what it did not."""

import argparse
import sys

from minigen.info import facts


def main(argv=None):
    """Print a line for each fact, below it the command that mends what is broken."""
    parser = argparse.ArgumentParser(prog="python -m minigen", description=__doc__)
    parser.add_argument("command", choices=["info"], help="print versions, devices and caches")
    parser.parse_args(argv)
    sys.stdout.reconfigure(errors="replace")  # a path may have letters that the terminal has not
    for name, found, mend in facts():
        print(f"{name:10} {found}")
        if mend:
            print(f"{'':10} mend it: {mend}")


if __name__ == "__main__":
    main()
