/* The column matrix of a convolution, as product.cuh wants it: never formed, every element the
   pixel where an output pixel and a filter tap meet.

       col[(n, u, v), (c, i, j)] = x[n, c, u·su + i·du + ou, v·sv + j·dv + ov]

   with zeros outside the image: x (N, planes, H, W), of which a group sees C; outputs U × V. */
#pragma once
#include "product.cuh"

struct Columns {
  int planes, H, W, U, V, R, S, su, sv, du, dv, ou, ov;

  __device__ Spot pixel(int j) const {
    const int h = j / V % U * su + ou, w = j % V * sv + ov;
    return {j / (U * V) * planes * H * W + h * W + w, h, w};
  }
  __device__ Spot tap(int l) const {
    const int h = l / S % R * du, w = l % S * dv;
    return {l / (R * S) * H * W + h * W + w, h, w};
  }
};
