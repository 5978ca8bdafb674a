// # Products in C++
//
// The product of a few rows with a large matrix, at every step: this is most of the arithmetic. The
// matrix is packed in panels of columns, in the order in which it is read, and the sums of a tile
// stay in registers.
#pragma once

#include <algorithm>

#include "arguments.h"

#if defined(__AVX512F__)
constexpr int BYTES = 64;
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif

template <typename Real>
struct Vector {
  static constexpr int width = BYTES / sizeof(Real);
  typedef Real type __attribute__((vector_size(BYTES), aligned(sizeof(Real)), may_alias));
};

// How many columns a packed panel has: two vectors.
template <typename Real>
constexpr int PANEL = 2 * Vector<Real>::width;

// How many numbers a packed `(depth, columns)` matrix has.
template <typename Real>
Int packed(Int depth, Int columns) {
  return (columns + PANEL<Real> - 1) / PANEL<Real> * PANEL<Real> * depth;
}

// ## A tile
//
// R rows of `x`, `(R, depth)`, times one panel, `(depth, PANEL)`. Meanwhile a part of the next
// panel, from `ahead` on, is prefetched, `step` numbers for each row of this panel.
template <typename Real, int R>
__attribute__((noinline)) void tile(const Real *x, Int depth, const Real *panel, const Real *ahead,
                                    Int step, Real *sums) {
  typedef typename Vector<Real>::type V;
  constexpr int width = Vector<Real>::width;
  V sum[R][2] = {};
  for (Int i = 0; i < depth; ++i) {
    const V left = *(const V *)(panel + i * 2 * width);
    const V right = *(const V *)(panel + i * 2 * width + width);
    __builtin_prefetch(ahead + i * step, 0, 2);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const Real a = x[r * depth + i];
      sum[r][0] += a * left;
      sum[r][1] += a * right;
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    *(V *)(sums + r * 2 * width) = sum[r][0];
    *(V *)(sums + r * 2 * width + width) = sum[r][1];
  }
}

// ## Rows times a panel
//
// Six rows fill the registers; the last two tiles share the remaining rows evenly. `f(b, sums)`
// gets the sums of row b. (Without `always_inline` the compiler makes this a call, and the backward
// sweep takes 8 % longer.)
template <typename Real, typename Each>
inline __attribute__((always_inline)) void rows_times_panel(const Real *x, Int row0, Int row1,
                                                            Int depth, const Real *panel, Each f) {
  alignas(64) Real sums[6 * PANEL<Real>];
  const Int tiles = (row1 - row0 + 5) / 6, step = PANEL<Real> / tiles;
  const Real *ahead = panel + depth * PANEL<Real>;
  for (Int b = row0; b < row1; ahead += depth * step) {
    const Int left = row1 - b, count = left > 6 && left < 12 ? (left + 1) / 2 : left;
    const Int size = std::min<Int>(count, 6);
    const Real *rows = x + b * depth;
    switch (size) {
      case 1: tile<Real, 1>(rows, depth, panel, ahead, step, sums); break;
      case 2: tile<Real, 2>(rows, depth, panel, ahead, step, sums); break;
      case 3: tile<Real, 3>(rows, depth, panel, ahead, step, sums); break;
      case 4: tile<Real, 4>(rows, depth, panel, ahead, step, sums); break;
      case 5: tile<Real, 5>(rows, depth, panel, ahead, step, sums); break;
      default: tile<Real, 6>(rows, depth, panel, ahead, step, sums);
    }
    for (Int i = 0; i < size; ++i) f(b + i, sums + i * PANEL<Real>);
    b += size;
  }
}

// ## Packing
//
// A matrix `(rows, columns)`, or its transpose, as panels of columns one after the other, in the
// order in which `tile` reads them. The last panel is padded with zeros.
template <typename Real>
void pack(const Real *from, Int rows, Int columns, Int transpose, Real *to) {
  const Int depth = transpose ? columns : rows, width = transpose ? rows : columns;
  const Int down = transpose ? 1 : columns, across = transpose ? columns : 1;
  const Int panels = (width + PANEL<Real> - 1) / PANEL<Real>;
#pragma omp parallel for
  for (Int i = 0; i < panels; ++i) {
    const Int valid = std::min<Int>(PANEL<Real>, width - i * PANEL<Real>);
    const Real *source = from + i * PANEL<Real> * across;
    Real *panel = to + i * depth * PANEL<Real>;
    for (Int d = 0; d < depth; ++d, panel += PANEL<Real>, source += down) {
      for (Int j = 0; j < valid; ++j) panel[j] = source[j * across];
      for (Int j = valid; j < PANEL<Real>; ++j) panel[j] = 0;
    }
  }
}
