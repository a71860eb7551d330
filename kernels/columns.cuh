/* The column matrix of a convolution, as product.cuh wants it: never formed, every chunk the
   channels of a pixel where an output pixel and a filter tap meet.

       col[(n, u, v), (i, j, c)] = x[n, u·su + i·du + ou, v·sv + j·dv + ov, c]

   with zeros outside the image: x (N, groups, H, W, C), of which this is one group, C its channels
   filled up to whole chunks; outputs U × V. */
#pragma once
#include "divisor.cuh"
#include "product.cuh"

struct Columns {
  int groups, H, W;
  Divisor C, U, V, S;
  int su, sv, du, dv, ou, ov;

  __device__ Picture::Spot pixel(int j) const {
    const int h = j / V % U * su + ou, w = j % V * sv + ov;
    return {(j / V / U * groups * H * W + h * W + w) * C, h, w};
  }
  __device__ Picture::Spot tap(int l) const {
    const int h = l / C / S * du, w = l / C % S * dv;
    return {(h * W + w) * C + l % C, h, w};
  }
};
