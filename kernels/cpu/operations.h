// The operations, written once over `Isa` (sixteen lanes); every instruction set compiles its own copy.
using F = Isa::F;
using I = Isa::I;

#define MOONTIDE_INLINE inline __attribute__((always_inline))
#define MOONTIDE_UNROLL _Pragma("GCC unroll 16")

// e^x: Cody and Waite's reduction and the polynomial of Cephes `expf`; 0 below -87, infinite above 88.
MOONTIDE_INLINE F exponential(F x) {
    const F inside = Isa::min(Isa::set1(89.0f), Isa::max(Isa::set1(-88.0f), x));  // in this order a NaN stays one
    const F whole = Isa::round(Isa::mul(inside, Isa::set1(1.4426950408889634f)));
    F rest = Isa::fma(whole, Isa::set1(-0.693359375f), inside);
    rest = Isa::fma(whole, Isa::set1(2.12194440e-4f), rest);
    F series = Isa::set1(1.9875691500e-4f);
    constexpr float powers[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
    MOONTIDE_UNROLL for (float power : powers) series = Isa::fma(series, rest, Isa::set1(power));
    const F value = Isa::add(Isa::fma(Isa::mul(series, rest), rest, rest), Isa::set1(1.0f));
    const F scaled = Isa::mul(value, Isa::power_of_two(Isa::min(Isa::max(whole, Isa::set1(-126.0f)), Isa::set1(127.0f))));
    return Isa::zero_below(x, -87.0f, Isa::inf_above(x, 88.0f, scaled));
}

MOONTIDE_INLINE F sigmoid(F x) {
    const F one = Isa::set1(1.0f);
    return Isa::div(one, Isa::add(one, exponential(Isa::sub(Isa::zero(), x))));
}

// The first `count` lanes to memory.
MOONTIDE_INLINE void put(void* to, bool is_bf16, F value, int64_t count) {
    if (count >= LANES) {
        if (is_bf16) Isa::narrow(static_cast<bf16*>(to), value);
        else Isa::store(static_cast<float*>(to), value);
        return;
    }
    float wide[LANES];
    Isa::store(wide, value);
    for (int64_t i = 0; i < count; ++i) {
        if (is_bf16) static_cast<bf16*>(to)[i] = rounded(wide[i]);
        else static_cast<float*>(to)[i] = wide[i];
    }
}

// The first `count` elements as lanes, the rest zero.
MOONTIDE_INLINE F get(const void* from, bool is_bf16, int64_t count) {
    if (count >= LANES)
        return is_bf16 ? Isa::widen(static_cast<const bf16*>(from)) : Isa::load(static_cast<const float*>(from));
    float wide[LANES] = {};
    for (int64_t i = 0; i < count; ++i)
        wide[i] = is_bf16 ? widened(static_cast<const bf16*>(from)[i]) : static_cast<const float*>(from)[i];
    return Isa::load(wide);
}

inline const void* at(const void* base, bool is_bf16, int64_t element) {
    return static_cast<const char*>(base) + element * (is_bf16 ? 2 : 4);
}
inline void* at(void* base, bool is_bf16, int64_t element) {
    return static_cast<char*>(base) + element * (is_bf16 ? 2 : 4);
}

#include "products.h"
#include "experts.h"
#include "attention.h"
#include "rows.h"
#include "draws.h"
