/* The extension module `_sampler`: one choice of stage 1 from its logits, as `sampler.py` computes it with numpy, so
 * guidance, repetition penalty, mask, temperature, top-k, top-p, sampling. The choices are end-of-audio (END) and
 * the codes 0 to 1023. Python's stable ABI: one build serves all versions from 3.11 on. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define N_CODES 1024
#define N_CHOICES (1 + N_CODES)
#define END 0
#define LANES 16
#define BLOCK 512
#define NOT_A_NUMBER (-1)

/* one version of a function for each of these instruction sets, where the linker can choose */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
#define FOR_PROCESSORS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_PROCESSORS
#endif

typedef struct {
    const float *cond, *uncond;  /* rows of n_vocab logits; uncond is NULL without guidance */
    const unsigned char *in_context; /* N_CHOICES */
    Py_ssize_t n_vocab, eoa, codebook0;
    double guidance, repetition_penalty, temperature, top_p, random;
    long top_k;
    int may_end;
} Step;

typedef struct {
    double value, weight;
    int index;
} Candidate;

/* Adds exp(logits[i] - shift) of LANES logits to the lanes' sums. The power of two is made from the exponent's
 * bits, the rest by Taylor's series, exact to float's precision within half of ln 2. */
static inline void add_exponentials(const float *logits, float shift, float *sums) {
    for (int lane = 0; lane < LANES; lane++) {
        float x = logits[lane] - shift;
        x = x < -87.0f ? -87.0f : x;
        float rounded = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23 leaves no bits for fractions */
        int32_t bits;
        memcpy(&bits, &rounded, sizeof bits);
        float power = rounded - 12582912.0f;
        float rest = x - power * 0.693359375f;
        rest += power * 2.12194440e-4f; /* ln 2 in two parts */
        float series = 1.0f / 5040;
        series = series * rest + 1.0f / 720;
        series = series * rest + 1.0f / 120;
        series = series * rest + 1.0f / 24;
        series = series * rest + 1.0f / 6;
        series = series * rest + 0.5f;
        series = series * rest + 1.0f;
        series = series * rest + 1.0f;
        int32_t exponent = (int32_t)(((uint32_t)bits - 0x4B400000u + 127u) << 23);
        float scale;
        memcpy(&scale, &exponent, sizeof scale);
        sums[lane] += series * scale;
    }
}

FOR_PROCESSORS
static double log_normaliser(const float *logits, Py_ssize_t count) {
    float top = logits[0];
    double total = 0.0;
    Py_ssize_t start = 0;
    float tops[LANES];
    for (int lane = 0; lane < LANES; lane++) tops[lane] = top;
    for (; start + LANES <= count; start += LANES)
        for (int lane = 0; lane < LANES; lane++)
            tops[lane] = logits[start + lane] > tops[lane] ? logits[start + lane] : tops[lane];
    for (int lane = 0; lane < LANES; lane++) top = tops[lane] > top ? tops[lane] : top;
    for (; start < count; start++) top = logits[start] > top ? logits[start] : top;
    for (start = 0; start + LANES <= count;) {
        float sums[LANES] = {0};
        Py_ssize_t end = start + BLOCK < count ? start + BLOCK : count;
        for (; start + LANES <= end; start += LANES) add_exponentials(logits + start, top, sums);
        for (int lane = 0; lane < LANES; lane++) total += sums[lane];
    }
    for (; start < count; start++) total += exp((double)(logits[start] - top));
    return (double)top + log(total);
}

/* The k-th largest value: the least of a heap of the k largest. */
static double kth_largest(const double *values, int count, int k) {
    double heap[N_CHOICES];
    int size = 0;
    for (int i = 0; i < count; i++) {
        int place;
        if (size < k) {
            for (place = size++; place > 0 && heap[(place - 1) / 2] > values[i]; place = (place - 1) / 2)
                heap[place] = heap[(place - 1) / 2];
            heap[place] = values[i];
            continue;
        }
        if (values[i] <= heap[0]) continue;
        for (place = 0;;) {
            int child = 2 * place + 1;
            if (child >= size) break;
            if (child + 1 < size && heap[child + 1] < heap[child]) child++;
            if (heap[child] >= values[i]) break;
            heap[place] = heap[child];
            place = child;
        }
        heap[place] = values[i];
    }
    return heap[0];
}

/* Ascending; of equal values the lower index is the better. */
static int by_rank(const void *first, const void *second) {
    const Candidate *a = *(Candidate *const *)first, *b = *(Candidate *const *)second;
    if (a->value != b->value) return a->value < b->value ? -1 : 1;
    return a->index > b->index ? -1 : a->index < b->index;
}

/* Sets the weights of the least likely to 0, as many as leave `top_p` of the total, but never all. */
static void drop_unlikely(Candidate *kept, int count, double total, double top_p) {
    Candidate *ranked[N_CHOICES];
    double sum = 0.0;
    for (int i = 0; i < count; i++) ranked[i] = kept + i;
    qsort(ranked, count, sizeof *ranked, by_rank);
    for (int i = 0; i < count - 1; i++) {
        sum += ranked[i]->weight / total;
        if (sum > 1.0 - top_p) break;
        ranked[i]->weight = 0.0;
    }
}

/* By inverse CDF over the choices that temperature, top-k and top-p leave. */
static int sampled(double *values, const Step *step) {
    Candidate kept[N_CHOICES];
    int count = 0, last = END;
    double best = -INFINITY, lowest = -INFINITY, total = 0.0, sum = 0.0;
    if (step->temperature != 1.0)
        for (int i = 0; i < N_CHOICES; i++) values[i] /= step->temperature;
    if (step->top_k > 0 && step->top_k < N_CHOICES) lowest = kth_largest(values, N_CHOICES, (int)step->top_k);
    for (int i = 0; i < N_CHOICES; i++) {
        if (values[i] < lowest || values[i] == -INFINITY) continue;
        kept[count++] = (Candidate){values[i], 0.0, i};
        best = values[i] > best ? values[i] : best;
    }
    for (int i = 0; i < count; i++) total += kept[i].weight = exp(kept[i].value - best);
    if (step->top_p < 1.0) {
        drop_unlikely(kept, count, total, step->top_p);
        total = 0.0;
        for (int i = 0; i < count; i++) total += kept[i].weight;
    }
    for (int i = 0; i < count; i++) {
        if (kept[i].weight == 0.0) continue;
        last = kept[i].index;
        sum += kept[i].weight;
        if (sum > step->random * total) break;
    }
    return last;
}

/* The index of a choice, or NOT_A_NUMBER. */
static int choice_of(const Step *step) {
    double values[N_CHOICES], cond_total = 0.0, uncond_total = 0.0;
    int finite = 1;
    const float *cond = step->cond, *uncond = step->uncond;
    if (uncond) {
        cond_total = log_normaliser(cond, step->n_vocab);
        uncond_total = log_normaliser(uncond, step->n_vocab);
    }
    for (int i = 0; i < N_CHOICES; i++) {
        Py_ssize_t id = i == END ? step->eoa : step->codebook0 + i - 1;
        double score = cond[id];
        if (uncond) {
            double free_score = uncond[id] - uncond_total;
            score = (score - cond_total - free_score) * step->guidance + free_score;
        }
        finite &= isfinite(score) != 0;
        if (step->in_context[i])
            score = score < 0 ? score * step->repetition_penalty : score / step->repetition_penalty;
        values[i] = score;
    }
    if (!finite) return NOT_A_NUMBER;
    if (!step->may_end) values[END] = -INFINITY;
    if (step->temperature != 0.0) return sampled(values, step);
    int best = 0;
    for (int i = 1; i < N_CHOICES; i++) best = values[i] > values[best] ? i : best;
    return best;
}

/* Reads the numbers behind the two arrays; returns 0 with an exception set. */
static int read_numbers(PyObject *const *args, Step *step) {
    step->eoa = PyLong_AsSsize_t(args[0]);
    step->codebook0 = PyLong_AsSsize_t(args[1]);
    step->guidance = PyFloat_AsDouble(args[2]);
    step->repetition_penalty = PyFloat_AsDouble(args[3]);
    step->temperature = PyFloat_AsDouble(args[4]);
    step->top_k = PyLong_AsLong(args[5]);
    step->top_p = PyFloat_AsDouble(args[6]);
    step->random = PyFloat_AsDouble(args[7]);
    step->may_end = PyObject_IsTrue(args[8]);
    return !PyErr_Occurred();
}

/* Whether a buffer's format is float32 of this machine; that of an array made by ctypes names the byte order. */
static int is_float32(const char *format) {
    return format && (!strcmp(format, "f") || !strcmp(format, PY_LITTLE_ENDIAN ? "<f" : ">f"));
}

/* Sets the pointers of a step into its arrays; returns 0 with an exception set. */
static int use_arrays(const Py_buffer *logits, const Py_buffer *in_context, Step *step) {
    int rows = step->guidance != 1.0 ? 2 : 1;
    if (logits->ndim != 2 || !is_float32(logits->format) || logits->shape[0] < rows ||
        logits->strides[1] != sizeof(float)) {
        PyErr_Format(PyExc_TypeError, "logits must be float32 [%d, n_vocab], each row without gaps", rows);
        return 0;
    }
    if (in_context->ndim != 1 || !in_context->format || strcmp(in_context->format, "?") || in_context->shape[0] != N_CHOICES ||
        in_context->strides[0] != 1) {
        PyErr_Format(PyExc_TypeError, "in_context must be bool [%d] without gaps", N_CHOICES);
        return 0;
    }
    step->n_vocab = logits->shape[1];
    if (step->eoa < 0 || step->eoa >= step->n_vocab || step->codebook0 < 0 ||
        step->codebook0 > step->n_vocab - N_CODES) {
        PyErr_SetString(PyExc_IndexError, "the vocabulary does not have these ids");
        return 0;
    }
    step->cond = logits->buf;
    step->uncond = rows == 2 ? (const float *)((const char *)logits->buf + logits->strides[0]) : NULL;
    step->in_context = in_context->buf;
    return 1;
}

static PyObject *sample(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Step step;
    Py_buffer logits, in_context;
    int choice = NOT_A_NUMBER;
    (void)module;
    if (count != 11) return PyErr_Format(PyExc_TypeError, "sample takes 11 arguments, not %zd", count);
    if (!read_numbers(args + 2, &step)) return NULL;
    if (PyObject_GetBuffer(args[0], &logits, PyBUF_STRIDES | PyBUF_FORMAT)) return NULL;
    if (!PyObject_GetBuffer(args[1], &in_context, PyBUF_STRIDES | PyBUF_FORMAT)) {
        if (use_arrays(&logits, &in_context, &step) && (choice = choice_of(&step)) == NOT_A_NUMBER)
            PyErr_SetString(PyExc_FloatingPointError, "the logits are not all numbers");
        PyBuffer_Release(&in_context);
    }
    PyBuffer_Release(&logits);
    return PyErr_Occurred() ? NULL : PyLong_FromLong(choice);
}

static PyMethodDef methods[] = {
    {"sample", (PyCFunction)(void (*)(void))sample, METH_FASTCALL, "One choice from the logits of a step; see _sampler.pyi."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_sampler", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__sampler(void) { return PyModuleDef_Init(&definition); }
