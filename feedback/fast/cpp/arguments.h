// # The arguments
//
// Everything that a sweep needs, in one struct, which Python fills. Its fields are listed once,
// below: the struct is made from this list, and so is the text from which `feedback.fast.compiled`
// makes the same struct in Python.
#pragma once

#include <cstdint>

#if !defined(MARGIN) || !defined(EPSILON) || !defined(RELU) || !defined(GELU) || !defined(SWIGLU)
#error "compiled by feedback.fast.compiled, which gives the constants that Python has too"
#endif

typedef int64_t Int;

// The sizes of the call, and what kind of call it is. `first` and `steps` are the part of it to
// compute now, by `threads` threads in `groups` groups.
#define SIZES(X)                                                                                \
  X(Int, T) X(Int, B) X(Int, D) X(Int, H) X(Int, K) X(Int, L) X(Int, F) X(Int, P) X(Int, S)     \
  X(Int, W) X(Int, slots) X(Int, activation) X(Int, norm_memory) X(Int, relu_only)              \
  X(Int, recording) X(Int, lean) X(Int, mask_slots) X(Int, threads) X(Int, groups)              \
  X(Int, first) X(Int, steps) X(double, dropout)

// Weights: packed matrices, and the rest as they are.
#define WEIGHTS(X)                                                                              \
  X(Numbers, wq) X(Numbers, wo) X(Numbers, w1) X(Numbers, w2) X(Numbers, gain_attn)             \
  X(Numbers, offset_attn) X(Numbers, gain_ff) X(Numbers, offset_ff) X(Numbers, alpha)           \
  X(Numbers, u) X(Numbers, p) X(Numbers, s) X(Numbers, bo) X(Numbers, b1) X(Numbers, b2)        \
  X(Numbers, wkv) X(Numbers, bkv)

// The tape; what is recomputed from it; and the adjoint.
#define TENSORS(X)                                                                              \
  X(Numbers, x) X(Numbers, m) X(Numbers, attn) X(Numbers, o) X(Numbers, y) X(Numbers, pre)      \
  X(Numbers, k) X(Numbers, v)                                                                   \
  X(Numbers, x_mean) X(Numbers, x_rstd) X(Numbers, y_mean) X(Numbers, y_rstd) X(Numbers, q)     \
  X(Numbers, m_mean) X(Numbers, m_rstd)                                                         \
  X(Numbers, dx0) X(Numbers, dx) X(Numbers, dpre) X(Numbers, dy) X(Numbers, ds) X(Numbers, dq)  \
  X(Numbers, dm) X(Numbers, dkv) X(Numbers, dk) X(Numbers, dv)

// Gradients of the small weights, a part for each thread; then inputs and outputs.
#define SUMS(X)                                                                                 \
  X(Numbers, d_gain_attn) X(Numbers, d_offset_attn) X(Numbers, d_gain_ff)                       \
  X(Numbers, d_offset_ff) X(Numbers, d_alpha) X(Numbers, d_u) X(Numbers, d_s) X(Numbers, d_bo)  \
  X(Numbers, d_b1) X(Numbers, d_b2) X(Numbers, d_bkv)                                           \
  X(Numbers, in) X(Numbers, dout) X(Numbers, dm_out) X(Numbers, out) X(Numbers, scratch)        \
  X(Bytes, mask_attn) X(Bytes, mask_ff)

#define FIELDS(X) SIZES(X) WEIGHTS(X) TENSORS(X) SUMS(X)
#define DECLARED(kind, name) kind name;
#define NAMED(kind, name) #kind ":" #name " "

template <typename Real>
struct Arguments {
  using Numbers = Real *;
  using Bytes = const uint8_t *;
  FIELDS(DECLARED)
};

constexpr const char *FIELD_NAMES = FIELDS(NAMED);
