"""How streams of the stand-in for CuPy (stand_in.py) capture work, and how it is replayed."""

from types import MappingProxyType

import numpy as np

tape = None  # the Graph being captured: calls, and the old contents of the arrays they wrote


def do(f, args, kw=MappingProxyType({}), writes=()):
    """f(*args, **kw), which writes the arrays `writes`; recorded if a stream is capturing."""
    if tape is not None:
        tape.undo += [(a, a.copy()) for a in writes if a.flags.writeable]
    result = f(*args, **kw)
    if isinstance(result, np.generic):
        result = np.asarray(result)  # an array, which a replay can write to
    if tape is not None:
        tape.calls.append((f, args, kw, result))
    return result


def read(array):
    if tape is not None:
        raise RuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream "
                           "is capturing")
    return array.a


class Graph:
    """What a stream has captured."""

    def __init__(self):
        self.calls, self.undo = [], []

    def launch(self):
        for f, args, kw, made in self.calls:
            result = f(*args, **kw)
            for old, new in zip(*(r if type(r) is tuple else (r,) for r in (made, result)),
                                strict=True):
                if isinstance(old, np.ndarray) and not np.may_share_memory(old, new):
                    old[...] = new


class Stream:
    def __init__(self, non_blocking):
        assert non_blocking  # work on the default stream cannot be captured

    synchronize = __enter__ = lambda self: None
    __exit__ = lambda self, *_: None

    def begin_capture(self):
        global tape
        tape = Graph()

    def end_capture(self):
        global tape
        graph, tape = tape, None
        for a, before in reversed(graph.undo):
            a[...] = before
        return graph
