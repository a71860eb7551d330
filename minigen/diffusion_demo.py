"""What the demos of diffusion models share: T, and in how many of the T steps they sample."""

import argparse

from minigen.demo import at_least

T = 1000


def sampling_steps(parser, default=25):
    """Add --sampling-steps, from 1 to T."""
    def number(text):
        n = at_least(1)(text)
        if n > T:
            raise argparse.ArgumentTypeError(f"{n} is too many, there are only {T} steps: give 1 "
                                             f"to {T}")
        return n

    parser.add_argument("--sampling-steps", type=number, default=default, metavar="N",
                        help=f"how many of the {T} steps a sample takes")
