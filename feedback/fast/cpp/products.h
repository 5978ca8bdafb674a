// # Products in C++
//
// The product of a few rows with a large matrix, at every step: this is most of the arithmetic. The
// matrix is packed in panels of columns, in the order in which it is read, and the sums of a tile
// stay in registers.
#pragma once

#include <algorithm>

#include "arguments.h"

// The bytes of a vector register, and how many rows of two vectors fit into the registers: a tile.
#if defined(__AVX512F__)
constexpr int BYTES = 64, TILE = 14;
#elif defined(__AVX__)
constexpr int BYTES = 32, TILE = 6;
#elif defined(__aarch64__)
constexpr int BYTES = 16, TILE = 12;
#else
constexpr int BYTES = 16, TILE = 6;
#endif

template <typename Real>
struct Vector {
  static constexpr int width = BYTES / sizeof(Real);
  typedef Real type __attribute__((vector_size(BYTES), aligned(sizeof(Real)), may_alias));
};

// How many columns a packed panel has: two vectors.
template <typename Real>
constexpr int PANEL = 2 * Vector<Real>::width;

// How many panels n columns make, and how many numbers a packed `(depth, columns)` matrix has.
template <typename Real>
constexpr Int panels(Int columns) {
  return (columns + PANEL<Real> - 1) / PANEL<Real>;
}
template <typename Real>
constexpr Int packed(Int depth, Int columns) {
  return panels<Real>(columns) * PANEL<Real> * depth;
}

// A matrix, or its transpose: the distances from a number to the next row and to the next column.
template <typename Real>
struct Matrix {
  const Real *at;
  Int down, across;
};

// ## A tile
//
// R rows of `x`, `(R, depth)`, times one panel, `(depth, PANEL)`. Meanwhile a part of the next
// panel, from `ahead` on, is prefetched, a cache line every `step` numbers.
template <typename Real, int R>
__attribute__((noinline)) void tile(Matrix<Real> x, Int depth, const Real *panel, const Real *ahead,
                                    Int step, Real *sums) {
  typedef typename Vector<Real>::type V;
  constexpr int width = Vector<Real>::width;
  V sum[R][2] = {};
  for (Int i = 0; i < depth; ++i) {
    const V left = *(const V *)(panel + i * 2 * width);
    const V right = *(const V *)(panel + i * 2 * width + width);
    __builtin_prefetch(ahead + i * step, 0, 2);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Real a = x.at[r * x.down + i * x.across];
      sum[r][0] += a * left;
      sum[r][1] += a * right;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    *(V *)(sums + r * 2 * width) = sum[r][0];
    *(V *)(sums + r * 2 * width + width) = sum[r][1];
  }
}

// The tile of `size` rows, at most R.
template <int R, typename Real, typename... Rest>
inline void tile_of(Int size, Matrix<Real> x, Rest... rest) {
  if (size == R) return tile<Real, R>(x, rest...);
  if constexpr (R > 1) tile_of<R - 1>(size, x, rest...);
}

// ## Rows times a panel
//
// All `count` rows, in tiles of nearly the same size. `f(r, sums)` gets the sums of row r. (Without
// `always_inline` the compiler makes this a call, and the backward sweep takes 8 % longer.)
template <typename Real, typename Each>
inline __attribute__((always_inline)) void rows_times_panel(Matrix<Real> x, Int count, Int depth,
                                                            const Real *panel, Each f) {
  alignas(64) Real sums[TILE * PANEL<Real>];
  const Int tiles = (count + TILE - 1) / TILE, step = PANEL<Real> / tiles;
  const Real *ahead = panel + depth * PANEL<Real>;
  for (Int i = 0, r = 0; i < tiles; ++i, ahead += depth * step) {
    const Int size = count * (i + 1) / tiles - r;
    tile_of<TILE>(size, Matrix<Real>{x.at + r * x.down, x.down, x.across}, depth, panel, ahead,
                  step, sums);
    for (Int j = 0; j < size; ++j) f(r++, sums + j * PANEL<Real>);
  }
}

// ## Packing
//
// A matrix `(depth, columns)` as panels of columns one after the other, in the order in which
// `tile` reads them. The last panel is padded with zeros.
template <typename Real>
void pack(Matrix<Real> from, Int depth, Int columns, Real *to) {
#pragma omp parallel for
  for (Int i = 0; i < panels<Real>(columns); ++i) {
    const Int valid = std::min<Int>(PANEL<Real>, columns - i * PANEL<Real>);
    Real *panel = to + i * depth * PANEL<Real>;
    for (Int d = 0; d < depth; ++d, panel += PANEL<Real>) {
      const Real *row = from.at + d * from.down + i * PANEL<Real> * from.across;
      for (Int j = 0; j < valid; ++j) panel[j] = row[j * from.across];
      for (Int j = valid; j < PANEL<Real>; ++j) panel[j] = 0;
    }
  }
}

// ## Weight gradients
//
// Faster than PyTorch's on vectors of 64 bytes, which its library does not use on every processor,
// provided that this runs on PyTorch's threads.
#ifdef _OPENMP
constexpr bool FASTER_PRODUCTS = BYTES == 64;
#else
constexpr bool FASTER_PRODUCTS = false;
#endif

// Adds $G^\top X$, `(rows, columns)`, to `sum`; `g` is `(depth, rows)`, `x` is `(depth, columns)`,
// and `room` is for x as panels.
template <typename Real>
void add_product(const Real *g, const Real *x, Int depth, Int rows, Int columns, Real *room,
                 Real *sum) {
  pack(Matrix<Real>{x, columns, 1}, depth, columns, room);
#pragma omp parallel for
  for (Int i = 0; i < panels<Real>(columns); ++i) {
    const Int c = i * PANEL<Real>, width = std::min<Int>(PANEL<Real>, columns - c);
    rows_times_panel(Matrix<Real>{g, 1, rows}, rows, depth, room + c * depth,
                     [&](Int r, const Real *sums) {
                       for (Int j = 0; j < width; ++j) sum[r * columns + c + j] += sums[j];
                     });
  }
}
