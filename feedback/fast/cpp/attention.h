// # Attention in C++
//
// One query against the window of one head and row, forward and backward. The slots of a row lie
// side by side, `(K, slots)`, so a vector holds neighbouring slots, and windows are padded to whole
// vectors: no loop has a remainder.
#pragma once

#include <cmath>
#include <cstring>

#include "worker.h"

// ## Exponentials
//
// $e^x$ for $x \le 0$. In float $x = n \ln 2 + r$ with $|r| \le \ln(2) / 2$, so $e^x = 2^n e^r$,
// with the Taylor series of $e^r$ up to $r^7$. It has no branch and no call, so the compiler can
// turn a loop of exponentials into a loop over vectors.
inline float exponential(float x) {
  x = std::max(x, -87.0f);
  // Adding this rounds a number to an integer, which can then be read off the last bits of the sum.
  const float shift = 12582912.0f, shifted = x * 1.44269504f + shift, n = shifted - shift;
  const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  float series = 1.0f / 5040;
  for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    series = series * r + c;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + (127 << 23);
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return series * power;
}
inline double exponential(double x) { return std::exp(x); }

// ## Slots
//
// Keys, values or positions from some slot on: `(K, stride)`.
template <typename Real>
struct Slots {
  const Real *at;
  Int stride;
};

// N vectors of slots: `out_j = sum_i a_i k_ij (+ b_i p_ij)`.
template <typename Real, int N>
inline void score(Int K, const Real *a, Slots<Real> k, const Real *b, Slots<Real> p, Real *out) {
  typedef typename Vector<Real>::type V;
  constexpr int width = Vector<Real>::width;
  V first[N] = {}, second[N] = {};
  for (Int i = 0; i < K; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) {
      first[j] += a[i] * *(const V *)(k.at + i * k.stride + j * width);
      if (b) second[j] += b[i] * *(const V *)(p.at + i * p.stride + j * width);
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) *(V *)(out + j * width) = first[j] + second[j];
}

// All n slots of a window, n a multiple of the vector width.
template <typename Real>
void scores(Int n, Int K, const Real *a, Slots<Real> k, const Real *b, Slots<Real> p, Real *out) {
  constexpr int width = Vector<Real>::width;
  Int j = 0;
  for (; j + 4 * width <= n; j += 4 * width)
    score<Real, 4>(K, a, {k.at + j, k.stride}, b, {p.at + j, p.stride}, out + j);
  for (; j < n; j += width)
    score<Real, 1>(K, a, {k.at + j, k.stride}, b, {p.at + j, p.stride}, out + j);
}

// R numbers: `out_i = sum_j a_j (v_ij + p_ij)`, over n slots, n a multiple of the vector width.
template <typename Real, int R>
inline void read(Int n, const Real *a, Slots<Real> v, Slots<Real> p, Real *out) {
  typedef typename Vector<Real>::type V;
  constexpr int width = Vector<Real>::width;
  V sum[R] = {};
  for (Int j = 0; j < n; j += width) {
    const V weight = *(const V *)(a + j);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      V value = *(const V *)(v.at + i * v.stride + j);
      if (p.at) value += *(const V *)(p.at + i * p.stride + j);
      sum[i] += weight * value;
    }
  }
  for (int i = 0; i < R; ++i) {
    Real total = 0;
    for (int lane = 0; lane < width; ++lane) total += sum[i][lane];
    out[i] = total;
  }
}

// All K numbers of a head.
template <typename Real>
void reads(Int n, Int K, const Real *a, Slots<Real> v, Slots<Real> p, Real *out) {
  const auto from = [](Slots<Real> slots, Int i) {
    return Slots<Real>{slots.at ? slots.at + i * slots.stride : nullptr, slots.stride};
  };
  Int i = 0;
  for (; i + 8 <= K; i += 8) read<Real, 8>(n, a, from(v, i), from(p, i), out + i);
  for (; i < K; ++i) read<Real, 1>(n, a, from(v, i), from(p, i), out + i);
}

// The window of a step in the caches of keys or values, and the positions of its slots.
template <typename Real>
inline Slots<Real> window_of(const Worker<Real> &at, Real *cache, Int l, Int h, Int b) {
  return {at.cache(cache, l, h, b) + at.start, at.a.slots};
}
template <typename Real>
inline Slots<Real> positions_of(const Worker<Real> &at, Int l, Int h) {
  const Int reach = at.a.W + MARGIN;
  return {at.a.p + (l * at.a.H + h) * at.a.K * reach + at.a.W - at.n, reach};
}

// Copies a row to a window of this thread's own, padded with zeros; with dropout, if there is any.
template <typename Real>
inline void Worker<Real>::copy(const Real *from, Real *to, const uint8_t *kept) const {
  std::copy_n(from, n, to);
  std::fill(to + n, to + padded, Real(0));
  if (kept)
    for (Int j = 0; j < n; ++j) to[j] *= kept[j] * rescale();
}

// ## Forward
template <typename Real>
inline void Worker<Real>::attend(Int l, Int h, Int b) {
  const Real *q = scratch_o(0) + b * HK + h * a.K, *u = a.u + l * HK + h * a.K;
  const Real *s = a.s + (l * a.H + h) * a.W + a.W - n;
  Real *attn = weights(l, h, b), *window = own(0), *both = own(1);
  // `(q + u) k + q p + s`
  for (Int i = 0; i < a.K; ++i) both[i] = q[i] + u[i];
  scores(padded, a.K, both, window_of(*this, a.k, l, h, b), q, positions_of(*this, l, h), window);
  Real high = window[0] + s[0], sum = 0;
#pragma omp simd reduction(max : high)
  for (Int j = 0; j < n; ++j) high = std::max(high, window[j] += s[j]);
#pragma omp simd reduction(+ : sum)
  for (Int j = 0; j < n; ++j) sum += window[j] = exponential(window[j] - high);
  const Real scale = 1 / sum;
  for (Int j = 0; j < n; ++j) attn[j] = window[j] * scale;
  // `o = sum a v`
  copy(attn, window, kept(l, h, b));
  reads(padded, a.K, window, window_of(*this, a.v, l, h, b), {nullptr, 0},
        at(a.o, l, HK, b) + h * a.K);
}

// ## Backward
template <typename Real>
inline void Worker<Real>::attend_backward(Int l, Int h, Int b) {
  const Real *attn = weights(l, h, b), *g_o = scratch_o(l) + b * HK + h * a.K;
  Real *ds = gradients(l, h, b), *window = own(0);
  std::fill(ds - (a.W - n), ds, Real(0));
  // `da = do v`
  scores<Real>(padded, a.K, g_o, window_of(*this, a.v, l, h, b), nullptr, {nullptr, 0}, window);
  if (const uint8_t *survives = kept(l, h, b))
    for (Int j = 0; j < n; ++j) window[j] *= survives[j] * rescale();
  // `ds = a (da - sum a da)`
  Real dot = 0;
#pragma omp simd reduction(+ : dot)
  for (Int j = 0; j < n; ++j) dot += attn[j] * window[j];
  for (Int j = 0; j < n; ++j) ds[j] = attn[j] * (window[j] - dot);
  // `dq = sum ds (k + p)`
  copy(ds, window, nullptr);
  Real *dq = stretch(a.dq, l, HK, b) + h * a.K;
  reads(padded, a.K, window, window_of(*this, a.k, l, h, b), positions_of(*this, l, h), dq);
  add(mine(a.d_u, l, HK) + h * a.K, dq, a.K);
  add(mine(a.d_s, l, a.H * a.W) + (h + 1) * a.W - n, ds, n);
}

// A step that attended to nothing: these gradients are zero.
template <typename Real>
inline void Worker<Real>::forget(Int l, Int b) {
  std::fill_n(stretch(a.dy, l, a.D, b), a.D, Real(0));
  std::fill_n(stretch(a.dq, l, HK, b), HK, Real(0));
  for (Int h = 0; h < a.H; ++h) std::fill_n(gradients(l, h, b) - a.W, a.W, Real(0));
}

// Adds to the gradients of all slots that this step read, in the layers that read projection p.
// The slots after the window are finished, so adding whole vectors does no harm.
template <typename Real>
inline void Worker<Real>::accumulate(Int p, Int h, Int b) {
  typedef typename Vector<Real>::type V;
  const Int readers = a.L / a.P;
  for (Int i = 0; i < readers; ++i) {
    copy(gradients(p + i, h, b), own(2 * i), nullptr);
    copy(weights(p + i, h, b), own(2 * i + 1), kept(p + i, h, b));
  }
  Real *dk = cache(a.dk, p, h, b) + start, *dv = cache(a.dv, p, h, b) + start;
  const Int each = own(1) - own(0);
  for (Int i = 0; i < a.K; ++i, dk += a.slots, dv += a.slots) {
    const Int c = h * a.K + i;
    for (Int l = 0; l < readers; ++l) {
      const V query = stretch(a.q, p + l, HK, b)[c] + a.u[(p + l) * HK + c] + V{};
      const V answer = scratch_o(p + l)[b * HK + c] + V{};
      const Real *ds = own(2 * l), *attn = ds + each;
      for (Int j = 0; j < padded; j += Vector<Real>::width) {
        *(V *)(dk + j) += query * *(const V *)(ds + j);
        *(V *)(dv + j) += answer * *(const V *)(attn + j);
      }
    }
  }
}
