// # Rows in C++
//
// What is computed for each row of the batch by itself: norms, activations, the mix of the layers.
#pragma once

#include <cmath>

#include "worker.h"

// ## Norms
//
// $\hat x = (x - \mu)/\sigma$; returns $1/\sigma$.
template <typename Real>
inline Real Worker<Real>::normalise(const Real *x, Real *hat) const {
  Real mean = 0, square = 0;
#pragma omp simd reduction(+ : mean)
  for (Int d = 0; d < a.D; ++d) mean += x[d];
  mean /= a.D;
#pragma omp simd reduction(+ : square)
  for (Int d = 0; d < a.D; ++d) square += (x[d] - mean) * (x[d] - mean);
  const Real rstd = 1 / std::sqrt(square / a.D + Real(EPSILON));
#pragma omp simd
  for (Int d = 0; d < a.D; ++d) hat[d] = (x[d] - mean) * rstd;
  return rstd;
}

// Calls `f(d, value)` for each number of
// $\frac1\sigma\big(g - \overline{g} - \hat x\, \overline{g \hat x}\big)$.
template <typename Real>
template <typename Each>
inline void Worker<Real>::normalise_backward(const Real *g, const Real *hat, Real rstd,
                                             Each f) const {
  Real mean = 0, dot = 0;
#pragma omp simd reduction(+ : mean, dot)
  for (Int d = 0; d < a.D; ++d) mean += g[d], dot += g[d] * hat[d];
  mean /= a.D, dot /= a.D;
#pragma omp simd
  for (Int d = 0; d < a.D; ++d) f(d, (g[d] - mean - hat[d] * dot) * rstd);
}

// ## Activations
template <typename Real>
inline Real normal_cdf(Real x) {
  return Real(0.5) * std::erfc(-x * Real(M_SQRT1_2));
}

// $h = \phi(\mathrm{pre})$
template <typename Real>
inline void Worker<Real>::activate(Int l, Int b) {
  const Real *pre = at(a.pre, l, wide, b);
  Real *h = scratch_h() + b * a.F;
  const uint8_t *kept = kept_units(l, b);
  for (Int i = 0; i < a.F; ++i) {
    const Real z = pre[i];
    Real value = std::max<Real>(z, 0);
    if (a.activation == GELU) value = z * normal_cdf(z);
    if (a.activation == SWIGLU) value = z / (1 + std::exp(-z)) * pre[a.F + i];
    h[i] = kept ? value * (kept[i] * rescale()) : value;
  }
}

// $\delta\mathrm{pre} = \phi'(\mathrm{pre}) \odot \delta h$, for `width` units from unit c on; `dh`
// is overwritten.
template <typename Real>
inline void Worker<Real>::activate_backward(Int l, Int b, Int c, Int width, Real *dh) {
  const Real *pre = at(a.pre, l, wide, b) + c;
  Real *dpre = adjoint(a.dpre, l, wide, b) + c;
  if (const uint8_t *kept = kept_units(l, b))
    for (Int i = 0; i < width; ++i) dh[i] *= kept[c + i] * rescale();
  if (a.activation == RELU) {
#pragma omp simd
    for (Int i = 0; i < width; ++i) dpre[i] = pre[i] > 0 ? dh[i] : 0;
    return;
  }
  for (Int i = 0; i < width; ++i) {
    const Real z = pre[i], g = dh[i], sigmoid = 1 / (1 + std::exp(-z));
    if (a.activation == GELU) {
      const Real density = std::exp(-z * z / 2) * Real(M_2_SQRTPI * M_SQRT1_2 / 2);
      dpre[i] = g * (normal_cdf(z) + z * density);
    } else {
      dpre[i] = g * pre[a.F + i] * sigmoid * (1 + z * (1 - sigmoid));
      dpre[a.F + i] = g * z * sigmoid;
    }
  }
}

// ## The mix
//
// $m_t = \sum_l \alpha_l x_t^l$, and the output.
template <typename Real>
inline void Worker<Real>::remember(Int b) {
  const Int row = t * a.B + b;
  Real *m = a.m + row * a.D;
  std::fill_n(m, a.D, Real(0));
  for (Int l = 0; l <= a.L; ++l) {
    const Real *x = at(a.x, l, a.D, b), alpha = a.alpha[l];
    for (Int d = 0; d < a.D; ++d) m[d] += alpha * x[d];
  }
  std::copy_n(at(a.x, a.L, a.D, b), a.D, a.out + (row - a.first * a.B) * a.D);
  if (a.norm_memory) a.m_rstd[row] = normalise(m, a.m_hat + row * a.D);
}
