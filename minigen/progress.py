"""What a run shows on the terminal, and how it reacts to Ctrl-C."""

import contextlib
import os
import shutil
import signal
import sys
import threading

from numba.core import event
from tqdm import tqdm


class Progress(event.Listener):
    """A progress bar on a terminal, elsewhere a line for every tenth of the run. It also shows what
    numba compiles, by listening to numba's events (none occur if the function is in the cache)."""

    def __init__(self, done, steps):
        self.steps, self.depth = steps, 0
        width, height = shutil.get_terminal_size()  # 80 by 24 if it has no size
        self.bar = tqdm(total=steps, initial=done, ncols=width - 1, nrows=height,
                        bar_format="{n_fmt}/{total_fmt} {bar} {elapsed}<{remaining}{postfix}",
                        disable=not sys.stderr.isatty())

    def __enter__(self):
        event.register("numba:compile", self)
        return self

    def __exit__(self, *_):
        event.unregister("numba:compile", self)
        self.bar.close()

    def write(self, text):
        tqdm.write(text, file=sys.stdout if self.bar.disable else sys.stderr)

    def show(self, done, numbers):
        numbers = "  ".join(f"{key} {value:.4g}" for key, value in numbers.items())
        self.bar.set_postfix_str(numbers, refresh=False)
        self.bar.update()
        if self.bar.disable and done * 10 // self.steps > (done - 1) * 10 // self.steps:
            self.write(f"step {done} of {self.steps}:  {numbers}")

    def on_start(self, compiling):
        self.depth += 1
        if self.depth == 1:  # functions that it calls are compiled within it
            function = compiling.data["dispatcher"].py_func
            home, _, stem = function.__module__.rpartition(".")
            text = f"compiling {stem if home == 'minigen.kernels' else function.__name__} ..."
            self.bar.set_postfix_str(text)
            if self.bar.disable:
                self.write(text)

    def on_end(self, compiling):
        self.depth -= 1


@contextlib.contextmanager
def interrupts():
    """A context that gives a list, empty until Ctrl-C is pressed. A second Ctrl-C interrupts."""
    pressed = []

    def handler(signum, frame):
        if pressed:
            raise KeyboardInterrupt
        pressed.append(signum)
        os.write(2, b"\nstopping after this step (Ctrl-C again: at once)\n")  # print may be busy

    install = (threading.current_thread() is threading.main_thread()
               and signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    if install:
        signal.signal(signal.SIGINT, handler)
    try:
        yield pressed
    finally:
        if install:
            signal.signal(signal.SIGINT, signal.default_int_handler)
