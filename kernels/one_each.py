"""A CUDA kernel made from a Python function: thread i of the device writes the i-th element of y.

Imported only at the first launch: numba.cuda takes as long to import as all of minigen.
"""

from numba import cuda


def kernel(element):
    """A launchable kernel write(y, args): y[i] = element(i, *args) for every i."""
    at = cuda.jit(device=True)(element)

    @cuda.jit
    def write(y, args):
        i = cuda.grid(1)
        if i < y.size:
            y[i] = at(i, *args)
    return write
