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
    for (Int l = 0; l < a.L; ++l) {
      forward_attention(l);
      forward_feed_forward(l);
    }
    rows([&](Int b) { remember(b); });
    // `k, v = W_kv m`
    product(a.norm_memory ? scratch_z() : a.m + t * a.B * D, D, a.wkv, a.P * 2 * HK,
            [&](Int b, Int c, Int width, const Real *sums) {
              for (Int i = 0; i < width; ++i)
                *memory(a.k, a.v, c + i, b) = sums[i] + a.bkv[c + i];
            });
  }
}

// From `x^(l-1)` to `y`.
template <typename Real>
void Worker<Real>::forward_attention(Int l) {
  const Int D = a.D;
  const Real *x = at(a.x, l, D), *bias = a.bo + l * D;
  Real *y = at(a.y, l, D), *z = scratch_z();
  if (n == 0) return rows([&](Int b) { std::copy_n(x + b * D, D, y + b * D); });
  rows([&](Int b) { normalise(x + b * D, a.gain_attn + l * D, a.offset_attn + l * D, z + b * D); });
  // `q = W_q z`
  product_into(scratch_o(0), z, D, a.wq + l * packed<Real>(D, HK), HK);
  heads([&](Int h, Int b) { attend(l, h, b); });
  // `y = x + W_o o + b_o`
  product(at(a.o, l, HK), HK, a.wo + l * packed<Real>(HK, D), D,
          [&](Int b, Int c, Int width, const Real *sums) {
            for (Int i = c; i < c + width; ++i)
              y[b * D + i] = x[b * D + i] + sums[i - c] + bias[i];
          });
}

// From `y` to `x^l`.
template <typename Real>
void Worker<Real>::forward_feed_forward(Int l) {
  const Int D = a.D, F = a.F;
  const Real *y = at(a.y, l, D), *b1 = a.b1 + l * wide, *b2 = a.b2 + l * D;
  Real *z = scratch_z();
  rows([&](Int b) { normalise(y + b * D, a.gain_ff + l * D, a.offset_ff + l * D, z + b * D); });
  // `pre = W_1 z + b_1`
  product(z, D, a.w1 + l * packed<Real>(D, wide), wide,
          [&](Int b, Int c, Int width, const Real *sums) {
            Real *pre = inner(l, b) + c;
            for (Int i = 0; i < width; ++i) {
              const Real value = sums[i] + b1[c + i];
              pre[i] = a.relu_only ? std::max<Real>(value, 0) : value;
            }
          });
  if (!a.relu_only) rows([&](Int b) { activate(l, b); });
  // `x = y + W_2 h + b_2`
  product(a.relu_only ? inner(l) : scratch_h(), F, a.w2 + l * packed<Real>(F, D), D,
          [&](Int b, Int c, Int width, const Real *sums) {
            Real *above = at(a.x, l + 1, D, b);
            for (Int i = c; i < c + width; ++i) above[i] = y[b * D + i] + sums[i - c] + b2[i];
          });
}

// ## Backward
//
// All steps of a stretch, the last one first.
template <typename Real>
void Worker<Real>::backward() {
  backwards = true;
  for (Int step = a.first + a.steps - 1; step >= a.first; --step) {
    at(step);
    backward_memory();
    for (Int l = a.L - 1; l >= 0; --l) {
      backward_feed_forward(l);
      backward_attention(l);
    }
    if (n > 0)
      heads([&](Int h, Int b) {
        for (Int p = 0; p < a.P; ++p) accumulate(p, h, b);
      });
  }
}

// From `dk` and `dv` of this step to `dm`, and to `dx` of the top layer.
template <typename Real>
void Worker<Real>::backward_memory() {
  const Int D = a.D, KV = a.P * 2 * HK;
  Real *dkv = stretch(a.dkv, 0, KV), *dz = scratch_z();
  rows([&](Int b) {
    for (Int c = 0; c < KV; ++c) dkv[b * KV + c] = *memory(a.dk, a.dv, c, b);
    add(mine(a.d_bkv, 0, KV, 1), dkv + b * KV, KV);
  });
  // `dm = W_k^T dk + W_v^T dv`
  product_into(dz, dkv, KV, a.wkv, D);
  rows([&](Int b) {
    const Int row = (t * a.B + b) * D;
    Real *g = dz + b * D, *m = stretch(a.dm, 0, D, b), *top = stretch(a.dx, a.L - 1, D, b);
    if (a.norm_memory)
      normalise_backward(g, nullptr, a.m + row, *stretch(a.m_mean, 0, 1, b),
                         *stretch(a.m_rstd, 0, 1, b), nullptr, nullptr,
                         [&](Int d, Real value) { m[d] = value; });
    else
      std::copy_n(g, D, m);
    if (a.dm_out) add(m, a.dm_out + row, D);
    for (Int d = 0; d < D; ++d) top[d] = a.dout[row + d] + a.alpha[a.L] * m[d];
    mix(a.L, b, m);
  });
}

// From `dx^l` to `dy`.
template <typename Real>
void Worker<Real>::backward_feed_forward(Int l) {
  const Int D = a.D, F = a.F;
  const Real *dx = stretch(a.dx, l, D);
  Real *dz = scratch_z(), *dh = scratch_h(), *dy = n > 0 ? stretch(a.dy, l, D) : scratch_y();
  // `dh = W_2^T dx`, and `dpre = phi'(pre) dh`
  product(dx, D, a.w2 + l * packed<Real>(D, F), F,
          [&](Int b, Int c, Int width, const Real *sums) {
            if (!a.relu_only) {
              std::copy_n(sums, width, dh + b * F + c);
              return;
            }
            const Real *pre = inner(l, b) + c;
            Real *dpre = stretch(a.dpre, l, F, b) + c;
            for (Int i = 0; i < width; ++i) dpre[i] = pre[i] > 0 ? sums[i] : 0;
            add(mine(a.d_b1, l, F) + c, dpre, width);
          });
  if (!a.relu_only) rows([&](Int b) { activate_backward(l, b, dh + b * F); });
  // `dy = dx + LN'(W_1^T dpre)`
  product_into(dz, stretch(a.dpre, l, wide), wide, a.w1 + l * packed<Real>(wide, D), D);
  rows([&](Int b) {
    const Real *x = dx + b * D;
    Real *y = dy + b * D;
    normalise_backward(dz + b * D, a.gain_ff + l * D, at(a.y, l, D, b),
                       *stretch(a.y_mean, l, 1, b), *stretch(a.y_rstd, l, 1, b),
                       mine(a.d_gain_ff, l, D), mine(a.d_offset_ff, l, D),
                       [&](Int d, Real value) { y[d] = x[d] + value; });
    add(mine(a.d_b2, l, D), x, D);
    if (n > 0) add(mine(a.d_bo, l, D), y, D);
  });
}

// From `dy` to `dx^(l-1)`.
template <typename Real>
void Worker<Real>::backward_attention(Int l) {
  const Int D = a.D;
  const Real *dy = n > 0 ? stretch(a.dy, l, D) : scratch_y(), alpha = a.alpha[l];
  Real *dz = scratch_z(), *below = l > 0 ? stretch(a.dx, l - 1, D) : stretch(a.dx0, 0, D);
  if (n > 0) {
    // `do = W_o^T dy`
    product_into(scratch_o(l), dy, D, a.wo + l * packed<Real>(D, HK), HK);
    heads([&](Int h, Int b) { attend_backward(l, h, b); });
    product_into(dz, stretch(a.dq, l, HK), HK, a.wq + l * packed<Real>(HK, D), D);
  }
  // `dx = dy + LN'(W_q^T dq) + alpha dm`
  rows([&](Int b) {
    const Real *y = dy + b * D, *m = stretch(a.dm, 0, D, b);
    Real *x = below + b * D;
    for (Int d = 0; d < D; ++d) x[d] = y[d] + alpha * m[d];
    mix(l, b, m);
    // Nothing was attended to, so the parameters of attention get no gradient.
    if (n == 0) return forget(l, b);
    normalise_backward(dz + b * D, a.gain_attn + l * D, at(a.x, l, D, b),
                       *stretch(a.x_mean, l, 1, b), *stretch(a.x_rstd, l, 1, b),
                       mine(a.d_gain_attn, l, D), mine(a.d_offset_attn, l, D),
                       [&](Int d, Real value) { x[d] += value; });
  });
}
