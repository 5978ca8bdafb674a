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

// The sizes of the call, and what kind of call it is. The caches have `slots` slots, the masks of
// dropout `mask_slots`. `windows` has two numbers for each step: the first slot that it reads, and
// how many slots all steps before it read in total. The tape has room for `rows` steps, and for
// `attn_slots` attention weights per layer, head and sequence of the batch; the adjoint has room
// for the `longest` stretch. `first` and `steps` are the part of the call to compute now, by
// `threads` threads in `groups` groups.
#define SIZES(X)                                                                                \
  X(Int, T) X(Int, B) X(Int, D) X(Int, H) X(Int, K) X(Int, L) X(Int, F) X(Int, P) X(Int, S)     \
  X(Int, W) X(Int, slots) X(Int, activation) X(Int, norm_memory) X(Int, relu_only)              \
  X(Int, rows) X(Int, longest) X(Int, attn_slots) X(Int, mask_slots) X(Int, threads)            \
  X(Int, groups) X(Int, first) X(Int, steps) X(double, dropout) X(Table, windows)

// Weights, the matrices packed; the tape; the adjoint; gradients of keys and values; inputs and
// outputs; the scratch; the masks of dropout.
#define TENSORS(X)                                                                              \
  X(Numbers, wq) X(Numbers, wo) X(Numbers, w1) X(Numbers, w2) X(Numbers, bq) X(Numbers, u)      \
  X(Numbers, p) X(Numbers, s) X(Numbers, bo) X(Numbers, b1) X(Numbers, b2) X(Numbers, alpha)    \
  X(Numbers, wkv) X(Numbers, bkv)                                                               \
  X(Numbers, x) X(Numbers, x_hat) X(Numbers, x_rstd) X(Numbers, q) X(Numbers, attn)             \
  X(Numbers, o) X(Numbers, y_hat) X(Numbers, y_rstd) X(Numbers, pre) X(Numbers, m)              \
  X(Numbers, m_hat) X(Numbers, m_rstd) X(Numbers, k) X(Numbers, v)                              \
  X(Numbers, dx) X(Numbers, dpre) X(Numbers, dy) X(Numbers, ds) X(Numbers, dq) X(Numbers, dm)   \
  X(Numbers, dkv) X(Numbers, dk) X(Numbers, dv)                                                 \
  X(Numbers, in) X(Numbers, out) X(Numbers, dout) X(Numbers, dm_out) X(Numbers, scratch)        \
  X(Bytes, mask_attn) X(Bytes, mask_ff)

#define FIELDS(X) SIZES(X) TENSORS(X)
#define DECLARED(kind, name) kind name;
#define NAMED(kind, name) #kind ":" #name " "

template <typename Real>
struct Arguments {
  using Numbers = Real *;
  using Bytes = const uint8_t *;
  using Table = const Int *;
  FIELDS(DECLARED)
};

constexpr const char *FIELD_NAMES = FIELDS(NAMED);
