/* The element type of the arrays: REAL is float or double. */
#pragma once

#ifndef REAL
#define REAL float
#endif
typedef REAL Real;

#ifdef __CUDACC__
#define INFINITY __int_as_float(0x7f800000)  // NVRTC has no math.h
#define NAN __int_as_float(0x7fc00000)
#endif
