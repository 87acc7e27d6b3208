// Sixteen lanes in plain C++: any machine.
struct Isa {
    static constexpr bool DOT = false;
    static constexpr int ROWS = 2, WIDE = 2;
    struct F { float v[16]; };
    struct I { uint32_t v[16]; };
#define EACH for (int i = 0; i < 16; ++i)
    static F zero() { return set1(0.0f); }
    static F set1(float x) { F r; EACH r.v[i] = x; return r; }
    static F load(const float* p) { F r; memcpy(r.v, p, 64); return r; }
    static void store(float* p, F x) { memcpy(p, x.v, 64); }
    static F add(F a, F b) { EACH a.v[i] += b.v[i]; return a; }
    static F sub(F a, F b) { EACH a.v[i] -= b.v[i]; return a; }
    static F mul(F a, F b) { EACH a.v[i] *= b.v[i]; return a; }
    static F div(F a, F b) { EACH a.v[i] /= b.v[i]; return a; }
    static F max(F a, F b) { EACH a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i]; return a; }
    static F min(F a, F b) { EACH a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i]; return a; }
    static F fma(F a, F b, F c) { EACH c.v[i] += a.v[i] * b.v[i]; return c; }
    static F round(F a) { EACH a.v[i] = nearbyintf(a.v[i]); return a; }
    static F power_of_two(F n) { EACH { uint32_t u = uint32_t(int(n.v[i]) + 127) << 23; memcpy(&n.v[i], &u, 4); } return n; }
    static F zero_below(F x, float limit, F value) { EACH if (x.v[i] < limit) value.v[i] = 0; return value; }
    static F inf_above(F x, float limit, F value) { EACH if (x.v[i] > limit) value.v[i] = INFINITY; return value; }
    static I words(const void* p) { I r; memcpy(r.v, p, 64); return r; }
    static F even(I w) { EACH w.v[i] <<= 16; F r; memcpy(r.v, w.v, 64); return r; }
    static F odd(I w) { EACH w.v[i] &= 0xFFFF0000u; F r; memcpy(r.v, w.v, 64); return r; }
    template <int SHIFT> static F nibble(I w) { F r; EACH r.v[i] = float(int(w.v[i] >> SHIFT & 15) - 8); return r; }
    static F widen(const bf16* p) { I w; EACH w.v[i] = uint32_t(p[i]) << 16; F r; memcpy(r.v, w.v, 64); return r; }
    static void narrow(bf16* p, F x) { EACH p[i] = rounded(x.v[i]); }
#undef EACH
};
