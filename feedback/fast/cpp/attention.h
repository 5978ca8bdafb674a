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
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + (127u << 23);
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return series * power;
}
inline double exponential(double x) { return std::exp(x); }

// ## Rows
//
// $\mathrm{out}_j \mathrel{+}= \sum_r a_r x_{rj}$, for rows that are `stride` numbers apart, a few
// at a time; `n` is a multiple of the vector width. All of attention is made of this one sum. With
// keys as `(K, slots)` it gives the scores of a query, with values as `(slots, K)` what it reads;
// and on the way back, where both lie the other way round, the gradients of these.
template <int R, typename Real>
inline void add_some(Int n, const Real *a, const Real *x, Int stride, Real *out) {
  typedef typename Vector<Real>::type V;
  V weight[R];
  for (int r = 0; r < R; ++r) weight[r] = a[r] + V{};
  for (Int j = 0; j < n; j += Vector<Real>::width) {
    V sum = *(const V *)(out + j);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum += weight[r] * *(const V *)(x + r * stride + j);
    *(V *)(out + j) = sum;
  }
}
template <typename Real>
inline void add_rows(Int rows, Int n, const Real *a, const Real *x, Int stride, Real *out) {
  Int r = 0;
  for (; r + 4 <= rows; r += 4) add_some<4>(n, a + r, x + r * stride, stride, out);
  for (; r < rows; ++r) add_some<1>(n, a + r, x + r * stride, stride, out);
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
  const Real *q = at(a.q, l, HK, b) + h * a.K, *u = a.u + l * HK + h * a.K;
  Real *attn = weights(l, h, b), *score = own(0), *both = own(1);
  // $s_{t-j} + q^\top p_{t-j} + (q + u)^\top k_j$
  copy(a.s + (l * a.H + h) * a.W + a.W - n, score, nullptr);
  add_rows(a.K, padded, q, a.p + (l * a.H + h) * a.K * reach + a.W - n, reach, score);
  for (Int i = 0; i < a.K; ++i) both[i] = q[i] + u[i];
  add_rows(a.K, padded, both, window(a.k, l, h, b), a.slots, score);
  // $a = \mathrm{softmax}(\mathrm{score})$
  Real high = score[0], sum = 0;
#pragma omp simd reduction(max : high)
  for (Int j = 0; j < n; ++j) high = std::max(high, score[j]);
#pragma omp simd reduction(+ : sum)
  for (Int j = 0; j < n; ++j) sum += score[j] = exponential(score[j] - high);
  const Real scale = 1 / sum;
  for (Int j = 0; j < n; ++j) attn[j] = score[j] * scale;
  // $o = \sum_j a_j v_j$
  copy(attn, score, kept(l, h, b));
  std::fill_n(both, K, Real(0));
  add_rows(n, K, score, cache(a.v, l, h, b) + start * a.K, a.K, both);
  std::copy_n(both, a.K, at(a.o, l, HK, b) + h * a.K);
}

// ## Backward
template <typename Real>
inline void Worker<Real>::attend_backward(Int l, Int h, Int b) {
  const Real *attn = weights(l, h, b), *g_o = scratch_o(l) + b * HK + h * a.K;
  Real *ds = gradients(l, h, b), *da = own(0), *dq = own(1);
  // $\delta a_j = \delta o^\top v_j$
  std::fill_n(da, padded, Real(0));
  add_rows(a.K, padded, g_o, window(a.v, l, h, b), a.slots, da);
  if (const uint8_t *survives = kept(l, h, b))
    for (Int j = 0; j < n; ++j) da[j] *= survives[j] * rescale();
  // $\delta s_j = a_j (\delta a_j - \sum_i a_i \delta a_i)$
  Real dot = 0;
#pragma omp simd reduction(+ : dot)
  for (Int j = 0; j < n; ++j) dot += attn[j] * da[j];
  std::fill(ds - (a.W - n), ds, Real(0));
  for (Int j = 0; j < n; ++j) ds[j] = attn[j] * (da[j] - dot);
  // $\delta q = \sum_j \delta s_j (k_j + p_{t-j})$
  std::fill_n(dq, K, Real(0));
  add_rows(n, K, ds, cache(a.k, l, h, b) + start * a.K, a.K, dq);
  add_rows(n, K, ds, a.p + ((l * a.H + h) * reach + a.W - n) * a.K, a.K, dq);
  std::copy_n(dq, a.K, adjoint(a.dq, l, HK, b) + h * a.K);
}

// Adds to the gradients of all slots that this step read, in the layers that read projection p:
// $\delta k_j \mathrel{+}= \sum_l \delta s_{lj} (q_l + u_l)$ and
// $\delta v_j \mathrel{+}= \sum_l a_{lj}\, \delta o_l$. Whole vectors are added: behind the window
// these are zeros.
template <typename Real>
inline void Worker<Real>::accumulate(Int p, Int h, Int b) {
  const Int readers = a.L / a.P;
  Real *ds = own(0), *attn = own(readers), *query = own(2 * a.L), *answer = query + a.L;
  for (Int i = 0; i < readers; ++i) {
    copy(gradients(p + i, h, b), own(i), nullptr);
    copy(weights(p + i, h, b), own(readers + i), kept(p + i, h, b));
  }
  Real *dk = window(a.dk, p, h, b), *dv = window(a.dv, p, h, b);
  for (Int c = h * a.K; c < (h + 1) * a.K; ++c, dk += a.slots, dv += a.slots) {
    for (Int i = 0; i < readers; ++i) {
      query[i] = at(a.q, p + i, HK, b)[c] + a.u[(p + i) * HK + c];
      answer[i] = scratch_o(p + i)[b * HK + c];
    }
    add_rows(readers, padded, query, ds, own_size(a), dk);
    add_rows(readers, padded, answer, attn, own_size(a), dv);
  }
}
