"""What the demos of diffusion models share: T, how many of the T steps are taken in sampling, and
the flag for the guidance weight."""

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


def few_steps(run):
    """How many steps a sample takes in this run of a demo with --sampling-steps."""
    return 3 if run.quick else run.args.sampling_steps


def guidance_weight(parser, default, help_text):
    """Add --weight, from 0 to 100; `help_text` is its help."""
    def number(text):
        try:
            w = float(text)
        except ValueError:
            w = -1.0
        if not 0 <= w <= 100:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 100")
        return w

    parser.add_argument("--weight", type=number, default=default, metavar="W", help=help_text)
