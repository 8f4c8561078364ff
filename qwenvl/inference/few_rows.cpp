// Products of few rows of activations with a weight that lies in memory as torch keeps it: y (M, N) = x (M, K) w (N, K)^T + bias.
//
// With so few rows the weight's way from memory is all that counts. It is read once, in order, four rows side by side, while the
// same place of the four rows that come next is asked for: that is what brings a plain layout to the bandwidth of the core.
// A row of y is the same to the bit in any company and with any number of threads: its sums run in one order always.
//
// Needs AVX-512 with VNNI and VBMI (Intel from Ice Lake, AMD from Zen 4); without its bfloat16 instructions float32 ones are used.

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

typedef uint16_t bf16;
typedef int64_t Int;

static const float FINE = 254.0f;  // parts that the second code of an activation cuts a step of the first into
static const int ROWS = 4;         // of the weight, side by side
static const Int SMALL = 1 << 17;  // weights below which other threads are not worth waking

static inline float widen(bf16 v) {
    uint32_t bits = (uint32_t)v << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static inline bf16 narrow(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;  // NaN
    return (bf16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Four numbers of either dtype, from and to float32.
static inline __m128 four(const bf16* p) {
    return _mm_castsi128_ps(_mm_slli_epi32(_mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i*)p)), 16));
}

static inline __m128 four(const float* p) { return _mm_loadu_ps(p); }

static inline void put(bf16* p, __m128 v) {
    const __m128i bits = _mm_castps_si128(v), odd = _mm_and_si128(_mm_srli_epi32(bits, 16), _mm_set1_epi32(1));
    __m128i high = _mm_srli_epi32(_mm_add_epi32(_mm_add_epi32(bits, _mm_set1_epi32(0x7fff)), odd), 16);
    high = _mm_blendv_epi8(high, _mm_set1_epi32(0x7fc0), _mm_castps_si128(_mm_cmpunord_ps(v, v)));
    _mm_storel_epi64((__m128i*)p, _mm_packus_epi32(high, high));
}

static inline void put(float* p, __m128 v) { _mm_storeu_ps(p, v); }
static inline void put_one(bf16* p, float v) { *p = narrow(v); }
static inline void put_one(float* p, float v) { *p = v; }

// The sums of four vectors.
static inline __m128 sums(__m512 a, __m512 b, __m512 c, __m512 d) {
    __m512d ab = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
    __m512d cd = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d)));
    __m512 all = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)), _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// ---- float32 and bfloat16

struct Half {
    typedef bf16 Number;
    static const int STEP = 32;
    static inline __m512i some(const bf16* p, Int n) { return _mm512_maskz_loadu_epi16((__mmask32)((1ull << n) - 1), p); }
    static inline __m512 add(__m512 sum, __m512i a, __m512i b) {
#ifdef __AVX512BF16__
        return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
#else
        const __m512i high = _mm512_set1_epi32((int)0xffff0000);
        sum = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(a, 16)), _mm512_castsi512_ps(_mm512_slli_epi32(b, 16)), sum);
        return _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(a, high)), _mm512_castsi512_ps(_mm512_and_si512(b, high)), sum);
#endif
    }
    static inline float wide(bf16 v) { return widen(v); }
    static inline bf16 own(float v) { return narrow(v); }
};

struct Single {
    typedef float Number;
    static const int STEP = 16;
    static inline __m512i some(const float* p, Int n) { return _mm512_maskz_loadu_epi32((__mmask16)((1u << n) - 1), p); }
    static inline __m512 add(__m512 sum, __m512i a, __m512i b) {
        return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum);
    }
    static inline float wide(float v) { return v; }
    static inline float own(float v) { return v; }
};

// R rows of the weight, 4 or 1, with M of the activations.
template <class D, int R, int M, class Out>
static void tile(Out* y, const typename D::Number* x, const typename D::Number* w, const typename D::Number* bias,
                 Int N, Int K) {
    __m512 sum[ROWS][M];
    for (int r = 0; r < ROWS; r++)
        for (int m = 0; m < M; m++) sum[r][m] = _mm512_setzero_ps();
    Int k = 0;
    for (; k + D::STEP <= K; k += D::STEP) {
        __m512i a[R];
        for (int r = 0; r < R; r++) {
            a[r] = _mm512_loadu_si512(w + r * K + k);
            _mm_prefetch((const char*)(w + (r + R) * K + k), _MM_HINT_T0);
        }
        for (int m = 0; m < M; m++) {
            __m512i b = _mm512_loadu_si512(x + m * K + k);
            for (int r = 0; r < R; r++) sum[r][m] = D::add(sum[r][m], a[r], b);
        }
    }
    for (int r = 0; k < K && r < R; r++)
        for (int m = 0; m < M; m++) sum[r][m] = D::add(sum[r][m], D::some(w + r * K + k, K - k), D::some(x + m * K + k, K - k));
    for (int m = 0; m < M; m++) {
        const __m128 v = sums(sum[0][m], sum[1][m], sum[2][m], sum[3][m]);
        if (R == ROWS) put(y + m * N, bias ? _mm_add_ps(v, four(bias)) : v);
        else put_one(y + m * N, bias ? _mm_cvtss_f32(v) + D::wide(bias[0]) : _mm_cvtss_f32(v));
    }
}

template <class D, int R, class Out>
static void block(Out* y, const typename D::Number* x, const typename D::Number* w, const typename D::Number* bias,
                  Int M, Int N, Int K) {
    Int m = 0;
    for (; m + 4 <= M; m += 4) tile<D, R, 4>(y + m * N, x + m * K, w, bias, N, K);
    if (M - m == 3) tile<D, R, 3>(y + m * N, x + m * K, w, bias, N, K);
    if (M - m == 2) tile<D, R, 2>(y + m * N, x + m * K, w, bias, N, K);
    if (M - m == 1) tile<D, R, 1>(y + m * N, x + m * K, w, bias, N, K);
}

template <class D>
static void linear(typename D::Number* y, const typename D::Number* x, const typename D::Number* w,
                   const typename D::Number* bias, Int M, Int N, Int K, int threads) {
    const Int whole = N / ROWS;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && N * K > SMALL)
    for (Int i = 0; i < whole; i++)
        block<D, ROWS>(y + i * ROWS, x, w + i * ROWS * K, bias ? bias + i * ROWS : nullptr, M, N, K);
    for (Int n = whole * ROWS; n < N; n++) block<D, 1>(y + n, x, w + n * K, bias ? bias + n : nullptr, M, N, K);
}

// ---- Activations as whole numbers: x = scale * (coarse + fine / FINE), both of eight bits

struct Codes {
    std::vector<int8_t> coarse, fine;
    std::vector<float> scale;

    Codes(const bf16* x, Int M, Int K) : coarse(M * K), fine(M * K), scale(M) {
        for (Int m = 0; m < M; m++) row(x + m * K, m, K);
    }

    static inline __m512 floats(const bf16* x, __mmask16 in) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(in, x)), 16));
    }

    void row(const bf16* x, Int m, Int K) {
        __m512 most = _mm512_setzero_ps();
        for (Int k = 0; k < K; k += 16) most = _mm512_max_ps(most, _mm512_abs_ps(floats(x + k, mask(K - k))));
        const float step = _mm512_reduce_max_ps(most) / 127.0f;
        scale[m] = step > 0 ? step : 1.0f;
        const __m512 size = _mm512_set1_ps(scale[m]), parts = _mm512_set1_ps(FINE);
        for (Int k = 0; k < K; k += 16) {
            const __mmask16 in = mask(K - k);
            __m512 steps = _mm512_div_ps(floats(x + k, in), size), whole = _mm512_roundscale_ps(steps, 0);
            __m512 rest = _mm512_mul_ps(_mm512_sub_ps(steps, whole), parts);
            _mm512_mask_cvtepi32_storeu_epi8(coarse.data() + m * K + k, in, _mm512_cvtps_epi32(whole));
            _mm512_mask_cvtepi32_storeu_epi8(fine.data() + m * K + k, in, _mm512_cvtps_epi32(rest));
        }
        bad(x, m, K);
    }

    // What is not finite has no codes: its row becomes NaN, as a plain product's would.
    void bad(const bf16* x, Int m, Int K) {
        __mmask16 found = 0;
        for (Int k = 0; k < K; k += 16) found |= _mm512_fpclass_ps_mask(floats(x + k, mask(K - k)), 0x99);
        if (found) scale[m] = __builtin_nanf("");
    }

    static inline __mmask16 mask(Int left) { return left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1); }
};

// ---- int8: codes (N, K), a scale for each row

template <int R, int M>
static void tile8(bf16* y, const int8_t* coarse, const int8_t* fine, const float* scale, const __m512i* start, const int8_t* w,
                  const bf16* scales, const bf16* bias, Int N, Int K) {
    const __m512i flip = _mm512_set1_epi8((char)0x80);  // the instruction wants one side without a sign
    __m512i a[ROWS][M], b[ROWS][M];
    for (int r = 0; r < ROWS; r++)
        for (int m = 0; m < M; m++) a[r][m] = start[2 * m], b[r][m] = start[2 * m + 1];
    for (Int k = 0; k < K; k += 64) {
        const __mmask64 in = K - k >= 64 ? ~0ull : (1ull << (K - k)) - 1;
        __m512i rows[R];
        for (int r = 0; r < R; r++) {
            rows[r] = _mm512_xor_si512(_mm512_maskz_loadu_epi8(in, w + r * K + k), flip);
            _mm_prefetch((const char*)(w + (r + 2 * R) * K + k), _MM_HINT_T0);  // a row is short: the rows after the next ones
        }
        for (int m = 0; m < M; m++) {
            __m512i p = _mm512_maskz_loadu_epi8(in, coarse + m * K + k), q = _mm512_maskz_loadu_epi8(in, fine + m * K + k);
            for (int r = 0; r < R; r++) {
                a[r][m] = _mm512_dpbusd_epi32(a[r][m], rows[r], p);
                b[r][m] = _mm512_dpbusd_epi32(b[r][m], rows[r], q);
            }
        }
    }
    const __m512 part = _mm512_set1_ps(1.0f / FINE);
    for (int m = 0; m < M; m++) {
        __m512 both[ROWS];
        for (int r = 0; r < ROWS; r++) both[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(b[r][m]), part, _mm512_cvtepi32_ps(a[r][m]));
        __m128 v = _mm_mul_ps(sums(both[0], both[1], both[2], both[3]), _mm_set1_ps(scale[m]));
        if (R == ROWS) {
            v = _mm_mul_ps(v, four(scales));
            put(y + m * N, bias ? _mm_add_ps(v, four(bias)) : v);
        } else {
            const float one = _mm_cvtss_f32(v) * widen(scales[0]);
            y[m * N] = narrow(bias ? one + widen(bias[0]) : one);
        }
    }
}

template <int R>
static void block8(bf16* y, const Codes& x, const __m512i* start, const int8_t* w, const bf16* scales, const bf16* bias, Int M,
                   Int N, Int K) {
    const int8_t *a = x.coarse.data(), *b = x.fine.data();
    const float* s = x.scale.data();
    Int m = 0;
    for (; m + 2 <= M; m += 2) tile8<R, 2>(y + m * N, a + m * K, b + m * K, s + m, start + 2 * m, w, scales, bias, N, K);
    if (m < M) tile8<R, 1>(y + m * N, a + m * K, b + m * K, s + m, start + 2 * m, w, scales, bias, N, K);
}

// What the flipped sign adds to the sums, to begin with its opposite.
static std::vector<__m512i> starts(const Codes& x, Int M, Int K) {
    std::vector<__m512i> start(2 * M);
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    for (Int i = 0; i < 2 * M; i++) {
        const int8_t* codes = (i % 2 ? x.fine.data() : x.coarse.data()) + i / 2 * K;
        __m512i sum = _mm512_setzero_si512();
        for (Int k = 0; k < K; k += 64) {
            const __mmask64 in = K - k >= 64 ? ~0ull : (1ull << (K - k)) - 1;
            sum = _mm512_dpbusd_epi32(sum, flip, _mm512_maskz_loadu_epi8(in, codes + k));
        }
        start[i] = _mm512_sub_epi32(_mm512_setzero_si512(), sum);
    }
    return start;
}

// ---- int4: codes in blocks of 64 rows, of which each column has 32 bytes, the low half of a byte for a row of the first 32, the
// high half for the one 32 below; pairs (K / G, N, 2): a weight is (code - 8) * pairs[0] + pairs[1]

static const int WIDE = 64;
static const int AHEAD = 4096;  // bytes

struct Gathered {
    __m512i first, second;  // where four columns of 16 rows stand in four columns of 32

    Gathered() {
        alignas(64) uint8_t one[64], other[64];
        for (int i = 0; i < 64; i++) one[i] = i % 4 * 32 + i / 4, other[i] = one[i] + 16;
        first = _mm512_load_si512(one), second = _mm512_load_si512(other);
    }
};

template <int M>
static void block4(float* sum, const Codes& x, Int from, const float* totals, const uint8_t* w, const bf16* pairs, Int N, Int K,
                   Int G) {
    const Gathered order;
    const __m512i low = _mm512_set1_epi8(15);
    const __m512 part = _mm512_set1_ps(1.0f / FINE);
    __m512 total[M][4];
    for (int m = 0; m < M; m++)
        for (int r = 0; r < 4; r++) total[m][r] = _mm512_setzero_ps();
    for (Int g = 0; g < K / G; g++) {
        __m512i a[M][4], b[M][4];
        for (int m = 0; m < M; m++)
            for (int r = 0; r < 4; r++) a[m][r] = b[m][r] = _mm512_setzero_si512();
        for (Int k = g * G; k < (g + 1) * G; k += 4) {
            const __m512i one = _mm512_loadu_si512(w + k * 32), other = _mm512_loadu_si512(w + k * 32 + 64);
            _mm_prefetch((const char*)(w + k * 32 + AHEAD), _MM_HINT_T0);
            _mm_prefetch((const char*)(w + k * 32 + AHEAD + 64), _MM_HINT_T0);
            const __m512i p = _mm512_permutex2var_epi8(one, order.first, other);
            const __m512i q = _mm512_permutex2var_epi8(one, order.second, other);
            const __m512i codes[4] = {_mm512_and_si512(p, low), _mm512_and_si512(q, low),
                                      _mm512_and_si512(_mm512_srli_epi16(p, 4), low),
                                      _mm512_and_si512(_mm512_srli_epi16(q, 4), low)};
            for (int m = 0; m < M; m++) {
                int32_t c, f;
                memcpy(&c, x.coarse.data() + (from + m) * K + k, 4);
                memcpy(&f, x.fine.data() + (from + m) * K + k, 4);
                const __m512i coarse = _mm512_set1_epi32(c), fine = _mm512_set1_epi32(f);
                for (int r = 0; r < 4; r++) {
                    a[m][r] = _mm512_dpbusd_epi32(a[m][r], codes[r], coarse);
                    b[m][r] = _mm512_dpbusd_epi32(b[m][r], codes[r], fine);
                }
            }
        }
        for (int r = 0; r < 4; r++) {
            const bf16* at = pairs + (g * N + r * 16) * 2;
            _mm_prefetch((const char*)(at + WIDE * 2), _MM_HINT_T0);  // of the next block
            const __m512i both = _mm512_loadu_si512(at);
            const __m512 scale = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
            const __m512 offset = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32((int)0xffff0000)));
            const __m512 zero = _mm512_fmadd_ps(_mm512_set1_ps(-8.0f), scale, offset);
            for (int m = 0; m < M; m++) {
                const __m512 codes = _mm512_fmadd_ps(_mm512_cvtepi32_ps(b[m][r]), part, _mm512_cvtepi32_ps(a[m][r]));
                total[m][r] = _mm512_fmadd_ps(codes, scale, total[m][r]);
                total[m][r] = _mm512_fmadd_ps(_mm512_set1_ps(totals[(from + m) * (K / G) + g]), zero, total[m][r]);
            }
        }
    }
    for (int m = 0; m < M; m++)
        for (int r = 0; r < 4; r++)
            _mm512_storeu_ps(sum + m * WIDE + r * 16, _mm512_mul_ps(total[m][r], _mm512_set1_ps(x.scale[from + m])));
}

// Sums of the activations within each group, in steps.
static std::vector<float> group_totals(const Codes& x, Int M, Int K, Int G) {
    std::vector<float> totals(M * (K / G));
    for (Int i = 0; i < (Int)totals.size(); i++) {
        int32_t coarse = 0, fine = 0;
        for (Int k = i * G; k < (i + 1) * G; k++) coarse += x.coarse[k], fine += x.fine[k];
        totals[i] = coarse + fine / FINE;
    }
    return totals;
}

// ---- What stands between the products

// Normalised in float32 and rounded, then weighted and rounded, as models/layers.py does.
template <class D>
static void norm(typename D::Number* y, const typename D::Number* x, const typename D::Number* w, Int M, Int K, float eps) {
    for (Int m = 0; m < M; m++, x += K, y += K) {
        __m128 part[4] = {_mm_setzero_ps(), _mm_setzero_ps(), _mm_setzero_ps(), _mm_setzero_ps()};
        Int k = 0;
        for (; k + 16 <= K; k += 16)
            for (int i = 0; i < 4; i++) part[i] = _mm_fmadd_ps(four(x + k + i * 4), four(x + k + i * 4), part[i]);
        float parts[4], sum = 0;
        _mm_storeu_ps(parts, _mm_add_ps(_mm_add_ps(part[0], part[1]), _mm_add_ps(part[2], part[3])));
        for (; k < K; k++) sum += D::wide(x[k]) * D::wide(x[k]);
        for (int i = 0; i < 4; i++) sum += parts[i];
        const float scale = 1.0f / std::sqrt(sum / K + eps);
        for (k = 0; k + 4 <= K; k += 4) {
            put(y + k, _mm_mul_ps(four(x + k), _mm_set1_ps(scale)));
            put(y + k, _mm_mul_ps(four(y + k), four(w + k)));
        }
        for (; k < K; k++) y[k] = D::own(D::wide(D::own(D::wide(x[k]) * scale)) * D::wide(w[k]));
    }
}

// Halves of each head turned by the angles of its token, in float32.
template <class D>
static void turn(typename D::Number* y, const typename D::Number* x, const float* cos, const float* sin, Int T, Int heads, Int size) {
    const Int half = size / 2;
    for (Int t = 0; t < T; t++, cos += half, sin += half)
        for (Int n = 0; n < heads; n++, x += size, y += size) {
            Int i = 0;
            for (; i + 4 <= half; i += 4) {
                const __m128 a = four(x + i), b = four(x + i + half), c = _mm_loadu_ps(cos + i), s = _mm_loadu_ps(sin + i);
                put(y + i, _mm_fmsub_ps(a, c, _mm_mul_ps(b, s)));
                put(y + i + half, _mm_fmadd_ps(b, c, _mm_mul_ps(a, s)));
            }
            for (; i < half; i++) {
                const float a = D::wide(x[i]), b = D::wide(x[i + half]);
                y[i] = D::own(a * cos[i] - b * sin[i]);
                y[i + half] = D::own(b * cos[i] + a * sin[i]);
            }
        }
}

// e to the x; a NaN stays one.
static inline __m512 power(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-104.0f), _mm512_min_ps(_mm512_set1_ps(104.0f), x));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    const float series[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    __m512 y = _mm512_set1_ps(1.0f / 5040);
    for (float c : series) y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(c));
    return _mm512_scalef_ps(y, n);
}

static inline __m512 some_floats(const float* p, __mmask16 in) { return _mm512_maskz_loadu_ps(in, p); }
static inline __m512 some_floats(const bf16* p, __mmask16 in) { return Codes::floats(p, in); }

static inline void put_some(float* p, __m512 v, __mmask16 in) { _mm512_mask_storeu_ps(p, in, v); }
static inline void put_some(bf16* p, __m512 v, __mmask16 in) {
    const __m512i bits = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i high = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd), 16);
    high = _mm512_mask_mov_epi32(high, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc0));
    _mm256_mask_storeu_epi16(p, in, _mm512_cvtepi32_epi16(high));
}

// y = silu(y) * x, each rounded.
template <class D>
static void gate(typename D::Number* y, const typename D::Number* x, Int count) {
    for (Int i = 0; i < count; i += 16) {
        const __mmask16 in = Codes::mask(count - i);
        const __m512 v = some_floats(y + i, in), one = _mm512_set1_ps(1.0f);
        put_some(y + i, _mm512_div_ps(v, _mm512_add_ps(one, power(_mm512_sub_ps(_mm512_setzero_ps(), v)))), in);
        put_some(y + i, _mm512_mul_ps(some_floats(y + i, in), some_floats(x + i, in)), in);
    }
}

template <class D>
static void add_onto(typename D::Number* y, const typename D::Number* x, Int count) {
    for (Int i = 0; i < count; i += 16) {
        const __mmask16 in = Codes::mask(count - i);
        put_some(y + i, _mm512_add_ps(some_floats(y + i, in), some_floats(x + i, in)), in);
    }
}

// ---- Attention of one new token of each row with what a cache holds of the row, in float32

// Scores of S keys -> what each value counts for; all of them one after the other.
static void softmax(float* p, Int S, float scale) {
    __m512 most = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    for (Int s = 0; s < S; s += 16)
        most = _mm512_max_ps(most, _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), Codes::mask(S - s), p + s));
    most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (Int s = 0; s < S; s += 16) {
        const __mmask16 in = Codes::mask(S - s);
        const __m512 e = power(_mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(in, p + s), most), _mm512_set1_ps(scale)));
        _mm512_mask_storeu_ps(p + s, in, e);
        sum = _mm512_mask_add_ps(sum, in, sum, e);
    }
    const __m512 part = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(sum));
    for (Int s = 0; s < S; s += 16) {
        const __mmask16 in = Codes::mask(S - s);
        _mm512_mask_storeu_ps(p + s, in, _mm512_mul_ps(_mm512_maskz_loadu_ps(in, p + s), part));
    }
}

// M heads (M, d) of weighted values (S, d), 32 numbers of a value at a time.
template <class D, int M>
static void weigh(typename D::Number* y, const float* p, const typename D::Number* values, Int S, Int d) {
    for (Int i = 0; i < d; i += 32) {
        const __mmask16 first = Codes::mask(d - i), second = d - i > 16 ? Codes::mask(d - i - 16) : (__mmask16)0;
        __m512 sum[M][2];
        for (int m = 0; m < M; m++) sum[m][0] = sum[m][1] = _mm512_setzero_ps();
        for (Int s = 0; s < S; s++) {
            const typename D::Number* v = values + s * d + i;
            const __m512 a = some_floats(v, first), b = some_floats(v + 16, second);
            for (int m = 0; m < M; m++) {
                const __m512 part = _mm512_set1_ps(p[m * S + s]);
                sum[m][0] = _mm512_fmadd_ps(part, a, sum[m][0]);
                sum[m][1] = _mm512_fmadd_ps(part, b, sum[m][1]);
            }
        }
        for (int m = 0; m < M; m++) {
            put_some(y + m * d + i, sum[m][0], first);
            if (second) put_some(y + m * d + i + 16, sum[m][1], second);
        }
    }
}

// `heads` queries (heads, d) that share keys and values (S, d).
template <class D>
static void attend_one(typename D::Number* y, const typename D::Number* q, const typename D::Number* keys,
                       const typename D::Number* values, Int heads, Int S, Int d) {
    std::vector<float> scores(heads * S);
    float* p = scores.data();
    Int s = 0;
    for (; s + ROWS <= S; s += ROWS) block<D, ROWS>(p + s, q, keys + s * d, nullptr, heads, S, d);
    for (; s < S; s++) block<D, 1>(p + s, q, keys + s * d, nullptr, heads, S, d);
    for (Int h = 0; h < heads; h++) softmax(p + h * S, S, 1.0f / std::sqrt((float)d));
    Int h = 0;
    for (; h + 4 <= heads; h += 4) weigh<D, 4>(y + h * d, p + h * S, values, S, d);
    for (; h < heads; h++) weigh<D, 1>(y + h * d, p + h * S, values, S, d);
}

struct Step {
    const Int* slots;                   // (T,): where each row's token is kept; it sees what stands there and before
    const float *cos, *sin, *scales;    // (T, d / 2) twice; (T,) or null
    Int T, heads, kept, d, row, head;   // query heads, heads of keys and values; numbers from row to row and head to head of the cache
};

// Queries and keys are turned, keys and values kept, and what the queries then see is weighed.
template <class D>
static void attend(typename D::Number* y, const typename D::Number* q, const typename D::Number* k, const typename D::Number* v,
                   typename D::Number* keys, typename D::Number* values, const Step& at, int threads) {
    typedef typename D::Number Number;
    const Int d = at.d, each = at.heads / at.kept;
    Int seen = 0;
    for (Int t = 0; t < at.T; t++) seen += at.slots[t] + 1;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && seen * at.kept * d > SMALL)
    for (Int i = 0; i < at.T * at.kept; i++) {
        const Int t = i / at.kept, h = i % at.kept;
        const float *cos = at.cos + t * (d / 2), *sin = at.sin + t * (d / 2);
        Number *own_keys = keys + t * at.row + h * at.head, *own_values = values + t * at.row + h * at.head;
        std::vector<Number> turned(each * d);
        for (Int g = 0; g < each; g++) turn<D>(turned.data() + g * d, q + (t * at.heads + h * each + g) * d, cos, sin, 1, 1, d);
        if (at.scales)
            for (Number& one : turned) one = D::own(D::wide(one) * D::wide(D::own(at.scales[t])));
        turn<D>(own_keys + at.slots[t] * d, k + i * d, cos, sin, 1, 1, d);
        memcpy(own_values + at.slots[t] * d, v + i * d, d * sizeof(Number));
        attend_one<D>(y + (t * at.heads + h * each) * d, turned.data(), own_keys, own_values, each, at.slots[t] + 1, d);
    }
}

// ---- Weights of every kind

enum Kind { SINGLE, HALF, EIGHT, FOUR };

// N, K: out and in; stored: of int4, rows of the codes and of the pairs, whole blocks; G: of int4, numbers of a group.
struct Weight {
    const void *codes, *scales, *bias;
    Int kind, N, K, stored, G;
};

// Activations (M, K) as weights of a kind want them.
struct Given {
    const void* x;
    Int M;
    Codes codes;
    std::vector<__m512i> start;
    std::vector<float> totals;

    Given(const void* x, Int M, const Weight& w) : x(x), M(M), codes((const bf16*)x, w.kind >= EIGHT ? M : 0, w.K) {
        if (w.kind == EIGHT) start = starts(codes, M, w.K);
        if (w.kind == FOUR) totals = group_totals(codes, M, w.K, w.G);
    }
};

static void linear8(bf16* y, const Given& x, const Weight& all, int threads) {
    const bf16 *scales = (const bf16*)all.scales, *bias = (const bf16*)all.bias;
    const int8_t* w = (const int8_t*)all.codes;
    const Int M = x.M, N = all.N, K = all.K, whole = N / ROWS;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && N * K > SMALL)
    for (Int i = 0; i < whole; i++)
        block8<ROWS>(y + i * ROWS, x.codes, x.start.data(), w + i * ROWS * K, scales + i * ROWS, bias ? bias + i * ROWS : nullptr, M,
                     N, K);
    for (Int n = whole * ROWS; n < N; n++)
        block8<1>(y + n, x.codes, x.start.data(), w + n * K, scales + n, bias ? bias + n : nullptr, M, N, K);
}

static void linear4(bf16* y, const Given& x, const Weight& all, int threads) {
    const bf16 *pairs = (const bf16*)all.scales, *bias = (const bf16*)all.bias;
    const Int M = x.M, N = all.N, K = all.K;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && N * K > SMALL)
    for (Int i = 0; i < all.stored / WIDE; i++) {
        float sum[2 * WIDE];
        const uint8_t* own = (const uint8_t*)all.codes + i * WIDE * (K / 2);
        const Int first = i * WIDE, last = first + WIDE < N ? first + WIDE : N;
        for (Int m = 0; m < M; m += 2) {
            const int some = m + 2 <= M ? 2 : 1;
            if (some == 2) block4<2>(sum, x.codes, m, x.totals.data(), own, pairs + first * 2, all.stored, K, all.G);
            else block4<1>(sum, x.codes, m, x.totals.data(), own, pairs + first * 2, all.stored, K, all.G);
            for (int j = 0; j < some; j++)
                for (Int n = first; n < last; n++)
                    y[(m + j) * N + n] = narrow(bias ? sum[j * WIDE + n - first] + widen(bias[n]) : sum[j * WIDE + n - first]);
        }
    }
}

static void multiply(void* y, const Given& x, const Weight& w, int threads) {
    if (w.kind == SINGLE)
        linear<Single>((float*)y, (const float*)x.x, (const float*)w.codes, (const float*)w.bias, x.M, w.N, w.K, threads);
    else if (w.kind == HALF)
        linear<Half>((bf16*)y, (const bf16*)x.x, (const bf16*)w.codes, (const bf16*)w.bias, x.M, w.N, w.K, threads);
    else if (w.kind == EIGHT)
        linear8((bf16*)y, x, w, threads);
    else
        linear4((bf16*)y, x, w, threads);
}

static void add_product(void* y, const void* x, const Weight& w, const void* onto, Int M, int threads) {
    multiply(y, Given(x, M, w), w, threads);
    if (onto && w.kind == SINGLE) add_onto<Single>((float*)y, (const float*)onto, M * w.N);
    else if (onto) add_onto<Half>((bf16*)y, (const bf16*)onto, M * w.N);
}

static void multiply_three(void* y0, void* y1, void* y2, const void* x, const Weight* const w[3], Int M, int threads) {
    const Given given(x, M, *w[0]);
    multiply(y0, given, *w[0], threads);
    multiply(y1, given, *w[1], threads);
    multiply(y2, given, *w[2], threads);
}

template <class D>
static void multiply_gated(typename D::Number* y, const void* x, const Weight& w0, const Weight& w1, Int M, int threads) {
    const Given given(x, M, w0);
    std::vector<typename D::Number> other(M * w0.N);
    multiply(y, given, w0, threads);
    multiply(other.data(), given, w1, threads);
    gate<D>(y, other.data(), M * w0.N);
}

// ---- A layer as models/decoder.py has it, for one new token of each row: w of q, k, v, out, gate, up and down

template <class D>
static void whole(typename D::Number* y, const typename D::Number* x, const typename D::Number* const norms[2], const float eps[2],
                  const Weight* const w[7], typename D::Number* keys, typename D::Number* values, const Step& at, int threads) {
    const Int M = at.T, K = w[0]->K, queries = w[0]->N, kept = w[1]->N;
    std::vector<typename D::Number> all(M * (2 * K + 2 * queries + 2 * kept + w[4]->N));
    typename D::Number *normed = all.data(), *sum = normed + M * K, *q = sum + M * K, *seen = q + M * queries;
    typename D::Number *k = seen + M * queries, *v = k + M * kept, *wide = v + M * kept;
    norm<D>(normed, x, norms[0], M, K, eps[0]);
    multiply_three(q, k, v, normed, w, M, threads);
    attend<D>(seen, q, k, v, keys, values, at, threads);
    add_product(sum, seen, *w[3], x, M, threads);
    norm<D>(normed, sum, norms[1], M, K, eps[1]);
    multiply_gated<D>(wide, normed, *w[4], *w[5], M, threads);
    add_product(y, wide, *w[6], sum, M, threads);
}

// Weights of one call are of one kind, width and group; of a layer, q, k and v, and gate and up.
extern "C" {

void norm_bfloat16(bf16* y, const bf16* x, const bf16* w, Int M, Int K, float eps) { norm<Half>(y, x, w, M, K, eps); }
void norm_float32(float* y, const float* x, const float* w, Int M, Int K, float eps) { norm<Single>(y, x, w, M, K, eps); }

// y (M, N) = x w^T + bias, and with `onto` (M, N) that much more.
void product(void* y, const void* x, const Weight* w, const void* onto, Int M, int threads) {
    add_product(y, x, *w, onto, M, threads);
}

void three_products(void* y0, void* y1, void* y2, const void* x, const Weight* w0, const Weight* w1, const Weight* w2, Int M,
                    int threads) {
    const Weight* const w[3] = {w0, w1, w2};
    multiply_three(y0, y1, y2, x, w, M, threads);
}

// y (M, N) = silu(x w0^T) * (x w1^T)
void gated_products(void* y, const void* x, const Weight* w0, const Weight* w1, Int M, int threads) {
    if (w0->kind == SINGLE) multiply_gated<Single>((float*)y, x, *w0, *w1, M, threads);
    else multiply_gated<Half>((bf16*)y, x, *w0, *w1, M, threads);
}

void attend_float32(float* y, const float* q, const float* k, const float* v, float* keys, float* values, const Step* at, int threads) {
    attend<Single>(y, q, k, v, keys, values, *at, threads);
}

void attend_bfloat16(bf16* y, const bf16* q, const bf16* k, const bf16* v, bf16* keys, bf16* values, const Step* at, int threads) {
    attend<Half>(y, q, k, v, keys, values, *at, threads);
}

void layer_float32(float* y, const float* x, const float* norm0, const float* norm1, float eps0, float eps1, const Weight* w0,
                   const Weight* w1, const Weight* w2, const Weight* w3, const Weight* w4, const Weight* w5, const Weight* w6,
                   float* keys, float* values, const Step* at, int threads) {
    const float *const norms[2] = {norm0, norm1}, eps[2] = {eps0, eps1};
    const Weight* const w[7] = {w0, w1, w2, w3, w4, w5, w6};
    whole<Single>(y, x, norms, eps, w, keys, values, *at, threads);
}

void layer_bfloat16(bf16* y, const bf16* x, const bf16* norm0, const bf16* norm1, float eps0, float eps1, const Weight* w0,
                    const Weight* w1, const Weight* w2, const Weight* w3, const Weight* w4, const Weight* w5, const Weight* w6,
                    bf16* keys, bf16* values, const Step* at, int threads) {
    const bf16* const norms[2] = {norm0, norm1};
    const float eps[2] = {eps0, eps1};
    const Weight* const w[7] = {w0, w1, w2, w3, w4, w5, w6};
    whole<Half>(y, x, norms, eps, w, keys, values, *at, threads);
}

}  // extern "C"
