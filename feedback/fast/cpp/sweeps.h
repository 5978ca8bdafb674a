// # The two sweeps in C++
//
// The sweeps of `feedback.fast.forward` and `feedback.fast.backward`, with the same names and
// buffers, layer by layer.
#pragma once

#include "attention.h"
#include "rows.h"

// ## Forward
template <typename Real>
void Worker<Real>::forward() {
  const Int D = a.D;
  for (Int step = a.first; step < a.first + a.steps; ++step) {
    at(step);
    rows([&](Int b) { std::copy_n(a.in + ((t - a.first) * a.B + b) * D, D, at(a.x, 0, D, b)); });
    for (Int l = 0; l < a.L; ++l) forward_layer(l);
    rows([&](Int b) { remember(b); });
    // $k_t = W_k \hat m_t + b_k, \; v_t = W_v \hat m_t + b_v$
    product(a.m_hat + t * a.B * D, D, a.wkv, a.P * 2 * HK,
            [&](Int b, Int c, Int width, const Real *sums) {
              memory(a.k, a.v, true, b, c, c + width,
                     [&](Int j, Real &kv) { kv = sums[j - c] + a.bkv[j]; });
            });
  }
}

// From $x^{l-1}$ to $x^l$.
template <typename Real>
void Worker<Real>::forward_layer(Int l) {
  const Int D = a.D, F = a.F;
  Real *x = at(a.x, l, D), *y = x, *hat = at(a.x_hat, l, D), *pre = at(a.pre, l, wide);
  if (n > 0) {
    rows([&](Int b) { *at(a.x_rstd, l, 1, b) = normalise(x + b * D, hat + b * D); });
    // $q = W_q \hat x + b_q$
    linear(at(a.q, l, HK), hat, D, a.wq + l * packed<Real>(D, HK), HK,
           [bq = a.bq + l * HK](Real sum, Int, Int c) { return sum + bq[c]; });
    heads([&](Int h, Int b) { attend(l, h, b); });
    // $y = x + W_o o + b_o$
    y = scratch_y();
    linear(y, at(a.o, l, HK), HK, a.wo + l * packed<Real>(HK, D), D,
           [x, bo = a.bo + l * D](Real sum, Int at, Int c) { return x[at] + sum + bo[c]; });
  }
  hat = at(a.y_hat, l, D);
  rows([&](Int b) { *at(a.y_rstd, l, 1, b) = normalise(y + b * D, hat + b * D); });
  // $\mathrm{pre} = W_1 \hat y + b_1$, or $\max(0, \mathrm{pre})$
  linear(pre, hat, D, a.w1 + l * packed<Real>(D, wide), wide,
         [b1 = a.b1 + l * wide, low = a.relu_only ? 0 : -INFINITY](Real sum, Int, Int c) {
           return std::max<Real>(sum + b1[c], low);
         });
  if (!a.relu_only) rows([&](Int b) { activate(l, b); });
  // $x^l = y + W_2 h + b_2$
  linear(at(a.x, l + 1, D), a.relu_only ? pre : scratch_h(), F, a.w2 + l * packed<Real>(F, D), D,
         [y, b2 = a.b2 + l * D](Real sum, Int at, Int c) { return y[at] + sum + b2[c]; });
}

// ## Backward
//
// All steps of a stretch, the last one first.
template <typename Real>
void Worker<Real>::backward() {
  for (Int step = a.first + a.steps - 1; step >= a.first; --step) {
    at(step);
    backward_memory();
    for (Int l = a.L - 1; l >= 0; --l) backward_layer(l);
    if (n > 0)
      heads([&](Int h, Int b) {
        for (Int p = 0; p < a.P; ++p) accumulate(p, h, b);
      });
  }
}

// From $\delta k_t$ and $\delta v_t$ to $\delta m_t$, and to $\delta x^L$ of the top layer.
template <typename Real>
void Worker<Real>::backward_memory() {
  const Int D = a.D, KV = a.P * 2 * HK;
  Real *dkv = adjoint(a.dkv, 0, KV), *g = scratch_z();
  rows([&](Int b) {
    memory(a.dk, a.dv, false, b, 0, KV, [&](Int c, Real &gradient) { dkv[b * KV + c] = gradient; });
  });
  // $\delta m_t = \dots + \mathrm{LN}'(W_k^\top \delta k_t + W_v^\top \delta v_t)$
  linear(g, dkv, KV, a.wkv, D);
  rows([&](Int b) {
    const Int row = t * a.B + b;
    Real *m = adjoint(a.dm, 0, D, b), *top = adjoint(a.dx, a.L, D, b);
    std::copy_n(g + b * D, D, m);
    if (a.norm_memory)
      normalise_backward(g + b * D, a.m_hat + row * D, a.m_rstd[row],
                         [&](Int d, Real value) { m[d] = value; });
    if (a.dm_out) add(m, a.dm_out + row * D, D);
    for (Int d = 0; d < D; ++d) top[d] = a.dout[row * D + d] + a.alpha[a.L] * m[d];
  });
}

// From $\delta x^l$ to $\delta x^{l-1}$.
template <typename Real>
void Worker<Real>::backward_layer(Int l) {
  const Int D = a.D, F = a.F;
  const Real *dx = adjoint(a.dx, l + 1, D), alpha = a.alpha[l];
  Real *g = scratch_z(), *dy = n > 0 ? adjoint(a.dy, l, D) : scratch_y();
  // $\delta h = W_2^\top \delta x$, and $\delta\mathrm{pre} = \phi'(\mathrm{pre}) \odot \delta h$
  product(dx, D, a.w2 + l * packed<Real>(D, F), F,
          [&](Int b, Int c, Int width, Real *sums) {
            activate_backward(l, b, c, width, sums);
          });
  // $\delta y = \delta x + \mathrm{LN}'(W_1^\top \delta\mathrm{pre})$
  linear(g, adjoint(a.dpre, l, wide), wide, a.w1 + l * packed<Real>(wide, D), D);
  rows([&](Int b) {
    const Real *x = dx + b * D;
    Real *y = dy + b * D;
    normalise_backward(g + b * D, at(a.y_hat, l, D, b), *at(a.y_rstd, l, 1, b),
                       [&](Int d, Real value) { y[d] = x[d] + value; });
  });
  if (n > 0) {
    // $\delta o = W_o^\top \delta y$
    linear(scratch_o(l), dy, D, a.wo + l * packed<Real>(D, HK), HK);
    heads([&](Int h, Int b) { attend_backward(l, h, b); });
    linear(g, adjoint(a.dq, l, HK), HK, a.wq + l * packed<Real>(HK, D), D);
  }
  // $\delta x = \delta y + \mathrm{LN}'(W_q^\top \delta q) + \alpha_{l-1}\, \delta m_t$
  rows([&](Int b) {
    const Real *y = dy + b * D, *m = adjoint(a.dm, 0, D, b);
    Real *x = adjoint(a.dx, l, D, b);
    for (Int d = 0; d < D; ++d) x[d] = y[d] + alpha * m[d];
    if (n > 0)
      normalise_backward(g + b * D, at(a.x_hat, l, D, b), *at(a.x_rstd, l, 1, b),
                         [&](Int d, Real value) { x[d] += value; });
  });
}
