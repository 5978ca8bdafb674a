// # Rows in C++
//
// What is computed for each row of the batch by itself: norms, activations, the mix of the layers.
#pragma once

#include <cmath>

#include "worker.h"

// ## Norms
//
// `z = gain (x - mean) / sigma + offset`; if there is no gain, they are 1 and 0.
template <typename Real>
inline void Worker<Real>::normalise(const Real *x, const Real *gain, const Real *offset,
                                    Real *z) const {
  Real mean = 0, square = 0;
#pragma omp simd reduction(+ : mean)
  for (Int d = 0; d < a.D; ++d) mean += x[d];
  mean /= a.D;
#pragma omp simd reduction(+ : square)
  for (Int d = 0; d < a.D; ++d) square += (x[d] - mean) * (x[d] - mean);
  const Real scale = 1 / std::sqrt(square / a.D + Real(EPSILON));
  if (gain)
#pragma omp simd
    for (Int d = 0; d < a.D; ++d) z[d] = (x[d] - mean) * scale * gain[d] + offset[d];
  else
#pragma omp simd
    for (Int d = 0; d < a.D; ++d) z[d] = (x[d] - mean) * scale;
}

// Calls `f(d, value)` with `value = (g - mean(g) - x_hat mean(g x_hat)) / sigma`, `g = gain dz`.
// Adds `dz x_hat` and `dz` to the gradients of gain and offset, if there is a gain.
template <typename Real>
template <typename Each>
inline void Worker<Real>::normalise_backward(const Real *dz, const Real *gain, const Real *x,
                                             Real mean, Real rstd, Real *d_gain, Real *d_offset,
                                             Each f) const {
  Real *g = own(0), *hat = own(1), mean_g = 0, dot = 0;
#pragma omp simd
  for (Int d = 0; d < a.D; ++d) hat[d] = (x[d] - mean) * rstd;
  if (gain)
#pragma omp simd
    for (Int d = 0; d < a.D; ++d) {
      g[d] = gain[d] * dz[d];
      d_gain[d] += dz[d] * hat[d];
      d_offset[d] += dz[d];
    }
  else
    std::copy_n(dz, a.D, g);
#pragma omp simd reduction(+ : mean_g, dot)
  for (Int d = 0; d < a.D; ++d) mean_g += g[d], dot += g[d] * hat[d];
  mean_g /= a.D, dot /= a.D;
#pragma omp simd
  for (Int d = 0; d < a.D; ++d) f(d, (g[d] - mean_g - hat[d] * dot) * rstd);
}

// ## Activations
template <typename Real>
inline Real normal_cdf(Real x) {
  return Real(0.5) * std::erfc(-x * Real(M_SQRT1_2));
}

// `h = phi(pre)`
template <typename Real>
inline void Worker<Real>::activate(Int l, Int b) {
  const Real *pre = inner(l, b);
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

// `dpre = phi'(pre) dh`
template <typename Real>
inline void Worker<Real>::activate_backward(Int l, Int b, const Real *dh) {
  const Real *pre = inner(l, b);
  Real *dpre = stretch(a.dpre, l, wide, b);
  const uint8_t *kept = kept_units(l, b);
  for (Int i = 0; i < a.F; ++i) {
    const Real z = pre[i], g = kept ? dh[i] * (kept[i] * rescale()) : dh[i];
    if (a.activation == RELU) dpre[i] = z > 0 ? g : 0;
    if (a.activation == GELU) {
      const Real density = std::exp(-z * z / 2) * Real(M_2_SQRTPI * M_SQRT1_2 / 2);
      dpre[i] = g * (normal_cdf(z) + z * density);
    }
    if (a.activation == SWIGLU) {
      const Real sigmoid = 1 / (1 + std::exp(-z));
      dpre[i] = g * pre[a.F + i] * sigmoid * (1 + z * (1 - sigmoid));
      dpre[a.F + i] = g * z * sigmoid;
    }
  }
  add(mine(a.d_b1, l, wide), dpre, wide);
}

// ## The mix
//
// `m = sum_l alpha_l x^l`, and the output.
template <typename Real>
inline void Worker<Real>::remember(Int b) {
  Real *m = a.m + (t * a.B + b) * a.D;
  std::fill_n(m, a.D, Real(0));
  for (Int l = 0; l <= a.L; ++l) {
    const Real *x = at(a.x, l, a.D, b), alpha = a.alpha[l];
    for (Int d = 0; d < a.D; ++d) m[d] += alpha * x[d];
  }
  std::copy_n(at(a.x, a.L, a.D, b), a.D, a.out + ((t - a.first) * a.B + b) * a.D);
  if (a.norm_memory) normalise(m, nullptr, nullptr, scratch_z() + b * a.D);
}

// Adds `dm x^l` to the gradient of `alpha_l`.
template <typename Real>
inline void Worker<Real>::mix(Int l, Int b, const Real *dm) const {
  const Real *x = at(a.x, l, a.D, b);
  Real dot = 0;
#pragma omp simd reduction(+ : dot)
  for (Int d = 0; d < a.D; ++d) dot += dm[d] * x[d];
  *mine(a.d_alpha, l, 1, a.L + 1) += dot;
}
