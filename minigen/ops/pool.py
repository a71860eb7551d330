"""Pooling and up-sampling: linear maps (max pooling: once the positions are chosen), each defined
beside its transpose. The vjp of each of the two is the other."""

from minigen import kernels
from minigen.operands import accepts_arrays
from minigen.operation import op
from minigen.ops.conv import pair

__all__ = ["avg_pool2d", "interpolate", "max_pool2d"]


@op
def _max_pool2d(x, *, kernel_size, stride, padding):
    return kernels.max_pool2d(x, kernel_size, stride, padding)  # and the position of each maximum
@_max_pool2d.vjp
def _max_pool2d(g, _y, _x, **kw):
    return _max_unpool2d(g, index=_y.saved, size=_x.shape[2:], **kw)

@op
def _max_unpool2d(g, *, index, size, **kw): return kernels.max_unpool2d(g, index, size, **kw)
@_max_unpool2d.vjp
def _max_unpool2d(gx, *, index, size, **kw): return _max_pool2d_at(gx, index=index, **kw)

@op
def _max_pool2d_at(x, *, index, **kw): return kernels.max_pool2d_at(x, index)
@_max_pool2d_at.vjp
def _max_pool2d_at(g, _x, *, index, **kw):
    return _max_unpool2d(g, index=index, size=_x.shape[2:], **kw)

@op
def _avg_pool2d(x, **kw): return kernels.avg_pool2d(x, **kw)
@_avg_pool2d.vjp
def _avg_pool2d(g, _x, **kw): return _avg_pool2d_transpose(g, size=_x.shape[2:], **kw)

@op
def _avg_pool2d_transpose(g, **kw): return kernels.avg_pool2d_transpose(g, **kw)
@_avg_pool2d_transpose.vjp
def _avg_pool2d_transpose(gx, *, size, **kw): return _avg_pool2d(gx, **kw)

@op
def _upsample_nearest(x, *, size):
    return kernels.upsample_nearest(x, size)  # eq: upsample-nearest
@_upsample_nearest.vjp
def _upsample_nearest(g, _x, *, size): return _upsample_nearest_transpose(g, size=_x.shape[2:])

@op
def _upsample_nearest_transpose(g, *, size): return kernels.upsample_nearest_transpose(g, size)
@_upsample_nearest_transpose.vjp
def _upsample_nearest_transpose(gx, _g, *, size): return _upsample_nearest(gx, size=_g.shape[2:])

@op
def _upsample_bilinear(x, *, size):
    return kernels.upsample_bilinear(x, size)  # eq: upsample-bilinear
@_upsample_bilinear.vjp
def _upsample_bilinear(g, _x, *, size): return _upsample_bilinear_transpose(g, size=_x.shape[2:])

@op
def _upsample_bilinear_transpose(g, *, size): return kernels.upsample_bilinear_transpose(g, size)
@_upsample_bilinear_transpose.vjp
def _upsample_bilinear_transpose(gx, _g, *, size):
    return _upsample_bilinear(gx, size=_g.shape[2:])


@accepts_arrays("x")
def max_pool2d(x, kernel_size, stride=None, padding=0):
    """The largest value of each window: (N, C, H, W) → (N, C, P, Q). `stride` is `kernel_size` by
    default; among equal values the first receives the gradient."""
    return _max_pool2d(x, **_window(kernel_size, stride, padding))


@accepts_arrays("x")
def avg_pool2d(x, kernel_size, stride=None, padding=0):
    """The mean of each window, counting the zeros of the padding: (N, C, H, W) → (N, C, P, Q)."""
    return _avg_pool2d(x, **_window(kernel_size, stride, padding))


def _window(kernel_size, stride, padding):
    kernel_size, padding = pair("kernel_size", kernel_size), pair("padding", padding, 0)
    if any(2 * p > k for p, k in zip(padding, kernel_size, strict=True)):
        raise ValueError(f"padding {padding} is more than half of kernel_size {kernel_size}: a "
                         "window would see no pixel")
    stride = kernel_size if stride is None else pair("stride", stride)
    return {"kernel_size": kernel_size, "stride": stride, "padding": padding}


@accepts_arrays("x")
def interpolate(x, size=None, scale_factor=None, mode="nearest"):
    """Up- or down-sampling to `size`, or by a whole `scale_factor`: (N, C, H, W) → (N, C, *size).

    "nearest" repeats pixels, y[i, j] = x[⌊i/r⌋, ⌊j/r⌋]; "bilinear" weights the four pixels around
    the position (i + ½)/r − ½ (PyTorch's align_corners=False). There are no parameters.
    """
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: give either size or scale_factor")
    if size is None:
        if x.ndim != 4:
            raise ValueError(f"interpolate: expected x (N, C, H, W), got {x.shape}")
        R, S = pair("scale_factor", scale_factor)
        size = x.shape[2] * R, x.shape[3] * S
    size = pair("size", size)
    if mode == "nearest":
        return _upsample_nearest(x, size=size)
    if mode == "bilinear":
        return _upsample_bilinear(x, size=size)
    raise ValueError(f'interpolate: mode must be "nearest" or "bilinear", got {mode!r}')
