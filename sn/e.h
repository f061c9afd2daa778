/* The batch norms of a.h5, written by bninspect 0.1.0.
   Keras 2.21.0, SHA-256 fcdcb22515dad01b5182a27f192dc21b18cb9673e3bf821389333033b605b17d

   y = gamma[c] * (x - moving_mean[c]) / sqrt(moving_variance[c] + epsilon) + beta[c]

   Channels are innermost: x[i] belongs to channel i % channels. C99 or C++. */
#ifndef BNINSPECT_BATCH_NORMS_H
#define BNINSPECT_BATCH_NORMS_H

#include <math.h>
#include <stddef.h>

typedef float bn_real;

typedef struct {
    const char *name;
    size_t channels;
    const bn_real *gamma, *beta, *moving_mean, *moving_variance;
    bn_real epsilon;
} bn_layer;

/* batch_normalization */
static const bn_real bn_0_gamma[8] = {
    0.98202765f, 1.1989058f, 0.98385864f, 0.8840992f, 0.8776368f, 1.1129596f,
    1.0618778f, 0.8441932f};
static const bn_real bn_0_beta[8] = {
    -0.092209f, 0.19317749f, -0.030783946f, 0.07020275f, 0.07758475f, -0.016423913f,
    0.09806838f, -0.29485273f};
static const bn_real bn_0_moving_mean[8] = {
    -0.104258746f, -0.12992014f, -0.1083049f, -0.05119764f, -0.25531495f, -0.09713015f,
    -0.04287852f, -0.04757672f};
static const bn_real bn_0_moving_variance[8] = {
    0.07697822f, 0.06726277f, 0.057648186f, 0.023674166f, 0.070251144f, 0.024224646f,
    0.031295054f, 0.05948791f};
/* batch_normalization_1 */
static const bn_real bn_1_gamma[12] = {
    1.179723f, NAN, 0.9155644f, 0.9051149f, 1.0733575f, 1.0325158f,
    0.88863426f, 0.8898825f, 1.0614201f, 1.1190186f, 0.9685384f, 0.95024836f};
static const bn_real bn_1_beta[12] = {
    -0.13410859f, NAN, -0.0055611846f, 0.043746483f, -0.035847027f, -0.21979517f,
    -0.063739754f, 0.04158085f, -0.41250762f, -0.009069096f, -0.10115024f, 0.3880545f};
static const bn_real bn_1_moving_mean[12] = {
    -0.62981975f, NAN, -0.12134604f, -0.006228886f, 0.041218225f, -1.239125f,
    -0.13815635f, -0.6734432f, 0.0447453f, 0.09605762f, -1.5660186f, -0.39126936f};
static const bn_real bn_1_moving_variance[12] = {
    1.2253845f, NAN, 1.237899f, 0.9940406f, 0.86798644f, 2.0954773f,
    0.7972508f, 0.4754875f, 0.78374195f, 0.77291596f, 1.095965f, 0.6157838f};
/* batch_normalization_2 */
static const bn_real bn_2_gamma[16] = {
    1.1138797f, 0.95552343f, 1.2512372f, 1.2030544f, 0.9064031f, 0.9804184f,
    1.017776f, 1.0742565f, 1.0664498f, 0.97282517f, 1.0042422f, 0.9816025f,
    1.2497218f, 1.060079f, 0.9324357f, 0.83082557f};
static const bn_real bn_2_beta[16] = {
    0.2622736f, -0.3034278f, 0.15143825f, -0.16714534f, -0.07068206f, -0.22762014f,
    -0.06912715f, -0.24183491f, -0.1934037f, 0.024567967f, 0.06005603f, -0.0022550542f,
    -0.22536492f, 0.10547703f, -0.21715778f, 0.089671545f};
static const bn_real bn_2_moving_mean[16] = {
    -1.7119433f, 0.66016287f, -3.9845984f, -0.7118476f, 0.26158434f, 0.15306975f,
    -0.57035875f, 0.98821026f, 1.3570337f, 0.1286181f, 0.19467074f, 2.3815064f,
    -1.2909844f, -2.1158373f, -1.7548556f, 0.9009967f};
static const bn_real bn_2_moving_variance[16] = {
    5.1506834f, 2.4326243f, 6.389439f, 2.1157274f, 1.8533955f, 2.620544f,
    2.6121454f, 4.183576f, 2.1387415f, 2.9544384f, 3.2848856f, 2.1331592f,
    3.6909018f, 4.1670456f, 4.289596f, 2.408139f};
/* batch_normalization_3 */
static const bn_real bn_3_gamma[24] = {
    1.732932f, 1.4248416f, 1.6904132f, 1.5901705f, 1.3963919f, 1.7892503f,
    1.7992896f, 1.5636092f, 1.8188121f, 1.1321027f, 1.8599885f, 1.5380757f,
    1.3486181f, 1.6052395f, 1.5811001f, 1.5310612f, 1.718693f, 1.6376909f,
    1.4957404f, 1.5811688f, 1.7690164f, 1.72772f, 1.5789227f, 1.4241555f};
static const bn_real bn_3_beta[24] = {
    0.4128066f, 0.3504486f, 0.42454824f, 0.43801683f, 0.19086717f, 0.5200038f,
    0.4578047f, 0.2349047f, 0.40909284f, -0.014284485f, 0.57288486f, 0.4650727f,
    0.11735456f, 0.5607553f, 0.3887199f, 0.29658088f, 0.39746636f, 0.44163245f,
    0.2666103f, 0.4322914f, 0.56947875f, 0.5496465f, 0.30407894f, 0.3130643f};
static const bn_real bn_3_moving_mean[24] = {
    0.32699072f, -0.0036199947f, -0.08681169f, -0.13190977f, 0.1849064f, -0.36801732f,
    0.21660805f, 0.25022903f, 0.15228772f, 0.531867f, -0.18166058f, -0.40803766f,
    0.89498675f, 0.7069185f, -0.9445787f, 0.18126088f, -0.33419862f, 0.89605933f,
    0.015041663f, -1.1140912f, -0.09971429f, -0.861333f, 0.4276376f, 0.30831927f};
static const bn_real bn_3_moving_variance[24] = {
    0.039267916f, 0.025323065f, 0.032405797f, 0.023368184f, 0.025510661f, 0.036550593f,
    0.021220947f, 0.01894877f, 0.041460015f, 0.026348332f, 0.05546966f, 0.018519877f,
    0.022768553f, 0.046081617f, 0.026617797f, 0.020380285f, 0.032870296f, 0.03552491f,
    0.03834686f, 0.02922375f, 0.044956468f, 0.038907565f, 0.028959814f, 0.036700588f};
#define BN_LAYERS 4
#define BN_MOST_CHANNELS 24
/* Places in bn_layers, by the names of the layers. */
#define BN_INDEX_batch_normalization 0
#define BN_INDEX_batch_normalization_1 1
#define BN_INDEX_batch_normalization_2 2
#define BN_INDEX_batch_normalization_3 3
static const bn_layer bn_layers[] = {
    {"batch_normalization", 8, bn_0_gamma, bn_0_beta, bn_0_moving_mean, bn_0_moving_variance, 0.001f},
    {"batch_normalization_1", 12, bn_1_gamma, bn_1_beta, bn_1_moving_mean, bn_1_moving_variance, 0.001f},
    {"batch_normalization_2", 16, bn_2_gamma, bn_2_beta, bn_2_moving_mean, bn_2_moving_variance, 0.001f},
    {"batch_normalization_3", 24, bn_3_gamma, bn_3_beta, bn_3_moving_mean, bn_3_moving_variance, 0.001f},
};

/* count is the number of values in x and y, a multiple of the channels; y may be x. */
static inline void bn_apply(const bn_layer *layer, const bn_real *x, bn_real *y, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t c = i % layer->channels;
        bn_real slope = layer->gamma[c] / sqrtf(layer->moving_variance[c] + layer->epsilon);
        y[i] = (x[i] - layer->moving_mean[c]) * slope + layer->beta[c];
    }
}

#endif
