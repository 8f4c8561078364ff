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
template <class D, int R, int M>
static void tile(typename D::Number* y, const typename D::Number* x, const typename D::Number* w, const typename D::Number* bias,
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
        else y[m * N] = D::own(bias ? _mm_cvtss_f32(v) + D::wide(bias[0]) : _mm_cvtss_f32(v));
    }
}

template <class D, int R>
static void block(typename D::Number* y, const typename D::Number* x, const typename D::Number* w, const typename D::Number* bias,
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
            _mm_prefetch((const char*)(w + (r + R) * K + k), _MM_HINT_T0);
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
            _mm_prefetch((const char*)(w + k * 32 + 1024), _MM_HINT_T0);
            _mm_prefetch((const char*)(w + k * 32 + 1088), _MM_HINT_T0);
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

extern "C" {

void norm_bfloat16(bf16* y, const bf16* x, const bf16* w, Int M, Int K, float eps) { norm<Half>(y, x, w, M, K, eps); }
void norm_float32(float* y, const float* x, const float* w, Int M, Int K, float eps) { norm<Single>(y, x, w, M, K, eps); }
void turn_bfloat16(bf16* y, const bf16* x, const float* cos, const float* sin, Int T, Int heads, Int size) {
    turn<Half>(y, x, cos, sin, T, heads, size);
}
void turn_float32(float* y, const float* x, const float* cos, const float* sin, Int T, Int heads, Int size) {
    turn<Single>(y, x, cos, sin, T, heads, size);
}

void linear_bfloat16(bf16* y, const bf16* x, const bf16* w, const bf16* bias, Int M, Int N, Int K, int threads) {
    linear<Half>(y, x, w, bias, M, N, K, threads);
}

void linear_float32(float* y, const float* x, const float* w, const float* bias, Int M, Int N, Int K, int threads) {
    linear<Single>(y, x, w, bias, M, N, K, threads);
}

void linear_int8(bf16* y, const bf16* x, const int8_t* w, const bf16* scales, const bf16* bias, Int M, Int N, Int K, int threads) {
    const Codes codes(x, M, K);
    const std::vector<__m512i> start = starts(codes, M, K);
    const Int whole = N / ROWS;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && N * K > SMALL)
    for (Int i = 0; i < whole; i++)
        block8<ROWS>(y + i * ROWS, codes, start.data(), w + i * ROWS * K, scales + i * ROWS, bias ? bias + i * ROWS : nullptr, M, N, K);
    for (Int n = whole * ROWS; n < N; n++)
        block8<1>(y + n, codes, start.data(), w + n * K, scales + n, bias ? bias + n : nullptr, M, N, K);
}

// N: rows of y and of the bias; `stored`: of the codes and the pairs, whole blocks.
void linear_int4(bf16* y, const bf16* x, const uint8_t* w, const bf16* pairs, const bf16* bias, Int M, Int N, Int K, Int stored, Int G,
                 int threads) {
    const Codes codes(x, M, K);
    const std::vector<float> totals = group_totals(codes, M, K, G);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && N * K > SMALL)
    for (Int i = 0; i < stored / WIDE; i++) {
        float sum[2 * WIDE];
        const uint8_t* own = w + i * WIDE * (K / 2);
        const Int first = i * WIDE, last = first + WIDE < N ? first + WIDE : N;
        for (Int m = 0; m < M; m += 2) {
            const int some = m + 2 <= M ? 2 : 1;
            if (some == 2) block4<2>(sum, codes, m, totals.data(), own, pairs + first * 2, stored, K, G);
            else block4<1>(sum, codes, m, totals.data(), own, pairs + first * 2, stored, K, G);
            for (int j = 0; j < some; j++)
                for (Int n = first; n < last; n++)
                    y[(m + j) * N + n] = narrow(bias ? sum[j * WIDE + n - first] + widen(bias[n]) : sum[j * WIDE + n - first]);
        }
    }
}

}  // extern "C"
