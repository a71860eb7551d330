/* The column matrix (im2col) of a convolution, in the form that product.cuh expects. It is never
   materialised: an output pixel and a filter tap determine a pixel of x, whose channels form the
   chunks:

       col[(n, u, v), (i, j, c)] = x[n, u·su + i·du + ou, v·sv + j·dv + ov, c]

   x (N, groups, H, W, C) is zero outside the image. This is one of its groups; the C channels of a
   group are padded to whole chunks. The output has U × V pixels. */
#pragma once
#include "divisor.cuh"
#include "product.cuh"

struct Columns {
  int groups, H, W;
  Divisor C, U, V, S;
  int su, sv, du, dv, ou, ov;

  __device__ Image::Offset pixel(int j) const {
    const int h = j / V % U * su + ou, w = j % V * sv + ov;
    return {(j / V / U * groups * H * W + h * W + w) * C, h, w};
  }
  __device__ Image::Offset tap(int l) const {
    const int h = l / C / S * du, w = l / C % S * dv;
    return {(h * W + w) * C + l % C, h, w};
  }
};
